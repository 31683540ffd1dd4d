"""Enqueue and dispatch without sockets: recorded byte streams through the real protocol, one read and one turn at a
time."""

from __future__ import annotations

import pytest

from tests.bench.timing import ceiling, microseconds
from tests.support.memory import Broker
from tests.support.wire import method, publish

MESSAGES = 2_000
READS = 10


def replay(name: str, *, body: bytes, no_ack: bool, confirm: bool, queues: int = 1, keys: int = 1) -> float:
    """CPU per published message; the consumers' side included."""
    broker = Broker()
    setup = broker.open()
    for number in range(queues):
        setup.ask("queue.declare", queue=f"q{number}")
        if queues > 1:
            setup.ask("queue.bind", queue=f"q{number}", exchange="amq.fanout")
    consumer = broker.open()
    for number in range(queues):
        consumer.ask("basic.consume", queue=f"q{number}", consumer_tag=f"c{number}", no_ack=no_ack)
    producer = broker.open()
    if confirm:
        producer.ask("confirm.select")
    exchange = "amq.fanout" if queues > 1 else ""
    read = b"".join(
        publish(1, exchange, "q0" if keys == 1 else f"q{number % keys}", body) for number in range(MESSAGES)
    )
    out, back = consumer.sink, producer.sink
    out.take()
    back.take()
    tag = 0
    delivered = 0

    def run() -> None:
        nonlocal tag, delivered
        delivered = 0
        for _ in range(READS):
            producer.opened.receive(read)
            broker.run_turn()
            delivered += out.take().count(body)
            back.take()
            if not no_ack:
                tag += MESSAGES * queues
                consumer.opened.receive(method(1, "basic.ack", delivery_tag=tag, multiple=True))
                broker.run_turn()

    each = microseconds(name, MESSAGES * READS, run)
    assert delivered == MESSAGES * READS * queues
    assert broker.depth("q0") == (0, 0)
    return each


@pytest.mark.parametrize(
    ("name", "size", "no_ack", "confirm", "queues", "compiled_us", "interpreted_us"),
    [
        ("broker 24 B, auto-ack", 24, True, False, 1, 2.0, 25.0),
        ("broker 24 B, confirms, ack", 24, False, True, 1, 2.0, 25.0),
        ("broker 1 KiB, confirms, ack", 1024, False, True, 1, 5.0, 30.0),
        ("broker 100 B, fanout to 10 queues", 100, True, False, 10, 8.0, 100.0),
    ],
)
def test_replay(
    name: str, size: int, no_ack: bool, confirm: bool, queues: int, compiled_us: float, interpreted_us: float
) -> None:
    body = bytes(0x80 + at % 64 for at in range(size))
    each = replay(name, body=body, no_ack=no_ack, confirm=confirm, queues=queues)
    assert each < ceiling(compiled_us, interpreted_us)
