"""What the channels of a connection share (broker/protocol/session.py), seen on a real connection in memory."""

from __future__ import annotations

from broker.protocol.session import Limits
from tests.support.memory import Broker


def test_limits_are_rabbitmqs_defaults() -> None:
    """3.13's: 2047 channels, 131,072 octets, 60 s, 128 MiB, ten seconds for the handshake; no others."""
    limits = Limits()
    assert (limits.channel_max, limits.frame_max, limits.heartbeat_s, limits.message_size_max) == (
        2047,
        131072,
        60,
        134_217_728,
    )
    assert (limits.consumers_per_channel_max, limits.prefetch_default, limits.handshake_timeout_ms) == (0, 0, 10_000)


def test_a_touched_session_is_flushed_once_a_turn() -> None:
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
