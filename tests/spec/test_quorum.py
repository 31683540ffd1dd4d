"""Quorum queues on one node (RabbitMQ docs, Quorum Queues): nobody hears of anything before it is on the disk, and
everything is there again exactly as it was."""

from __future__ import annotations

import random

import pytest

from broker.queues.quorum.commands import EntryWriter
from broker.queues.quorum.ledger import Ledger
from broker.queues.quorum.queue import QuorumQueue
from broker.queues.quorum.values import GONE, WAITING, acquired_count, state_of
from tests.support.durable import DurableBroker
from tests.support.memory import Broker, Client
from tests.support.wire import Said, publish

QUORUM = {"x-queue-type": "quorum"}


def opened(broker: Broker, arguments: dict[str, object] | None = None) -> Client:
    """A client in confirm mode, with a quorum queue."""
    client = broker.open()
    client.ask("queue.declare", queue="q", durable=True, arguments=QUORUM | (arguments or {}))
    client.ask("confirm.select")
    return client


def quorum_queue(broker: Broker) -> QuorumQueue:
    """The queue itself, for what no frame tells."""
    found = broker.vhost.queues["q"]
    assert isinstance(found, QuorumQueue)
    return found


def put(client: Client, *bodies: bytes, queue: str = "q", **properties: object) -> None:
    client.send(*(publish(1, "", queue, each, properties=properties) for each in bodies))


def seen(said: Said | None) -> tuple[bytes, bool, dict[str, object]] | None:
    """Body, redelivered, and the counts of a delivery."""
    if said is None:
        return None
    headers = said.properties.get("headers") or {}
    assert isinstance(headers, dict)
    counts = {name[2:-6]: value.value for name, value in headers.items() if name.endswith("-count")}
    return said.body, bool(said.method["redelivered"]), counts


def waiting(broker: DurableBroker, queue: str = "q") -> list[tuple[bytes, bool, dict[str, object]]]:
    client = broker.open()
    found = []
    while (each := seen(client.get(queue, no_ack=True))) is not None:
        found.append(each)
    return found


@pytest.fixture(autouse=True, params=[True, False], ids=["direct", "by the thread"])
def writes_directly(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DurableBroker, "writes_directly", request.param)


@pytest.fixture(params=["killed", "lost power", "stopped"])
def end(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def after(broker: DurableBroker, end: str, seed: int = 0) -> DurableBroker:
    if end == "killed":
        return broker.killed()
    return broker.lost_power(seed) if end == "lost power" else broker.stopped()


def test_confirmed_messages_survive_persistent_or_not(end: str) -> None:
    broker = DurableBroker()
    client = opened(broker)
    put(client, b"1", b"2", delivery_mode=1)
    put(client, b"3", delivery_mode=2)
    assert client.names() == ["basic.ack", "basic.ack"]
    assert waiting(after(broker, end)) == [(b"1", False, {}), (b"2", False, {}), (b"3", False, {})]


def test_nothing_is_heard_of_before_it_is_on_the_disk() -> None:
    broker = DurableBroker()
    client = opened(broker)
    consumer = broker.open()
    consumer.consume("q")
    broker.disk_is_stalled = True
    put(client, b"1")
    client.expect_nothing()
    assert consumer.deliveries() == []
    asked = broker.open()
    asked.tell("basic.get", queue="q")
    broker.disk_is_stalled = False
    broker.run_turn()
    client.expect("basic.ack")
    assert [said.body for said in consumer.deliveries()] == [b"1"]


def test_the_answer_to_a_get_waits_for_the_disk() -> None:
    broker = DurableBroker()
    client = opened(broker)
    put(client, b"1", b"2")
    client.hear()
    broker.disk_is_stalled = True
    client.tell("basic.get", queue="q")
    client.expect_nothing()
    other = broker.open()
    other.tell("basic.get", queue="q")
    other.expect_nothing()
    broker.disk_is_stalled = False
    broker.run_turn()
    assert client.expect_said("basic.get-ok").body == b"1"
    assert other.expect_said("basic.get-ok").body == b"2"


def test_what_a_channel_asked_for_goes_back_when_it_ends() -> None:
    broker = DurableBroker()
    client = opened(broker)
    put(client, b"1")
    client.hear()
    broker.disk_is_stalled = True
    asked = broker.open()
    asked.tell("basic.get", queue="q")
    asked.drop()
    broker.disk_is_stalled = False
    broker.run_turn()
    assert waiting(broker) == [(b"1", False, {})], "nobody has seen it"


def test_what_was_decided_for_a_consumer_goes_back_when_it_ends() -> None:
    broker = DurableBroker()
    client = opened(broker)
    consumer = broker.open()
    consumer.consume("q")
    broker.disk_is_stalled = True
    put(client, b"1", b"2")
    consumer.drop()
    broker.disk_is_stalled = False
    broker.run_turn()
    assert waiting(broker) == [(b"1", False, {}), (b"2", False, {})]


def test_what_consumers_had_comes_back_and_counts_as_failed(end: str) -> None:
    """RabbitMQ docs, Poison Message Handling: a consumer that goes away fails its deliveries."""
    broker = DurableBroker()
    client = opened(broker)
    put(client, b"1", b"2", b"3", b"4")
    client.hear()
    for _ in range(3):
        client.get("q")
    client.tell("basic.ack", delivery_tag=2)
    broker.settled()
    found = waiting(after(broker, end))
    came_back = {"delivery": 1, "acquired": 1}
    assert found == [(b"1", True, came_back), (b"3", True, came_back), (b"4", False, {})]


def test_counts_survive_many_ends(end: str) -> None:
    broker = DurableBroker()
    client = opened(broker)
    put(client, b"1")
    client.hear()
    expected = {"delivery": 0, "acquired": 0}
    for turn in range(6):
        client = broker.open()
        said = client.get("q")
        assert said is not None
        if turn > 0:
            assert seen(said) == (b"1", True, expected)
        how = ("nack", "reject", "end")[turn % 3]
        expected["acquired"] += 1
        if how == "nack":
            client.tell("basic.nack", delivery_tag=1, requeue=True)
        elif how == "reject":
            client.tell("basic.reject", delivery_tag=1, requeue=True)
            expected["delivery"] += 1
        else:
            expected["delivery"] += 1
        broker.settled()
        broker = after(broker, end, turn)
    assert waiting(broker) == [(b"1", True, expected)]


def test_priorities_are_strict_and_a_message_without_one_is_4() -> None:
    """RabbitMQ 4.3: 32 priorities, always."""
    broker = DurableBroker()
    client = opened(broker)
    for priority in (None, 0, 3, 5, 31, 40, None):
        if priority is None:
            put(client, b"None")
        else:
            put(client, b"%d" % priority, priority=priority)
    client.hear()
    assert client.drain("q") == [b"31", b"40", b"5", b"None", b"None", b"3", b"0"]


def test_priorities_survive(end: str) -> None:
    broker = DurableBroker()
    client = opened(broker)
    for priority in (1, 9, 4, 9):
        put(client, str(priority).encode(), priority=priority)
    client.hear()
    assert [body for body, _, _ in waiting(after(broker, end))] == [b"9", b"9", b"4", b"1"]


def test_a_delivery_limit_dead_letters_what_failed_too_often() -> None:
    """With a limit of 2 the third failed delivery is the last."""
    broker = DurableBroker()
    client = opened(broker, {"x-delivery-limit": 2, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"})
    client.ask("queue.declare", queue="dead")
    put(client, b"1")
    client.hear()
    tag = 0
    for _ in range(3):
        assert client.get("q") is not None
        tag += 1
        client.tell("basic.nack", delivery_tag=tag, requeue=True)
    for _ in range(3):
        assert client.get("q") is not None
        tag += 1
        client.tell("basic.reject", delivery_tag=tag, requeue=True)
    assert client.get("q") is None
    said = client.get("dead", no_ack=True)
    assert said is not None
    headers = said.properties["headers"]
    assert isinstance(headers, dict)
    assert headers["x-first-death-reason"].value == "delivery_limit"


@pytest.mark.parametrize("how", ["get", "consume", "consume no_ack"])
def test_the_end_of_the_node_counts_as_a_failed_delivery(how: str, end: str) -> None:
    broker = DurableBroker()
    arguments: dict[str, object] = {
        "x-delivery-limit": 1,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": "dead",
    }
    client = opened(broker, arguments)
    client.ask("queue.declare", queue="dead", durable=True)
    put(client, b"poison", delivery_mode=2)
    put(client, b"fine", delivery_mode=2)
    client.hear()
    assert client.get("q") is not None
    for left in (2, 1):
        broker = after(broker.settled(), end, left)
        client = opened(broker, arguments)
        # one that was stopped has given it back itself, and found it to be too much
        assert broker.depth("q") == (1 if end == "stopped" and left == 1 else 2, 0)
        if left == 2:
            said = client.get("q")
            assert said is not None
            assert said.body == b"poison"
    if how == "get":
        assert client.drain("q") == [b"fine"]
    else:
        client.consume("q", no_ack=how == "consume no_ack")
        assert client.bodies() == [b"fine"]
    broker.run_turn()
    assert broker.depth("q") == (0, 1 if how == "consume" else 0)
    assert [body for body, _, _ in waiting(broker, "dead")] == [b"poison"]


def test_the_queue_is_purged_and_deleted() -> None:
    broker = DurableBroker()
    client = opened(broker)
    put(client, b"1", b"2", b"3")
    client.hear()
    client.get("q")
    assert client.ask("queue.purge", queue="q")["message_count"] == 2
    broker = broker.killed()
    assert waiting(broker) == [(b"1", True, {"delivery": 1, "acquired": 1})]
    client = broker.open()
    client.ask("queue.delete", queue="q")
    broker = broker.settled().killed()
    client = broker.open()
    client.ask_error(404, "queue.declare", queue="q", passive=True)


def test_a_confirm_for_a_queue_that_is_deleted_meanwhile_comes() -> None:
    broker = DurableBroker()
    client = opened(broker)
    other = broker.open()
    broker.disk_is_stalled = True
    put(client, b"1")
    other.tell("queue.delete", queue="q")
    broker.disk_is_stalled = False
    broker.run_turn()
    client.expect("basic.ack")


def test_whoever_waits_for_a_get_of_a_queue_that_is_deleted_is_answered() -> None:
    broker = DurableBroker()
    client = opened(broker)
    put(client, b"1")
    client.hear()
    asked, other = broker.open(), broker.open()
    broker.disk_is_stalled = True
    asked.tell("basic.get", queue="q")
    asked.expect_nothing()
    other.tell("queue.delete", queue="q")
    broker.disk_is_stalled = False
    broker.run_turn()
    asked.expect("basic.get-empty")
    asked.ask("queue.declare", queue="next")


def test_what_was_decided_of_a_queue_that_is_deleted_takes_no_credit() -> None:
    broker = DurableBroker()
    client = opened(broker)
    client.ask("queue.declare", queue="other")
    consumer = broker.open()
    consumer.ask("basic.qos", prefetch_count=2, **{"global": True})
    consumer.consume("q")
    consumer.consume("other")
    broker.disk_is_stalled = True
    put(client, b"1", b"2", b"3")
    client.tell("queue.delete", queue="q")
    broker.disk_is_stalled = False
    broker.run_turn()
    consumer.hear()
    put(client, b"4", b"5", queue="other")
    assert consumer.bodies() == [b"4", b"5"]


def test_messages_expire() -> None:
    broker = DurableBroker()
    client = opened(broker, {"x-message-ttl": 1000})
    put(client, b"1")
    client.hear()
    broker.advance(999)
    assert broker.depth("q") == (1, 0)
    broker.advance(2)
    assert client.get("q") is None
    assert waiting(broker.settled().killed()) == []


def test_a_length_limit_drops_the_oldest() -> None:
    broker = DurableBroker()
    client = opened(broker, {"x-max-length": 2})
    put(client, b"1", b"2", b"3")
    client.hear()
    assert [body for body, _, _ in waiting(broker.settled().killed())] == [b"2", b"3"]


def test_auto_ack_forgets_what_it_delivers(end: str) -> None:
    broker = DurableBroker()
    client = opened(broker)
    put(client, b"1", b"2")
    client.hear()
    consumer = broker.open()
    consumer.consume("q", no_ack=True)
    assert consumer.bodies() == [b"1", b"2"]
    assert waiting(after(broker.settled(), end)) == []


@pytest.mark.parametrize("consumers", [1, 3])
def test_auto_ack_consumers_are_told_how_often_it_was_delivered(consumers: int, end: str) -> None:
    broker = DurableBroker()
    client = opened(broker)
    other = broker.open()
    put(client, *(b"%d" % number for number in range(9)))
    client.hear()
    for _ in range(9):
        client.get("q")
    for number in range(consumers):
        other.ask("basic.consume", queue="q", no_ack=True, consumer_tag=f"c{number}")
    client.tell("basic.nack", delivery_tag=9, multiple=True, requeue=True)
    broker.run_turn()
    heard = [seen(said) for said in other.hear() if said.method.name == "basic.deliver"]
    assert heard == [(b"%d" % number, True, {"delivery": 0, "acquired": 1}) for number in range(9)]
    assert broker.vhost.queues["q"].unacked == 0
    assert waiting(after(broker.settled(), end)) == []


def test_prefetch_counts_what_is_decided_and_not_delivered_yet() -> None:
    broker = DurableBroker()
    client = opened(broker)
    consumer = broker.open()
    consumer.ask("basic.qos", prefetch_count=2)
    consumer.consume("q")
    broker.disk_is_stalled = True
    put(client, b"1", b"2", b"3")
    put(client, b"4")
    broker.disk_is_stalled = False
    broker.run_turn()
    assert consumer.bodies() == [b"1", b"2"]
    consumer.tell("basic.ack", delivery_tag=2, multiple=True)
    assert consumer.bodies() == [b"3", b"4"]


def test_a_global_prefetch_works() -> None:
    broker = DurableBroker()
    client = opened(broker)
    consumer = broker.open()
    consumer.ask("basic.qos", prefetch_count=3, **{"global": True})
    consumer.consume("q", "a")
    consumer.consume("q", "b")
    put(client, *[b"%d" % number for number in range(9)])
    assert len(consumer.deliveries()) == 3
    consumer.tell("basic.ack", delivery_tag=2, multiple=True)
    assert len(consumer.deliveries()) == 2


def test_single_active_consumers_take_over() -> None:
    broker = DurableBroker()
    client = opened(broker, {"x-single-active-consumer": True})
    first, second = broker.open(), broker.open()
    first.consume("q")
    second.consume("q")
    put(client, b"1", b"2")
    assert (first.bodies(), second.bodies()) == ([b"1", b"2"], [])
    first.drop()
    broker.run_turn()
    assert [seen(said) for said in second.deliveries()] == [
        (b"1", True, {"delivery": 1, "acquired": 1}),
        (b"2", True, {"delivery": 1, "acquired": 1}),
    ]


def test_a_transaction_is_whole(end: str) -> None:
    broker = DurableBroker()
    client = broker.open()
    client.ask("queue.declare", queue="q", durable=True, arguments=QUORUM)
    client.ask("queue.declare", queue="classic", durable=True)
    client.ask("tx.select")
    client.send(publish(1, "", "q", b"1"), publish(1, "", "classic", b"2", properties={"delivery_mode": 2}))
    client.ask("tx.commit")
    broker = after(broker, end)
    assert [body for body, _, _ in waiting(broker)] == [b"1"]
    assert [body for body, _, _ in waiting(broker, "classic")] == [b"2"]


def test_a_large_backlog_is_read_back(end: str) -> None:
    broker = DurableBroker()
    client = opened(broker)
    bodies = [b"%d" % number + bytes(3000) for number in range(300)]
    for body in bodies:
        put(client, body)
    client.hear()
    broker = after(broker, end)
    assert [body for body, _, _ in waiting(broker)] == bodies


def test_numbers_of_logs_that_are_not_in_use_yet_are_not_given_to_others(end: str) -> None:
    """A quorum queue has a log for each priority, made when one comes; after a start they are still its own."""
    broker = DurableBroker()
    opened(broker)
    broker = after(broker, end)
    client = broker.open()
    client.ask("queue.declare", queue="classic", durable=True)
    client.ask("confirm.select")
    put(client, b"purged", queue="classic", delivery_mode=2)
    put(client, *(bytes([priority]) for priority in range(3)), delivery_mode=2)
    for priority in range(32):
        put(client, b"%d" % priority, priority=priority)
    client.hear()
    assert client.ask("queue.purge", queue="classic")["message_count"] == 1
    put(client, b"kept", queue="classic", delivery_mode=2)
    broker = after(broker, end)
    assert [body for body, *_ in waiting(broker, "classic")] == [b"kept"]
    assert len(waiting(broker)) == 35


def test_what_was_settled_and_is_gone_from_the_disk_is_not_missed() -> None:
    """Segments in which nothing is live are removed; what made them so is known from the entries alone."""
    broker = DurableBroker()
    client = opened(broker)
    for number in range(700):
        put(client, (b"%d " % number).ljust(3000, b"."))
        if number % 50 == 49:
            client.hear()
            broker.advance(50)
    broker.advance(5000)
    broker.advance(5000)
    assert broker.store.logs.segments.by_number
    consumer = broker.open()
    consumer.consume("q")
    left = 700
    while left:
        left -= len(consumer.deliveries())
        consumer.tell("basic.ack", delivery_tag=0, multiple=True)
        broker.advance(100)
    for _ in range(5):
        broker.advance(5000)
    assert not broker.store.logs.segments.by_number
    broker = broker.killed()
    assert broker.store.findings == []
    assert broker.depth("q") == (0, 0)
    put(opened(broker), b"more")
    assert [body for body, _, _ in waiting(broker)] == [b"more"]


REST_S = 12
"""After so long without anything to do a queue has rested."""


def ledger_of(broker: DurableBroker) -> Ledger | None:
    queue = quorum_queue(broker)
    return queue.replica._ledger


def rested(broker: DurableBroker) -> None:
    for _ in range(3):
        broker.advance(REST_S * 500)


@pytest.mark.parametrize("seed", [0, 1, 2, 3, 262])
def test_a_queue_rests_and_goes_on_where_it_was(seed: int, end: str) -> None:
    """One that is empty keeps little; the next message stands behind those that were."""
    chance = random.Random(seed)
    broker = DurableBroker()
    client = opened(broker)
    expected: list[bytes] = []
    number = 0
    for _ in range(40):
        what = chance.random()
        if what < 0.4:
            for _ in range(chance.choice((1, 2, 300))):
                number += 1
                put(client, b"%d" % number)
                expected.append(b"%d" % number)
            client.hear()
        elif what < 0.7:
            if chance.random() < 0.5:
                taken = [body for body, _, _ in waiting(broker)]
            else:
                said = client.get("q", no_ack=True)
                taken = [] if said is None else [said.body]
            assert taken == expected[: len(taken)]
            del expected[: len(taken)]
        elif what < 0.9:
            rested(broker)
            assert ledger_of(broker) is None
        else:
            broker = after(broker, end, seed)
            client = opened(broker)
        assert broker.depth("q") == (len(expected), 0)
    assert [body for body, _, _ in waiting(after(broker, end, seed))] == expected


def test_a_queue_that_rests_takes_messages_of_all_priorities() -> None:
    broker = DurableBroker()
    client = opened(broker)
    for _ in range(3):
        for priority in (1, 9, 30):
            put(client, b"%d" % priority, priority=priority)
        put(client, b"none")
        assert [body for body, _, _ in waiting(broker)] == [b"30", b"9", b"none", b"1"]
        rested(broker)
        assert ledger_of(broker) is None
    broker = broker.killed()
    assert broker.depth("q") == (0, 0)
    put(opened(broker), b"more", priority=9)
    assert [body for body, _, _ in waiting(broker)] == [b"more"]


def test_what_somebody_has_got_is_his_while_the_queue_rests() -> None:
    broker = DurableBroker()
    client = opened(broker)
    put(client, b"1")
    client.hear()
    assert client.get("q")
    rested(broker)
    assert ledger_of(broker) is None
    assert broker.depth("q") == (0, 1)
    client.tell("basic.nack", delivery_tag=1, requeue=True)
    assert waiting(broker) == [(b"1", True, {"delivery": 0, "acquired": 1})]
    rested(broker)
    assert ledger_of(broker) is None


def test_a_ledger_of_many_runs_is_not_put_away() -> None:
    broker = DurableBroker()
    client = opened(broker)
    put(client, *(b"%d" % number for number in range(200)))
    client.hear()
    for number in range(200):
        assert client.get("q")
        if number % 2:
            client.tell("basic.ack", delivery_tag=number + 1)
    rested(broker)
    assert ledger_of(broker) is not None
    client.tell("basic.ack", delivery_tag=0, multiple=True)
    rested(broker)
    assert ledger_of(broker) is None
    assert broker.depth("q") == (0, 0)


def test_a_consumer_waits_at_a_queue_that_rests() -> None:
    broker = DurableBroker()
    client = opened(broker)
    consumer = broker.open()
    consumer.consume("q")
    for body in (b"1", b"2", b"3"):
        put(client, body)
        assert [said.body for said in consumer.deliveries()] == [body]
        consumer.tell("basic.ack", delivery_tag=0, multiple=True)
        rested(broker)
        assert ledger_of(broker) is None
    client.hear()
    client.ask("queue.purge", queue="q")
    put(client, b"4")
    assert [said.body for said in consumer.deliveries()] == [b"4"]


def test_a_queue_that_rests_is_deleted_with_its_logs() -> None:
    broker = DurableBroker()
    client = opened(broker)
    put(client, b"1")
    put(client, b"2", priority=9)
    client.hear()
    assert len(waiting(broker)) == 2
    rested(broker)
    assert len(broker.store.logs.logs) == 3
    client.ask("queue.delete", queue="q")
    assert broker.store.logs.logs == {}
    client = opened(broker)
    client.ask("queue.delete", queue="q")  # one that was never used
    assert broker.store.logs.logs == {}
    broker = broker.killed()
    assert broker.store.logs.logs == {}


def test_without_its_snapshot_the_contents_are_messages() -> None:
    """The part of the manifest that had it is damaged: nobody knows what it said, and nothing that is there may be
    lost. What the entries behind it accept is not counted twice."""
    broker = DurableBroker()
    client = opened(broker)
    put(client, b"1", b"2", b"3", b"4")
    put(client, b"high", priority=9)
    client.hear()
    for _ in range(3):
        client.get("q")
    client.tell("basic.ack", delivery_tag=2)
    broker.settled()
    queue = quorum_queue(broker)
    replica = queue.replica
    replica._ledger = Ledger()
    entry = EntryWriter()
    entry.begin(0)
    entry.accept(4, 1)
    replica.make_do([entry.take()])
    found = [replica.ledger.value_at(4, position) for position in range(4)]
    assert [state_of(value) for value in found] == [GONE, WAITING, WAITING, GONE]
    assert [acquired_count(value) for value in found] == [0, 1, 1, 0]
    assert replica.ledger.next_position(4) == 3
    assert replica.ledger.next_position(9) == 1
    assert (int(replica.ledger.totals.ready), int(replica.ledger.totals.out)) == (3, 0)


@pytest.mark.parametrize("seed", range(12))
def test_random_lives(seed: int) -> None:
    """Publishes, gets, settlements of every kind, kills and power failures: each message is there as often and with
    such counts as a dictionary says."""
    chance = random.Random(seed)
    broker = DurableBroker()
    client = opened(broker)
    model: dict[bytes, list[int]] = {}
    """Body -> deliveries that failed, and how often it came back."""
    out: dict[int, bytes] = {}
    tag = 0
    number = 0
    for _ in range(150):
        action = chance.random()
        if action < 0.35:
            number += 1
            body = b"%d" % number
            put(client, body, priority=chance.choice((0, 4, 9)))
            client.hear()
            model[body] = [0, 0]
        elif action < 0.65:
            said = client.get("q")
            assert (said is None) == (len(out) == len(model))
            if said is not None:
                tag += 1
                failed, acquired = model[said.body]
                counts = {} if acquired == 0 else {"delivery": failed, "acquired": acquired}
                assert seen(said) == (said.body, acquired > 0, counts)
                out[tag] = said.body
        elif action < 0.9 and out:
            which = chance.choice(list(out))
            body = out.pop(which)
            how = chance.choice(("ack", "nack", "reject", "discard"))
            if how == "ack":
                client.tell("basic.ack", delivery_tag=which)
                del model[body]
            elif how == "discard":
                client.tell("basic.reject", delivery_tag=which, requeue=False)
                del model[body]
            else:
                client.tell(f"basic.{how}", delivery_tag=which, requeue=True)
                model[body][1] += 1
                model[body][0] += how == "reject"
        elif action > 0.96:
            broker = after(broker.settled(), chance.choice(("killed", "lost power", "stopped")), chance.getrandbits(16))
            client = opened(broker)
            for body in out.values():
                model[body][0] += 1
                model[body][1] += 1
            out.clear()
            tag = 0
    left = waiting(after(broker.settled(), "killed"))
    for body in out.values():
        model[body][0] += 1
        model[body][1] += 1
    assert {body: [counts.get("delivery", 0), counts.get("acquired", 0)] for body, _, counts in left} == model


def test_what_is_held_back_does_not_change_with_what_comes() -> None:
    """Whole blocks of a backlog are handed over as they are; it goes on using them."""
    broker = DurableBroker()
    client = opened(broker)
    consumer = broker.open()
    consumer.ask("basic.qos", prefetch_count=1000)
    consumer.consume("q")
    number = 0
    seen_bodies: list[bytes] = []
    for size in (1, 3, 2, 50, 1, 1, 700):
        broker.disk_is_stalled = True
        for _ in range(2):
            put(client, *[b"%d" % (number + each) for each in range(size)])
            number += size
        broker.disk_is_stalled = False
        broker.run_turn()
        said = consumer.deliveries()
        seen_bodies += [each.body for each in said]
        consumer.tell("basic.ack", delivery_tag=0, multiple=True)
    seen_bodies += consumer.bodies()
    assert seen_bodies == [b"%d" % each for each in range(number)]


def test_what_is_delivered_again_at_once_is_not_taken_for_a_failure() -> None:
    """The entry that says that it came back is not applied when its next delivery is decided."""
    broker = DurableBroker()
    client = opened(broker, {"x-delivery-limit": 1})
    put(client, b"1")
    client.hear()
    client.get("q")
    client.tell("basic.reject", delivery_tag=1, requeue=True)
    consumer = broker.open()
    consumer.consume("q")
    assert [seen(said) for said in consumer.deliveries()] == [(b"1", True, {"acquired": 1, "delivery": 1})]
    consumer.ask("basic.recover", requeue=True)
    assert [seen(said) for said in consumer.deliveries()] == [(b"1", True, {"acquired": 2, "delivery": 1})]
