"""Whose a frame is (broker/protocol/frame_dispatch.py), and how many are taken between two looks at the clock; the
answers are in tests/spec."""

from __future__ import annotations

import pytest

from broker.protocol.connection_state import CLOSING
from tests.support.fake_clock import HurriedClock
from tests.support.memory import Broker
from tests.support.wire import body, header, heartbeat, method, publish


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time of a turn is always over."""
    monkeypatch.setattr(Broker, "clock_type", HurriedClock)


def test_publishes_are_looked_at_in_groups() -> None:
    """A look at the clock costs as much as a small publish; the first publish of a route is a look of its own."""
    broker = Broker()
    client = broker.open()
    client.ask("queue.declare", queue="q")
    client.send(publish(1, "", "q", b"x"))
    broker.turn.admit(1)
    client.opened.receive(publish(1, "", "q", b"x") * 200)
    assert broker.depth("q") == (1 + 32, 0)
    broker.run_turn()
    assert broker.depth("q") == (1 + 200, 0)


def test_a_method_that_is_not_hot_is_followed_by_a_look() -> None:
    broker = Broker()
    client = broker.open()
    broker.turn.admit(1)
    client.opened.receive(b"".join(method(1, "queue.declare", queue=f"q{number}") for number in range(5)))
    assert list(broker.vhost.queues) == ["q0"]
    broker.run_turn()
    assert list(broker.vhost.queues) == [f"q{number}" for number in range(5)]


def test_channels_take_turns_within_one_read() -> None:
    broker = Broker()
    client = broker.open(1, 2)
    for on in (1, 2):
        client.ask("queue.declare", on=on, queue=f"q{on}")
    frames = (
        method(1, "basic.publish", routing_key="q1"),
        method(2, "basic.publish", routing_key="q2"),
        header(1, 2),
        heartbeat(),
        header(2, 2),
        body(2, b"22"),
        body(1, b"11"),
    )
    client.send(*frames)
    assert (broker.open().drain("q1"), broker.open().drain("q2")) == ([b"11"], [b"22"])


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (method(3, "queue.declare", queue="q"), 504),
        (header(3, 1), 505),
        (body(0, b"x"), 505),
        (method(0, "connection.open", virtual_host="/"), 504),
        (method(1, "channel.open"), 504),
        (method(1, "channel.close-ok"), 503),
        (body(1, b"x"), 505),
        (method(1, "basic.publish", routing_key="q") + method(1, "basic.ack", delivery_tag=1), 505),
    ],
)
def test_a_frame_that_belongs_nowhere_closes_the_connection(frame: bytes, code: int) -> None:
    client = Broker().open()
    client.send(frame)
    assert client.expect("connection.close")["reply_code"] == code
    assert client.opened.state == CLOSING
