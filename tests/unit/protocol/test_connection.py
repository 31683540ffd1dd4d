"""An open connection (broker/protocol/connection.py): its states and what it leaves behind; the conversation is in
tests/spec."""

from __future__ import annotations

import pytest

from broker.errors import NOT_FOUND, ChannelException
from broker.protocol.connection_state import CLOSED, CLOSING, RUNNING
from broker.protocol.refusals import close_frame
from broker.wire import spec
from tests.support.memory import Broker
from tests.support.wire import Method, heartbeat, method, publish, read_method, split_frames


def closing_frame(error: ChannelException) -> Method:
    return read_method(split_frames(close_frame(3, spec.CHANNEL_CLOSE, error))[0].payload)


def test_a_close_frame_has_code_text_and_the_failing_method() -> None:
    """AMQP 0-9-1 channel.close."""
    assert closing_frame(ChannelException(NOT_FOUND, "no queue 'q'", 50, 10)).arguments == {
        "reply_code": 404,
        "reply_text": "NOT_FOUND - no queue 'q'",
        "class_id": 50,
        "method_id": 10,
    }


@pytest.mark.parametrize("text", ["x" * 300, "é" * 300, "€" * 300, "𝄞" * 300, "a𝄞" * 300])
def test_its_text_is_cut_between_two_characters(text: str) -> None:
    """Clients decode reply-text as UTF-8; what is left out is marked as RabbitMQ does."""
    cut = closing_frame(ChannelException(NOT_FOUND, text)).text("reply_text")
    assert cut.endswith("...")
    assert f"NOT_FOUND - {text}".startswith(cut.removesuffix("..."))
    assert 250 <= len(cut.encode()) <= 255


def test_states() -> None:
    broker = Broker()
    client = broker.open()
    connection = client.opened
    assert connection.state == RUNNING
    client.tell("channel.open")
    assert connection.state == CLOSING
    assert broker.server.closing == {connection.number: connection}
    client.tell("connection.close-ok", 0)
    assert connection.state == CLOSED
    assert broker.server.closing == {}


def test_a_closed_connection_takes_nothing() -> None:
    broker = Broker()
    client = broker.open()
    client.ask("connection.close", on=0)
    client.opened.receive(method(1, "queue.declare", queue="q") + publish(1, "", "q", b"x"))
    broker.run_turn()
    assert broker.vhost.queues == {}


def test_losing_it_twice_does_no_harm() -> None:
    broker = Broker()
    client = broker.open()
    client.ask("queue.declare", queue="mine", exclusive=True)
    client.opened.lost()
    client.opened.lost()
    broker.run_turn()
    assert (broker.server.channels_open, broker.counters.connections_closed, broker.counters.channels_closed) == (
        0,
        1,
        1,
    )
    assert broker.vhost.queues == {}


def test_losing_one_that_was_told_to_close() -> None:
    broker = Broker()
    client = broker.open()
    client.tell("channel.open")
    client.drop()
    assert (broker.server.connections, broker.server.closing) == ({}, {})
    assert broker.counters.connections_closed == 1


def test_whoever_waits_for_the_last_closing_one_is_told() -> None:
    """How a node that stops knows that its clients have read their closes."""
    broker = Broker()
    clients = [broker.open() for _ in range(3)]
    told: list[int] = []
    for client in clients:
        client.opened.shut_down("stop")
    broker.server.when_closed = lambda: told.append(len(broker.server.closing))
    broker.run_turn()
    clients[0].tell("connection.close-ok", 0)
    clients[1].drop()
    assert told == []
    clients[2].tell("connection.close-ok", 0)
    assert told == [0]


def test_octets_are_counted() -> None:
    broker = Broker()
    client = broker.open()
    before = client.opened.input.bytes_received
    client.send(heartbeat(), heartbeat()[:3])
    assert client.opened.input.bytes_received - before == 11


def test_a_failing_connection_gives_back_before_it_says_so() -> None:
    """RabbitMQ docs, Queues, Exclusive Queues holds for errors too: a client that reconnects on connection.close finds
    its names free."""
    broker = Broker()
    client, other = broker.open(), broker.open()
    client.ask("queue.declare", queue="mine", exclusive=True)
    client.auto = False
    client.tell("channel.open")
    assert broker.vhost.queues == {}
    other.ask("queue.declare", queue="mine", exclusive=True)


def test_abort_cuts_the_socket() -> None:
    client = Broker().open()
    client.opened.abort()
    assert client.sink.aborted
