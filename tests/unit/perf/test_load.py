"""The load generator against the broker in memory: what it sends is valid, and a fault of the broker is seen."""

from __future__ import annotations

import pytest

from broker.perf.load import Broken, Producer, Receiver, Sent, Tally
from tests.support.memory import Broker
from tests.support.wire import method

ARGUMENTS = b"\0\0\0\x01q\0"


def made(window: int = 0, size: int = 24) -> tuple[Tally, Producer]:
    """A producer for queue q and the tally it counts in."""
    tally = Tally(1, 1)
    return tally, Producer(0, tally, Sent(ARGUMENTS, size, False, window, 131064))


def test_what_a_producer_sends_is_delivered_and_counted() -> None:
    broker = Broker()
    client, sender = broker.open(), broker.open()
    client.ask("queue.declare", queue="q")
    client.consume("q", no_ack=True)
    tally, producer = made()
    receiver = Receiver(0, tally, 0, True)
    sender.send(producer.produce(100, 1000, 10))
    assert receiver.receive(client.sink.take(), 5000) == b""
    assert (tally.total_published, tally.total_consumed, tally.doubled, tally.skipped) == (100, 100, 0, 0)
    assert tally.backlog() == 0


def test_latency_counts_from_when_a_message_was_due() -> None:
    broker = Broker()
    client, sender = broker.open(), broker.open()
    client.ask("queue.declare", queue="q")
    client.consume("q", no_ack=True)
    tally, producer = made()
    tally.measuring = True
    sender.send(producer.produce(1, 1_000, 0))
    Receiver(0, tally, 0, True).receive(client.sink.take(), 51_000)
    assert abs(tally.latency.quantile(0.5) - 50_000) <= 1000


def test_confirms_open_the_window() -> None:
    broker = Broker()
    sender = broker.open()
    sender.ask("queue.declare", queue="q")
    sender.ask("confirm.select")
    _, producer = made(window=10)
    sender.send(producer.produce(10, 0, 0))
    assert producer.room() == 0
    producer.receive(sender.sink.take(), 1)
    assert producer.room() == 10
    assert producer.confirmed == 10


def test_acknowledgements_settle_everything() -> None:
    broker = Broker()
    client, sender = broker.open(), broker.open()
    client.ask("queue.declare", queue="q")
    client.consume("q")
    tally, producer = made(size=200_000)
    receiver = Receiver(0, tally, 2, True)
    sender.send(producer.produce(4, 0, 0))
    client.send(receiver.receive(client.sink.take(), 1))
    assert broker.depth("q") == (0, 0)


def test_doubled_and_missing_messages_are_seen() -> None:
    tally = Tally(1, 1)
    tally.saw(0, 0, 0)
    tally.saw(0, 0, 3)
    tally.saw(0, 0, 3)
    assert (tally.skipped, tally.doubled) == (2, 1)


def test_a_close_of_the_broker_ends_the_run() -> None:
    _, producer = made()
    with pytest.raises(Broken, match="404 NOT_FOUND"):
        producer.receive(method(1, "channel.close", reply_code=404, reply_text="NOT_FOUND - no exchange"), 0)
    with pytest.raises(Broken, match="cancelled"):
        producer.receive(method(1, "basic.cancel", consumer_tag="c"), 0)
