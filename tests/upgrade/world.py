"""The fixed world that every release's data directory holds: what is declared in it, and how its messages came there.

All of it happens over AMQP 0-9-1, so any release can be told to. What must be there afterwards is what was confirmed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import replace
from typing import Final

from tests.support import wait
from tests.support.node import Node
from tests.support.wire import Said, Typed, WireClient, method, publish
from tests.upgrade.expected import WHILE_WRITTEN, World, sent

PERSISTENT: Final[dict[str, object]] = {"delivery_mode": 2}
TTL_MS: Final = 300_000
"""Of the messages that expire: none while the directory is written, all when it is opened later."""
CONFIRMING, TRANSACTIONAL, HOLDING = 1, 2, 3
"""The channels. The last one has deliveries until the end."""

EXCHANGES: Final[list[tuple[str, str, bool, bool, dict[str, object]]]] = [
    ("direct", "direct", False, False, {}),
    ("fanout", "fanout", False, False, {}),
    ("topic", "topic", False, False, {"alternate-exchange": "fanout"}),
    ("headers", "headers", False, False, {}),
    ("inner", "fanout", False, True, {}),
    ("used up", "direct", True, False, {"of": {"no": [1, "meaning", True]}}),
    ("dead", "direct", False, False, {}),
    ("Wörter/ä ü", "topic", False, False, {}),
]
"""Name, type, auto-delete, internal, arguments. All are durable."""

QUEUES: Final[list[tuple[str, bool, dict[str, object]]]] = [
    ("plain", False, {}),
    ("priorities", False, {"x-max-priority": 5}),
    ("ttl", False, {"x-message-ttl": TTL_MS, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead.ttl"}),
    ("expiring", False, {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead.expiring"}),
    ("limited", False, {"x-max-length": 3, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead.limited"}),
    ("refusing", False, {"x-max-length-bytes": 100_000, "x-overflow": "reject-publish"}),
    ("rejecting", False, {"x-dead-letter-exchange": "dead", "x-dead-letter-routing-key": "rejected"}),
    ("loop", False, {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "loop"}),
    ("hidden", False, {"x-dead-letter-exchange": "dead"}),
    ("lazy", False, {"x-queue-mode": "lazy"}),
    ("single", False, {"x-single-active-consumer": True}),
    ("auto", True, {"x-expires": 30 * 86_400_000}),
    ("topic.a", False, {}),
    ("topic.b", False, {}),
    ("headers.all", False, {}),
    ("headers.any", False, {}),
    ("Schlange/ä ü", False, {"x-of": {"no": ["meaning", 1, None]}}),
    ("backlog", False, {}),
    ("held", False, {}),
    ("emptied", False, {}),
    *((f"dead.{name}", False, {}) for name in ("ttl", "expiring", "limited", "rejected", "hidden", "cc", "bcc")),
]  # fmt: skip
"""Name, auto-delete, arguments. All are durable."""

QUORUM_QUEUES: Final[list[tuple[str, bool, dict[str, object]]]] = [
    ("quorum", False, {"x-queue-type": "quorum"}),
    ("quorum.priorities", False, {"x-queue-type": "quorum", "x-delivery-limit": 20}),
    ("quorum.backlog", False, {"x-queue-type": "quorum"}),
]
"""The same, of releases that know them."""

BINDINGS: Final[list[tuple[str, str, str, str, dict[str, object]]]] = [
    ("direct", "queue", "plain", "plain", {}),
    ("direct", "queue", "plain", "another key", {}),
    ("direct", "queue", "rejecting", "rejecting", {}),
    ("direct", "queue", "hidden", "hidden", {}),
    ("direct", "exchange", "topic", "a.direct", {}),
    ("fanout", "queue", "plain", "", {}),
    ("fanout", "queue", "lazy", "", {}),
    ("topic", "queue", "topic.a", "a.#", {}),
    ("topic", "queue", "topic.b", "*.*.b", {}),
    ("topic", "exchange", "inner", "inner.#", {}),
    ("inner", "queue", "topic.b", "", {}),
    ("headers", "queue", "headers.all", "", {"x-match": "all", "kind": "report", "pages": 3}),
    ("headers", "queue", "headers.any", "", {"x-match": "any", "kind": "report", "colour": "green"}),
    ("used up", "queue", "auto", "auto", {}),
    ("dead", "queue", "dead.rejected", "rejected", {}),
    ("dead", "queue", "dead.hidden", "hidden", {}),
    ("dead", "queue", "dead.cc", "copy", {}),
    ("dead", "queue", "dead.bcc", "hidden copy", {}),
    ("Wörter/ä ü", "queue", "Schlange/ä ü", "ä.*", {"of": "no meaning"}),
]
"""Source, kind of destination, destination, key, arguments."""

ROUTES: Final[list[tuple[str, str, dict[str, object], list[str]]]] = [
    ("", "single", {}, ["single"]),
    ("direct", "plain", {}, ["plain"]),
    ("direct", "a.direct", {}, ["topic.a"]),
    ("fanout", "whatever", {}, ["plain", "lazy"]),
    ("topic", "a.c.b", {}, ["topic.a", "topic.b"]),
    ("topic", "inner.c", {}, ["topic.b"]),
    ("topic", "nowhere", {}, ["plain", "lazy"]),  # by the alternate exchange
    ("headers", "", {"kind": "report", "pages": 3}, ["headers.all", "headers.any"]),
    ("headers", "", {"kind": "letter", "colour": "green"}, ["headers.any"]),
    ("used up", "auto", {}, ["auto"]),
    ("Wörter/ä ü", "ä.ü", {}, ["Schlange/ä ü"]),
]
"""Exchange, routing key, headers, the queues that a message reaches."""

EVERY_PROPERTY: Final[dict[str, object]] = {
    "content_type": "text/plain",
    "content_encoding": "identity",
    "headers": {
        "text": "ä€",
        "bytes": b"\x00\xff",
        "numbers": [
            Typed("b", -1),
            Typed("B", 255),
            Typed("s", -2),
            Typed("u", 65535),
            3,
            1 << 40,
            Typed("f", 0.5),
            0.25,
        ],
        "table": {"of": {"tables": [True, False, None]}},
        "decimal": Typed("D", (2, 314)),
        "time": Typed("T", 1_700_000_000),
    },
    "delivery_mode": 2,
    "priority": 3,
    "correlation_id": "a correlation",
    "reply_to": "an answer",
    "message_id": "an id",
    "timestamp": 1_700_000_000,
    "type": "a type",
    "user_id": "guest",
    "app_id": "an application",
}


def queues_of(world: World) -> list[tuple[str, bool, dict[str, object]]]:
    """All that are declared in it."""
    return [*QUEUES, *(QUORUM_QUEUES if world.has_quorum_queues else [])]


def body(label: str, size: int) -> bytes:
    """A body that tells what it is, and can be compressed."""
    return (f"{label} " * (size // (len(label.encode()) + 1) + 1)).encode()[:size]


class Writer:
    """Fills a new node with the world and keeps account of what must be there."""

    def __init__(self, client: WireClient, world: World, keeps_partial_deaths: bool) -> None:
        self.client = client
        self.world = world
        self.messages = world.messages
        self.keeps_partial_deaths = keeps_partial_deaths
        self.consumed: set[str] = set()
        """Queues that somebody has had messages of."""

    def publish(
        self,
        queues: list[str],
        label: str,
        size: int = 100,
        *,
        exchange: str = "",
        key: str | None = None,
        properties: Mapping[str, object] = PERSISTENT,
        hidden: Mapping[str, object] | None = None,
    ) -> None:
        """A message that reaches these queues, confirmed. ``hidden``: headers that nobody sees afterwards."""
        data = body(label, size)
        key = queues[0] if key is None else key
        given = dict(properties)
        message = sent(data, exchange, key, given)
        if hidden is not None:
            headers = given.get("headers", {})
            assert isinstance(headers, Mapping)
            given["headers"] = {**headers, **hidden}
        self.client.send(publish(CONFIRMING, exchange, key, data, properties=given))
        self.client.expect("basic.ack", CONFIRMING)
        for queue in queues:
            self.messages[queue].append(replace(message))

    def pass_by(self, queue: str, data: bytes, properties: Mapping[str, object]) -> None:
        """A message that is confirmed and of which nothing is left at the end."""
        self.client.send(publish(CONFIRMING, "", queue, data, properties=properties))
        self.client.expect("basic.ack", CONFIRMING)

    def get(self, channel: int, queue: str) -> Said:
        """The next message of a queue, not acknowledged; it counts as delivered from now on."""
        said = self.client.get(channel, queue)
        assert said.method.name == "basic.get-ok", said
        self.consumed.add(queue)
        return said

    def acknowledge(self, queue: str, places: Callable[[int], bool]) -> None:
        """Take all of a queue; acknowledge those at these places for good, and give the others back."""
        messages = self.messages[queue]
        tags = [self.get(TRANSACTIONAL, queue).method["delivery_tag"] for _ in messages]
        self.messages[queue] = [message.delivered() for place, message in enumerate(messages) if not places(place)]
        for place, tag in enumerate(tags):
            if places(place):
                self.client.send(method(TRANSACTIONAL, "basic.ack", delivery_tag=tag))
            else:
                self.client.send(method(TRANSACTIONAL, "basic.nack", delivery_tag=tag, requeue=True))
        self.client.ask(TRANSACTIONAL, "tx.commit")

    def answer(self, queue: str, answers: str) -> None:
        """Take messages of a quorum queue and answer them in order: acknowledge (a), nack (n) or reject (r) with
        requeue, which leaves them where they were."""
        messages = self.messages[queue]
        tags = [self.get(CONFIRMING, queue).method["delivery_tag"] for _ in answers]
        for tag, kind in zip(tags, answers, strict=True):
            if kind == "a":
                self.client.send(method(CONFIRMING, "basic.ack", delivery_tag=tag))
            else:
                name = "basic.nack" if kind == "n" else "basic.reject"
                self.client.send(method(CONFIRMING, name, delivery_tag=tag, requeue=True))
        head = [
            message.returned(failed=kind == "r")
            for message, kind in zip(messages[: len(answers)], answers, strict=True)
            if kind != "a"
        ]
        self.messages[queue] = head + messages[len(answers) :]
        self.await_count(queue)

    def reject(self, queue: str, exchange: str, key: str | None, reached: list[str]) -> None:
        """Reject the first message; it comes to the queues ``reached`` by way of the dead letter exchange."""
        said = self.get(CONFIRMING, queue)
        message = self.messages[queue].pop(0)
        self.client.send(method(CONFIRMING, "basic.reject", delivery_tag=said.method["delivery_tag"]))
        dead = message.died(queue, "rejected", exchange, key, WHILE_WRITTEN, partial=self.keeps_partial_deaths)
        for name in reached:
            self.messages[name].append(replace(dead))
            self.await_count(name)

    def await_count(self, queue: str) -> None:
        """Returns once the queue has as many messages as it must have."""
        count = len(self.messages[queue])

        def is_there() -> bool:
            return bool(
                self.client.ask(CONFIRMING, "queue.declare", queue=queue, passive=True)["message_count"] == count
            )

        wait.until(is_there, 20_000, f"{count} messages in {queue}")


def declare(writer: Writer) -> None:
    """Exchanges, queues and bindings; and some that are not to be found afterwards."""
    client, world = writer.client, writer.world
    for name, kind, auto_delete, internal, arguments in EXCHANGES:
        flags = {"durable": True, "auto_delete": auto_delete, "internal": internal}
        client.ask(1, "exchange.declare", exchange=name, type=kind, arguments=arguments, **flags)
        world.exchanges.append({"name": name, "type": kind, "arguments": arguments, **flags})
    for name, auto_delete, arguments in queues_of(world):
        client.ask(1, "queue.declare", queue=name, durable=True, auto_delete=auto_delete, arguments=arguments)
        world.queues.append({"name": name, "durable": True, "auto_delete": auto_delete, "arguments": arguments})
        writer.messages[name] = []
    for source, kind, destination, key, arguments in BINDINGS:
        if kind == "queue":
            client.ask(1, "queue.bind", queue=destination, exchange=source, routing_key=key, arguments=arguments)
        else:
            client.ask(1, "exchange.bind", destination=destination, source=source, routing_key=key, arguments=arguments)
        row = {"source": source, "destination_type": kind, "destination": destination, "routing_key": key}
        world.bindings.append({**row, "arguments": arguments})
    for name, durable, exclusive in (("deleted", True, False), ("transient", False, False), ("exclusive", True, True)):
        client.ask(1, "queue.declare", queue=name, durable=durable, exclusive=exclusive)
        client.ask(1, "queue.bind", queue=name, exchange="fanout")
    client.ask(1, "exchange.declare", exchange="transient", type="fanout")
    client.ask(1, "exchange.declare", exchange="deleted", type="fanout", durable=True)
    client.ask(1, "queue.bind", queue="plain", exchange="deleted")
    client.ask(1, "exchange.delete", exchange="deleted")
    client.ask(1, "queue.bind", queue="plain", exchange="direct", routing_key="unbound")
    client.ask(1, "queue.unbind", queue="plain", exchange="direct", routing_key="unbound")


def fill(writer: Writer) -> None:
    """What stays, each kind of it; the backlog last, so that all of this leaves the write-ahead log."""
    publish_to = writer.publish
    for size in (0, 1, 4096, 20_000, 131_064, 131_065, 200_000, 300_000):
        publish_to(["plain"], f"plain of {size}", size)
    publish_to(["plain"], "every property", properties=EVERY_PROPERTY, exchange="direct")
    for number, priority in enumerate((0, 5, 1, 9, None, 5)):
        given = PERSISTENT if priority is None else {**PERSISTENT, "priority": priority}
        publish_to(["priorities"], f"number {number} of priority {priority}", properties=given)
    writer.messages["priorities"].sort(key=lambda message: -min(message.priority, 5))
    for number in range(3):
        publish_to(["ttl"], f"ttl {number}")
    for expiration in (str(TTL_MS), str(TTL_MS), None):
        given = PERSISTENT if expiration is None else {**PERSISTENT, "expiration": expiration}
        publish_to(["expiring"], f"expires after {expiration}", properties=given)
    for number in range(5):
        publish_to(["limited"], f"limited {number}")
    for message in writer.messages["limited"][:2]:
        writer.messages["dead.limited"].append(message.died("limited", "maxlen", "", "dead.limited", WHILE_WRITTEN))
    del writer.messages["limited"][:2]
    writer.await_count("dead.limited")
    publish_to(["refusing"], "refusing", 4000)
    die(writer)
    for exchange, key, headers, queues in ROUTES:
        publish_to(
            queues,
            f"by {exchange} with {key}",
            exchange=exchange,
            key=key,
            properties={**PERSISTENT, "headers": headers},
        )
    for number in range(4):
        for queue in ("lazy", "plain"):
            writer.pass_by(queue, body("transient", 30_000), {})
        publish_to(["lazy"], f"lazy {number}", 30_000)


def die(writer: Writer) -> None:
    """Messages that have died once, and messages that will."""
    for number in range(3):
        writer.publish(["rejecting"], f"rejecting {number}", exchange="direct", properties=EVERY_PROPERTY)
    writer.reject("rejecting", "dead", "rejected", ["dead.rejected"])
    for number in range(2):
        writer.publish(["loop"], f"loop {number}")
    odd = {"x-death": [{"queue": "of a publisher"}, "no table"]}
    writer.publish(["loop"], "odd", properties={**PERSISTENT, "headers": odd})
    for _ in range(3):
        writer.reject("loop", "", "loop", ["loop"])
    for number in range(3):
        seen = {**PERSISTENT, "headers": {"CC": ["copy"], "number": number}}
        hidden = {"BCC": ["hidden copy", "nowhere"]}
        writer.publish(["hidden"], f"hidden {number}", exchange="direct", properties=seen, hidden=hidden)
    reached = ["dead.hidden", "dead.cc", *(["dead.bcc"] if writer.world.keeps_hidden_keys else [])]
    writer.reject("hidden", "dead", None, reached)


def transact(writer: Writer) -> None:
    """A transaction that is committed, one that is taken back, and one that never ends."""
    client = writer.client
    for number in range(3):
        data = body(f"transaction {number}", 1000)
        client.send(publish(TRANSACTIONAL, "fanout", "tx", data, properties=PERSISTENT))
        for queue in ("plain", "lazy"):
            writer.messages[queue].append(sent(data, "fanout", "tx", PERSISTENT))
    client.ask(TRANSACTIONAL, "tx.commit")
    client.send(publish(TRANSACTIONAL, "fanout", "tx", b"taken back", properties=PERSISTENT))
    client.ask(TRANSACTIONAL, "tx.rollback")
    client.send(publish(TRANSACTIONAL, "fanout", "tx", b"never committed", properties=PERSISTENT))


def discard(writer: Writer) -> None:
    """Messages that leave with others, or with their queue."""
    for queue in ("emptied", "deleted"):
        writer.pass_by(queue, body(queue, 3000), PERSISTENT)
    writer.client.ask(CONFIRMING, "queue.purge", queue="emptied")
    writer.client.ask(CONFIRMING, "queue.delete", queue="deleted")


def fill_quorum_queues(writer: Writer) -> None:
    """Messages that were never delivered, that came back, and that are gone; strict priorities."""
    for number in range(12):
        writer.publish(["quorum"], f"quorum {number}", 300 * number)
    writer.answer("quorum", "aanrnra")
    writer.answer("quorum", "nr")
    for number, priority in enumerate((0, 31, None, 4, 200)):
        given = PERSISTENT if priority is None else {**PERSISTENT, "priority": priority}
        writer.publish(["quorum.priorities"], f"number {number} of priority {priority}", properties=given)
    writer.messages["quorum.priorities"].sort(key=lambda message: -min(message.properties.get("priority", 4), 31))
    writer.answer("quorum.priorities", "n")


def pile_up(writer: Writer, node: Node) -> None:
    """A backlog of several files of the log, partly acknowledged: before, between and after it moves to segments.

    What was rejected, dropped or purged before is on the disk then: nobody is told when, but it takes some 20 ms only.
    """
    for number in range(110):
        writer.publish(["backlog"], f"backlog {number}", 8000 + 113 * number)
        if writer.world.has_quorum_queues and number % 5 == 0:
            writer.publish(["quorum.backlog"], f"quorum backlog {number}", 2000 + 113 * number)
        if number == 40:
            writer.acknowledge("backlog", lambda place: place % 3 == 1)
    wait.until(lambda: len(list((node.data_dir / "segments").glob("*.seg"))) >= 2, 30_000, "two segments")
    writer.acknowledge("backlog", lambda place: place % 4 == 2)
    if writer.world.has_quorum_queues:
        writer.answer("quorum.backlog", "anaraaan")
    for number in range(4):
        writer.publish(["backlog"], f"last of the backlog {number}", 500)


def hold(writer: Writer) -> None:
    """Delivered and not acknowledged: by a consumer with a prefetch window, and by basic.get."""
    client = writer.client
    for number in range(7):
        writer.publish(["held"], f"held {number}", 300)
    client.ask(HOLDING, "basic.qos", prefetch_count=4)
    client.ask(HOLDING, "basic.consume", queue="held")
    writer.consumed.add("held")
    for _ in range(4):
        client.expect("basic.deliver", HOLDING)
    for queue in ("single", "plain"):
        writer.get(HOLDING, queue)
    for queue, count in (("held", 4), ("single", 1), ("plain", 1)):
        messages = writer.messages[queue]
        messages[:count] = [message.delivered() for message in messages[:count]]
    if writer.world.has_quorum_queues:
        writer.get(HOLDING, "quorum")
        writer.messages["quorum"][0] = writer.messages["quorum"][0].returned(failed=True)


def write(node: Node, world: World, *, keeps_partial_deaths: bool) -> None:
    """Fill the running node and end it as ``world.end`` says, while its client still holds messages."""
    world.started_ms = time.time_ns() // 1_000_000
    with closing(WireClient(node.host, node.port)) as client:
        client.handshake()
        for channel in (CONFIRMING, TRANSACTIONAL, HOLDING):
            client.open_channel(channel)
        client.ask(CONFIRMING, "confirm.select")
        client.ask(TRANSACTIONAL, "tx.select")
        writer = Writer(client, world, keeps_partial_deaths)
        declare(writer)
        fill(writer)
        if world.has_quorum_queues:
            fill_quorum_queues(writer)
        discard(writer)
        pile_up(writer, node)
        transact(writer)
        hold(writer)
        if world.end == "killed":
            node.kill()
            # The mark on the disk is ahead of what was delivered: docs/durability.md, "The redelivered flag".
            # Quorum queues know exactly.
            for queue in writer.consumed - {name for name, _, _ in QUORUM_QUEUES}:
                for message in world.messages[queue]:
                    message.redelivered = message.redelivered or None
        else:
            node.stop()
    world.ended_ms = time.time_ns() // 1_000_000
