"""x-max-length, x-max-length-bytes and x-overflow (RabbitMQ docs, Queue Length Limit)."""

from __future__ import annotations

import pytest

from tests.support.memory import Broker, Client
from tests.support.wire import publish


def limited(broker: Broker, **arguments: object) -> Client:
    client = broker.open()
    client.ask(
        "queue.declare", queue="q", arguments={name.replace("_", "-"): value for name, value in arguments.items()}
    )
    return client


@pytest.mark.parametrize("together", [True, False])
def test_the_oldest_are_dropped(together: bool) -> None:
    """RabbitMQ docs, Queue Length Limit."""
    client = limited(Broker(), x_max_length=3)
    messages = [publish(1, "", "q", b"%d" % number) for number in range(10)]
    for group in [messages] if together else [[message] for message in messages]:
        client.send(*group)
    assert client.drain("q") == [b"7", b"8", b"9"]


def test_bytes_are_those_of_the_bodies() -> None:
    """RabbitMQ docs, Queue Length Limit."""
    client = limited(Broker(), x_max_length_bytes=10)
    for size in (4, 4, 4):
        client.publish("q", b"x" * size, properties={"headers": {"large": "y" * 1000}})
    assert len(client.drain("q")) == 2
    client.publish("q", b"x" * 4)
    client.publish("q", b"x" * 10)
    assert [len(body) for body in client.drain("q")] == [10]
    client.publish("q", b"x" * 11)
    assert client.drain("q") == [], "one that is too large for the queue drops itself"


def test_either_limit_is_enough() -> None:
    client = limited(Broker(), x_max_length=2, x_max_length_bytes=100)
    for number in range(3):
        client.publish("q", b"%d" % number)
    assert client.drain("q") == [b"1", b"2"]
    client.publish("q", b"a" * 60)
    client.publish("q", b"b" * 60)
    assert client.drain("q") == [b"b" * 60]


def test_only_ready_messages_count() -> None:
    """RabbitMQ docs, Queue Length Limit."""
    broker = Broker()
    client = limited(broker, x_max_length=2)
    for number in range(2):
        client.publish("q", b"%d" % number)
        client.get("q")
    for number in range(2, 5):
        client.publish("q", b"%d" % number)
    assert broker.depth("q") == (2, 2)
    assert client.drain("q") == [b"3", b"4"]


def test_what_comes_back_may_push_out_the_head() -> None:
    """A requeued message stands in front and is the oldest."""
    broker = Broker()
    client = limited(broker, x_max_length=1)
    client.publish("q", b"1")
    client.get("q")
    client.publish("q", b"2")
    client.tell("basic.nack", delivery_tag=1, requeue=True)
    assert client.drain("q") == [b"2"]


def test_a_limit_of_zero_is_for_consumers_that_wait() -> None:
    broker = Broker()
    client = limited(broker, x_max_length=0)
    client.publish("q", b"1")
    assert broker.depth("q") == (0, 0)
    client.consume("q", no_ack=True)
    client.publish("q", b"2")
    assert client.bodies() == [b"2"]


def test_consumers_with_room_get_messages_before_the_limit_is_looked_at() -> None:
    """As message by message: what a waiting consumer takes was never over the limit."""
    client = limited(Broker(), x_max_length=1)
    client.ask("basic.qos", prefetch_count=3)
    client.consume("q")
    client.send(*(publish(1, "", "q", b"%d" % number) for number in range(6)))
    assert client.bodies() == [b"0", b"1", b"2"]
    client.ask("basic.cancel", consumer_tag="")
    assert client.ask("queue.declare", queue="q", passive=True)["message_count"] == 1


@pytest.mark.parametrize("overflow", ["reject-publish", "reject-publish-dlx"])
def test_the_newest_are_refused(overflow: str) -> None:
    """RabbitMQ docs, Queue Length Limit."""
    broker = Broker()
    client = limited(broker, x_max_length=2, x_overflow=overflow)
    client.ask("confirm.select")
    client.send(*(publish(1, "", "q", b"%d" % number) for number in range(4)))
    assert [(said.method.name, said.method["delivery_tag"]) for said in client.hear()] == [
        ("basic.ack", 2),
        ("basic.nack", 4),
    ]
    assert client.drain("q") == [b"0", b"1"]


def test_refusals_without_confirms_are_silent() -> None:
    client = limited(Broker(), x_max_length=1, x_overflow="reject-publish")
    client.send(publish(1, "", "q", b"1"), publish(1, "", "q", b"2", mandatory=True))
    client.expect_nothing()
    assert client.drain("q") == [b"1"]


def test_a_refused_message_is_taken_when_there_is_room_again() -> None:
    client = limited(Broker(), x_max_length=1, x_overflow="reject-publish")
    client.ask("confirm.select")
    client.publish("q", b"1")
    client.publish("q", b"2")
    assert client.names() == ["basic.ack", "basic.nack"]
    client.drain("q")
    client.publish("q", b"3")
    assert client.names() == ["basic.ack"]
    assert client.drain("q") == [b"3"]


def test_bytes_when_refusing() -> None:
    """A queue that refuses takes a message as long as it is not full before it."""
    client = limited(Broker(), x_max_length_bytes=10, x_overflow="reject-publish")
    client.ask("confirm.select")
    client.publish("q", b"x" * 8)
    client.publish("q", b"x" * 8)
    client.publish("q", b"x" * 8)
    assert client.names() == ["basic.ack", "basic.ack", "basic.nack"]


def test_a_consumer_keeps_a_refusing_queue_open() -> None:
    client = limited(Broker(), x_max_length=1, x_overflow="reject-publish")
    client.ask("confirm.select")
    client.consume("q", no_ack=True)
    client.send(*(publish(1, "", "q", b"%d" % number) for number in range(10)))
    heard = client.hear()
    assert [said.body for said in heard if said.method.name == "basic.deliver"] == [
        b"%d" % number for number in range(10)
    ]
    assert [said.method["delivery_tag"] for said in heard if said.method.name == "basic.ack"] == [10]


def test_the_highest_priority_is_next_in_line_and_dropped_first() -> None:
    """RabbitMQ docs, Queue Length Limit: drop-head drops what would be delivered next."""
    client = limited(Broker(), x_max_length=2, x_max_priority=5)
    for priority in (1, 5, 3):
        client.publish("q", b"%d" % priority, properties={"priority": priority})
    assert client.drain("q") == [b"3", b"1"]


def test_a_limited_queue_with_expiring_messages() -> None:
    broker = Broker()
    client = limited(broker, x_max_length=2, x_message_ttl=100)
    for number in range(4):
        client.publish("q", b"%d" % number)
        broker.advance(20)
    assert broker.depth("q") == (2, 0)
    broker.advance(61)
    assert client.drain("q") == [b"3"]
