"""The log says why a channel, a connection or a login ended, and whose it was (docs/protocol.md, "What the log
says")."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from tests.support.memory import Broker, Client, opening, start_ok
from tests.support.wire import PROTOCOL_HEADER, header, method, publish

WHO = {"connection": "127.0.0.1:50000 -> 127.0.0.1:5672", "client": "billing", "user": "guest", "vhost": "/"}

Lines = list[Any]


@pytest.fixture
def logs() -> Iterator[Lines]:
    with structlog.testing.capture_logs() as captured:
        yield captured


def named(broker: Broker) -> Client:
    """A client with a name and channel 1."""
    client = broker.client()
    client.send(opening(properties={"connection_name": "billing"}), method(1, "channel.open"))
    client.hear()
    return client


def about(logs: Lines, event: str) -> Lines:
    """The lines of this kind."""
    return [line for line in logs if line["event"] == event]


def only(logs: Lines, event: str) -> dict[str, Any]:
    """The one line of this kind, which is a warning, without what all lines have."""
    (line,) = about(logs, event)
    assert line["log_level"] == "warning"
    return {name: value for name, value in line.items() if name not in ("event", "log_level", "source")}


def test_a_channel_error(logs: Lines) -> None:
    client = named(Broker())
    client.tell("queue.declare", queue="missing", passive=True)
    assert only(logs, "Channel error") == WHO | {
        "channel": 1,
        "code": 404,
        "text": "NOT_FOUND - no queue 'missing' in vhost '/'",
        "method": "queue.declare",
    }


def test_a_channel_error_of_a_publish(logs: Lines) -> None:
    client = named(Broker())
    client.send(publish(1, "no such exchange", "q", b"x"))
    line = only(logs, "Channel error")
    assert (line["code"], line["method"], line["client"]) == (404, "basic.publish", "billing")


def test_a_connection_error(logs: Lines) -> None:
    client = named(Broker())
    client.tell("channel.open")
    assert only(logs, "Connection error") == WHO | {
        "code": 504,
        "text": "CHANNEL_ERROR - second 'channel.open' seen",
        "method": "channel.open",
    }


def test_a_connection_error_that_no_method_made(logs: Lines) -> None:
    client = named(Broker())
    client.send(header(1, 5))
    line = only(logs, "Connection error")
    assert (line["code"], line["method"]) == (505, "")


def test_what_comes_behind_an_error_is_no_further_one(logs: Lines) -> None:
    client = named(Broker())
    client.send(*[method(1, "channel.open")] * 10)
    assert len(about(logs, "Connection error")) == 1


def test_a_connection_that_the_node_closes_is_no_error(logs: Lines) -> None:
    client = named(Broker())
    client.opened.shut_down("stop")
    client.broker.run_turn()
    assert not about(logs, "Connection error")
    (line,) = about(logs, "Connection is closed by the node")
    assert (line["code"], line["log_level"]) == (320, "info")


@pytest.mark.parametrize(
    ("user", "password", "host", "reason"),
    [
        ("guest", "wrong", "127.0.0.1", "wrong password"),
        ("nobody", "x", "127.0.0.1", "there is no such user"),
        ("guest", "guest", "192.0.2.7", "this user may log in from this machine only (loopback_users)"),
    ],
)
def test_a_refused_login(logs: Lines, user: str, password: str, host: str, reason: str) -> None:
    client = Broker().client(host)
    client.send(PROTOCOL_HEADER, start_ok(user, password, properties={"connection_name": "billing"}))
    assert only(logs, "Login refused") == {
        "connection": f"{host}:50000 -> 127.0.0.1:5672",
        "client": "billing",
        "user": user,
        "mechanism": "PLAIN",
        "reason": reason,
    }
    assert not about(logs, "Connection refused")
    assert password not in {str(value) for line in logs for name, value in line.items() if name != "user"} - {user}


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "HTTP on the AMQP port"),
        (PROTOCOL_HEADER + method(1, "channel.open"), "unexpected frame"),
        (opening().replace(b"\x01/\x00", b"\x01?\x00"), "vhost ? not found"),
    ],
)
def test_a_client_that_gets_no_further_than_the_handshake(logs: Lines, said: bytes, reason: str) -> None:
    client = Broker().client()
    client.send(said)
    line = only(logs, "Connection refused")
    assert line["connection"] == WHO["connection"]
    assert reason.lower() in line["reason"].lower().replace("_", " ")


def test_a_handshake_that_takes_too_long(logs: Lines) -> None:
    broker = Broker()
    broker.client().send(PROTOCOL_HEADER)
    broker.advance(20_000)
    assert only(logs, "Connection refused")["reason"] == "handshake_timeout"


def test_a_client_that_vanishes(logs: Lines) -> None:
    client = named(Broker())
    client.drop()
    assert only(logs, "Client vanished without connection.close") == WHO


def test_a_client_that_vanishes_during_the_handshake(logs: Lines) -> None:
    """One that has sent nothing was a look at whether the port is open."""
    broker = Broker()
    broker.client().drop()
    assert logs == []
    client = broker.client()
    client.send(PROTOCOL_HEADER, start_ok())
    client.drop()
    line = only(logs, "Client vanished without connection.close")
    assert (line["connection"], line["user"], line["state"]) == (WHO["connection"], "guest", "handshake")


def test_a_client_that_leaves_in_order_did_not_vanish(logs: Lines) -> None:
    broker = Broker()
    for end in ("close", "error", "heartbeat"):
        client = named(broker) if end != "heartbeat" else broker.connect(heartbeat_s=5)
        if end == "close":
            client.ask("connection.close", on=0)
        elif end == "error":
            client.tell("channel.open")
        else:
            broker.advance(20_000)
            assert client.sink.aborted
        client.drop()
    assert not about(logs, "Client vanished without connection.close")


def test_errors_in_a_stream_are_bounded_and_counted(logs: Lines) -> None:
    """Every channel error is a line, at most twenty a second; the others are counted."""
    broker = Broker()
    client = named(broker)
    for _ in range(300):
        client.ask_error(404, "queue.declare", queue="missing", passive=True)
    assert len(about(logs, "Channel error")) == 20
    broker.advance(1_000)
    (line,) = about(logs, "Lines were left out of the log")
    assert (line["about"], line["count"]) == ("Channel error", 280)


def test_clients_that_vanish_together_are_bounded_and_counted(logs: Lines) -> None:
    broker = Broker()
    clients = [broker.connect() for _ in range(500)]
    for client in clients:
        client.drop()
    assert len(about(logs, "Client vanished without connection.close")) == 20
    broker.advance(1_000)
    assert [line["count"] for line in about(logs, "Lines were left out of the log")] == [480]
