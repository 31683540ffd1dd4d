"""Counters (broker/counters.py) begin at zero and are plain integers."""

from __future__ import annotations

from broker.counters import Counters
from tests.support.memory import Broker
from tests.support.wire import method, publish

NAMES = [
    "connections_opened", "connections_closed", "channels_opened", "channels_closed", "queues_declared",
    "queues_created", "queues_deleted", "auth_attempts_succeeded", "auth_attempts_failed", "messages_received",
    "messages_received_confirm", "messages_confirmed", "messages_unroutable_returned", "messages_unroutable_dropped",
    "messages_delivered_auto_ack", "messages_delivered_ack", "messages_redelivered", "messages_acked",
    "messages_got_auto_ack", "messages_got_ack", "messages_got_empty", "dead_lettered_expired", "dead_lettered_maxlen",
    "dead_lettered_rejected",
]  # fmt: skip


def test_all_begin_at_zero() -> None:
    counters = Counters()
    assert {getattr(counters, name) for name in NAMES} == {0}


def test_a_days_work_is_counted() -> None:
    """Names and meanings as in RabbitMQ's global counters."""
    broker = Broker()
    client = broker.open(1, 2)
    client.ask("queue.declare", queue="q")
    client.send(*(publish(1, "", "q", b"x") for _ in range(10)))
    for no_ack in (False, True):
        client.get("q", no_ack=no_ack)
    client.consume("q", "a", on=2)
    assert len(client.deliveries()) == 8
    client.send(
        method(2, "basic.ack", delivery_tag=3, multiple=True), method(2, "basic.nack", delivery_tag=4, requeue=True)
    )
    assert len(client.deliveries()) == 1
    client.ask("basic.cancel", on=2, consumer_tag="a")
    client.consume("q", "b", on=1, no_ack=True)
    client.publish("q", b"x")
    assert len(client.deliveries()) == 1
    client.ask("queue.delete", queue="q")
    counters = broker.counters
    found = {
        name: getattr(counters, name)
        for name in NAMES
        if name.startswith(("queues", "channels", "connections", "messages"))
    }
    assert found == {
        "connections_opened": 1,
        "connections_closed": 0,
        "channels_opened": 2,
        "channels_closed": 0,
        "queues_declared": 1,
        "queues_created": 1,
        "queues_deleted": 1,
        "messages_received": 11,
        "messages_received_confirm": 0,
        "messages_confirmed": 0,
        "messages_unroutable_returned": 0,
        "messages_unroutable_dropped": 0,
        "messages_delivered_auto_ack": 1,
        "messages_delivered_ack": 9,
        "messages_redelivered": 1,
        "messages_acked": 3,
        "messages_got_auto_ack": 1,
        "messages_got_ack": 1,
        "messages_got_empty": 0,
    }
