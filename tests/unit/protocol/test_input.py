"""What comes from one client's socket (broker/protocol/input.py): what a turn has no time for waits, and so does the
socket."""

from __future__ import annotations

import pytest

from broker.protocol.connection_state import CLOSED, CLOSING, RUNNING
from tests.support.fake_clock import HurriedClock
from tests.support.memory import Broker
from tests.support.wire import heartbeat, method, publish


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time of a turn is always over."""
    monkeypatch.setattr(Broker, "clock_type", HurriedClock)


@pytest.mark.usefixtures("hurried")
def test_reads_that_come_although_the_socket_is_paused_are_taken_in_order() -> None:
    """A transport may deliver what it had read before it was told; the socket is read again when all of it is taken."""
    broker = Broker()
    client = broker.open()
    client.ask("queue.declare", queue="q")
    connection = client.opened
    for read in range(5):
        connection.receive(b"".join(publish(1, "", "q", b"%d" % (200 * read + number)) for number in range(200)))
    assert not client.sink.reading
    broker.run_turn()
    assert client.sink.reading
    assert [int(body) for body in broker.open().drain("q")] == list(range(1000))


@pytest.mark.usefixtures("hurried")
def test_reads_that_wait_are_forgotten_with_the_connection() -> None:
    broker = Broker()
    client = broker.open()
    client.ask("queue.declare", queue="q")
    for _ in range(3):
        client.opened.receive(publish(1, "", "q", b"x") * 200)
    client.drop()
    assert broker.depth("q")[0] < 200


def test_close_is_found_behind_what_is_not_taken_any_more() -> None:
    """Frames behind connection.close are passed over, also those that come in pieces; while a channel waits, too."""
    broker = Broker()
    client = broker.open()
    client.ask("queue.declare", queue="q")
    connection = client.opened
    connection.receive(method(1, "basic.get", queue="q"))
    stream = method(0, "connection.close", reply_code=200) + publish(1, "", "q", b"late") + heartbeat()
    connection.receive(stream[:-20])
    connection.receive(stream[-20:])
    broker.run_turn()
    assert client.sink.awaits_close
    assert connection.state == CLOSED
    assert broker.depth("q") == (0, 0)


def test_octets_that_are_no_frames_end_it_without_waiting() -> None:
    """AMQP 0-9-1 §4.2.3: a frame error is 501; close-ok could be part of anything."""
    broker = Broker()
    client = broker.open()
    assert client.opened.state == RUNNING
    client.send(method(1, "channel.close", reply_code=200)[:-1] + b"\x00")
    client.expect("connection.close")
    assert client.opened.input.is_lost
    assert client.opened.state == CLOSED


def test_a_hard_error_waits_for_close_ok() -> None:
    client = Broker().open()
    client.tell("channel.open")
    assert not client.opened.input.is_lost
    assert client.opened.state == CLOSING


@pytest.mark.parametrize("how", ["close", "drop"])
def test_the_rest_of_a_frame_is_counted_until_the_end(how: str) -> None:
    broker = Broker()
    client = broker.open()
    client.send(publish(1, "", "q", b"x" * 1000)[:500])
    assert broker.server.alarms.receiving > 300
    if how == "close":
        client.opened.shut_down("enough")
        broker.run_turn()
    client.drop()
    assert broker.server.alarms.receiving == 0
