"""Exclusive queues and exclusive consumers (RabbitMQ docs, Queues, Exclusive Queues; Consumers, Exclusivity)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.memory import Broker
from tests.support.wire import method

LOCKED = (
    "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'q' in vhost '/'. It could be originally "
    "declared on another connection or the exclusive property value does not match that of the original declaration."
)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("queue.declare", {}),
        ("queue.declare", {"exclusive": True}),
        ("queue.declare", {"passive": True}),
        ("basic.consume", {}),
        ("basic.get", {}),
        ("queue.bind", {"exchange": "amq.direct"}),
        ("queue.purge", {}),
        ("queue.delete", {}),
    ],
)
def test_other_connections_are_locked_out(name: str, arguments: dict[str, Any]) -> None:
    """RabbitMQ docs, Queues, Exclusive Queues: 405."""
    broker = Broker()
    owner, other = broker.open(), broker.open()
    owner.ask("queue.declare", queue="q", exclusive=True)
    assert other.ask_error(405, name, queue="q", **arguments) == LOCKED
    owner.ask("queue.declare", queue="q", exclusive=True)


def test_all_channels_of_the_owner_may_use_it() -> None:
    client = Broker().open(1, 2)
    client.ask("queue.declare", queue="q", exclusive=True)
    client.consume("q", on=2)


def test_anyone_may_publish_to_it() -> None:
    broker = Broker()
    owner, other = broker.open(), broker.open()
    owner.ask("queue.declare", queue="q", exclusive=True)
    other.publish("q", b"x")
    assert owner.drain("q") == [b"x"]


def test_a_queue_does_not_become_exclusive_or_cease_to_be() -> None:
    """RabbitMQ docs, Queues, Exclusive Queues."""
    broker = Broker()
    client = broker.open()
    client.ask("queue.declare", queue="q")
    assert client.ask_error(405, "queue.declare", queue="q", exclusive=True) == LOCKED
    client.ask("queue.delete", queue="q")
    client.ask("queue.declare", queue="q", exclusive=True)
    assert client.ask_error(405, "queue.declare", queue="q") == LOCKED


def test_durability_makes_no_difference() -> None:
    """RabbitMQ docs, Queues, Exclusive Queues: what belongs to a connection is never durable, so both declarations are
    equivalent."""
    broker = Broker()
    client = broker.open()
    client.ask("queue.declare", queue="q", exclusive=True, durable=True)
    client.ask("queue.declare", queue="q", exclusive=True, durable=False)
    assert not broker.queue("q").durable


def test_it_is_gone_before_close_ok_is_sent() -> None:
    """RabbitMQ docs, Queues, Exclusive Queues: a client that reconnects at once can declare it again."""
    broker = Broker()
    first, second = broker.open(), broker.open()
    first.ask("queue.declare", queue="q", exclusive=True)
    first.auto = False
    first.tell("connection.close", 0, reply_code=200)
    assert "q" not in broker.vhost.queues
    second.ask("queue.declare", queue="q", exclusive=True)
    broker.run_turn()
    assert first.names() == ["connection.close-ok"]


def test_it_goes_with_a_connection_that_fails() -> None:
    broker = Broker()
    client = broker.open()
    client.ask("queue.declare", queue="q", exclusive=True)
    client.send(method(1, "channel.open"))
    client.connection_error(504)
    assert "q" not in broker.vhost.queues


def test_it_outlives_its_channel() -> None:
    broker = Broker()
    client = broker.open()
    client.ask("queue.declare", queue="q", exclusive=True)
    client.ask("channel.close")
    assert "q" in broker.vhost.queues


def test_one_that_was_deleted_and_taken_by_another_is_not_deleted_again() -> None:
    """The first owner's end must not take the second owner's queue."""
    broker = Broker()
    first, second = broker.open(), broker.open()
    first.ask("queue.declare", queue="q", exclusive=True)
    first.ask("queue.delete", queue="q")
    second.ask("queue.declare", queue="q", exclusive=True)
    first.drop()
    assert "q" in broker.vhost.queues
    second.ask("queue.declare", queue="q", exclusive=True)


# exclusive consumers


def test_an_exclusive_consumer_is_alone() -> None:
    """RabbitMQ docs, Consumers, Exclusivity: 403 for any other, and for itself when others are there."""
    broker = Broker()
    one, two = broker.open(), broker.open()
    one.ask("queue.declare", queue="q")
    one.consume("q", "a", exclusive=True)
    refused = "ACCESS_REFUSED - queue 'q' in vhost '/' in exclusive use"
    assert two.ask_error(403, "basic.consume", queue="q") == refused
    assert two.ask_error(403, "basic.consume", queue="q", exclusive=True) == refused
    one.ask("basic.cancel", consumer_tag="a")
    two.consume("q", "b")
    assert one.ask_error(403, "basic.consume", queue="q", exclusive=True) == refused
    one.consume("q", "c")


def test_an_exclusive_consumer_leaves_with_its_channel() -> None:
    broker = Broker()
    one, two = broker.open(), broker.open()
    one.ask("queue.declare", queue="q")
    one.consume("q", exclusive=True)
    one.ask("channel.close")
    two.consume("q", exclusive=True)
