"""The hot half of a channel (broker/protocol/channel.py): contents in parts, and what a message keeps of how it
came."""

from __future__ import annotations

from tests.support.memory import Broker
from tests.support.wire import body, header, method, publish


def test_a_half_content_is_waited_for() -> None:
    client = Broker().open()
    client.ask("queue.declare", queue="q")
    channel = client.opened.channels[1]
    assert not channel.expects_content
    client.send(method(1, "basic.publish", routing_key="q"))
    assert channel.expects_content
    client.send(header(1, 3))
    client.send(body(1, b"ab"))
    assert channel.expects_content
    client.send(body(1, b"c"))
    assert not channel.expects_content


def test_a_cut_content_keeps_only_what_has_arrived() -> None:
    """RabbitMQ's security advisories: an announced size allocates nothing."""
    broker = Broker()
    client = broker.open()
    client.send(method(1, "basic.publish", routing_key="q"), header(1, 100_000_000), body(1, b"x"))
    client.drop()
    assert broker.server.channels_open == 0


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
