"""Looks at a node that has opened a kept data directory: what must be there is there, in order, and nothing else.

And it goes on working. The same for a node in memory and for a real process: each has a `Client`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

from tests.support.wire import Method, Said, method
from tests.upgrade.expected import LATER, Json, Message, World, in_order, sent
from tests.upgrade.world import BINDINGS, EXCHANGES, PERSISTENT, QUORUM_QUEUES, ROUTES, TTL_MS, body, queues_of

MARGIN_MS: Final = 60_000
"""A test takes less."""


class Client(Protocol):
    """A client of the node with channel 1 open."""

    def ask(self, name: str, /, **arguments: object) -> Method:
        """Sends a method on channel 1 and gives its -ok."""

    def get(self, queue: str) -> Said | None:
        """basic.get; None when the queue is empty."""

    def send(self, data: bytes) -> None:
        """Frames; on channel 1."""

    def publish(self, exchange: str, key: str, data: bytes, properties: Mapping[str, object]) -> None:
        """A message; returns when it is on the disk."""

    def declared(self) -> tuple[list[Json], list[Json], list[Json]]:
        """All exchanges, queues and bindings of the node that are not there from the start, as `World` has them."""

    def count(self, queue: str) -> int:
        """Its ready messages."""


def expires_now(world: World, now_ms: int) -> bool:
    """Whether it cannot be said if its messages have expired once a node has been started and looked at."""
    return world.started_ms + TTL_MS - MARGIN_MS < now_ms <= world.ended_ms + TTL_MS


def expire(world: World, now_ms: int) -> None:
    """What the time that has passed since has made of the world."""
    assert not expires_now(world, now_ms)
    if now_ms <= world.ended_ms + TTL_MS:
        return
    messages = world.messages
    for queue, count in (("ttl", len(messages["ttl"])), ("expiring", 2)):
        target = f"dead.{queue}"
        messages[target] += [message.died(queue, "expired", "", target, LATER) for message in messages[queue][:count]]
        del messages[queue][:count]


def compare(client: Client, world: World) -> None:
    """Declarations and messages; every message is given back, and was delivered from now on."""
    exchanges, queues, bindings = client.declared()
    assert in_order(exchanges) == in_order(world.exchanges)
    assert in_order(queues) == in_order(world.queues)
    assert in_order(bindings) == in_order(world.bindings)
    for queue, messages in world.messages.items():
        assert client.count(queue) == len(messages), queue
        for place, message in enumerate(messages):
            said = client.get(queue)
            assert said is not None, f"{queue}: {len(messages) - place} messages are missing at the end"
            found = world.seen(said)
            if message.redelivered is None:
                found.redelivered = None
            assert found == message, f"{queue}, message {place}"
        assert client.get(queue) is None, queue
        client.send(method(1, "basic.nack", multiple=True, requeue=True))
        is_quorum = queue in {name for name, _, _ in QUORUM_QUEUES}
        world.messages[queue] = [
            message.returned(failed=False) if is_quorum else message.delivered() for message in messages
        ]


def declare_again(client: Client, world: World) -> None:
    """Everything is equivalent to what was declared: another argument, or type of its value, would be an error."""
    for name, kind, auto_delete, internal, arguments in EXCHANGES:
        flags = {"durable": True, "auto_delete": auto_delete, "internal": internal}
        client.ask("exchange.declare", exchange=name, type=kind, arguments=arguments, **flags)
    for name, auto_delete, arguments in queues_of(world):
        client.ask("queue.declare", queue=name, durable=True, auto_delete=auto_delete, arguments=arguments)
    for source, kind, destination, key, arguments in BINDINGS:
        if kind == "queue":
            client.ask("queue.bind", queue=destination, exchange=source, routing_key=key, arguments=arguments)
        else:
            client.ask("exchange.bind", destination=destination, source=source, routing_key=key, arguments=arguments)


def take_first(client: Client, world: World, queue: str) -> tuple[Message, object]:
    """The first message of a queue, and its delivery tag."""
    said = client.get(queue)
    assert said is not None
    return world.messages[queue].pop(0), said.method["delivery_tag"]


def work(client: Client, world: World) -> None:
    """Publish by every way, acknowledge, reject what has died before and what has hidden keys. The world is told."""
    declare_again(client, world)
    messages = world.messages
    for exchange, key, headers, queues in ROUTES:
        data = body(f"after the upgrade by {exchange} with {key}", 5000)
        properties = {**PERSISTENT, "headers": headers}
        client.publish(exchange, key, data, properties)
        for queue in queues:
            messages[queue].append(sent(data, exchange, key, properties))
    client.publish("", "priorities", b"urgent", {**PERSISTENT, "priority": 9})
    urgent = sent(b"urgent", "", "priorities", {**PERSISTENT, "priority": 9})
    messages["priorities"].insert(sum(message.priority >= 5 for message in messages["priorities"]), urgent)
    if world.has_quorum_queues:
        client.publish("", "quorum", b"after the upgrade", PERSISTENT)
        messages["quorum"].append(sent(b"after the upgrade", "", "quorum", PERSISTENT))
    quorum = ["quorum", "quorum.backlog"] if world.has_quorum_queues else []
    for queue in ("plain", "backlog", "held", "dead.limited", *quorum):
        _, tag = take_first(client, world, queue)
        client.send(method(1, "basic.ack", delivery_tag=tag))
    for queue, exchange, to, reached in (
        ("loop", "", "loop", ["loop"]),
        ("rejecting", "dead", "rejected", ["dead.rejected"]),
        ("hidden", "dead", None, ["dead.hidden", "dead.cc", *(["dead.bcc"] if world.keeps_hidden_keys else [])]),
    ):
        for _ in range(len(messages[queue])):
            message, tag = take_first(client, world, queue)
            client.send(method(1, "basic.reject", delivery_tag=tag))
            for name in reached:
                messages[name].append(message.died(queue, "rejected", exchange, to, LATER))
