"""What the channels of a connection share (broker/protocol/session.py), seen on a real connection in memory."""

from __future__ import annotations

from tests.support.memory import Broker


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
