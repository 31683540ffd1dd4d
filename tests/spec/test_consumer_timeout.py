"""How long a delivery of a quorum queue may stay unacknowledged (RabbitMQ docs, Consumers, Delivery Acknowledgement
Timeout); what is expected here was compared with a RabbitMQ 4.3, but for two things: there, a timeout of 0 cancels a
consumer at once, and one that was cancelled for its timeout gets messages again when it settles what it had."""

from __future__ import annotations

import random

import pytest

from broker.errors import PRECONDITION_FAILED
from tests.spec.test_delayed_retry import delay_of, gone_on, ready
from tests.spec.test_quorum import QUORUM, opened, put, seen, waiting
from tests.support.durable import DurableBroker
from tests.support.memory import Broker, Client

TIMEOUT: dict[str, object] = {"x-consumer-timeout": 5000}
SLACK_MS = 1000
"""Deliveries of one second are looked at together."""


def overdue(number: int, timeout: int) -> str:
    return (
        f"PRECONDITION_FAILED - delivery acknowledgement on channel {number} timed out. Timeout value used: {timeout} "
        "ms. This timeout value can be configured, see consumers doc guide to learn more"
    )


def consuming(broker: Broker, *, prefetch: int = 0, **arguments: object) -> Client:
    """A client whose channel 1 consumes."""
    client = broker.open()
    if prefetch:
        client.ask("basic.qos", prefetch_count=prefetch)
    client.consume("q", "slow", arguments=arguments)
    return client


def cancelled(client: Client) -> list[str]:
    """The tags of the consumers whose cancellation it hears of."""
    return [said.method.text("consumer_tag") for said in client.hear() if said.method.name == "basic.cancel"]


def test_what_is_overdue_goes_back_and_its_consumer_is_cancelled() -> None:
    broker = DurableBroker()
    client = opened(broker, TIMEOUT)
    put(client, b"1", b"2", b"3")
    slow = consuming(broker, prefetch=2)
    assert [said.body for said in slow.deliveries()] == [b"1", b"2"]
    broker.advance(4999)
    assert cancelled(slow) == []
    assert broker.depth("q") == (1, 2)
    broker.advance(1 + SLACK_MS)
    assert cancelled(slow) == ["slow"]
    assert broker.depth("q") == (3, 0)
    client.hear()
    assert client.ask("queue.declare", queue="q", passive=True).number("consumer_count") == 0
    assert waiting(broker) == [
        (b"1", True, {"acquired": 1, "delivery": 0}),
        (b"2", True, {"acquired": 1, "delivery": 0}),
        (b"3", False, {}),
    ]


def test_another_consumer_gets_it_and_the_late_acknowledgement_says_nothing() -> None:
    broker = DurableBroker()
    client = opened(broker, TIMEOUT)
    put(client, b"1")
    slow = consuming(broker)
    tag = slow.deliveries()[0].method.number("delivery_tag")
    other = broker.open()
    other.consume("q", "other")
    broker.advance(5000)
    assert cancelled(slow) == ["slow"]
    assert [seen(said) for said in other.deliveries()] == [(b"1", True, {"acquired": 1, "delivery": 0})]
    slow.tell("basic.ack", delivery_tag=tag)
    slow.expect_nothing()
    assert broker.depth("q") == (0, 1)
    slow.tell("basic.ack", delivery_tag=tag)
    assert "unknown delivery tag 1" in slow.channel_error(PRECONDITION_FAILED)
    other.tell("basic.ack", delivery_tag=1)
    assert broker.depth("q") == (0, 0)


@pytest.mark.parametrize("how", ["nack", "reject", "recover", "close", "multiple"])
def test_no_late_settlement_brings_anything_back(how: str) -> None:
    broker = DurableBroker()
    client = opened(broker, TIMEOUT)
    put(client, b"1", b"2")
    slow = consuming(broker)
    broker.advance(5000 + SLACK_MS)
    assert cancelled(slow) == ["slow"]
    if how == "recover":
        slow.ask("basic.recover", requeue=True)
    elif how == "close":
        slow.ask("channel.close", reply_code=200, reply_text="", class_id=0, method_id=0)
    elif how == "multiple":
        slow.tell("basic.ack", delivery_tag=0, multiple=True)
    else:
        slow.tell(f"basic.{how}", delivery_tag=1, requeue=True)
    broker.run_turn()
    assert [(body, counts["acquired"]) for body, _, counts in waiting(broker)] == [(b"1", 1), (b"2", 1)]


def test_what_a_cancelled_consumer_has_besides_goes_back_in_its_time() -> None:
    broker = DurableBroker()
    client = opened(broker, TIMEOUT)
    put(client, b"1", b"2")
    slow = consuming(broker, prefetch=2)
    broker.advance(3000)
    slow.tell("basic.ack", delivery_tag=2)
    put(client, b"3")
    broker.advance(2000 + SLACK_MS)
    assert cancelled(slow) == ["slow"]
    assert broker.depth("q") == (1, 1)
    broker.advance(1000)
    assert broker.depth("q") == (1, 1)
    broker.advance(2000)
    assert broker.depth("q") == (2, 0)
    slow.expect_nothing()
    slow.ask("queue.declare", queue="q", passive=True)


def test_the_tag_may_be_used_again() -> None:
    broker = DurableBroker()
    client = opened(broker, TIMEOUT)
    put(client, b"1")
    slow = consuming(broker)
    broker.advance(5000)
    assert cancelled(slow) == ["slow"]
    slow.consume("q", "slow")
    assert [said.method.number("delivery_tag") for said in slow.deliveries()] == [2]
    broker.advance(4999)
    assert cancelled(slow) == []
    broker.advance(1)
    assert cancelled(slow) == ["slow"]


def test_without_the_capability_the_channel_is_closed() -> None:
    broker = DurableBroker()
    client = opened(broker, TIMEOUT)
    put(client, b"1")
    slow = broker.open(1, 2, capabilities={})
    slow.consume("q")
    assert len(slow.deliveries()) == 1
    broker.advance(5000)
    assert slow.channel_error(PRECONDITION_FAILED) == overdue(1, 5000)
    slow.ask("queue.declare", on=2, queue="q", passive=True)
    assert [counts["acquired"] for _, _, counts in waiting(broker)] == [1]


@pytest.mark.parametrize("how", ["get", "cancelled"])
def test_who_has_no_consumer_loses_the_channel(how: str) -> None:
    broker = DurableBroker()
    client = opened(broker, TIMEOUT)
    put(client, b"1", b"2")
    slow = broker.open(7)
    if how == "get":
        slow.get("q", on=7)
    else:
        slow.consume("q", "mine", on=7)
        slow.ask("basic.cancel", on=7, consumer_tag="mine")
    slow.hear()
    broker.advance(4999)
    slow.expect_nothing()
    broker.advance(1 + SLACK_MS)
    assert slow.channel_error(PRECONDITION_FAILED, on=7) == overdue(7, 5000)
    assert broker.depth("q") == (2, 0)


@pytest.mark.parametrize(
    ("queue", "consumer", "expected"),
    [
        (None, None, 1_800_000),
        (9000, None, 9000),
        (9000, 3000, 3000),
        (9000, 12_000, 12_000),
        (9000, 0, 0),
        (0, None, 0),
    ],
)
def test_the_consumers_argument_goes_first(queue: int | None, consumer: int | None, expected: int) -> None:
    """The consumer's, otherwise the queue's, otherwise the node's; 0 is none."""
    broker = DurableBroker()
    client = opened(broker, {} if queue is None else {"x-consumer-timeout": queue})
    put(client, b"1")
    slow = consuming(broker, **({} if consumer is None else {"x-consumer-timeout": consumer}))
    assert len(slow.deliveries()) == 1
    if expected == 0:
        broker.advance(4_000_000)
        assert cancelled(slow) == []
        return
    broker.advance(expected - 1)
    assert cancelled(slow) == []
    broker.advance(1)
    assert cancelled(slow) == ["slow"]


def test_the_node_may_have_none_or_another_one() -> None:
    broker = DurableBroker()
    broker.server.limits.consumer_timeout_ms = 0
    client = opened(broker)
    put(client, b"1")
    slow = consuming(broker)
    broker.advance(4_000_000)
    assert cancelled(slow) == []


@pytest.mark.parametrize("what", ["classic", "auto-ack"])
def test_other_queues_and_auto_ack_have_none(what: str) -> None:
    broker = DurableBroker()
    client = opened(broker, TIMEOUT)
    client.ask("queue.declare", queue="c", arguments=TIMEOUT)
    put(client, b"1", queue="c" if what == "classic" else "q")
    slow = broker.open()
    slow.consume("c" if what == "classic" else "q", no_ack=what == "auto-ack", arguments=TIMEOUT)
    broker.advance(4_000_000)
    assert len(slow.deliveries()) == 1
    slow.expect_nothing()


def test_who_settles_in_time_is_left_alone() -> None:
    broker = DurableBroker()
    client = opened(broker, TIMEOUT)
    slow = consuming(broker, prefetch=1)
    put(client, *(b"%d" % number for number in range(10)))
    for number in range(1, 11):
        broker.advance(3000)
        assert cancelled(slow) == []
        slow.tell("basic.ack", delivery_tag=number)
    assert broker.depth("q") == (0, 0)
    broker.advance(60_000)
    assert cancelled(slow) == []


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ({"x-consumer-timeout": -1}, ": {value_negative,-1}"),
        ({"x-consumer-timeout": "1"}, ': "expected integer, got longstr"'),
    ],
)
def test_a_wrong_argument_is_refused(arguments: dict[str, object], fault: str) -> None:
    broker = DurableBroker()
    client = opened(broker)
    text = client.ask_error(PRECONDITION_FAILED, "basic.consume", queue="q", arguments=arguments)
    assert text == f"PRECONDITION_FAILED - invalid arg 'x-consumer-timeout' for queue 'q' in vhost '/'{fault}"
    client = broker.open()
    text = client.ask_error(
        PRECONDITION_FAILED, "queue.declare", queue="other", durable=True, arguments=QUORUM | arguments
    )
    assert text == f"PRECONDITION_FAILED - invalid arg 'x-consumer-timeout' for queue 'other' in vhost '/'{fault}"


@pytest.mark.parametrize(("kind", "least"), [("all", 3000), ("failed", 0), ("returned", 3000)])
def test_what_was_overdue_is_delayed_as_what_was_given_back(kind: str, least: int) -> None:
    broker = DurableBroker()
    client = opened(broker, TIMEOUT | {"x-delayed-retry-type": kind, "x-delayed-retry-min": 3000})
    put(client, b"1")
    slow = consuming(broker)
    broker.advance(5000)
    assert cancelled(slow) == ["slow"]
    client.hear()
    assert ready(client) == (0 if least else 1)
    broker.advance(least)
    passed, _ = delay_of(broker, client)
    assert passed <= 20


def test_the_next_single_active_consumer_takes_over() -> None:
    broker = DurableBroker()
    client = opened(broker, TIMEOUT | {"x-single-active-consumer": True})
    put(client, b"1", b"2")
    slow = consuming(broker, prefetch=1)
    other = broker.open()
    other.consume("q", "other")
    broker.advance(5000)
    assert cancelled(slow) == ["slow"]
    assert [said.body for said in other.deliveries()] == [b"1", b"2"]


@pytest.mark.parametrize("outcome", ["commit", "rollback"])
def test_what_a_transaction_has_settled_is_not_overdue(outcome: str) -> None:
    broker = DurableBroker()
    client = opened(broker, TIMEOUT)
    put(client, b"1", b"2")
    slow = broker.open()
    slow.ask("tx.select")
    slow.consume("q", "slow")
    slow.tell("basic.ack", delivery_tag=0, multiple=True)
    broker.advance(10_000)
    assert cancelled(slow) == []
    slow.ask(f"tx.{outcome}")
    broker.advance(5000 + SLACK_MS)
    assert broker.depth("q") == ((0, 0) if outcome == "commit" else (2, 0))
    assert cancelled(slow) == ([] if outcome == "commit" else ["slow"])


def test_beside_what_a_transaction_has_settled_the_channel_is_closed() -> None:
    """A rollback puts back what was settled among what is overdue: that cannot go back alone."""
    broker = DurableBroker()
    client = opened(broker, TIMEOUT)
    put(client, b"1", b"2")
    slow = broker.open()
    slow.ask("tx.select")
    slow.consume("q", "slow")
    slow.tell("basic.ack", delivery_tag=1)
    slow.hear()
    broker.advance(5000 + SLACK_MS)
    assert slow.channel_error(PRECONDITION_FAILED) == overdue(1, 5000)
    assert broker.depth("q") == (2, 0)


def test_the_window_of_a_channel_opens_for_other_consumers() -> None:
    """What is overdue takes no credit of a window that a channel's consumers share."""
    broker = DurableBroker()
    client = opened(broker, TIMEOUT)
    client.ask("queue.declare", queue="c")
    put(client, b"1", b"2")
    put(client, b"c", queue="c")
    slow = broker.open()
    slow.ask("basic.qos", prefetch_count=2, **{"global": True})
    slow.consume("q", "slow")
    slow.consume("c", "other")
    assert [said.body for said in slow.deliveries()] == [b"1", b"2"]
    broker.advance(5000 + SLACK_MS)
    said = slow.hear()
    assert [each.method.name for each in said] == ["basic.deliver", "basic.cancel"]
    assert said[0].body == b"c"


def test_very_many_consumers_of_one_channel() -> None:
    """Each delivery is a run of its own; they are given back in slices, and in order."""
    broker = DurableBroker()
    client = opened(broker, TIMEOUT)
    slow = broker.open()
    for number in range(500):
        slow.consume("q", f"{number}")
    put(client, *(b"%d" % number for number in range(1500)))
    slow.hear()
    broker.advance(5000 + SLACK_MS)
    assert sorted(cancelled(slow), key=int) == [f"{number}" for number in range(500)]
    assert [body for body, _, _ in waiting(broker)] == [b"%d" % number for number in range(1500)]


@pytest.mark.parametrize("seed", range(12))
def test_random_lives(seed: int) -> None:
    """Consumers with timeouts, settlements in time and late, channels that end, kills: nothing is lost, and nothing is
    there twice."""
    chance = random.Random(seed)
    broker = DurableBroker()
    client = opened(broker, TIMEOUT)
    consumers: list[Client] = []
    there: set[bytes] = set()
    held: dict[tuple[int, int], tuple[bytes, int, int]] = {}
    """Client and delivery tag -> body, and when it was delivered: at the earliest, and at the latest."""
    number = now = before = 0
    for _ in range(200):
        action = chance.random()
        before = now
        if action < 0.3:
            number += 1
            there.add(b"%d" % number)
            put(client, b"%d" % number)
            client.hear()
        elif action < 0.4 and len(consumers) < 4:
            consumers.append(consuming(broker, prefetch=chance.choice((0, 1, 3))))
        elif action < 0.55:
            passed = chance.choice((100, 1000, 2500, 7000))
            broker.advance(passed)
            now += passed
        elif action < 0.85 and held:
            key = chance.choice(list(held))
            body, earliest, latest = held.pop(key)
            depth = sum(broker.depth("q"))
            consumers[key[0]].tell("basic.ack", delivery_tag=key[1])
            in_time = sum(broker.depth("q")) < depth
            assert in_time or now - earliest >= 5000
            assert not in_time or now - latest <= 5000 + SLACK_MS
            if in_time:
                there.discard(body)
        elif action < 0.9 and consumers:
            which = chance.randrange(len(consumers))
            consumers[which].drop()
            consumers[which] = consuming(broker)
            held = {key: value for key, value in held.items() if key[0] != which}
        elif action > 0.97:
            broker = gone_on(broker.settled(), chance.choice(("killed", "stopped")))
            client = opened(broker, TIMEOUT)
            consumers, held = [], {}
        for index, consumer in enumerate(consumers):
            for said in consumer.hear():
                if said.method.name == "basic.deliver":
                    held[index, said.method.number("delivery_tag")] = (said.body, before, now)
    for consumer in consumers:
        consumer.drop()
    broker.run_turn()
    assert sorted(body for body, _, _ in waiting(broker)) == sorted(there)
