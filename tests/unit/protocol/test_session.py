"""What the channels of a connection share (broker/protocol/session.py), seen on a real connection in memory."""

from __future__ import annotations

from broker.protocol.outbox import Outbox
from broker.protocol.session import Negotiated, Session
from broker.wire.table import make
from tests.support.fake_transport import FakeSink
from tests.support.memory import Broker
from tests.support.wire import publish


def test_a_session_that_has_said_something_is_flushed_once_a_turn() -> None:
    broker = Broker()
    client = broker.open()
    session = client.opened.session
    client.sink.writes.clear()
    session.send(b"one")
    session.send(b"two")
    assert client.sink.writes == []
    broker.run_turn()
    assert (client.sink.writes, client.sink.take()) == ([6], b"onetwo")


def test_notices_come_behind_the_answers_of_the_turn() -> None:
    """A basic.cancel never overtakes the queue.delete-ok that caused it."""
    broker = Broker()
    client = broker.open()
    session = client.opened.session
    session.notify(b"notice")
    session.send(b"answer")
    broker.run_turn()
    assert client.sink.take() == b"answernotice"


def test_exclusive_queues_that_were_deleted_are_not_kept() -> None:
    """A client that declares and deletes a queue for every request must not leave a trail."""
    broker = Broker()
    client = broker.open()
    client.ask("queue.declare", queue="kept", exclusive=True)
    for number in range(1000):
        client.ask("queue.declare", queue=f"q{number}", exclusive=True)
        client.ask("queue.delete", queue=f"q{number}")
    owned = client.opened.session.exclusive_queues
    assert owned is not None
    assert len(owned) < 200
    client.drop()
    assert broker.vhost.queues == {}


def test_channels_that_wait_no_more_are_told_together_and_once() -> None:
    broker = Broker()
    client = broker.open(1, 2)
    session, channels = client.opened.session, client.opened.channels
    session.release(channels[1])
    session.release(channels[2], True)
    assert session.take_released() == [channels[1], channels[2]]
    assert session.take_released() == []


def test_what_was_negotiated() -> None:
    """frame-max counts a frame's own 8 octets (AMQP 0-9-1 §4.2.3); 0 is no limit."""
    broker = Broker()
    negotiated = Negotiated("name", "guest", broker.vhost, make({"capabilities": {"consumer_cancel_notify": True}}))
    session = Session(broker.server, negotiated, Outbox(FakeSink()))
    assert (session.payload_max, session.cancel_notify, session.blocked_notify) == (0, True, False)
    negotiated.frame_max = 4096
    assert Session(broker.server, negotiated, Outbox(FakeSink())).payload_max == 4088


def test_nothing_is_flushed_before_the_connection_is_there_nor_when_it_is_over() -> None:
    broker = Broker()
    sink = FakeSink()
    session = Session(broker.server, Negotiated("name", "guest", broker.vhost), Outbox(sink))
    session.send(b"early")
    broker.run_turn()
    assert sink.writes == []
    client = broker.open()
    session = client.opened.session
    client.drop()
    client.sink.writes.clear()
    session.send(b"late")
    broker.run_turn()
    assert client.sink.writes == []


def test_consumers_that_wait_for_the_outbox_wait_no_more_when_the_connection_closes() -> None:
    broker = Broker()
    client = broker.open()
    client.ask("queue.declare", queue="q")
    client.consume("q")
    client.opened.writable(False)
    client.send(publish(1, "", "q", b"x"))
    assert len(client.opened.session.waiting_for_outbox) == 1
    client.opened.session.stop_deliveries()
    client.opened.writable(True)
    broker.run_turn()
    assert broker.depth("q") == (1, 0)
