"""How a connection ends (broker/protocol/closing.py): the order of things, and the time that each may take. The
conversation is in tests/spec/test_connection.py."""

from __future__ import annotations

import pytest

from broker.protocol.connection_state import CLOSED, CLOSING, RUNNING
from tests.support.memory import Broker
from tests.support.wire import method

TIMEOUT_MS = 30_000


def test_a_client_that_does_not_answer_is_waited_for_half_a_minute() -> None:
    broker = Broker()
    client = broker.open()
    client.opened.shut_down("enough")
    broker.run_turn()
    broker.advance(TIMEOUT_MS - 1)
    assert (client.opened.state, client.sink.closed) == (CLOSING, False)
    broker.advance(1)
    assert (client.opened.state, client.sink.closed, client.sink.awaits_close) == (CLOSED, True, False)


@pytest.mark.parametrize("how", ["asked", "failed", "lost"])
def test_nothing_of_a_connection_wakes_when_it_is_over(how: str) -> None:
    """Its timers are cancelled, whatever it ended by."""
    broker = Broker()
    client = broker.connect(heartbeat_s=10)
    connection = client.opened
    if how == "asked":
        client.ask("connection.close", on=0, reply_code=200)
    elif how == "failed":
        client.tell("channel.open", 0)
        client.tell("connection.close-ok", 0)
    else:
        client.drop()
    assert connection.state == CLOSED
    targets = [timer.target for _, _, timer in broker.clock._heap if timer.target is not None]
    assert connection not in [target.fault_owner() for target in targets]


def test_the_server_ends_the_stream_the_client_the_socket() -> None:
    """RabbitMQ leaves the socket to a client that has closed; behind its own close it ends the stream."""
    broker = Broker()
    asked, told = broker.open(), broker.open()
    asked.ask("connection.close", on=0, reply_code=200)
    assert asked.sink.awaits_close
    told.opened.shut_down("enough")
    broker.run_turn()
    told.tell("connection.close-ok", 0)
    assert (told.sink.closed, told.sink.awaits_close) == (True, False)


def test_close_crosses_close() -> None:
    """AMQP 0-9-1 connection.close: each side answers the other's."""
    broker = Broker()
    client = broker.open()
    client.opened.shut_down("enough")
    broker.run_turn()
    client.expect("connection.close")
    client.tell("connection.close", 0, reply_code=200)
    client.expect("connection.close-ok")
    assert client.opened.state == CLOSED


def test_what_comes_while_it_closes_is_ignored() -> None:
    broker = Broker()
    client = broker.open()
    client.opened.shut_down("enough")
    broker.run_turn()
    client.send(method(1, "queue.declare", queue="q"), method(2, "channel.open"), method(0, "channel.close-ok"))
    assert (broker.vhost.queues, broker.server.channels_open) == ({}, 0)
    assert client.opened.state == CLOSING


def test_an_open_connection_has_begun_nothing() -> None:
    """Ten thousand that stay open should cost little."""
    client = Broker().open()
    client.ask("queue.declare", queue="q")
    client.consume("q")
    assert (client.opened.closing, client.opened.held, client.opened.state) == (None, None, RUNNING)


@pytest.mark.parametrize("times", [1, 2])
def test_a_fault_while_it_ends_cuts_the_socket(times: int) -> None:
    broker = Broker()
    client = broker.open()
    for _ in range(times):
        client.opened.end_by_fault()
    broker.run_turn()
    assert client.sink.aborted == (times == 2)
    assert broker.server.connections == {}
