"""x-dead-letter-strategy: at-least-once on quorum queues (RabbitMQ docs, Quorum Queues, Dead Lettering); what is
expected here was compared with a RabbitMQ 4.3, except where a test says otherwise."""

from __future__ import annotations

import random
from typing import cast

import pytest

from broker.destination import MessageTarget
from broker.message import Message
from tests.spec.test_dead_letter import headers_of
from tests.spec.test_delayed_retry import ENDS, gone_on
from tests.spec.test_quorum import after, opened, put, quorum_queue, waiting
from tests.support.durable import DurableBroker
from tests.support.memory import Broker, Client

KEEPS: dict[str, object] = {"x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish"}
RETRY_MS = 180_000


def queue(
    broker: DurableBroker,
    more: dict[str, object] | None = None,
    /,
    *,
    exchange: str = "",
    key: str = "dead",
    target: dict[str, object] | None = None,
) -> Client:
    """A client with a queue that keeps its dead letters, and where they go, if that is given."""
    arguments = KEEPS | {"x-dead-letter-exchange": exchange, "x-dead-letter-routing-key": key}
    client = opened(broker, arguments | (more or {}))
    if target is not None:
        client.ask("queue.declare", queue="dead", durable=True, arguments=target)
    return client


def reject(client: Client, count: int = 1) -> None:
    """What stands first goes."""
    for _ in range(count):
        said = client.get("q")
        assert said is not None
        client.tell("basic.reject", delivery_tag=said.method.number("delivery_tag"), requeue=False)


def ready(client: Client, name: str = "q") -> int:
    return client.ask("queue.declare", queue=name, passive=True).number("message_count")


def dead(broker: DurableBroker) -> int:
    """How many dead letters stay, which the ledger must have, too."""
    found = quorum_queue(broker)
    assert found.dead_count() == found.replica.ledger.totals.dead
    return int(found.dead_count())


def bodies(broker: DurableBroker, name: str = "dead") -> list[bytes]:
    return [body for body, *_ in waiting(broker, name)]


@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_what_is_rejected_goes_to_its_target(kind: str) -> None:
    broker = DurableBroker()
    client = queue(broker, target={"x-queue-type": kind})
    put(client, b"1", b"2", b"3")
    client.hear()
    reject(client, 2)
    broker.settled()
    assert dead(broker) == 0
    assert ready(client) == 1
    said = client.get("dead", no_ack=True)
    assert said is not None
    assert said.body == b"1"
    assert headers_of(said)["x-first-death-reason"] == "rejected"
    assert bodies(broker) == [b"2"]


@pytest.fixture(autouse=True, params=[True, False], ids=["direct", "by the thread"])
def writes_directly(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DurableBroker, "writes_directly", request.param)


@pytest.mark.parametrize(
    "without", ["x-overflow", "x-dead-letter-strategy"], ids=["drops the head", "without the strategy"]
)
def test_otherwise_nothing_is_kept(without: str) -> None:
    broker = DurableBroker()
    arguments = KEEPS | {"x-dead-letter-exchange": "nowhere"}
    del arguments[without]
    client = opened(broker, arguments)
    put(client, b"1")
    client.hear()
    reject(client)
    broker.settled()
    assert dead(broker) == 0
    assert quorum_queue(broker).replica.ledger.totals.all() == 0


def test_a_strategy_without_an_exchange_keeps_nothing() -> None:
    broker = DurableBroker()
    client = opened(broker, KEEPS)
    put(client, b"1")
    client.hear()
    reject(client)
    broker.settled()
    assert dead(broker) == 0


def test_without_an_exchange_they_stay_and_count_towards_the_length() -> None:
    broker = DurableBroker()
    client = queue(broker, {"x-max-length": 3}, exchange="missing")
    put(client, b"1", b"2", b"3")
    client.hear()
    reject(client, 2)
    assert ready(client) == 1
    put(client, b"4")
    client.expect("basic.nack")
    broker.settled()
    assert dead(broker) == 2
    assert quorum_queue(broker).dead_bytes() == 2


def test_their_bytes_count_as_well() -> None:
    broker = DurableBroker()
    client = queue(broker, {"x-max-length-bytes": 10}, exchange="missing")
    put(client, b"12345", b"12345")
    client.hear()
    reject(client, 2)
    put(client, b"6")
    client.expect("basic.nack")
    assert client.ask("queue.purge", queue="q")["message_count"] == 2
    put(client, b"7")
    client.expect("basic.ack")
    assert quorum_queue(broker).dead_bytes() == 0


def test_a_purge_takes_them() -> None:
    broker = DurableBroker()
    client = queue(broker, exchange="missing")
    put(client, *(b"%d" % number for number in range(40)))
    client.hear()
    reject(client, 36)
    broker.settled()
    assert client.ask("queue.purge", queue="q")["message_count"] == 40
    assert dead(broker.settled()) == 0
    client.ask("exchange.declare", exchange="missing", type="fanout")
    broker.advance(RETRY_MS)
    broker = broker.killed()
    assert waiting(broker, "q") == []
    assert dead(broker) == 0


def test_a_purge_takes_what_dies_in_the_same_turn() -> None:
    broker = DurableBroker()
    client = queue(broker, target={})
    put(client, b"1", b"2")
    client.hear()
    said = client.get("q")
    assert said is not None
    broker.disk_is_stalled = True
    client.tell("basic.reject", delivery_tag=1, requeue=False)
    client.tell("queue.purge", queue="q")
    broker.disk_is_stalled = False
    broker.settled()
    assert dead(broker) == 0
    assert bodies(broker) == []


def test_a_deletion_counts_what_is_ready() -> None:
    broker = DurableBroker()
    client = queue(broker, exchange="missing")
    put(client, b"1", b"2")
    client.hear()
    reject(client)
    broker.settled()
    assert client.ask("queue.delete", queue="q")["message_count"] == 1
    client.ask("exchange.declare", exchange="missing", type="fanout")
    broker.advance(RETRY_MS)


@pytest.mark.parametrize("change", ["exchange", "queue", "binding"])
def test_they_are_sent_again_when_they_may_lead_somewhere(change: str) -> None:
    """Ours: RabbitMQ tries again after three minutes only."""
    broker = DurableBroker()
    client = queue(broker, exchange="" if change == "queue" else "x")
    if change == "binding":
        client.ask("exchange.declare", exchange="x", type="fanout", durable=True)
    if change != "queue":
        client.ask("queue.declare", queue="dead", durable=True)
    put(client, b"1")
    client.hear()
    reject(client)
    broker.settled()
    assert dead(broker) == 1
    if change == "exchange":
        client.ask("exchange.declare", exchange="x", type="fanout", durable=True)
    if change == "queue":
        client.ask("queue.declare", queue="dead", durable=True)
    else:
        client.ask("queue.bind", queue="dead", exchange="x")
    broker.advance(1100)
    assert bodies(broker) == [b"1"]
    assert dead(broker) == 0


def test_what_a_target_refuses_is_sent_again_after_three_minutes_and_to_no_other() -> None:
    broker = DurableBroker()
    client = queue(broker, exchange="amq.fanout")
    client.ask(
        "queue.declare", queue="full", durable=True, arguments={"x-max-length": 1, "x-overflow": "reject-publish"}
    )
    client.ask("queue.declare", queue="other", durable=True)
    for name in ("full", "other"):
        client.ask("queue.bind", queue=name, exchange="amq.fanout")
    put(client, b"0", queue="full")
    put(client, b"1")
    client.hear()
    reject(client)
    broker.settled()
    assert dead(broker) == 1
    assert bodies(broker, "full") == [b"0"]
    broker.advance(RETRY_MS - 100)
    assert dead(broker) == 1
    broker.advance(200)
    assert dead(broker) == 0
    assert bodies(broker, "full") == [b"1"]
    assert bodies(broker, "other") == [b"1"]


@pytest.mark.parametrize("writes", range(8))
@pytest.mark.parametrize("end", ["killed", "lost power"])
@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_a_dead_letter_stays_until_its_target_has_it_on_the_disk(kind: str, end: str, writes: int) -> None:
    broker = DurableBroker()
    client = queue(broker, target={"x-queue-type": kind})
    put(client, b"1", delivery_mode=2)
    client.hear()
    client.get("q")
    broker.settled().disk_is_stalled = True
    client.tell("basic.reject", delivery_tag=1, requeue=False)
    worked(broker, writes)
    broker = after(broker, end, writes)
    found = bodies(broker, "q") + bodies(broker.settled())
    assert set(found) == {b"1"}


@pytest.mark.parametrize("rejected", [False, True])
def test_what_goes_round_in_a_circle(rejected: bool) -> None:
    """Ours: RabbitMQ keeps what would go round without having been rejected, and never sends it."""
    broker = DurableBroker()
    client = queue(broker, {} if rejected else {"x-message-ttl": 100}, key="q")
    put(client, b"1")
    client.hear()
    if rejected:
        reject(client)
        broker.settled()
        assert bodies(broker, "q") == [b"1"]
    else:
        broker.advance(150)
        assert bodies(broker, "q") == []
    assert dead(broker.settled()) == 0


def test_what_expires_and_what_fails_too_often() -> None:
    broker = DurableBroker()
    client = queue(broker, {"x-message-ttl": 500, "x-delivery-limit": 0}, target={})
    put(client, b"1", b"2", b"3")
    client.hear()
    client.get("q")
    client.tell("basic.reject", delivery_tag=1, requeue=True)
    broker.settled()
    broker.advance(600)
    said = [client.get("dead", no_ack=True) for _ in range(3)]
    found = [(each.body, headers_of(each)["x-first-death-reason"]) for each in said if each is not None]
    assert found == [(b"1", "delivery_limit"), (b"2", "expired"), (b"3", "expired")]
    assert dead(broker) == 0


def test_the_end_of_the_node_may_be_the_failure_that_is_too_much() -> None:
    broker = DurableBroker()
    client = queue(broker, {"x-delivery-limit": 0}, target={"x-queue-type": "quorum"})
    put(client, b"1", b"2")
    client.hear()
    client.get("q")
    broker = broker.settled().killed()
    assert bodies(broker, "q") == [b"2"]
    broker.settled()
    assert bodies(broker) == [b"1"]
    assert dead(broker) == 0


def test_at_most_32_are_under_way_and_they_come_in_the_order_of_their_deaths() -> None:
    broker = DurableBroker()
    client = queue(broker, target={"x-queue-type": "quorum"})
    put(client, *(b"%d" % number for number in range(100)))
    client.hear()
    client.consume("q")
    tags = [said.method.number("delivery_tag") for said in client.deliveries()]
    random.Random(1).shuffle(tags)
    broker.disk_is_stalled = True
    for tag in tags:
        client.tell("basic.reject", delivery_tag=tag, requeue=False)
    broker.disk_is_stalled = False
    broker.settled()
    assert bodies(broker) == [b"%d" % (tag - 1) for tag in tags]
    assert dead(broker) == 0


@pytest.mark.parametrize("end", ENDS)
def test_dead_letters_survive(end: str) -> None:
    broker = DurableBroker()
    client = queue(broker, exchange="x")
    client.ask("queue.declare", queue="dead", durable=True)
    put(client, *(b"%d" % number for number in range(10)))
    client.hear()
    reject(client, 3)
    client.get("q")
    broker.settled()
    broker = after(broker, end)
    assert dead(broker) == 3
    assert quorum_queue(broker).dead_bytes() == 3
    assert quorum_queue(broker).ready_count() == 7
    client = broker.open()
    client.ask("exchange.declare", exchange="x", type="fanout", durable=True)
    client.ask("queue.bind", queue="dead", exchange="x")
    broker.advance(1100)
    assert bodies(broker) == [b"0", b"1", b"2"]
    assert bodies(broker, "q") == [b"%d" % number for number in range(3, 10)]
    assert dead(broker.settled()) == 0
    broker = broker.killed()
    assert quorum_queue(broker).replica.ledger.totals.all() == 0
    assert quorum_queue(broker).ready_count() == 0


def test_what_is_alive_among_the_dead_is_there_after_a_start() -> None:
    broker = DurableBroker()
    client = queue(broker, exchange="x")
    put(client, *(b"%d" % number for number in range(30)))
    client.hear()
    client.consume("q")
    for said in client.deliveries():
        if int(said.body) % 3:
            client.tell("basic.reject", delivery_tag=said.method.number("delivery_tag"), requeue=False)
    broker = broker.settled().killed()
    assert dead(broker) == 20
    assert ready(broker.open()) == 10
    assert bodies(broker, "q") == [b"%d" % number for number in range(0, 30, 3)]
    broker = broker.settled().killed()
    assert (dead(broker), ready(broker.open())) == (20, 0)


def on_no_disk(exchange: str = "") -> tuple[Broker, Client]:
    """A node without a data directory, with a queue that keeps its dead letters."""
    broker = Broker()
    client = broker.open()
    arguments = KEEPS | {"x-queue-type": "quorum", "x-dead-letter-exchange": exchange}
    arguments |= {"x-dead-letter-routing-key": "dead", "x-message-ttl": 500}
    client.ask("queue.declare", queue="q", durable=True, arguments=arguments)
    client.ask("queue.declare", queue="dead", durable=True)
    for number in range(100):
        client.publish("q", b"%d" % number)
    client.consume("q", tag="c")
    tags = [said.method.number("delivery_tag") for said in client.deliveries()]
    for tag in tags[1::2]:
        client.tell("basic.reject", delivery_tag=tag, requeue=False)
    return broker, client


def test_a_node_without_a_data_directory() -> None:
    broker, client = on_no_disk()
    found = quorum_queue(broker)
    assert (found.dead_count(), found.replica.ledger.totals.dead) == (0, 0)
    assert client.drain("dead") == [b"%d" % number for number in range(1, 100, 2)]
    client.drop()
    broker.advance(600)
    assert (found.dead_count(), found.ready_count(), found.replica.ledger.totals.all()) == (0, 0, 0)
    assert broker.open().drain("dead") == [b"%d" % number for number in range(0, 100, 2)]
    assert all(block.live() == 0 for block in found.levels[0].table.blocks())


@pytest.mark.parametrize("purged", [False, True])
def test_what_stays_on_a_node_without_a_data_directory(purged: bool) -> None:
    broker, client = on_no_disk("x")
    client.drop()
    broker.advance(600)
    found = quorum_queue(broker)
    assert (found.dead_count(), found.dead_bytes(), found.replica.ledger.totals.dead) == (100, 190, 100)
    client = broker.open()
    if purged:
        assert client.ask("queue.purge", queue="q")["message_count"] == 100
    client.ask("exchange.declare", exchange="x", type="fanout")
    client.ask("queue.bind", queue="dead", exchange="x")
    broker.advance(1100)
    assert len(client.drain("dead")) == (0 if purged else 100)
    assert (found.dead_count(), found.dead_bytes(), found.replica.ledger.totals.all()) == (0, 0, 0)
    assert all(block.live() == 0 for block in found.levels[0].table.blocks())


def test_what_leads_to_very_many_queues() -> None:
    broker = DurableBroker()
    client = queue(broker, exchange="amq.fanout")
    names = [f"d{number}" for number in range(100)]
    for name in names:
        client.ask("queue.declare", queue=name, durable=True)
        client.ask("queue.bind", queue=name, exchange="amq.fanout")
    put(client, b"1", b"2", delivery_mode=2)
    client.hear()
    reject(client, 2)
    broker.settled()
    assert dead(broker) == 0
    broker = broker.killed()
    assert all(bodies(broker, name) == [b"1", b"2"] for name in names)


def test_a_large_one() -> None:
    broker = DurableBroker()
    client = queue(broker, target={"x-queue-type": "quorum"})
    large = random.Random(1).randbytes(400_000)
    client.publish("q", large)
    client.publish("q", b"small")
    client.hear()
    reject(client, 2)
    broker.settled()
    assert bodies(broker) == [large, b"small"]
    assert dead(broker.settled()) == 0


class Broken(MessageTarget):
    """A queue with a mistake."""

    def enqueue(self, message: Message) -> int:
        raise RuntimeError("planted")


def test_a_mistake_of_ours_costs_nothing() -> None:
    broker = DurableBroker()
    client = queue(broker)
    put(client, b"1", b"2")
    client.hear()
    queues = cast("dict[str, MessageTarget]", broker.vhost.queues)
    queues["dead"] = Broken("dead")
    broker.faults_expected = 2
    reject(client, 2)
    broker.settled()
    assert broker.clock.faults.count == 2
    assert dead(broker) == 2
    del queues["dead"]
    client.ask("queue.declare", queue="dead", durable=True)
    broker.advance(1100)
    assert dead(broker) == 0
    assert bodies(broker) == [b"1", b"2"]


def test_what_expires_is_one_range_however_much_it_is() -> None:
    broker = DurableBroker()
    client = queue(broker, {"x-message-ttl": 1000}, exchange="missing")
    for _ in range(50):
        put(client, *[b"x"] * 100)
    client.hear()
    broker.advance(1100)
    assert dead(broker) == 5000
    level = quorum_queue(broker).replica.ledger.levels[4]
    assert level is not None
    assert level.runs.runs() == 2, "they, and nothing behind them"
    keeper = quorum_queue(broker).keeper
    assert keeper is not None
    assert len(keeper.sender.order._ranges) <= 2
    assert len(keeper.sender._begun) == 32
    assert quorum_queue(broker).levels[0].table.at(0) is None


@pytest.mark.parametrize("end", ENDS)
def test_a_backlog_on_the_disk_with_dead_ones_in_it(end: str) -> None:
    broker = DurableBroker()
    client = queue(broker, exchange="missing")
    body = b"%d " + b"." * 4000
    for first in range(0, 600, 10):
        put(client, *(body % number for number in range(first, first + 10)))
    client.hear()
    client.consume("q")
    rejected = [number for number in range(600) if 100 <= number < 300 or number % 3 == 0]
    for said in client.deliveries():
        if int(said.body.split()[0]) in rejected:
            client.tell("basic.reject", delivery_tag=said.method.number("delivery_tag"), requeue=False)
    broker = gone_on(broker.settled(), end)
    share = quorum_queue(broker).disks()[0].share
    share.most = 64 << 10
    assert dead(broker) == len(rejected)
    assert quorum_queue(broker).ready_count() == 600 - len(rejected)
    client = broker.open()
    client.consume("q", no_ack=True)
    found: list[int] = []
    while len(found) < 600 - len(rejected):
        broker.settled()
        found += [int(said.body.split()[0]) for said in client.deliveries()]
    assert found == [number for number in range(600) if number not in rejected]
    assert quorum_queue(broker).ready_count() == 0
    put(client, b"more")
    broker.settled()
    assert client.bodies() == [b"more"]
    client.ask("queue.declare", queue="dead", durable=True)
    client.ask("exchange.declare", exchange="missing", type="fanout")
    client.ask("queue.bind", queue="dead", exchange="missing")
    for _ in range(40):
        broker.advance(1100)
    assert dead(broker) == 0
    assert [int(each.split()[0]) for each in bodies(broker)] == rejected


def test_what_waits_is_counted_exactly_when_the_dead_have_gone_first() -> None:
    broker = DurableBroker()
    client = queue(broker, exchange="missing")
    for first in range(0, 200, 10):
        put(client, *(b"%d " % number + b"." * 4000 for number in range(first, first + 10)))
    client.hear()
    client.consume("q")
    for said in client.deliveries():
        if int(said.body.split()[0]) >= 180:
            client.tell("basic.reject", delivery_tag=said.method.number("delivery_tag"), requeue=False)
    broker = broker.settled().killed()
    quorum_queue(broker).disks()[0].share.most = 64 << 10
    client = broker.open()
    client.ask("exchange.declare", exchange="missing", type="fanout")
    client.ask("queue.declare", queue="dead", durable=True)
    client.ask("queue.bind", queue="dead", exchange="missing")
    broker.advance(1100)
    assert dead(broker.settled()) == 0
    assert len(bodies(broker)) == 20
    for left in range(179, -1, -1):
        got = client.get("q", no_ack=True)
        assert got is not None
        assert int(got.body.split()[0]) == 179 - left
        assert got.method["message_count"] == left


def test_what_is_lost_on_the_disk_is_not_waited_for() -> None:
    broker = DurableBroker()
    client = queue(broker, exchange="missing")
    put(client, b"1", b"2")
    client.hear()
    reject(client, 2)
    broker.settled()
    log = quorum_queue(broker).replica.contents(4)
    log.positions.settle(0, 0)
    client.ask("queue.declare", queue="dead", durable=True)
    client.ask("exchange.declare", exchange="missing", type="fanout")
    client.ask("queue.bind", queue="dead", exchange="missing")
    broker.advance(1100)
    assert dead(broker) == 0
    assert bodies(broker) == [b"2"]


def test_what_expires_while_it_is_delayed_after_a_start() -> None:
    broker = DurableBroker()
    client = queue(broker, {"x-delayed-retry-type": "all", "x-delayed-retry-min": 10_000}, exchange="missing")
    put(client, b"1", expiration="1000")
    client.hear()
    client.get("q")
    client.tell("basic.reject", delivery_tag=1, requeue=True)
    broker = gone_on(broker.settled(), "killed")
    assert (quorum_queue(broker).delayed, quorum_queue(broker).ready_count(), dead(broker)) == (1, 0, 0)
    broker.advance(1100)
    assert (quorum_queue(broker).delayed, quorum_queue(broker).ready_count(), dead(broker)) == (0, 0, 1)


def drained(broker: DurableBroker) -> list[bytes]:
    """All that is ready, which is taken."""
    client = broker.open()
    client.ask("basic.consume", queue="q", consumer_tag="all", no_ack=True)
    broker.settled()
    found = [said.body for said in client.deliveries()]
    client.drop()
    return found


@pytest.mark.parametrize("seed", range(25))
def test_random_lives(seed: int) -> None:
    """Messages of several priorities that are rejected, given back, acknowledged, expire; a target that may be full or
    missing; ends of the node: whatever has died arrives, nothing else does, and nothing is left behind."""
    chance = random.Random(seed)
    broker = DurableBroker()
    kind = chance.choice(["classic", "quorum"])
    target: dict[str, object] = {"x-queue-type": kind, "x-max-length": 5, "x-overflow": "reject-publish"}
    more: dict[str, object] = {"x-delivery-limit": 3}
    if chance.random() < 0.3:
        more["x-single-active-consumer"] = True
    elif chance.random() < 0.3:
        more |= {"x-delayed-retry-type": "all", "x-delayed-retry-min": 50}
    client = queue(broker, more, target=target if chance.random() < 0.5 else None)
    alive: set[bytes] = set()
    died: set[bytes] = set()
    arrived: set[bytes] = set()
    mortal: set[bytes] = set()
    held: dict[int, bytes] = {}
    number = 0
    for _ in range(200):
        what = chance.choice(
            ("put", "put", "get", "get", "get", "reject", "reject", "back", "ack", "target", "wait", "end")
        )
        if what == "put":
            expiring = chance.random() < 0.2
            sent = [b"%d" % (number + each) for each in range(chance.randint(1, 6))]
            number += len(sent)
            priority = chance.choice((0, 4, 9))
            if expiring:
                mortal.update(sent)
                put(client, *sent, priority=priority, delivery_mode=2, expiration="30")
            else:
                put(client, *sent, priority=priority, delivery_mode=2)
            client.hear()
            alive.update(sent)
        elif what == "get" and "x-single-active-consumer" not in more:
            said = client.get("q")
            if said is not None:
                assert said.body in alive
                held[said.method.number("delivery_tag")] = said.body
        elif what == "get" and not held:
            client.ask("basic.qos", prefetch_count=4)
            client.consume("q", tag="c")
            for said in client.deliveries():
                held[said.method.number("delivery_tag")] = said.body
            client.ask("basic.cancel", consumer_tag="c")
        elif what == "reject" and held:
            tag = chance.choice(list(held))
            client.tell("basic.reject", delivery_tag=tag, requeue=False)
            died.add(held.pop(tag))
        elif what == "back" and held:
            tag = chance.choice(list(held))
            client.tell("basic.reject", delivery_tag=tag, requeue=True)
            mortal.add(held.pop(tag))  # the limit may be reached
        elif what == "ack" and held:
            tag = chance.choice(list(held))
            client.tell("basic.ack", delivery_tag=tag)
            body = held.pop(tag)
            alive.remove(body)
        elif what == "target":
            if chance.random() < 0.5:
                client.ask("queue.declare", queue="dead", durable=True, arguments=target)
            if "dead" in broker.vhost.queues:
                arrived.update(bodies(broker))
        elif what == "wait":
            broker.advance(chance.choice((5, 50, 1100, RETRY_MS)))
        elif what == "end" and chance.random() < 0.4:
            broker.settled()
            mortal.update(held.values())
            held = {}
            broker = gone_on(broker, chance.choice(ENDS), seed)
            client = broker.open()
            client.ask("confirm.select")
    broker.settled()
    broker = gone_on(broker, "killed")
    client = broker.open()
    client.ask("queue.declare", queue="dead", durable=True, arguments=target)
    left: set[bytes] = set()
    for _ in range(500):
        broker.advance(RETRY_MS if dead(broker) else 100)
        left.update(drained(broker))
        arrived.update(bodies(broker))
        broker.settled()
        found = quorum_queue(broker)
        if not dead(broker) and not found.delayed and not found.ready_count() and not bodies(broker):
            break
    assert dead(broker) == 0
    assert died <= arrived, "something is lost"
    assert arrived <= died | mortal, "something alive has arrived"
    assert arrived | left >= alive, "something is lost"
    assert not died & left
    assert quorum_queue(broker.settled()).replica.ledger.totals.all() == 0


def worked(broker: DurableBroker, steps: int) -> None:
    """So much of what the disk is asked for is done; the rest never is."""
    for _ in range(steps):
        for runner in broker._runners:
            if runner.jobs:
                runner.step()
                break
        broker.run_turn()


@pytest.mark.parametrize("kind", ["classic", "quorum"])
@pytest.mark.parametrize("seed", range(10))
def test_kills_in_the_middle(kind: str, seed: int) -> None:
    """The node ends at any step between a rejection and the targets' confirms, also while it recovers: what was
    confirmed is in its queue, or arrives, or both."""
    chance = random.Random(seed)
    broker = DurableBroker()
    client = queue(broker, target={"x-queue-type": kind})
    there: set[bytes] = set()
    rejected: set[bytes] = set()
    arrived: set[bytes] = set()
    for life in range(12):
        sent = [b"%d-%d" % (life, number) for number in range(chance.randint(0, 60))]
        put(client, *sent, delivery_mode=2)
        client.hear()
        there.update(sent)
        broker.settled()
        held = [said for _ in range(chance.randint(0, 70)) if (said := client.get("q")) is not None]
        broker.disk_is_stalled = True
        for said in held:
            rejected.add(said.body)
            client.tell("basic.reject", delivery_tag=said.method.number("delivery_tag"), requeue=False)
            if chance.random() < 0.1:
                worked(broker, chance.randint(0, 3))
        worked(broker, chance.randint(0, 12))
        broker = after(broker, chance.choice(["killed", "lost power"]), seed + life)
        if chance.random() < 0.3:
            broker.disk_is_stalled = True
            worked(broker, chance.randint(0, 6))
            broker = after(broker, chance.choice(["killed", "lost power"]), seed)
        if chance.random() < 0.3:
            arrived.update(bodies(broker))
        client = broker.open()
        client.ask("confirm.select")
    broker.settled().settled()
    assert dead(broker) == 0
    arrived.update(bodies(broker))
    left = set(drained(broker))
    assert arrived <= rejected
    assert arrived | left == there
