"""Heartbeats (AMQP 0-9-1 §4.2.7; RabbitMQ docs, Heartbeats)."""

from __future__ import annotations

from tests.support.memory import Broker
from tests.support.wire import HEARTBEAT, heartbeat, split_frames


def sent(data: bytes) -> int:
    """How many frames, all of which must be heartbeats."""
    frames = split_frames(data)
    assert all((frame.kind, frame.channel, frame.payload) == (HEARTBEAT, 0, b"") for frame in frames)
    return len(frames)


def test_a_silent_broker_sends_one_every_interval() -> None:
    """RabbitMQ docs, Heartbeats: a client that waits for two intervals never waits in vain; looked at every half interval."""
    broker = Broker()
    client = broker.connect(heartbeat_s=10)
    client.sink.take()
    for _ in range(6):
        broker.advance(10_000)
        client.send(heartbeat())
        assert 1 <= sent(client.sink.take()) <= 2


def test_none_are_sent_while_others_are() -> None:
    """Any frame is a sign of life (§4.2.7)."""
    broker = Broker()
    client = broker.connect(heartbeat_s=10)
    client.ask("channel.open")
    for _ in range(20):
        broker.advance(1000)
        client.ask("basic.qos")
    assert client.heartbeats == 0


def test_a_silent_client_is_cut_off_without_a_word() -> None:
    """RabbitMQ docs, Heartbeats: after two silent intervals; there is nobody to read a close frame."""
    broker = Broker()
    client = broker.connect(heartbeat_s=10)
    client.sink.take()
    broker.advance(19_000)
    assert not client.sink.ended
    broker.advance(11_000)
    assert client.sink.aborted
    sent(client.sink.take())


def test_heartbeats_keep_a_client() -> None:
    broker = Broker()
    client = broker.connect(heartbeat_s=10)
    for _ in range(60):
        broker.advance(9000)
        client.send(heartbeat())
    assert not client.sink.ended


def test_any_octet_keeps_a_client() -> None:
    """RabbitMQ docs, Heartbeats: half a frame is a sign of life too."""
    broker = Broker()
    client = broker.connect(heartbeat_s=10)
    client.ask("channel.open")
    for octet in heartbeat() * 8:
        broker.advance(9000)
        client.send(bytes([octet]))
    assert not client.sink.ended


def test_zero_is_off() -> None:
    """RabbitMQ docs, Heartbeats."""
    broker = Broker()
    client = broker.connect(heartbeat_s=0)
    broker.advance(86_400_000)
    assert not client.sink.ended
    assert client.sink.take() == b""


def test_the_clients_value_counts() -> None:
    """RabbitMQ docs, Heartbeats: the value of tune-ok."""
    broker = Broker()
    client = broker.connect(heartbeat_s=600)
    broker.advance(1_000_000)
    assert not client.sink.ended


def test_a_client_that_is_cut_off_gives_everything_back() -> None:
    broker = Broker()
    client, other = broker.connect(heartbeat_s=10), broker.open()
    client.ask("channel.open")
    client.ask("queue.declare", queue="q")
    client.ask("queue.declare", queue="mine", exclusive=True)
    client.publish("q", b"x")
    client.consume("q")
    broker.advance(30_000)
    assert client.sink.aborted
    client.drop()
    assert "mine" not in broker.vhost.queues
    assert other.drain("q") == [b"x"]


def test_a_closed_connection_is_quiet() -> None:
    broker = Broker()
    client = broker.connect(heartbeat_s=10)
    client.ask("connection.close", on=0)
    broker.advance(100_000)
    assert client.sink.take() == b""
