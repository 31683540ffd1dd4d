"""Dead letters that go to very many queues, or through bindings that are long to match, are on their way for some
turns.

broker/vhost/dead_letters.py. The clock of these tests says at every look that the time is over.
"""

from __future__ import annotations

import random

import pytest

from broker.store.commit_group import CommitGroupWriter
from tests.support.durable import DurableBroker
from tests.support.fake_clock import HurriedClock
from tests.support.memory import Broker, Client
from tests.support.wire import method, publish

QUEUES = 100


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Broker, "clock_type", HurriedClock)


def with_wide_exchange(broker: Broker, *, durable: bool = False, **arguments: object) -> Client:
    """Queue `q`, whose dead letters go to a hundred queues `d0` ..."""
    client = broker.open()
    client.ask("exchange.declare", exchange="wide", type="fanout", durable=durable)
    for number in range(QUEUES):
        client.ask("queue.declare", queue=f"d{number}", durable=durable)
        client.ask("queue.bind", queue=f"d{number}", exchange="wide")
    given = {name.replace("_", "-"): value for name, value in arguments.items()}
    client.ask("queue.declare", queue="q", durable=durable, arguments={"x-dead-letter-exchange": "wide"} | given)
    return client


def numbered(client: Client, queue: str, count: int, first: int = 0, **properties: object) -> None:
    client.send(
        *(publish(1, "", queue, b"%d" % number, properties=properties) for number in range(first, first + count))
    )


def numbers(client: Client, queue: str) -> list[int]:
    return [int(body) for body in client.drain(queue)]


def assert_in_order(broker: Broker, count: int) -> None:
    """Each of the queues has all dead letters, in the order in which they have died."""
    assert [broker.depth(f"d{number}") for number in range(QUEUES)] == [(count, 0)] * QUEUES
    for number in (0, QUEUES // 2, QUEUES - 1):
        assert numbers(broker.open(), f"d{number}") == list(range(count))


def reject_all(client: Client) -> None:
    client.consume("q")
    tag = client.deliveries()[-1].method["delivery_tag"]
    client.auto = False
    client.tell("basic.nack", delivery_tag=tag, multiple=True, requeue=False)


def test_rejected_messages_take_turns_and_keep_their_order() -> None:
    broker = Broker()
    client, other = with_wide_exchange(broker), broker.open()
    other.ask("queue.declare", queue="own")
    numbered(client, "q", 50)
    turns = broker.turn.turns
    reject_all(client)
    other.auto = False
    other.tell("queue.declare", queue="own", passive=True)
    for _ in range(5):
        broker.turn.run()
    other.expect("queue.declare-ok")
    assert broker.depth(f"d{QUEUES - 1}") == (0, 0), "others are served before the first one has reached all queues"
    client.auto = other.auto = True
    assert client.ask("queue.declare", queue="d99", passive=True)["message_count"] == 50, (
        "later frames of the channel wait"
    )
    assert broker.turn.turns - turns > 50 * QUEUES // 16
    assert_in_order(broker, 50)


def test_expired_messages_take_turns_and_keep_their_order() -> None:
    broker = Broker()
    client = with_wide_exchange(broker, x_message_ttl=100)
    numbered(client, "q", 30)
    broker.clock.time_ms += 200
    broker.clock.refresh()
    numbered(client, "q", 1, 30)
    consumer = broker.open()
    consumer.consume("q")
    assert consumer.bodies() == [b"30"], "nothing expired is delivered while the rest of it goes"
    broker.advance(10)
    assert_in_order(broker, 30)


def test_dropped_messages_take_turns_and_keep_their_order() -> None:
    broker = Broker()
    client = with_wide_exchange(broker, x_max_length=5)
    numbered(client, "q", 40)
    assert broker.depth("q") == (5, 0)
    assert_in_order(broker, 35)


def test_who_publishes_to_a_full_queue_waits_for_its_dead_letters() -> None:
    """x-overflow=reject-publish-dlx: what waits to be dead-lettered stays little, and others may publish meanwhile."""
    broker = Broker()
    client = with_wide_exchange(broker, x_max_length=0, x_overflow="reject-publish-dlx")
    other = broker.open()
    other.ask("queue.declare", queue="own")
    other.ask("confirm.select")
    client.auto = other.auto = False
    for number in range(500):
        numbered(client, "q", 1, number)
        if not client.sink.reading:
            broker.turn.run()
    other.send(publish(1, "", "own", b"m"))
    most = 0
    for _ in range(200):
        under_way = broker.vhost.dead_letters.under_way
        most = max([most, *(each.count() for each in under_way.values())])
        broker.turn.run()
        client.take_held()
    assert 200 < most < 400
    assert broker.depth("own") == (1, 0)
    client.auto = other.auto = True
    broker.run_turn()
    assert_in_order(broker, 500)
    assert broker.vhost.dead_letters.crowded == 0


def test_bindings_that_are_long_to_match_are_matched_in_slices() -> None:
    broker = Broker()
    client = broker.open()
    dice = random.Random(1)
    client.ask("exchange.declare", exchange="t", type="topic")
    client.ask("queue.declare", queue="dead")
    patterns = sorted({".".join(dice.choices("##*ab", k=dice.randint(1, 20))) for _ in range(4000)})
    client.send(
        *(method(1, "queue.bind", queue="dead", exchange="t", routing_key=key, nowait=True) for key in patterns)
    )
    key = ".".join(dice.choices("ab", k=127))
    client.ask("queue.declare", queue="q", arguments={"x-dead-letter-exchange": "t", "x-dead-letter-routing-key": key})
    numbered(client, "q", 20)
    turns = broker.turn.turns
    reject_all(client)
    client.auto = True
    client.ask("queue.declare", queue="dead", passive=True)
    assert broker.turn.turns - turns > 100
    assert numbers(client, "dead") == list(range(20))


@pytest.mark.parametrize("what", ["exchange.delete", "queue.delete"])
def test_what_is_deleted_meanwhile_costs_nothing_else(what: str) -> None:
    broker = Broker()
    client, other = with_wide_exchange(broker), broker.open()
    numbered(client, "q", 20)
    reject_all(client)
    for _ in range(12):
        broker.turn.run()
    if what == "queue.delete":
        other.ask(what, queue="q")
    else:
        other.ask(what, exchange="wide")
    client.auto = True
    broker.run_turn()
    assert not broker.vhost.dead_letters.under_way
    assert broker.depth("d0")[0] >= 1
    assert numbers(other, "d0") == numbers(other, f"d{QUEUES - 1}"), "the one that was on its way has reached all"


@pytest.mark.parametrize("turns", [1, 4, 8, 12, 30, 60])
def test_a_crash_loses_no_dead_letter(turns: int) -> None:
    """A message is where it has died, or wherever it goes: both are one commit group of the log."""
    broker = DurableBroker()
    client = with_wide_exchange(broker, durable=True)
    numbered(client, "q", 5, delivery_mode=2)
    broker.settled()
    reject_all(client)
    for _ in range(turns):
        broker.turn.run()
        broker.clock.advance(5)
        while broker.work():
            pass
    left = broker.killed()
    waiting = left.depth("q")[0]
    assert [left.depth(f"d{number}")[0] for number in range(QUEUES)] == [5 - waiting] * QUEUES


def test_the_log_goes_on_when_all_are_there() -> None:
    broker = DurableBroker()
    client = with_wide_exchange(broker, durable=True)
    numbered(client, "q", 5, delivery_mode=2)
    reject_all(client)
    client.auto = True
    broker.run_turn()
    batch = broker.store.logs.batch
    assert isinstance(batch, CommitGroupWriter)
    assert batch.holders == 0
    broker.settled()
    assert broker.killed().depth("d7") == (5, 0)


def test_the_node_ends_while_dead_letters_are_on_their_way() -> None:
    """docs/durability.md: after a clean end exactly what was delivered is redelivered, and what was dropped is where it
    was moved to."""
    broker = DurableBroker()
    client = with_wide_exchange(broker, durable=True, x_max_length=5)
    client.auto = False
    numbered(client, "q", 40, delivery_mode=2)
    while broker.depth("d0") == (0, 0) or broker.depth("d99") != (0, 0):
        broker.turn.run()
    broker = broker.stopped(at_once=True)
    got: list[tuple[int, bool]] = []
    left = broker.open()
    while (each := left.get("q", no_ack=True)) is not None:
        got.append((int(each.body), bool(each.method["redelivered"])))
    assert got == [(number, False) for number in range(35, 40)]
    assert_in_order(broker, 35)
