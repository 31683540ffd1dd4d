"""A segment that is being made, in memory: its blocks, and which records of which log they hold. Knows no files
(segment.py writes them).

    SegmentPart       the records of one log in one new segment; of one old segment extent, where a segment is rewritten
    SegmentBuilder    the new segment: full blocks, on their way to the disk, and the open one
"""

from __future__ import annotations

from typing import Final, final

from librt.strings import BytesWriter

from broker.native import i64
from broker.store.batch import Batch, location_at, whole_size
from broker.store.log import Log
from broker.store.records import BODY_BYTES_MASK, FLAGS_SHIFT, MESSAGE
from broker.store.segment_extent import Extent, Segment, SegmentExtent
from broker.store.wal_file import START

_COPIED_MAX: Final[i64] = 1 << 20
"""More bytes than these that go on together are not copied: 32 MiB took 60 ms."""


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
        """How many of them are kept when the node restarts; the others are TRANSIENT."""
        self.body_bytes: i64 = 0
        """Sum of the sizes of their bodies."""
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
            self.body_bytes += body_bytes & BODY_BYTES_MASK
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
        self._pieces: list[bytes | memoryview] = []
        """What stands before them in it."""
        self._pieces_size: i64 = 0
        self._block_count: i64 = 0

    def open_size(self) -> i64:
        """Bytes in the open block."""
        return self._pieces_size + len(self.writer)

    def copy(self, data: bytes, start: i64, end: i64) -> None:
        """Add records as they stand in another file's batch; many bytes are written from where they are."""
        if end - start < _COPIED_MAX:
            self.writer.write(data[start:end])
            return
        self._cut_writer()
        self._pieces.append(memoryview(data)[start:end])
        self._pieces_size += end - start

    def _cut_writer(self) -> None:
        size: i64 = len(self.writer)
        if size > 0:
            self._pieces.append(self.writer.getvalue())
            self._pieces_size += size
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
        pieces = self._pieces
        size = self._pieces_size
        self._pieces = []
        self._pieces_size = 0
        self._block_count = 0
        location = self.location
        location.size = whole_size(size)
        self.full.append(Batch(pieces, self.count - count + 1, count, size, location))
        self.size += location.size
        self.location = location_at(self.number, self.size)

    def take(self) -> list[Batch]:
        """The full blocks, for the disk."""
        full = self.full
        if full:
            self.full = []
        return full
