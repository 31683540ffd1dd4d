"""A content on its way (broker/protocol/assembly.py): waited for, counted, and let go."""

from __future__ import annotations

import pytest

from tests.support.memory import Broker
from tests.support.wire import body, header, method


def test_a_half_content_is_waited_for() -> None:
    client = Broker().open()
    client.ask("queue.declare", queue="q")
    channel = client.opened.channels[1]
    assert not channel.expects_content
    client.send(method(1, "basic.publish", routing_key="q"))
    assert (channel.expects_content, channel.missing) == (True, 0)
    client.send(header(1, 3))
    client.send(body(1, b"ab"))
    assert (channel.expects_content, channel.missing) == (True, 1)
    client.send(body(1, b"c"))
    assert (channel.expects_content, channel.missing) == (False, 0)
    assert channel.assembly is None
    assert client.drain("q") == [b"abc"]


def test_a_cut_content_keeps_only_what_has_arrived() -> None:
    """RabbitMQ's security advisories: an announced size allocates nothing."""
    broker = Broker()
    client = broker.open()
    client.send(method(1, "basic.publish", routing_key="q"), header(1, 100_000_000), body(1, b"x"))
    client.drop()
    assert broker.server.channels_open == 0


@pytest.mark.parametrize("mistake", ["too much", "another method"])
def test_what_is_not_whole_is_not_counted_any_more(mistake: str) -> None:
    broker = Broker()
    client = broker.open(1, 2)
    client.send(method(1, "basic.publish", routing_key="q"), header(1, 10), body(1, b"xyz"))
    assert client.opened.session.contents == 1
    if mistake == "too much":
        client.send(body(1, b"too much of it"))
        client.connection_error(501)
    else:
        client.send(method(1, "basic.qos"))
        client.connection_error(505)
    assert client.opened.session.contents == 0


@pytest.mark.parametrize(
    ("frames", "text"),
    [
        ((header(1, 0),), "expected method frame, got non method frame instead"),
        ((body(1, b"x"),), "expected method frame, got non method frame instead"),
        (
            (method(1, "basic.publish"), method(1, "basic.publish")),
            "expected content header for class 60, got non content header frame instead",
        ),
        (
            (method(1, "basic.publish"), header(1, 1), header(1, 1)),
            "expected content body, got non content body frame instead",
        ),
        (
            (method(1, "basic.publish"), body(1, b"x")),
            "expected content header for class 60, got non content header frame instead",
        ),
    ],
)
def test_frames_in_another_order(frames: tuple[bytes, ...], text: str) -> None:
    """AMQP 0-9-1 §4.2.6: method, header, body; RabbitMQ's texts."""
    client = Broker().open()
    for frame in frames:
        client.send(frame)
    assert client.connection_error(505) == f"UNEXPECTED_FRAME - {text}"
