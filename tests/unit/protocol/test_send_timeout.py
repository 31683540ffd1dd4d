"""A client whose socket accepts nothing goes (broker/protocol/send_timeout.py; RabbitMQ's
tcp_listen_options.send_timeout)."""

from __future__ import annotations

import pytest
import structlog

from tests.support.memory import Broker, Client
from tests.support.wire import heartbeat


def stuck(broker: Broker, size: int = 1000) -> Client:
    """A client that lives and reads nothing: its socket has not accepted the last bytes that were written."""
    client = broker.connect(heartbeat_s=5)
    client.ask("channel.open")
    client.sink.accepts = False
    client.sink.waiting = size
    return client


def live(broker: Broker, client: Client, ms: int) -> None:
    """It goes on sending heartbeats."""
    for _ in range(ms // 1000):
        broker.advance(1000)
        client.send(heartbeat())


def test_a_client_that_reads_nothing_goes_after_half_a_minute() -> None:
    broker = Broker()
    client = stuck(broker)
    live(broker, client, 29_000)
    assert not client.sink.ended
    with structlog.testing.capture_logs() as logs:
        live(broker, client, 12_000)
    assert client.sink.aborted
    (line,) = [line for line in logs if line["event"] == "Client does not read"]
    assert (line["log_level"], line["user"], line["timeout_ms"]) == ("warning", "guest", 30_000)
    assert line["pending_bytes"] >= 1000


def test_output_that_waits_in_the_broker_alone_counts_too() -> None:
    """More than the socket's buffer takes is kept back (broker/protocol/outbox.py)."""
    broker = Broker()
    client = stuck(broker)
    client.opened.writable(False)
    client.tell("basic.qos")
    live(broker, client, 41_000)
    assert client.sink.aborted


def test_one_byte_in_half_a_minute_is_enough() -> None:
    broker = Broker()
    client = stuck(broker, 1_000_000)
    for _ in range(10):
        live(broker, client, 19_000)
        client.sink.waiting -= 1
    assert not client.sink.ended


def test_who_has_nothing_to_read_may_be_idle() -> None:
    broker = Broker()
    client = broker.connect(heartbeat_s=5)
    live(broker, client, 200_000)
    assert not client.sink.ended


def test_the_time_begins_with_what_is_pending() -> None:
    broker = Broker()
    client = broker.connect(heartbeat_s=5)
    live(broker, client, 39_000)
    client.sink.accepts = False
    client.sink.waiting = 10
    live(broker, client, 30_000)
    assert not client.sink.ended
    live(broker, client, 11_000)
    assert client.sink.aborted


def test_a_pause_of_the_process_is_not_the_clients_fault() -> None:
    broker = Broker()
    client = stuck(broker)
    broker.clock.time_ms += 600_000
    broker.clock.run_due()
    client.send(heartbeat())
    assert not client.sink.ended


@pytest.mark.parametrize(("timeout_ms", "ends"), [(0, False), (3_000, True)])
def test_the_time_can_be_set(timeout_ms: int, ends: bool) -> None:
    broker = Broker()
    broker.limits.send_timeout_ms = timeout_ms
    client = stuck(broker)
    live(broker, client, 5_000)
    assert client.sink.aborted is ends


def test_a_connection_that_is_closing_has_its_own_time() -> None:
    broker = Broker()
    client = stuck(broker)
    client.tell("channel.open")
    broker.advance(29_000)
    assert not client.sink.aborted
