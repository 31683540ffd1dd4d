"""From the first octet to open-ok (broker/protocol/handshake.py): what becomes of the object; the conversation is in
tests/spec."""

from __future__ import annotations

import pytest

from tests.support.memory import Broker, opening, start_ok
from tests.support.wire import PROTOCOL_HEADER, method


def test_the_result_is_a_connection() -> None:
    broker = Broker()
    client = broker.client("192.0.2.7")
    client.send(opening("other", frame_max=8192, channel_max=9, heartbeat_s=7))
    connection = client.opened
    assert (connection.channel_max, connection.heartbeat_s, client.refusal) == (9, 7, "")
    session = connection.session
    assert (session.user, session.vhost, session.payload_max) == ("other", broker.vhost, 8184)
    assert session.name == "192.0.2.7:50000 -> 127.0.0.1:5672"
    assert broker.server.connections == {connection.number: connection}
    assert client.handshake is not None
    assert client.handshake.connection is connection


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"AMQP\x00\x01\x00\x00", "bad protocol header"),
        (b"GET / HTTP/1.1\r\n\r\n", "HTTP"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03", "TLS"),
        (PROTOCOL_HEADER + start_ok("guest", "wrong"), "guest"),
        (PROTOCOL_HEADER + method(0, "connection.start-ok", mechanism="MAGIC", response=b""), "MAGIC"),
        (PROTOCOL_HEADER + method(0, "connection.start-ok", mechanism="PLAIN", response=b"?"), "PLAIN"),
    ],
)
def test_a_refusal_says_why_for_the_log(said: bytes, reason: str) -> None:
    """AMQP 0-9-1 §4.2.2: HTTP and TLS on the AMQP port are recognised."""
    broker = Broker()
    client = broker.client()
    client.send(said)
    assert reason in client.refusal
    assert client.sink.closed
    assert client.connection is None
    client.send(opening())
    assert client.connection is None
    assert broker.server.connections == {}


def test_connections_are_numbered() -> None:
    broker = Broker()
    numbers = [broker.connect().opened.number for _ in range(3)]
    assert numbers == sorted(set(numbers))


def test_a_lost_socket_ends_the_handshake() -> None:
    broker = Broker()
    client = broker.client()
    client.send(PROTOCOL_HEADER)
    client.drop()
    broker.advance(60_000)
    assert client.refusal == ""


@pytest.mark.parametrize("capability", ["consumer_cancel_notify", "connection.blocked"])
@pytest.mark.parametrize("value", [True, False, 1, "yes", None])
def test_a_capability_is_true_or_it_is_not_there(capability: str, value: object) -> None:
    """RabbitMQ docs, Specification, capabilities."""
    session = Broker().connect(capabilities={capability: value}).opened.session
    found = session.cancel_notify if capability == "consumer_cancel_notify" else session.blocked_notify
    assert found is (value is True)


@pytest.mark.parametrize("capabilities", [5, "all", [True], None, True])
def test_capabilities_of_another_type_are_none(capabilities: object) -> None:
    client = Broker().client()
    client.send(PROTOCOL_HEADER, start_ok(capabilities=None, properties={"capabilities": capabilities}))
    client.expect("connection.start")
    client.expect("connection.tune")
