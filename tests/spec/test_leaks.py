"""What comes and goes must leave nothing behind on a connection that stays (a client that makes a reply queue for every request)."""

from __future__ import annotations

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
