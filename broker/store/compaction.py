"""Chooses what is still needed of a file of the write-ahead log, or of a segment, and packs it into new segments. Knows
no files.

    LiveRecordFilter      goes through the records of a file, batch by batch, in slices; what is live goes to a part
    Part       the records of one log in one new segment; of one old segment extent, where a segment is rewritten
    Output     a new segment: full blocks, on their way to the disk, and the open one

This is the half of the compactor (compactor.py) that touches the state of the logs, so it runs on the owner's thread.
"""

from __future__ import annotations

from typing import Final, final

from librt.strings import BytesWriter, read_i64_be, write_i32_be, write_i64_be
from mypy_extensions import mypyc_attr

from broker.clock import Clock, Timed, Timer
from broker.native import i32, i64
from broker.store.batch import HEADER_SIZE, RECORD_HEADER_SIZE, Batch, BatchHeader, location_at, record_end, whole_size
from broker.store.log import Log
from broker.store.logs import Logs
from broker.store.records import BODY_AT, FLAGS_SHIFT, MESSAGE, REFERENCE, WEIGHT_MASK
from broker.store.segment_extent import Extent, Segment, SegmentExtent
from broker.store.wal_file import START

_COPIED_MAX: Final[i64] = 1 << 20
"""More bytes than these that go on together are not copied: 32 MiB took 60 ms."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Sleeper:
    """Somebody who waits for a time."""

    def wake(self) -> None:
        """It has come."""
        raise NotImplementedError


@final
class Alarm(Timed):
    """Wakes a class that is not compiled: only compiled ones can be timed."""

    def __init__(self, clock: Clock, sleeper: Sleeper) -> None:
        self._clock = clock
        self._sleeper = sleeper
        self._timer: Timer | None = None

    def set(self, delay_ms: i64) -> None:
        """Wake it so much later, and at no other time."""
        self.cancel()
        self._timer = self._clock.call_at(self._clock.monotonic_ms() + delay_ms, self)

    def is_set(self) -> bool:
        """Whether it will wake it."""
        return self._timer is not None

    def cancel(self) -> None:
        """Let it sleep."""
        timer = self._timer
        if timer is not None:
            timer.cancel()
            self._timer = None

    def on_timer(self, now_ms: i64) -> None:
        self._timer = None
        self._sleeper.wake()


@final
class SegmentPart:
    """The records of one log in a new segment, in the order of their positions."""

    def __init__(self, log: Log, builder: SegmentBuilder, source: SegmentExtent | None, floor: i64) -> None:
        self.log = log
        self.builder = builder
        self.source = source
        """The segment extent they come from; None if they come from the write-ahead log."""
        self.count: i64 = 0
        self.messages: i64 = 0
        """How many of them outlive the node."""
        self.body_bytes: i64 = 0
        """Sum of the weights of those."""
        self.flags: i64 = 0
        """And of their flags, one or the other."""
        self.extents: list[Extent] = []
        self._floor: i64 = floor
        self.index_offset: i64 = 0
        """Where its batch of the index stands, when there is one."""
        self.index_size: i64 = 0

    def first(self) -> i64:
        """Its first position."""
        return self.extents[0].first

    def last(self) -> i64:
        """Its last position; everything live up to there is in this part or one before."""
        if not self.extents:
            return self._floor
        extent = self.extents[-1]
        return extent.first + extent.count - 1

    def add(self, position: i64, kind: i64, body_bytes: i64, start: i64, end: i64) -> None:
        """The record at ``position`` was written to these bytes of the open block."""
        self.count += 1
        if kind == MESSAGE:
            self.messages += 1
            self.body_bytes += body_bytes & WEIGHT_MASK
            self.flags |= body_bytes >> FLAGS_SHIFT
        location = self.builder.location
        if self.extents:
            last = self.extents[-1]
            if (
                last.location is location
                and last.end == start
                and last.first + last.count == position
                and last.kind == kind
            ):
                last.count += 1
                last.end = end
                return
        extent = Extent(position, location, start)
        extent.end = end
        extent.kind = kind
        self.extents.append(extent)

    def segment_extent(self, segment: Segment) -> SegmentExtent:
        """What its log has to know of it."""
        made = SegmentExtent(segment, self.first(), self.last(), self.count)
        made.messages = self.messages
        made.body_bytes = self.body_bytes
        made.index_offset = self.index_offset
        made.index_size = self.index_size
        return made


@final
class SegmentBuilder:
    """A segment that is being made."""

    def __init__(self, number: i64, block_size: i64) -> None:
        self.number: i64 = number
        self.block_size: i64 = block_size
        """A block is closed at this size."""
        self.parts: list[SegmentPart] = []
        self.count: i64 = 0
        """Records."""
        self.size: i64 = START
        """Bytes of the file up to the open block."""
        self.location = location_at(number, START)
        """Of the open block."""
        self.full: list[Batch] = []
        """Blocks that wait for the disk."""
        self.writer = BytesWriter()
        """For the records of the open block."""
        self._segment_extents: list[bytes | memoryview] = []
        """What stands before them in it."""
        self._segment_extents_size: i64 = 0
        self._block_count: i64 = 0

    def open_size(self) -> i64:
        """Bytes in the open block."""
        return self._segment_extents_size + len(self.writer)

    def copy(self, data: bytes, start: i64, end: i64) -> None:
        """Add records as they stand in another file's batch; many bytes are written from where they are."""
        if end - start < _COPIED_MAX:
            self.writer.write(data[start:end])
            return
        self._cut_writer()
        self._segment_extents.append(memoryview(data)[start:end])
        self._segment_extents_size += end - start

    def _cut_writer(self) -> None:
        size: i64 = len(self.writer)
        if size > 0:
            self._segment_extents.append(self.writer.getvalue())
            self._segment_extents_size += size
            self.writer = BytesWriter()

    def record_added(self) -> None:
        """Another record was written to ``writer``."""
        self.count += 1
        self._block_count += 1
        if self.open_size() >= self.block_size:
            self.cut()

    def cut(self) -> None:
        """Close the open block, if there is anything in it."""
        count = self._block_count
        if count == 0:
            return
        self._cut_writer()
        segment_extents = self._segment_extents
        size = self._segment_extents_size
        self._segment_extents = []
        self._segment_extents_size = 0
        self._block_count = 0
        location = self.location
        location.size = whole_size(size)
        self.full.append(Batch(segment_extents, self.count - count + 1, count, size, location))
        self.size += location.size
        self.location = location_at(self.number, self.size)

    def take(self) -> list[Batch]:
        """The full blocks, for the disk."""
        full = self.full
        if full:
            self.full = []
        return full


@final
class LiveRecordFilter:
    """What is live in a file goes through it."""

    def __init__(self, logs: Logs, builder_size_max: i64, own_size: i64, block_size: i64, own_block_size: i64) -> None:
        self.builders: list[SegmentBuilder] = []
        self.own: dict[Log, None] = {}
        """Logs that get a segment of their own."""
        self._logs = logs
        self._builder_size_max: i64 = builder_size_max
        self._own_size: i64 = own_size
        self._block_size: i64 = block_size
        self._own_block_size: i64 = own_block_size
        self._source: Segment | None = None
        self._shared: SegmentBuilder | None = None
        self._parts: dict[int, SegmentPart] = {}  # by number of the log
        self._data = b""
        self._at: i64 = 0
        self._left: i64 = 0
        self._number: i64 = -1
        self._log: Log | None = None
        self._recent: SegmentPart | None = None
        """Where the record before went, if the source is the write-ahead log."""
        self._run_builder: SegmentBuilder | None = (
            None  # takes these bytes of the batch as they are; nothing waits between two calls of ``work``
        )
        self._run_start: i64 = 0
        self._run_end: i64 = 0

    def plan(self, log: Log, generation: i64) -> i64:
        """How many bytes of a log are live in that file of the write-ahead log; a segment of its own for it if they are
        many."""
        if log.dropped:
            return 0
        size = log.extents.live_size(generation, log.positions)
        if size >= self._own_size:
            self.own[log] = None
        return size

    def turn_to(self, source: Segment | None) -> None:
        """The batches that follow are of this segment; None for the write-ahead log."""
        self._source = source
        self._parts = {}
        self._number = -1
        self._recent = None

    def begin(self, header: BatchHeader, data: bytes) -> None:
        """The next batch."""
        self._data = data
        self._at = HEADER_SIZE
        self._left = header.record_count
        self._number = -1

    def work(self, count: i64) -> i64:
        """Look at no more than ``count`` records of the batch; how many of these were not needed because the batch has
        ended."""
        data = self._data
        at = self._at
        while count > 0 and self._left > 0:
            count -= 1
            self._left -= 1
            end = record_end(data, at)
            number = read_i64_be(data, at)
            kind: i64 = data[at + 12]
            if kind <= REFERENCE:
                if number != self._number:
                    self._number = number
                    self._log = self._logs.logs.get(number)
                log = self._log
                if log is not None:
                    position = read_i64_be(data, at + RECORD_HEADER_SIZE)
                    if log.positions.is_live(position):
                        self._take(log, position, kind, at, end)
            at = end
        self._at = at
        self._write_run()
        if self._left == 0:
            self._data = b""
        return count

    def _take(self, log: Log, position: i64, kind: i64, at: i64, end: i64) -> None:
        """A record that is live; perhaps it was moved before."""
        part = self._recent
        if part is not None and part.log is log and part.builder.size < self._builder_size_max:
            if position <= part.last():
                return
        else:
            part = self._part(log, position)
            if part is None:
                return
            self._recent = part if self._source is None else None
        data = self._data
        builder = part.builder
        body = at + BODY_AT
        if self._run_builder is not builder or self._run_end != at or kind == REFERENCE:
            self._write_run()
        start = builder.open_size()
        if kind == REFERENCE:
            original = HEADER_SIZE + read_i64_be(data, body)
            end = record_end(data, original)
            kind = data[original + 12]
            body = original + BODY_AT
            writer = builder.writer
            write_i64_be(writer, log.number)
            write_i32_be(writer, i32(end - original - RECORD_HEADER_SIZE))
            writer.append(kind)
            write_i64_be(writer, position)
            builder.copy(data, body, end)
            written = builder.open_size()
        else:
            if self._run_builder is None:
                self._run_builder = builder
                self._run_start = at
            self._run_end = end
            start += at - self._run_start
            written = start + end - at
        body_bytes: i64 = 0
        if kind == MESSAGE:
            body_bytes = read_i64_be(data, body)
        part.add(position, kind, body_bytes, start, written)
        if written >= builder.block_size:
            self._write_run()
        builder.record_added()

    def _write_run(self) -> None:
        """Records that stand behind each other and go to one place are copied in one go."""
        builder = self._run_builder
        if builder is not None:
            self._run_builder = None
            builder.copy(self._data, self._run_start, self._run_end)

    def _part(self, log: Log, position: i64) -> SegmentPart | None:
        """Where it goes; None if it is somewhere else already."""
        part = self._parts.get(log.number)
        source = self._segment_extent(log, position)
        if part is not None and part.source is source:
            if position <= part.last():
                return None
            if part.builder.size < self._builder_size_max or source is not None:
                return part
        elif self._source is not None:
            if source is None:
                return None
            part = None
        elif position <= log.extents.moved_through():
            return None
        part = SegmentPart(log, self._builder(log), source, -1 if part is None else part.last())
        part.builder.parts.append(part)
        self._parts[int(log.number)] = part
        return part

    def _segment_extent(self, log: Log, position: i64) -> SegmentExtent | None:
        """The segment extent of the source that holds the record, if the source is a segment and has it."""
        if self._source is None:
            return None
        segment_extents = log.extents.segments
        index = log.extents.find_segment(position)
        if index == len(segment_extents):
            return None
        segment_extent = segment_extents[index]
        return segment_extent if segment_extent.segment is self._source and position >= segment_extent.first else None

    def _builder(self, log: Log) -> SegmentBuilder:
        if log in self.own and self._source is None:
            return self._new_builder(self._own_block_size)
        shared = self._shared
        if shared is None or shared.size >= self._builder_size_max:
            shared = self._new_builder(self._block_size)
            self._shared = shared
        return shared

    def _new_builder(self, block_size: i64) -> SegmentBuilder:
        made = SegmentBuilder(self._logs.segments.new_number(), block_size)
        self.builders.append(made)
        return made


def states(logs: list[Log], start: i64, end: i64) -> list[tuple[int, int, bytes]]:
    """What the manifest has to know of these logs, from one index up to another: number, mark, positions."""
    found: list[tuple[int, int, bytes]] = []
    index = start
    while index < end and index < len(logs):
        log = logs[index]
        if not log.dropped:
            found.append(log.state())
        index += 1
    return found


def gaps(part_ranges: list[Extent], first: i64, last: i64) -> list[tuple[int, int]]:
    """What of the positions from ``first`` to ``last`` is in none of these extents."""
    found: list[tuple[int, int]] = []
    at = first
    for extent in part_ranges:
        if extent.first > at:
            found.append((int(at), int(extent.first - 1)))
        at = extent.first + extent.count
    if at <= last:
        found.append((int(at), int(last)))
    return found
