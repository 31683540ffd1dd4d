"""x-single-active-consumer (RabbitMQ docs, Consumers, Single Active Consumer)."""

from __future__ import annotations

import pytest

from tests.support.memory import Broker, Client


def waiting(broker: Broker, *priorities: int) -> list[Client]:
    """Clients that consume from a single-active queue, in the order in which they came."""
    publisher = broker.open()
    publisher.ask("queue.declare", queue="q", arguments={"x-single-active-consumer": True})
    clients = [publisher]
    for priority in priorities:
        client = broker.open()
        client.consume("q", "c", arguments={"x-priority": priority})
        clients.append(client)
    return clients


def test_one_gets_everything() -> None:
    """RabbitMQ docs, Single Active Consumer."""
    publisher, one, two = waiting(Broker(), 0, 0)
    for number in range(3):
        publisher.publish("q", b"%d" % number)
    assert (one.bodies(), two.bodies()) == ([b"0", b"1", b"2"], [])


@pytest.mark.parametrize("how", ["cancel", "channel", "socket"])
def test_the_next_takes_over(how: str) -> None:
    """What the old one had not settled goes to the new one when its channel ends."""
    publisher, one, two, three = waiting(Broker(), 0, 0, 0)
    publisher.publish("q", b"0")
    assert one.bodies() == [b"0"]
    if how == "cancel":
        one.ask("basic.cancel", consumer_tag="c")
    elif how == "channel":
        one.ask("channel.close")
    else:
        one.drop()
    publisher.publish("q", b"1")
    assert two.bodies() == ([b"1"] if how == "cancel" else [b"0", b"1"])
    two.drop()
    publisher.publish("q", b"2")
    assert b"2" in three.bodies()


def test_one_that_waited_may_leave() -> None:
    publisher, one, two = waiting(Broker(), 0, 0)
    two.drop()
    publisher.publish("q", b"0")
    assert one.bodies() == [b"0"]


def test_a_blocked_active_consumer_stays_active() -> None:
    """The order would be lost otherwise."""
    broker = Broker()
    publisher = broker.open()
    publisher.ask("queue.declare", queue="q", arguments={"x-single-active-consumer": True})
    one, two = broker.open(), broker.open()
    one.ask("basic.qos", prefetch_count=1)
    one.consume("q", "c")
    two.consume("q", "c")
    publisher.publish("q", b"0")
    publisher.publish("q", b"1")
    assert (one.bodies(), two.bodies()) == ([b"0"], [])
    one.tell("basic.ack", delivery_tag=1)
    assert (one.bodies(), two.bodies()) == ([b"1"], [])


def test_priorities_do_not_matter_on_classic_queues() -> None:
    """RabbitMQ docs, Single Active Consumer."""
    publisher, low, high = waiting(Broker(), 0, 10)
    publisher.publish("q", b"0")
    assert (low.bodies(), high.bodies()) == ([b"0"], [])


def test_get_is_no_consumer() -> None:
    """RabbitMQ 3.13 answers basic.get on a classic queue as on any other (4.x refuses it)."""
    publisher, one = waiting(Broker(), 0)
    one.ask("basic.cancel", consumer_tag="c")
    publisher.publish("q", b"0")
    assert publisher.drain("q") == [b"0"]


def test_a_returned_message_goes_to_the_active_one() -> None:
    publisher, one, two = waiting(Broker(), 0, 0)
    publisher.publish("q", b"0")
    one.hear()
    one.tell("basic.nack", delivery_tag=1, requeue=True)
    assert (one.bodies(), two.bodies()) == ([b"0"], [])


def test_all_count_as_consumers() -> None:
    publisher = waiting(Broker(), 0, 0, 0)[0]
    assert publisher.ask("queue.declare", queue="q", passive=True)["consumer_count"] == 3


def test_false_is_off() -> None:
    broker = Broker()
    publisher = broker.open()
    publisher.ask("queue.declare", queue="q", arguments={"x-single-active-consumer": False})
    one, two = broker.open(), broker.open()
    for client in (one, two):
        client.consume("q", "c")
    for number in range(4):
        publisher.publish("q", b"%d" % number)
    assert (one.bodies(), two.bodies()) == ([b"0", b"2"], [b"1", b"3"])
