"""Dead-lettering of a run of messages: what `DeadLetterWriter` takes for each, and `make_dead_letter`, which it must
equal."""

from __future__ import annotations

import gc
import time

import pytest

from broker.message import Message
from broker.queues.dead_letter import DeadLetterWriter, make_dead_letter
from broker.wire import table
from broker.wire.table import FieldTable
from tests.bench.timing import ceiling, microseconds, report
from tests.support.fakes import make_message
from tests.support.memory import Broker
from tests.support.wire import method, publish

COUNT = 10_000
FIELDS = table.make(
    {"tenant": "acme", "attempt": 3, "trace": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}
)


@pytest.mark.parametrize(
    ("name", "headers", "compiled_us"),
    [("without headers", None, 3.0), ("with three headers", FIELDS, 3.0)],
    ids=["none", "three"],
)
def test_a_run_of_messages(name: str, headers: FieldTable | None, compiled_us: float) -> None:
    messages = [make_message(b"x" * 100, exchange="e", routing_key="key", headers=headers) for _ in range(COUNT)]
    writer = DeadLetterWriter()

    def run() -> None:
        for message in messages:
            writer.make(message, "queue", "rejected", "dlx", None, 5)

    def slow() -> None:
        for message in messages:
            make_dead_letter(message, "queue", "rejected", "dlx", None, 5)

    each = microseconds(f"dead_letter.DeadLetterWriter, 100 B {name}", COUNT, run)
    microseconds(f"dead_letter.make_dead_letter, 100 B {name}", COUNT, slow)
    assert each < ceiling(compiled_us, 20.0)


def test_messages_with_an_id_each() -> None:
    """Only the headers and the route are the same."""
    messages = [with_id(number) for number in range(COUNT)]

    def run() -> None:
        writer = DeadLetterWriter()  # one that has not seen these ids before
        for message in messages:
            writer.make(message, "queue", "expired", "dlx", "dead", 5)

    assert microseconds("dead_letter.DeadLetterWriter, 100 B with an id each", COUNT, run) < ceiling(10.0, 60.0)


def with_id(number: int) -> Message:
    """A message with a message id of its own."""
    return make_message(b"x" * 100, exchange="e", routing_key="key", message_id=f"id-{number}")


def test_a_run_that_is_rejected() -> None:
    """All of it: basic.nack of 20,000 deliveries, their dead letters in another queue."""
    broker = Broker()
    client = broker.open()
    client.ask("queue.declare", queue="dead")
    client.ask("queue.bind", queue="dead", exchange="amq.fanout")
    client.ask("queue.declare", queue="q", arguments={"x-dead-letter-exchange": "amq.fanout"})
    client.ask("basic.consume", queue="q", consumer_tag="c")
    count = 20_000
    messages = publish(1, "", "q", b"x" * 100) * count
    best = float("inf")
    for _ in range(5):
        client.opened.receive(messages)
        broker.run_turn()
        client.sink.take()
        gc.collect()
        before = time.process_time()
        client.opened.receive(method(1, "basic.nack", delivery_tag=0, multiple=True))
        broker.run_turn()
        best = min(best, time.process_time() - before)
        assert broker.depth("q") == (0, 0)
        assert broker.depth("dead")[0] == count
        client.ask("queue.purge", queue="dead")
    each = report("basic.nack, each dead letter of 100 B", count, best)
    assert each < ceiling(10.0, 60.0)
