"""What stands in the records, byte for byte: messages (queues/stored.py), what is declared (metadata/changes.py), and
since format 3 entries and snapshots of quorum queues (queues/quorum/commands.py, snapshot.py).

    python -m tests.unit.store.test_golden_records --rewrite

writes tests/transcripts/disk/records-format-3.json anew. What a difference means stands in test_golden.py: an older
release of the same format version must be able to read what this one writes.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from broker.hidden_keys import keys_of, with_keys
from broker.message import Message, make_tail
from broker.metadata.changes import Declared, DurableBinding, DurableExchange, DurableQueue, decode
from broker.queues.quorum.commands import Delay, EntryWriter
from broker.queues.quorum.ledger import Ledger
from broker.queues.quorum.snapshot import restore, snapshot
from broker.queues.quorum.values import EXPIRED, NACK, PURGED, REJECT, REJECTED
from broker.queues.stored import enqueued_ms, read_message, stored_size, write_message
from broker.store.batch import RECORD_HEADER_SIZE
from broker.store.batch_writer import BatchWriter
from broker.store.datadir import FORMAT
from broker.store.records import MESSAGE
from broker.wire import table
from tests.unit.store.test_golden import GOLDEN

NEWEST = GOLDEN / f"records-format-{FORMAT}.json"
ARGUMENTS = table.encode({"x-message-ttl": 5000, "of": {"no": [True, "meaning"]}})
DECLARED: list[Declared] = [
    DurableExchange("/", "x", "topic", True, True, ARGUMENTS),
    DurableExchange("/", "", "direct"),
    DurableExchange("vhost/ä", "a\udcff", "x-type", False, True),
    DurableQueue("/", "q", True, 7, ARGUMENTS),
    DurableQueue("vhost/ä", "q" * 255, False, 1 << 40),
    DurableBinding("/", "x", False, "q", "a.*.#", ARGUMENTS),
    DurableBinding("/", "x", True, "y", ""),
]
WALL_MS = 1_700_000_000_123


def messages() -> list[Message]:
    """Every field with a value of its own, every flag set and not, hidden keys."""
    tail = make_tail(b"exchange", b"routing key")
    plain = Message(b"header and body frames", tail, 1, 22, 7, 131064, True, -1, -1)
    full = Message(b"x" * 40, make_tail(b"", b"k" * 255), 65535, 30, 1 << 33, 4088, False, 255, 1 << 34)
    hiding = Message(b"content", with_keys(tail, ["a hidden key", "ä\udcff"]), 2, 22, 0, 0, True, 0, 0)
    hiding.hides_keys = True
    return [plain, full, hiding]


def written(message: Message) -> bytes:
    """The user's part of its record."""
    batch = BatchWriter(1)
    batch.begin(1, MESSAGE, stored_size(message))
    write_message(batch, message, WALL_MS)
    return b"".join(batch.take_batch().pieces)[int(RECORD_HEADER_SIZE) :]


def fields(message: Message) -> list[Any]:
    """All that is kept of a message."""
    numbers = [message.channel, message.header_size, message.body_size, message.payload_max, message.priority]
    keys = keys_of(message.tail) if message.hides_keys else []
    return [
        message.content,
        bytes(message.tail),
        *map(int, numbers),
        int(message.expiration_ms),
        message.persistent,
        keys,
    ]


def entries() -> list[bytes]:
    """Every command of a quorum queue, with its parts that may be missing and without."""
    writer = EntryWriter()
    made = []
    writer.begin(WALL_MS)
    writer.settings({0: 20, 3: -1})
    writer.attach(1, 0)
    writer.attach(2, -5)
    writer.activate(1)
    writer.accept(4, 1)
    writer.accept(0, 300)
    writer.accept(31, 20, 7, 1)
    made.append(writer.take())
    writer.begin(WALL_MS + 1000)
    writer.deliver(0, 0, 200, 1)
    writer.deliver(31, 1, 5, 3)
    writer.settle(0, 0, 50, 2)
    writer.requeue(0, 1, 1, 1, REJECT)
    writer.requeue(31, 4, 1, 1, NACK)
    writer.drop(0, 290, 10, 1, PURGED)
    writer.drop(4, 0, 1, 1, EXPIRED)
    writer.delay(0, 3, 5, 2, Delay(NACK, WALL_MS + 60_000))
    writer.dead_letter(0, 13, 3, 2, REJECTED)
    made.append(writer.take())
    writer.begin(WALL_MS + 61_000)
    writer.due(0, 5, 1, 1)
    writer.dead_confirmed(0, 15, 1, 1)
    writer.accept(31, 1, 8, 1)
    writer.expire_session(8)
    writer.detach(2)
    made.append(writer.take())
    return made


def ledger_of(each: list[bytes]) -> Ledger:
    """What these entries leave."""
    ledger = Ledger()
    for entry in each:
        ledger.apply(entry)
    return ledger


def test_this_release_writes_the_newest_format_byte_for_byte() -> None:
    kept = json.loads(NEWEST.read_text())
    assert [written(message).hex() for message in messages()] == kept["messages"]
    assert [[each.key().hex(), each.value().hex()] for each in DECLARED] == kept["declared"]
    assert [entry.hex() for entry in entries()] == kept["entries"]
    assert snapshot(ledger_of(entries())).hex() == kept["snapshot"]


@pytest.mark.parametrize("file", sorted(path.name for path in GOLDEN.glob("records-format-*.json")))
def test_every_format_is_read(file: str) -> None:
    kept = json.loads((GOLDEN / file).read_text())
    for expected, text in zip(messages(), kept["messages"], strict=True):
        data = bytes.fromhex(text)
        assert fields(read_message(data, 0, len(data), b"")) == fields(expected)
        assert enqueued_ms(data, 0) == WALL_MS
    found = [decode(bytes.fromhex(key), bytes.fromhex(value)) for key, value in kept["declared"]]
    assert found == DECLARED
    if "entries" in kept:
        ledger = ledger_of([bytes.fromhex(text) for text in kept["entries"]])
        assert ledger.ignored == 0
        assert snapshot(ledger) == snapshot(restore(bytes.fromhex(kept["snapshot"])))


def rewrite(file: Path) -> None:
    """Write it as this release does."""
    content = {
        "messages": [written(message).hex() for message in messages()],
        "declared": [[each.key().hex(), each.value().hex()] for each in DECLARED],
        "entries": [entry.hex() for entry in entries()],
        "snapshot": snapshot(ledger_of(entries())).hex(),
    }
    file.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    if sys.argv[1:] != ["--rewrite"]:
        sys.exit("usage: python -m tests.unit.store.test_golden_records --rewrite")
    rewrite(NEWEST)
