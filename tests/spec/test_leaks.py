"""What comes and goes must leave nothing behind on a connection that stays (a client that makes a reply queue for every
request)."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from tests.support.durable import DurableBroker
from tests.support.fakes import FULL
from tests.support.memory import Broker, Client
from tests.support.wire import method, publish


def test_exclusive_queues_that_were_deleted_are_forgotten() -> None:
    broker = Broker()
    client = broker.open()
    for number in range(1000):
        client.ask("queue.declare", queue=f"reply-{number}", exclusive=True)
        client.ask("queue.delete", queue=f"reply-{number}")
    owned = client.opened.session.exclusive_queues
    assert owned is not None
    assert len(owned) < 200
    assert not broker.vhost.queues


def test_exclusive_queues_that_live_are_all_remembered() -> None:
    broker = Broker()
    client = broker.open()
    for number in range(300):
        client.ask("queue.declare", queue=f"keep-{number}", exclusive=True)
        client.ask("queue.declare", queue=f"drop-{number}", exclusive=True)
        client.ask("queue.delete", queue=f"drop-{number}")
    assert len(broker.vhost.queues) == 300
    client.drop()
    assert not broker.vhost.queues


def test_routes_go_with_the_queues_they_lead_to() -> None:
    broker = Broker()
    client = broker.open()
    for number in range(50):
        name = f"reply-{number}"
        client.ask("queue.declare", queue=name)
        client.send(publish(1, "", name, b"answer"))
        assert broker.depth(name) == (1, 0)
        client.ask("queue.delete", queue=name)
    route = broker.vhost.publishing.route(b"\0\0\0\x01q\0", FULL)
    assert route.targets == []
    assert broker.vhost.publishing.routes_known() == 1


def census(collected: bool) -> Counter[str]:
    """How many objects of the broker's own classes there are."""
    if collected:
        gc.collect()
    return Counter(type(one).__name__ for one in gc.get_objects() if str(type(one).__module__).startswith("broker."))


def visit_often(broker: Broker, visit: Callable[[int], None]) -> Counter[str]:
    """Three hundred visits; what there was before them."""
    for number in range(10):
        visit(number)
    broker.advance(200_000)
    before = census(False)
    for number in range(300):
        visit(number)
    broker.advance(200_000)
    return before


def grown_since(before: Counter[str]) -> dict[str, int]:
    """The classes of which there are many more objects now."""
    return {name: count for name, count in (census(False) - before).items() if count >= 100}


@pytest.fixture
def without_collector() -> Iterator[None]:
    """Cycles are not collected meanwhile."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("without_collector")
@pytest.mark.parametrize("collected", [True, False], ids=["collected", "by reference counts alone"])
def test_a_connection_leaves_no_object_behind(collected: bool) -> None:
    """Whatever it did, and however it went: also what a cycle, or the compiled build, could keep alive. A busy node
    never looks for cycles among what has lived for long (broker/collecting.py), so there must be none."""
    broker = Broker()

    def visit(number: int) -> None:
        client = broker.open(1, 2)
        client.ask("confirm.select")
        queue = client.ask("queue.declare", exclusive=True).text("queue")
        client.ask("queue.bind", queue=queue, exchange="amq.topic", routing_key=f"a.{number}.#")
        client.send(publish(1, "amq.topic", f"a.{number}.b", b"x", properties={"message_id": str(number)}) * 3)
        client.hear()
        client.consume(queue, on=1)
        client.consume(queue, on=2, no_ack=True)
        client.hear()
        client.consume("amq.rabbitmq.reply-to", on=2, no_ack=True)
        client.send(publish(1, "missing", "k", b"x"))
        client.hear()
        if number % 2:
            client.ask("connection.close", on=0, reply_code=200)
        client.drop()
        broker.clients.clear()

    for number in range(10):
        visit(number)
    broker.advance(200_000)  # timers of what is gone leave the heap when their time comes
    before = census(collected)
    for number in range(100):
        visit(number)
    broker.advance(200_000)
    grown = {name: count for name, count in (census(collected) - before).items() if count >= 50}
    assert not grown


def end(broker: DurableBroker, client: Client, how: str) -> None:
    """All ways in which a connection may end."""
    connection = client.opened
    client.auto = False
    if how == "closed while a channel waits":
        broker.disk_is_stalled = True
        client.tell("queue.declare", on=1, queue="kept", durable=True)
        client.send(publish(1, "amq.fanout", "", b"x"))
        client.tell("connection.close", on=0, reply_code=200)
        broker.run_turn()
        broker.disk_is_stalled = False
    elif how == "failed":
        client.tell("channel.open", on=1)
        broker.run_turn()
        client.tell("connection.close-ok", on=0)
    elif how == "no close-ok":
        connection.shut_down("enough")
        broker.run_turn()
        broker.advance(40_000)
    elif how == "no frames":
        client.send(b"\x01\x00\x01\x00\x00\x00\x00\x00")
    elif how == "fault":
        connection.end_by_fault()
    elif how == "aborted":
        connection.abort()
    elif how == "lost while it closes":
        connection.shut_down("enough")
    broker.run_turn()
    client.drop()


@pytest.mark.usefixtures("without_collector")
@pytest.mark.parametrize(
    "how",
    [
        "closed while a channel waits",
        "failed",
        "no close-ok",
        "no frames",
        "fault",
        "aborted",
        "lost while it closes",
        "lost",
    ],
)
def test_a_connection_leaves_no_object_behind_however_it_ends(how: str) -> None:
    """By reference counts alone: nothing that a connection is made of leads back to it when it is over."""
    broker = DurableBroker()
    broker.open().ask("queue.declare", queue="kept", durable=True)

    def visit(number: int) -> None:
        client = broker.connect(heartbeat_s=60)
        client.ask("channel.open", on=1)
        client.consume("kept", on=1)
        end(broker, client, how)
        del broker.clients[1:]

    before = visit_often(broker, visit)
    assert not grown_since(before)


@pytest.mark.usefixtures("without_collector")
def test_a_deleted_queue_leaves_no_object_behind() -> None:
    """By reference counts alone: whatever arguments it had, whatever was in it, unacknowledged or on the disk."""
    broker = DurableBroker()
    client = broker.open(1, 2)

    def visit(number: int) -> None:
        name = f"q{number}"
        arguments = {
            "x-max-priority": 3,
            "x-message-ttl": 60_000,
            "x-expires": 90_000,
            "x-dead-letter-exchange": "amq.fanout",
        }
        client.ask("queue.declare", queue=name, durable=number % 2 == 0, arguments=arguments if number % 3 else {})
        client.ask("queue.bind", queue=name, exchange="amq.headers", arguments={"number": number})
        client.send(publish(1, "", name, b"x", properties={"delivery_mode": 2}) * 5)
        client.ask("basic.qos", prefetch_count=2)
        client.consume(name, on=1)
        client.hear()
        client.ask("queue.delete", queue=name)
        client.send(method(1, "basic.ack", delivery_tag=0, multiple=True))
        client.hear()

    assert not grown_since(visit_often(broker, visit))


@pytest.mark.usefixtures("without_collector")
@pytest.mark.parametrize("settle", ["basic.ack", "basic.nack", "basic.reject", "basic.recover"])
@pytest.mark.parametrize("how", ["consumer", "cancelled consumer", "basic.get"])
def test_unacknowledged_deliveries_keep_nothing_of_a_deleted_queue(how: str, settle: str) -> None:
    """Only the record of the delivery stays until the client settles it; RabbitMQ accepts that without a word."""
    broker = DurableBroker()
    client = broker.open(1, 2)

    def visit(number: int) -> None:
        name = f"q{number}"
        arguments = (
            {"x-max-priority": 3, "x-message-ttl": 60_000, "x-dead-letter-exchange": "amq.fanout"} if number % 3 else {}
        )
        client.ask("queue.declare", queue=name, durable=number % 2 == 0, arguments=arguments)
        client.send(publish(1, "", name, b"x", properties={"delivery_mode": 2}))
        if how == "basic.get":
            assert client.get(name) is not None
        else:
            tag = client.consume(name)
            assert len(client.deliveries()) == 1
            if how == "cancelled consumer":
                client.ask("basic.cancel", consumer_tag=tag)
        client.ask("queue.delete", queue=name, on=2)
        client.hear()

    before = visit_often(broker, visit)
    assert set(grown_since(before)) <= {"Run", "QueueLink", "ChannelConsumer", "Message", "Entry"}
    unacked = client.opened.channels[1].unacked
    assert unacked.count == 310
    if settle == "basic.ack":
        client.tell(settle, delivery_tag=150)
        client.tell(settle, delivery_tag=0, multiple=True)
    elif settle == "basic.nack":
        client.tell(settle, delivery_tag=150, requeue=True)
        client.tell(settle, delivery_tag=200, multiple=True, requeue=True)
        client.tell(settle, delivery_tag=0, multiple=True, requeue=False)
    elif settle == "basic.reject":
        client.send(*(method(1, settle, delivery_tag=tag, requeue=tag % 2 == 0) for tag in range(1, 311)))
    else:
        client.ask(settle, requeue=True)
    client.expect_nothing()
    assert (unacked.count, unacked.consumer_count) == (0, 0)
    broker.advance(1000)
    assert not grown_since(before)
