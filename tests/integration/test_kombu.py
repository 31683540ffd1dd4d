"""kombu, Celery's client, against a real node. Rule: docs/protocol.md: client libraries choose behaviour by
server-properties."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.node import Node

# Only half of kombu has types.
kombu: Any = importlib.import_module("kombu")
DEADLINE_S = 10.0


@pytest.fixture
def connection(node: Node) -> Iterator[Any]:
    with kombu.Connection(f"amqp://guest:guest@{node.host}:{node.port}//") as opened:
        yield opened


def test_a_simple_queue(connection: Any) -> None:
    queue = connection.SimpleQueue("simple")
    sent = [{"number": number, "text": "grüße"} for number in range(10)]
    for message in sent:
        queue.put(message, serializer="json")
    assert queue.qsize() == len(sent)
    got = []
    for _ in sent:
        message = queue.get(timeout=DEADLINE_S)
        got.append(message.payload)
        message.ack()
    assert got == sent
    assert queue.qsize() == 0
    queue.close()


def test_a_fanout_exchange_reaches_every_queue(connection: Any) -> None:
    """Celery's control commands: each worker has a queue of its own on a fanout exchange."""
    exchange = kombu.Exchange("control", type="fanout", durable=False, auto_delete=True)
    queues = [kombu.Queue(f"worker-{number}", exchange, exclusive=True, expires=60.0) for number in range(3)]
    got: list[tuple[str, Any]] = []

    def take(body: Any, message: Any) -> None:
        got.append((message.delivery_info["consumer_tag"], body))
        message.ack()

    with connection.Consumer(queues, callbacks=[take]):
        connection.Producer().publish({"method": "ping"}, exchange=exchange, routing_key="")
        while len(got) < 3:
            connection.drain_events(timeout=DEADLINE_S)
    assert [body for _, body in got] == [{"method": "ping"}] * 3
    assert len({tag for tag, _ in got}) == 3


def test_the_prefetch_window_can_be_changed_while_consuming(connection: Any) -> None:
    """kombu sends basic.qos with global=true to a RabbitMQ older than 4.0 and expects it to hold for running consumers
    at once."""
    queue = kombu.Queue("window", kombu.Exchange("window"), "window", auto_delete=True)
    got: list[Any] = []
    with connection.Consumer([queue], callbacks=[lambda _, message: got.append(message)]) as consumer:
        consumer.qos(prefetch_count=2, apply_global=True)
        producer = connection.Producer()
        for number in range(6):
            producer.publish(number, exchange=queue.exchange, routing_key="window")
        while len(got) < 2:
            connection.drain_events(timeout=DEADLINE_S)
        with pytest.raises(TimeoutError):
            connection.drain_events(timeout=0.1)
        consumer.qos(prefetch_count=4, apply_global=True)
        while len(got) < 4:
            connection.drain_events(timeout=DEADLINE_S)
        for message in got[:4]:
            message.ack()
        while len(got) < 6:
            connection.drain_events(timeout=DEADLINE_S)
        for message in got[4:]:
            message.ack()
    assert [message.payload for message in got] == list(range(6))


def test_priorities(connection: Any) -> None:
    """RabbitMQ docs, Priority Queues: Celery sets x-max-priority."""
    queue = kombu.Queue("urgent", kombu.Exchange("urgent"), "urgent", max_priority=10, auto_delete=True)
    bound = queue(connection.default_channel)
    bound.declare()
    producer = connection.Producer()
    for priority in (0, 5, 9, 5):
        producer.publish(priority, exchange=queue.exchange, routing_key="urgent", priority=priority)
    got: list[Any] = []

    def take(body: Any, message: Any) -> None:
        got.append(body)
        message.ack()

    with connection.Consumer([queue], callbacks=[take]):
        while len(got) < 4:
            connection.drain_events(timeout=DEADLINE_S)
    assert got == [9, 5, 5, 0]


def test_a_connection_that_was_closed_is_made_again(connection: Any) -> None:
    """ensure() is what Celery publishes with."""
    producer = connection.Producer()
    queue = kombu.Queue("ensured", auto_delete=True)
    queue(connection.default_channel).declare()
    connection.connection.transport.sock.shutdown(2)
    publish = connection.ensure(producer, producer.publish, max_retries=3, interval_start=0.01)
    publish(1, routing_key="ensured", retry=True)
    message = queue(connection.default_channel).get(no_ack=True)
    assert message.payload == 1
