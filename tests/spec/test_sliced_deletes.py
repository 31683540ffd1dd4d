"""What has very many bindings is deleted in slices: gone for everybody at once, its bindings undone in the turns that
follow.

broker/vhost/bindings.py. The clock of these tests says at every look that the time is over.
"""

from __future__ import annotations

import pytest

from tests.support.durable import DurableBroker
from tests.support.fake_clock import HurriedClock
from tests.support.memory import Broker, Client
from tests.support.wire import method, publish

COUNT = 1500


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Broker, "clock_type", HurriedClock)


def bind_often(client: Client, queue: str, exchange: str, count: int = COUNT) -> None:
    client.send(
        *(
            method(1, "queue.bind", queue=queue, exchange=exchange, routing_key=f"k.{number}", nowait=True)
            for number in range(count)
        )
    )


def with_bindings(broker: Broker, kind: str = "topic", **arguments: object) -> Client:
    """Exchange `x` of which queue `q` is bound very often, and what it cannot route goes to queue `lost`."""
    client = broker.open()
    client.ask("exchange.declare", exchange="rest", type="fanout")
    client.ask("queue.declare", queue="lost")
    client.ask("queue.bind", queue="lost", exchange="rest")
    client.ask("exchange.declare", exchange="x", type=kind, arguments={"alternate-exchange": "rest"} | arguments)
    client.ask("queue.declare", queue="q")
    bind_often(client, "q", "x")
    return client


def some_turns(broker: Broker) -> None:
    """Five turns of the event loop, and what the disk does meanwhile."""
    for _ in range(5):
        broker.turn.run()
        broker.work()


def begin(client: Client, name: str, **arguments: object) -> None:
    """Tells the broker something, and lets it do some turns of what comes of it."""
    client.auto = False
    client.send(method(1, name, **arguments))
    some_turns(client.broker)
    client.auto = True


@pytest.mark.parametrize("kind", ["direct", "topic", "fanout", "headers"])
def test_a_queue_is_gone_at_once_and_its_bindings_in_slices(kind: str) -> None:
    broker = Broker()
    client = with_bindings(broker, kind)
    other = broker.open()
    turns = broker.turn.turns
    begin(client, "queue.delete", queue="q")
    source = broker.vhost.exchanges["x"]
    assert 0 < source.binding_count < COUNT
    assert source.bindings() == []
    other.auto = False
    other.send(
        publish(1, "x", f"k.{COUNT // 2}", b"m", properties={"headers": {}}),
        method(1, "queue.declare", queue="q", passive=True),
    )
    client.expect_nothing()
    some_turns(broker)
    assert other.expect("channel.close")["reply_code"] == 404
    assert source.binding_count > 0, "that was answered while bindings were left"
    broker.run_turn()
    client.expect("queue.delete-ok")
    assert broker.turn.turns - turns > 10
    assert source.binding_count == 0
    assert broker.depth("lost") == (1, 0), (
        "what is published meanwhile does not go to the queue, and so to the alternate exchange"
    )


@pytest.mark.parametrize("kind", ["direct", "topic", "fanout", "headers"])
def test_an_exchange_is_gone_at_once_and_its_bindings_in_slices(kind: str) -> None:
    broker = Broker()
    client = with_bindings(broker, kind)
    client.ask("exchange.declare", exchange="front", type="topic")
    for number in range(300):
        client.ask("exchange.bind", source="front", destination="x", routing_key=f"f.{number}")
    gone = broker.vhost.exchanges["x"]
    other = broker.open()
    begin(client, "exchange.delete", exchange="x")
    assert 0 < gone.binding_count < COUNT
    assert broker.vhost.bindings.to(broker.vhost.queues["q"]) == []
    assert broker.vhost.exchanges["front"].bindings() == []
    other.auto = False
    other.send(
        publish(1, "front", "f.1", b"m", mandatory=True),
        method(1, "exchange.declare", exchange="x", type="fanout", passive=True),
    )
    some_turns(broker)
    other.expect("basic.return")
    assert other.expect("channel.close")["reply_code"] == 404
    assert gone.binding_count > 0
    broker.run_turn()
    client.expect("exchange.delete-ok")
    assert gone.binding_count == broker.vhost.exchanges["front"].binding_count == 0


def test_the_same_names_declared_meanwhile_are_others() -> None:
    """Two clients delete, declare and bind at the same time, on disk: afterwards, and after a crash, the later bindings
    are there."""
    broker = DurableBroker()
    client, other = broker.open(), broker.open()
    client.ask("exchange.declare", exchange="x", type="topic", durable=True)
    client.ask("queue.declare", queue="q", durable=True)
    bind_often(client, "q", "x")
    begin(client, "queue.delete", queue="q")
    other.auto = False
    other.tell("queue.declare", queue="q", durable=True)
    other.tell("queue.bind", queue="q", exchange="x", routing_key="k.0")
    other.tell("queue.bind", queue="q", exchange="x", routing_key=f"k.{COUNT - 1}")
    some_turns(broker)
    assert broker.vhost.exchanges["x"].binding_count > 100, "the first one's bindings are still being undone"
    broker.run_turn()
    broker.settled()
    client.expect("queue.delete-ok")
    for node in (broker, broker.killed()):
        assert sorted(binding.key for binding in node.vhost.exchanges["x"].bindings()) == ["k.0", f"k.{COUNT - 1}"]


@pytest.mark.parametrize("what", ["queue", "exchange"])
@pytest.mark.parametrize("turns", [1, 4, 9])
def test_a_crash_in_the_middle_of_a_deletion_leaves_all_or_nothing(what: str, turns: int) -> None:
    broker = DurableBroker()
    client = broker.open()
    client.ask("exchange.declare", exchange="x", type="topic", durable=True)
    client.ask("queue.declare", queue="q", durable=True)
    bind_often(client, "q", "x")
    broker.settled()
    client.auto = False
    client.send(method(1, "queue.delete", queue="q") if what == "queue" else method(1, "exchange.delete", exchange="x"))
    for _ in range(turns):
        broker.turn.run()
        while broker.work():
            pass
    left = broker.killed()
    assert "q" in left.vhost.queues
    assert left.vhost.exchanges["x"].binding_count == COUNT


def test_the_end_of_a_deletion_lets_the_log_go_on() -> None:
    broker = DurableBroker()
    client = broker.open()
    client.ask("exchange.declare", exchange="x", type="topic", durable=True)
    client.ask("queue.declare", queue="q", durable=True)
    bind_often(client, "q", "x")
    client.ask("queue.delete", queue="q")
    broker.settled()
    assert broker.store.logs.batch.holders == 0
    assert broker.killed().vhost.exchanges["x"].bindings() == []


def test_a_long_chain_of_auto_delete_exchanges_goes_in_slices() -> None:
    """Each is the only one behind the one before it; following them by recursion would end the node."""
    broker = Broker()
    client = broker.open()
    count = 3000
    client.send(
        *(
            method(1, "exchange.declare", exchange=f"e{n}", type="fanout", auto_delete=True, nowait=True)
            for n in range(count)
        )
    )
    client.send(
        *(method(1, "exchange.bind", source=f"e{n}", destination=f"e{n + 1}", nowait=True) for n in range(count - 1))
    )
    client.ask("queue.declare", queue="q")
    client.ask("queue.bind", queue="q", exchange=f"e{count - 1}")
    turns = broker.turn.turns
    client.ask("queue.delete", queue="q")
    assert broker.turn.turns - turns > 10
    assert not [name for name in broker.vhost.exchanges if name.startswith("e")]


@pytest.mark.parametrize("way", ["queue.unbind", "exchange.unbind", "queue.delete"])
def test_an_auto_delete_exchange_with_many_bindings_to_it_goes_in_slices(way: str) -> None:
    broker = Broker()
    client = broker.open()
    client.ask("exchange.declare", exchange="front", type="topic")
    client.ask("exchange.declare", exchange="x", type="fanout", auto_delete=True)
    client.ask("exchange.declare", exchange="behind", type="fanout")
    client.ask("queue.declare", queue="q")
    if way == "exchange.unbind":
        client.ask("exchange.bind", source="x", destination="behind")
    else:
        client.ask("queue.bind", queue="q", exchange="x")
    client.send(
        *(
            method(1, "exchange.bind", source="front", destination="x", routing_key=f"k.{n}", nowait=True)
            for n in range(COUNT)
        )
    )
    turns = broker.turn.turns
    if way == "queue.unbind":
        client.ask(way, queue="q", exchange="x")
    elif way == "exchange.unbind":
        client.ask(way, source="x", destination="behind")
    else:
        client.ask(way, queue="q")
    assert broker.turn.turns - turns > 10
    assert "x" not in broker.vhost.exchanges
    assert broker.vhost.exchanges["front"].binding_count == 0


@pytest.mark.parametrize("how", ["connection.close", "socket", "x-expires", "auto-delete"])
def test_queues_that_go_by_themselves_take_the_same_way(how: str) -> None:
    broker = Broker()
    client = broker.open()
    client.ask("exchange.declare", exchange="x", type="topic")
    exclusive = how in ("connection.close", "socket")
    client.ask(
        "queue.declare", queue="q", exclusive=exclusive, auto_delete=how == "auto-delete",
        arguments={"x-expires": 1000} if how == "x-expires" else {},
    )  # fmt: skip
    bind_often(client, "q", "x")
    source = broker.vhost.exchanges["x"]
    client.auto = False
    if how == "auto-delete":
        client.send(
            method(1, "basic.consume", queue="q", consumer_tag="c", nowait=True),
            method(1, "basic.cancel", consumer_tag="c"),
        )
    elif how == "x-expires":
        broker.clock.advance(2000)
    elif how == "socket":
        client.opened.lost()
    else:
        client.tell("connection.close", on=0, reply_code=0, reply_text="", class_id=0, method_id=0)
    some_turns(broker)
    assert "q" not in broker.vhost.queues
    assert 0 < source.binding_count < COUNT
    broker.run_turn()
    assert source.binding_count == 0


def test_queues_that_expire_together_leave_room_for_others() -> None:
    broker = Broker()
    client = broker.open()
    client.send(
        *(method(1, "queue.declare", queue=f"q{n}", arguments={"x-expires": 1000}, nowait=True) for n in range(20))
    )
    broker.clock.time_ms += 2000
    left = []
    while broker.clock.next_deadline() <= broker.clock.monotonic_ms():
        broker.clock.run_due()
        left.append(len(broker.vhost.queues))
    assert left == list(range(19, -1, -1))


def test_cancelled_consumers_hear_of_it_after_the_answer() -> None:
    """RabbitMQ docs, Consumer Cancel Notification; the one that deletes the queue reads its own queue.delete-ok
    first."""
    broker = Broker()
    client = with_bindings(broker)
    client.consume("q", "own")
    client.tell("queue.delete", queue="q")
    assert client.names() == ["queue.delete-ok", "basic.cancel"]


def test_a_channel_that_ends_meanwhile_leaves_nothing_behind() -> None:
    broker = Broker()
    client = with_bindings(broker)
    begin(client, "queue.delete", queue="q")
    client.drop()
    assert broker.vhost.exchanges["x"].binding_count == 0
