"""Chooses what is still needed of a file of the write-ahead log, or of a segment, and packs it into new segments
(segment_builder.py). Knows no files.

This is the half of the compactor (compactor.py) that touches the state of the logs, so it runs on the owner's thread.
"""

from __future__ import annotations

from typing import final

from librt.strings import read_i64_be, write_i32_be, write_i64_be

from broker.native import i32, i64, u8
from broker.store.batch import HEADER_SIZE, RECORD_HEADER_SIZE, BatchHeader, record_end
from broker.store.log import Log
from broker.store.logs import Logs
from broker.store.records import BODY_AT, MESSAGE, REFERENCE
from broker.store.segment_builder import SegmentBuilder, SegmentPart
from broker.store.segment_extent import Segment, SegmentExtent


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
        self._run_builder: SegmentBuilder | None = None
        """Takes these bytes of the batch as they are; nothing waits between two calls of ``work``."""
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
            writer.append(u8(kind))
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
