"""The publishing half of a channel (broker/protocol/publisher.py): what it keeps from one message to the next, and when
it is there at all."""

from __future__ import annotations

from tests.support.memory import Broker, Client
from tests.support.wire import body, header, method, publish


def opened(broker: Broker) -> Client:
    client = broker.open()
    client.ask("queue.declare", queue="q")
    return client


def test_a_channel_that_does_not_publish_has_none() -> None:
    """A consumer should cost little (RabbitMQ docs, Consumers: many of them are idle)."""
    client = opened(Broker())
    channel = client.opened.channels[1]
    client.ask("basic.consume", queue="q")
    client.ask("basic.qos", prefetch_count=1)
    assert (channel.publisher, channel.assembly, channel.transaction, channel.holding) == (None, None, None, None)
    assert not channel.is_publisher
    client.ask("confirm.select")
    assert channel.confirms is not None
    assert not channel.is_publisher, "it has asked for confirms only"
    client.publish("q", b"x")
    assert channel.is_publisher


def test_a_refused_publish_makes_no_publisher_of_it() -> None:
    client = opened(Broker())
    channel = client.opened.channels[1]
    client.publish("q", b"x", exchange="none")
    assert not channel.is_publisher


def test_the_same_route_is_kept_until_something_changes() -> None:
    client = opened(Broker())
    channel = client.opened.channels[1]
    client.publish("q", b"1")
    publisher = channel.publisher
    assert publisher is not None
    route = publisher.route
    client.publish("q", b"2")
    assert publisher.route is route
    client.ask("queue.delete", queue="q")
    client.ask("queue.declare", queue="q")
    client.publish("q", b"3")
    assert publisher.route is not route
    assert client.drain("q") == [b"3"]


def test_properties_are_looked_at_again_when_they_change() -> None:
    broker = Broker()
    client = opened(broker)
    for priority in (4, 4, 5):
        client.publish("q", b"x", properties={"priority": priority})
    client.publish("q", b"x")
    found = []
    while (entry := broker.queue("q").get(True)) is not None:
        found.append(entry.message.priority)
    assert found == [4, 4, 5, -1]


def test_a_message_remembers_how_it_came() -> None:
    """AMQP 0-9-1 §4.2.6.2: the parts of its content, for the consumers that take them as they are."""
    broker = Broker()
    client = broker.open(1, 2)
    client.ask("queue.declare", queue="q")
    client.send(publish(2, "", "q", b"whole", properties={"priority": 4, "delivery_mode": 2, "expiration": "5000"}))
    client.send(method(2, "basic.publish", routing_key="q"), header(2, 3), body(2, b"a"), body(2, b"bc"))
    found = []
    for _ in range(2):
        entry = broker.queue("q").get(True)
        assert entry is not None
        message = entry.message
        found.append(
            (
                message.body_size,
                message.payload_max,
                message.channel,
                message.priority,
                message.persistent,
                message.expiration_ms,
            )
        )
    assert found == [(5, 5, 2, 4, True, 5000), (3, 2, 2, -1, False, -1)]


def test_a_reply_to_that_ended_is_asked_about_with_every_message() -> None:
    """The properties are the same as before, what they ask for is not there any more."""
    client = opened(Broker())
    client.consume("amq.rabbitmq.reply-to", "replies", no_ack=True)
    request = {"reply_to": "amq.rabbitmq.reply-to"}
    for _ in range(2):
        client.publish("q", b"x", properties=request)
    client.ask("basic.cancel", consumer_tag="replies")
    client.publish("q", b"x", properties=request)
    assert client.channel_error(406) == "PRECONDITION_FAILED - fast reply consumer does not exist"
