"""What a start makes of the records of the logs: their replay, and what follows when all were replayed.

Before it the manifest has told what it knows of the logs (manifest_recovery.py).
"""

from __future__ import annotations

from typing import final

from librt.strings import read_i64_be

from broker.native import i64
from broker.store.batch import HEADER_SIZE, RECORD_HEADER_SIZE, BatchHeader, BatchLocation, location_at, record_end
from broker.store.log import Log
from broker.store.log_note import NOTHING_NOTED
from broker.store.logs import Logs
from broker.store.records import (
    BODY_AT,
    BODY_BYTES_MASK,
    ENTRY,
    FLAGS_SHIFT,
    HARD_STATE,
    JOURNAL,
    MESSAGE,
    NOTE,
    NOTE_REPLACED,
    REFERENCE,
    SETTLED,
    TRANSIENT,
)

LostRange = tuple[Log, int, int]
"""A log, and the first and the last position of what is not there any more."""


@final
class LogRecovery:
    """The recovery of all logs of a node."""

    def __init__(self, logs: Logs) -> None:
        self.missing: list[LostRange] = []
        """What was not found though it was promised. Of logs that belong to something after ``finish``; whoever tells
        it takes it out."""
        self._logs = logs
        self._transient: list[LostRange] = []
        self._distrusted = False

    def replay(
        self, header: BatchHeader, data: bytes, generation: i64, offset: i64, changes: list[tuple[int, bytes]]
    ) -> None:
        """A batch that was found; what it says of log 0 is added to ``changes``: (kind, body)."""
        location = location_at(generation, offset, header.size())
        at: i64 = HEADER_SIZE
        log: Log | None = None
        number: i64 = -1
        for _ in range(header.record_count):
            end = record_end(data, at)
            found = read_i64_be(data, at)
            kind: i64 = data[at + 12]
            if found == JOURNAL:
                changes.append((int(kind), data[at + RECORD_HEADER_SIZE : end]))
            else:
                if found != number or log is None:
                    log = self._logs.open(found)
                    number = found
                    self._logs.add_to_file(log, generation)
                replay_record(log, kind, location, data, at, end)
            at = end

    def settled_transient(self, ranges: list[LostRange]) -> None:
        """These need not survive a restart, and were settled: what was in segments."""
        self._transient += ranges

    def distrust(self, lost_records: i64) -> None:
        """There was damage: what may have been delivered is not known, so it may be everything. So many records of the
        write-ahead log are gone at most, of whatever logs."""
        self._distrusted = True
        self._logs.lost_records = lost_records
        for log in self._logs.logs.values():
            log.raise_note(log.positions.next - 1)

    def settle_missing(self) -> None:
        """All batches were replayed, and are on the disk."""
        for log in self._logs.logs.values():
            for first, last in finish_recovery(log):
                self.missing.append((log, first, last))
                if log.group is not None:
                    log.group.missing += last - first + 1
        for segment in self._logs.segments.by_number.values():
            self._logs.segments.look_at(segment)

    def finish(self, known: set[int]) -> None:
        """Whoever has a log has opened it. Logs that are not ``known`` belonged to something that is gone."""
        for log in list(self._logs.logs.values()):
            if int(log.number) not in known:
                self._logs.drop(log)
        self.missing = [lost for lost in self.missing if not lost[0].dropped and _is_lost(*lost)]
        for log, first, last in self.missing + self._transient:
            if not log.dropped:
                log.write_settled(first, last)
        self._transient = []
        if self._distrusted:
            for log in self._logs.logs.values():
                if log.note is not NOTHING_NOTED:
                    log.write_note()


def _is_lost(log: Log, first: int, last: int) -> bool:
    """Whether what was not found there was still needed. What is settled of some logs is told elsewhere, so that
    neither their records nor the manifest know of it yet."""
    return log.teller is None or log.teller.is_wanted(log, first, last)


def replay_record(log: Log, kind: i64, location: BatchLocation, data: bytes, at: i64, end: i64) -> None:
    """A record of this log: its body is ``data[at + RECORD_HEADER_SIZE:end]``, offsets as in a batch."""
    body = at + RECORD_HEADER_SIZE
    if kind in (MESSAGE, REFERENCE):
        _replay_message(log, kind, location, data, at, end)
    elif kind == TRANSIENT:
        position = read_i64_be(data, body)
        if position > log.extents.moved_through():
            log.positions.settle(position, position)  # its position is never used again
    elif kind == SETTLED:
        while body + 16 <= end:
            log.positions.settle(read_i64_be(data, body), read_i64_be(data, body + 8))
            body += 16
    elif kind == NOTE:
        log.raise_note(read_i64_be(data, body))
    elif kind == NOTE_REPLACED:
        log.own_note().replace(read_i64_be(data, body))
    elif kind == HARD_STATE:
        log.group_state().tell(read_i64_be(data, body), read_i64_be(data, body + 8), read_i64_be(data, body + 16))


def _replay_message(log: Log, kind: i64, location: BatchLocation, data: bytes, at: i64, end: i64) -> None:
    body = at + RECORD_HEADER_SIZE
    positions = log.positions
    position = read_i64_be(data, body)
    if position <= log.extents.moved_through():
        return
    if kind == REFERENCE and data[HEADER_SIZE + read_i64_be(data, body + 8) + 12] != MESSAGE:
        positions.settle(position, position)
        return
    if position >= positions.next:
        positions.append(position)
    elif not positions.is_live(position):
        return
    body_bytes = read_i64_be(data, body + 8)
    if kind == REFERENCE:
        body_bytes = read_i64_be(data, HEADER_SIZE + body_bytes + BODY_AT)
    flags = body_bytes >> FLAGS_SHIFT
    log.found(flags)
    if flags & ENTRY and kind == MESSAGE:
        log.group_state().add_found(position, data[at + BODY_AT : end])
    last = log.extents.extend(position, location, at - HEADER_SIZE)
    last.body_bytes += body_bytes & BODY_BYTES_MASK
    last.end = end - HEADER_SIZE


def finish_recovery(log: Log) -> list[tuple[int, int]]:
    """All records were replayed: count what is live, and where. The positions of which nothing was found, though they
    were promised, are settled: first and last of each range."""
    positions = log.positions
    missing: list[tuple[int, int]] = []
    log.extents.trim(positions.first, None)
    reached = positions.first
    body_bytes: i64 = 0
    for segment_extent in log.extents.segments:
        _miss(log, reached, segment_extent.first, missing)
        reached = segment_extent.last + 1
        segment_extent.live = positions.live_between(segment_extent.first, reached)
        if segment_extent.live > 0:
            segment_extent.segment.live += segment_extent.live
            if segment_extent.messages > 0:
                body_bytes += segment_extent.body_bytes * segment_extent.live // segment_extent.messages
    log.extents.drop_dead()
    for extent in log.extents.wal[log.extents.head :]:
        _miss(log, reached, extent.first, missing)
        reached = extent.first + extent.count
        live = positions.live_between(extent.first, reached)
        body_bytes += extent.body_bytes * live // extent.count
    _miss(log, reached, positions.next, missing)
    log.recovered(body_bytes)
    return missing


def _miss(log: Log, start: i64, end: i64, missing: list[tuple[int, int]]) -> None:
    """Nothing was found of the positions from ``start`` up to but not including ``end``."""
    if log.positions.live_between(start, end) > 0:
        missing.append((int(start), int(end - 1)))
        log.positions.settle(start, end - 1)
