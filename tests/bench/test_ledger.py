"""What a message costs in the ledger of a quorum queue: the writing of its entries and their application, once for each
member."""

from __future__ import annotations

import random

from broker.queues.quorum.commands import EntryWriter
from broker.queues.quorum.ledger import Ledger
from broker.queues.quorum.snapshot import restore, snapshot
from tests.bench.timing import ceiling, microseconds

BATCH = 256
ROUNDS = 400


def entries(first: int, consumers: int = 1) -> tuple[bytes, bytes, bytes]:
    """A batch of messages is accepted; consumers get it in turn; they acknowledge it."""
    writer = EntryWriter()
    made: list[bytes] = []
    for command in range(3):
        writer.begin(1_700_000_000_000)
        if command == 0:
            writer.accept(4, BATCH)
        for consumer in range(consumers if command else 0):
            write = writer.deliver if command == 1 else writer.settle
            write(4, first + consumer, (BATCH - consumer + consumers - 1) // consumers, consumers)
        made.append(writer.take())
    return made[0], made[1], made[2]


def test_apply() -> None:
    """Per message, over the three entries."""

    def run() -> None:
        ledger = Ledger()
        for batch in batches:
            for entry in batch:
                ledger.apply(entry)
        assert ledger.totals.all() == 0

    batches = [entries(number * BATCH, 3) for number in range(ROUNDS)]
    assert microseconds("ledger.apply, 256 accepted, delivered, settled", ROUNDS * BATCH, run) < ceiling(0.05, 2.0)


def test_apply_one_message_at_a_time() -> None:
    """A message in an entry of its own: accepted, delivered and settled at once."""
    writer = EntryWriter()
    made: list[bytes] = []
    for position in range(5000):
        writer.begin(1_700_000_000_000)
        writer.accept(4, 1)
        writer.deliver(4, position, 1, 1)
        writer.settle(4, position, 1, 1)
        made.append(writer.take())

    def run() -> None:
        ledger = Ledger()
        for entry in made:
            ledger.apply(entry)

    assert microseconds("ledger.apply, one accepted, delivered, settled", len(made), run) < ceiling(6.0, 150.0)


def test_settled_in_any_order() -> None:
    """100,000 messages that are out are settled in random order, 256 in an entry."""
    numbers = list(range(100_000))
    random.Random(3).shuffle(numbers)
    writer = EntryWriter()
    made: list[bytes] = []
    for start in range(0, len(numbers), BATCH):
        writer.begin(1_700_000_000_000)
        for position in numbers[start : start + BATCH]:
            writer.settle(4, position, 1, 1)
        made.append(writer.take())

    def run() -> None:
        ledger = Ledger()
        writer.begin(1)
        writer.accept(4, len(numbers))
        writer.deliver(4, 0, len(numbers), 1)
        ledger.apply(writer.take())
        for entry in made:
            ledger.apply(entry)
        assert ledger.totals.all() == 0

    assert microseconds("ledger.apply, settled in random order", len(numbers), run) < ceiling(5.0, 60.0)


def test_write() -> None:
    """Each message is told by itself; one of three consumers has every third."""
    writer = EntryWriter()

    def accepted() -> None:
        for _ in range(ROUNDS):
            writer.begin(1_700_000_000_000)
            for _ in range(BATCH):
                writer.accept(4, 1)
            writer.take()

    def settled() -> None:
        for _ in range(ROUNDS):
            writer.begin(1_700_000_000_000)
            for position in range(BATCH):
                writer.settle(4, position, 1, 1)
            writer.take()

    assert microseconds("entry.accept, one more message", ROUNDS * BATCH, accepted) < ceiling(0.1, 2.0)
    assert microseconds("entry.settle, one more message", ROUNDS * BATCH, settled) < ceiling(0.2, 4.0)


def test_snapshot_of_many_runs() -> None:
    """100,000 messages of which every other one is settled: 100,000 runs."""
    ledger = Ledger()
    writer = EntryWriter()
    writer.begin(1)
    writer.accept(4, 100_000)
    writer.deliver(4, 0, 100_000, 1)
    writer.settle(4, 0, 50_000, 2)
    ledger.apply(writer.take())
    data = snapshot(ledger)
    assert microseconds("ledger.snapshot, per run", 100_000, lambda: snapshot(ledger)) < ceiling(0.2, 5.0)
    assert microseconds("ledger.restore, per run", 100_000, lambda: restore(data)) < ceiling(0.3, 8.0)
