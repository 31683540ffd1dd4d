"""The whole of a ledger as bytes; equal ledgers have equal bytes. Their checksum is the log's business.

    version (1 byte), time, what was ignored, the active consumer
    settings: number; key (1 byte) and signed value of each, ascending
    consumers: number; id and signed priority of each, in their order
    sessions (sessions.py)
    levels: number; of each, ascending: its number, next position, runs of values, runs of times (run_map.py)

Numbers are varints. A million waiting messages are one run, so all of it has fewer than 100 bytes without consumers and
sessions; a run costs 2 bytes and more: a million messages of which every other one is settled, 2 MB.
"""

from __future__ import annotations

from typing import Final

from librt.strings import BytesWriter
from xxhash import xxh3_64_intdigest

from broker.native import i64
from broker.queues.quorum.commands import LEVELS
from broker.queues.quorum.ledger import Ledger
from broker.queues.quorum.level import LedgerLevel
from broker.queues.quorum.values import DELAYED, is_value, state_of
from broker.store.run_map import POSITION_MAX, RunCursor, RunMap, read_run_map
from broker.store.varint import VarintReader, write_signed, write_varint

SNAPSHOT_VERSION: Final[i64] = 1


def snapshot(ledger: Ledger) -> bytes:
    """All of it, except what the last entry did."""
    writer = BytesWriter()
    writer.append(int(SNAPSHOT_VERSION))
    write_varint(writer, ledger.time_ms)
    write_varint(writer, ledger.ignored)
    write_varint(writer, ledger.active)
    write_varint(writer, len(ledger.settings))
    for key in sorted(ledger.settings):
        writer.append(key)
        write_signed(writer, ledger.settings[key])
    write_varint(writer, len(ledger.consumers))
    for consumer, priority in ledger.consumers.items():
        write_varint(writer, consumer)
        write_signed(writer, priority)
    ledger.sessions.write(writer)
    levels = [level for level in ledger.levels if level is not None]
    write_varint(writer, len(levels))
    for level in levels:
        write_varint(writer, level.number)
        write_varint(writer, level.next)
        level.runs.write(writer)
        level.times.write(writer)
    return writer.getvalue()


def digest(ledger: Ledger) -> int:
    """A number (XXH3-64) that is the same for equal ledgers."""
    return xxh3_64_intdigest(snapshot(ledger))


def restore(data: bytes) -> Ledger:
    """What ``snapshot`` was made of.

    Raises: ValueError if it is something else, or of an unknown version
    """
    reader = VarintReader(data)
    if reader.byte() != SNAPSHOT_VERSION:
        raise ValueError("a snapshot of an unknown version")
    ledger = Ledger()
    ledger.time_ms = reader.number()
    ledger.ignored = reader.number()
    ledger.active = reader.number()
    ledger.settings = _read_settings(reader)
    ledger.consumers = _read_consumers(reader)
    if ledger.active != 0 and int(ledger.active) not in ledger.consumers:
        raise ValueError("an active consumer that is unknown")
    ledger.sessions.read(reader)
    count = reader.number()
    before: i64 = -1
    while count > 0:
        number = reader.number()
        if number <= before or number >= LEVELS:
            raise ValueError("not a level")
        _read_level(reader, ledger.make_level(number), ledger)
        before = number
        count -= 1
    if reader.at != reader.end:
        raise ValueError("more than a snapshot")
    return ledger


def _read_settings(reader: VarintReader) -> dict[int, int]:
    settings: dict[int, int] = {}
    count = reader.number()
    before: i64 = -1
    while count > 0:
        key = reader.byte()
        if key <= before:
            raise ValueError("settings out of order")
        settings[int(key)] = int(reader.signed())
        before = key
        count -= 1
    return settings


def _read_consumers(reader: VarintReader) -> dict[int, int]:
    consumers: dict[int, int] = {}
    count = reader.number()
    while count > 0:
        consumer = reader.number()
        if consumer == 0 or int(consumer) in consumers:
            raise ValueError("not a consumer")
        consumers[int(consumer)] = int(reader.signed())
        count -= 1
    return consumers


def _read_level(reader: VarintReader, level: LedgerLevel, ledger: Ledger) -> None:
    level.next = reader.number()
    if level.next > POSITION_MAX:
        raise ValueError("not a position")
    level.set_runs(read_run_map(reader), read_run_map(reader))
    if level.runs.last() >= level.next or level.times.last() >= level.next:
        raise ValueError("messages behind the last one")
    cursor = RunCursor(level.runs)
    cursor.seek(0)
    while cursor.step() and cursor.start < level.next:
        if not is_value(cursor.value):
            raise ValueError("not the value of a message")
        if cursor.value != 0:
            count = cursor.end - cursor.start + 1
            level.totals.add(state_of(cursor.value), count)
            ledger.totals.add(state_of(cursor.value), count)
    if level.times.size != level.totals.delayed + level.totals.dead or not _times_fit(level.runs, level.times):
        raise ValueError("times of other messages")


def _times_fit(runs: RunMap, times: RunMap) -> bool:
    """Whether only what is delayed or dead has a time."""
    at = RunCursor(times)
    at.seek(0)
    values = RunCursor(runs)
    values.seek(0)
    values.step()
    last = times.last()
    while at.step() and at.start <= last:
        if at.value == 0:
            continue
        while values.end < at.start:
            values.step()
        while state_of(values.value) >= DELAYED and values.end < at.end:
            values.step()
        if state_of(values.value) < DELAYED:
            return False
    return True
