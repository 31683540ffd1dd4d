"""Heartbeats (AMQP 0-9-1 §4.2.7; RabbitMQ docs, Heartbeats)."""

from __future__ import annotations

import structlog

from broker.alarms import MEMORY
from tests.support.memory import Broker, Client, opening
from tests.support.wire import HEARTBEAT, heartbeat, method, publish, split_frames


def sent(data: bytes) -> int:
    """How many frames, all of which must be heartbeats."""
    frames = split_frames(data)
    assert all((frame.kind, frame.channel, frame.payload) == (HEARTBEAT, 0, b"") for frame in frames)
    return len(frames)


def test_a_silent_broker_sends_one_every_half_interval() -> None:
    """RabbitMQ's heartbeat sender: what the handshake wrote does not put the first one off."""
    broker = Broker()
    client = broker.connect(heartbeat_s=10)
    client.sink.take()
    for _ in range(6):
        broker.advance(4_999)
        client.send(heartbeat())
        assert sent(client.sink.take()) == 0
        broker.advance(1)
        assert sent(client.sink.take()) == 1


def test_an_opening_in_one_read_does_not_put_the_first_one_off() -> None:
    broker = Broker()
    client = broker.client()
    client.send(opening(heartbeat_s=2))
    client.sink.take()
    broker.advance(1_000)
    assert sent(client.sink.take()) == 1


def test_whatever_was_written_last_a_client_hears_something_within_the_interval() -> None:
    """Clients that close after one silent interval: what comes just behind one look does not put the next heartbeat off
    by two."""
    for said_at_ms in range(0, 10_000, 250):
        broker = Broker()
        client = broker.connect(heartbeat_s=10)
        broker.advance(said_at_ms)
        client.ask("channel.open")
        client.sink.take()
        broker.advance(7_500)
        assert sent(client.sink.take()) >= 1, said_at_ms


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


def stand_still(broker: Broker, ms: int) -> None:
    """The process is stopped; when it goes on, its timers are served before any socket is read."""
    broker.clock.time_ms += ms
    broker.clock.run_due()
    broker.run_turn()


def test_after_a_pause_nobody_is_judged_before_the_sockets_were_read() -> None:
    broker = Broker()
    client = broker.connect(heartbeat_s=5)
    for _ in range(3):
        stand_still(broker, 12_000)
        assert not client.sink.ended
        client.send(heartbeat())
    broker.advance(12_000 - 1)
    assert not client.sink.ended


def test_a_client_that_is_silent_behind_a_pause_is_cut_off() -> None:
    broker = Broker()
    client = broker.connect(heartbeat_s=5)
    stand_still(broker, 60_000)
    assert not client.sink.ended
    broker.advance(1_250)
    assert client.sink.aborted


def test_input_that_waits_undecoded_is_a_sign_of_life() -> None:
    """More was read than fits into a turn: the rest is held back (net/transport.py)."""
    broker = Broker()
    client = broker.connect(heartbeat_s=5)
    broker.advance(9_000)
    client.opened.hear()
    broker.advance(10_000)
    assert not client.sink.ended


def unread_by_an_alarm(broker: Broker, client: Client) -> None:
    broker.server.alarms.set(MEMORY, True)
    client.send(method(1, "channel.open"), publish(1, "", "q", b"x"))


def unread_while_it_does_not_read(broker: Broker, client: Client) -> None:
    client.opened.writable(False)
    client.send(method(1, "channel.open"), method(1, "queue.declare", queue="q"), publish(1, "", "q", b"x" * 3_000_000))
    for _ in range(3):
        client.send(method(1, "basic.get", queue="q"), method(1, "basic.recover", requeue=True))


def test_a_client_that_is_not_read_cannot_be_heard() -> None:
    """RabbitMQ pauses the check while the connection is blocked; the same holds whatever the reason is."""
    for make_unread in (unread_by_an_alarm, unread_while_it_does_not_read):
        broker = Broker()
        client = broker.connect(heartbeat_s=5)
        make_unread(broker, client)
        assert not client.sink.reading, make_unread
        client.held.append(heartbeat())
        broker.advance(25_000)
        assert not client.sink.ended, make_unread


def test_missed_heartbeats_are_told() -> None:
    """With what an operator needs to find the client."""
    broker = Broker()
    client = broker.client()
    client.send(opening(heartbeat_s=5, properties={"connection_name": "billing"}))
    with structlog.testing.capture_logs() as logs:
        broker.advance(20_000)
    assert client.sink.aborted
    (line,) = [line for line in logs if line["event"] == "Heartbeats missed"]
    assert {name: line[name] for name in ("log_level", "connection", "client", "user", "vhost", "timeout_s")} == {
        "log_level": "warning",
        "connection": "127.0.0.1:50000 -> 127.0.0.1:5672",
        "client": "billing",
        "user": "guest",
        "vhost": "/",
        "timeout_s": 5,
    }


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
