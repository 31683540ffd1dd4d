"""Work that has to be one commit group holds the open group; pieces of it that overlap without end do not keep confirms
from others.

broker/store/logs.py, GroupHold. The clock of these tests says at every look that the time is over, so all of it takes
many turns.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from broker.store.commit_group import HOLD_MS, CommitGroupWriter
from tests.support.durable import DurableBroker
from tests.support.fake_clock import HurriedClock
from tests.support.memory import Broker, Client
from tests.support.wire import method, publish

TURN_MS = 5
PIECES = 60
"""So many pieces of work, each of which goes on for longer than two turns."""
RUNS = 60


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Broker, "clock_type", HurriedClock)


def numbered(client: Client, queue: str, count: int, **properties: object) -> None:
    client.send(*(publish(1, "", queue, b"%d" % number, properties=properties) for number in range(count)))


def a_turn(broker: DurableBroker) -> None:
    """One turn, what the disk has to do, and some milliseconds."""
    broker.turn.run()
    while broker.work():
        pass
    for client in broker.clients:
        client.take_held()
    broker.clock.advance(TURN_MS)


def confirmed_after_ms(broker: DurableBroker, begin: Callable[[], None]) -> int:
    """How long a persistent message waits for its confirm while two pieces of work hold the group: ``begin`` begins the
    next one."""
    batch = broker.store.logs.batch
    assert isinstance(batch, CommitGroupWriter)
    publisher = broker.open()
    publisher.ask("confirm.select")
    publisher.ask("queue.declare", queue="own", durable=True)
    broker.settled()
    publisher.auto = False
    begin()
    begin()
    for _ in range(50):
        if batch.holders < 2:
            a_turn(broker)
    assert batch.holders == 2
    publisher.send(publish(1, "", "own", b"m", properties={"delivery_mode": 2}))
    for turn in range(3000):
        if "basic.ack" in publisher.names():
            return turn * TURN_MS
        a_turn(broker)
        if batch.holders == 1:
            begin()
    raise AssertionError("no confirm")


def assert_bounded(waited_ms: int) -> None:
    """They were let overlap, but not without end."""
    assert HOLD_MS < waited_ms < 3 * HOLD_MS


def test_transactions_that_overlap() -> None:
    broker = DurableBroker()
    clients = [broker.open() for _ in range(PIECES)]
    for number, client in enumerate(clients):
        client.ask("queue.declare", queue=f"q{number}", durable=True)
        client.ask("tx.select")
        numbered(client, f"q{number}", 100 + number, delivery_mode=2)
        client.auto = False
    following = iter(clients)
    waited_ms = confirmed_after_ms(broker, lambda: next(following).tell("tx.commit"))
    broker.run_turn()
    begun = clients.index(next(following))
    assert [client.names() for client in clients[:begun]] == [["tx.commit-ok"]] * begun
    left = broker.killed()
    assert [left.depth(f"q{number}")[0] for number in range(begun)] == list(range(100, 100 + begun))
    assert_bounded(waited_ms)


def test_purges_that_overlap() -> None:
    """Of queues whose messages have been delivered before, and partly acknowledged: what is left is settled run by
    run."""
    broker = DurableBroker()
    client = broker.open()
    client.ask("basic.qos", prefetch_count=3)
    for number in range(PIECES):
        client.ask("queue.declare", queue=f"q{number}", durable=True)
        numbered(client, f"q{number}", 3 * RUNS, delivery_mode=2)
        for _ in range(RUNS):
            client.consume(f"q{number}")
    for delivery in client.deliveries()[1::3]:
        client.tell("basic.ack", delivery_tag=delivery.method["delivery_tag"])
    client.ask("basic.recover", requeue=True)
    client.ask("channel.close", reply_code=0, reply_text="", class_id=0, method_id=0)
    assert broker.depth("q0") == (2 * RUNS, 0)
    broker.settled()
    clients = [broker.open() for _ in range(PIECES)]
    for each in clients:
        each.auto = False
    numbers = iter(range(PIECES))

    def purge() -> None:
        number = next(numbers)
        clients[number].tell("queue.purge", queue=f"q{number}")

    waited_ms = confirmed_after_ms(broker, purge)
    begun = next(numbers)
    broker.run_turn()
    assert [each.names() for each in clients[:begun]] == [["queue.purge-ok"]] * begun
    assert [broker.killed().depth(f"q{number}") for number in range(begun)] == [(0, 0)] * begun
    assert_bounded(waited_ms)


def test_dead_letters_of_several_queues() -> None:
    """Queues that are too long, each of which lets one message after the other die, to a hundred queues."""
    broker = DurableBroker()
    client = broker.open()
    client.ask("exchange.declare", exchange="wide", type="fanout", durable=True)
    for number in range(100):
        client.ask("queue.declare", queue=f"d{number}", durable=True)
        client.ask("queue.bind", queue=f"d{number}", exchange="wide")
    for number in range(2):
        more = {"x-dead-letter-exchange": "wide", "x-max-length": 1}
        client.ask("queue.declare", queue=f"q{number}", durable=True, arguments=more)
    clients = [broker.open(), broker.open()]
    following = iter(enumerate(clients))
    for each in clients:
        each.auto = False

    def fill() -> None:
        for number, each in following:
            numbered(each, f"q{number}", 100)
            return

    waited_ms = confirmed_after_ms(broker, fill)
    broker.run_turn()
    assert broker.depth("d7") == (198, 0)
    assert_bounded(waited_ms)


@pytest.mark.parametrize("how", ["stays", "channel.close", "connection.close", "socket"])
def test_what_was_asked_for_is_done_though_it_had_to_wait(how: str) -> None:
    broker = DurableBroker()
    client = broker.open()
    for name in ("q", "gone"):
        client.ask("queue.declare", queue=name, durable=True)
    client.ask("tx.select")
    numbered(client, "q", 7, delivery_mode=2)
    batch = broker.store.logs.batch
    batch.hold_group(True)
    broker.clock.advance(HOLD_MS)
    client.auto = False
    client.send(method(1, "tx.commit"), method(1, "queue.delete", queue="gone"))
    if how == "socket":
        client.opened.lost()
        client.sink.closed = True
    elif how != "stays":
        client.tell(how, on=int(how == "channel.close"), reply_code=200, reply_text="", class_id=0, method_id=0)
    for _ in range(20):
        a_turn(broker)
    assert broker.depth("q") == (0, 0), "others hold the group"
    batch.hold_group(False)
    broker.run_turn()
    assert broker.depth("q") == (7, 0)
    left = broker.killed()
    assert left.depth("q") == (7, 0)
    if how in ("stays", "channel.close"):
        assert client.names()[:2] == ["tx.commit-ok", "queue.delete-ok"]
        assert "gone" not in left.vhost.queues
