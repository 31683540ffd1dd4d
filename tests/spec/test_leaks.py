"""What comes and goes must leave nothing behind on a connection that stays (a client that makes a reply queue for every request)."""

from __future__ import annotations

import gc
from collections import Counter

from tests.support.memory import Broker
from tests.support.wire import publish


def test_exclusive_queues_that_were_deleted_are_forgotten() -> None:
    broker = Broker()
    client = broker.open()
    for number in range(1000):
        client.ask("queue.declare", queue=f"reply-{number}", exclusive=True)
        client.ask("queue.delete", queue=f"reply-{number}")
    assert len(client.opened.session.exclusive_queues) < 200
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
    route = broker.vhost.route(b"\0\0\0\x01q\0")
    assert route.queues == []
    assert broker.vhost.routes_known() == 1


def census() -> Counter[str]:
    """How many objects of the broker's own classes there are."""
    gc.collect()
    return Counter(type(one).__name__ for one in gc.get_objects() if str(type(one).__module__).startswith("broker."))


def test_a_connection_leaves_no_object_behind() -> None:
    """Whatever it did, and however it went: also what a cycle, or the compiled build, could keep alive."""
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
    before = census()
    for number in range(100):
        visit(number)
    broker.advance(200_000)
    grown = {name: count for name, count in (census() - before).items() if count >= 50}
    assert not grown
