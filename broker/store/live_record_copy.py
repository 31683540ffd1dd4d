"""Copies what is live in files of the write-ahead log, or in segments, to new segments: a part of several tasks of the
compactor."""

from collections.abc import Callable, Generator, Sized
from functools import partial
from typing import Final

from broker.clock import Clock
from broker.store.compaction_io import Chunk, SegmentBuilders, Source
from broker.store.compactor_options import CompactorOptions
from broker.store.live_record_filter import LiveRecordFilter
from broker.store.segment_builder import SegmentBuilder, SegmentPart
from broker.store.segment_extent import Segment
from broker.store.store_parts import StoreParts
from broker.store.tasks import Step, Task
from broker.store.wal_file import BadRange

_FILES_MAX: Final = 8
"""With more full files than this in the log, the rate does not count."""

Added = list[tuple[SegmentBuilder, int]]
"""New segments, with the sizes of their files."""


class ReadRate:
    """How fast the compactor reads: so that others get their share of the disk."""

    def __init__(self, clock: Clock, bytes_per_second: int, full_files: Callable[[], Sized]) -> None:
        """0 for no limit. Nor is there one while the log has too many ``full_files``: it grows faster than that."""
        self._clock = clock
        self._bytes_per_second = bytes_per_second
        self._full_files = full_files
        self._read_bytes = 0
        self._read_from_ms = 0

    def pause_ms(self, size: int) -> int:
        """How long to wait after reading so many bytes."""
        rate = self._bytes_per_second
        if rate == 0 or len(self._full_files()) > _FILES_MAX:
            return 0
        now = int(self._clock.monotonic_ms())
        due = self._read_from_ms + self._read_bytes * 1000 // rate
        if due < now:
            self._read_from_ms, self._read_bytes, due = now, 0, now
        self._read_bytes += size
        return due - now


class LiveRecordCopy:
    """One copy: of any number of files, one after the other, in slices."""

    def __init__(self, parts: StoreParts, options: CompactorOptions, rate: ReadRate, strict: bool) -> None:
        """``strict``: a block that cannot be read ends the copy, instead of being left out."""
        self.filter = LiveRecordFilter(
            parts.logs, options.segment_size, options.own_size, options.block_size, options.own_block_size
        )
        self._segments = parts.logs.segments
        self._filesystem = parts.data_dir.filesystem
        self._files = SegmentBuilders(parts.data_dir, options.new_salt)
        self._options = options
        self._rate = rate
        self._strict = strict

    def read(self, path: str, number: int) -> Generator[Step, object, list[BadRange]]:
        """Everything in this file, of this generation or segment, through the filter; what of the file was
        unreadable."""
        source = Source(self._filesystem, path, number, self._options.chunk_size)
        bad: list[BadRange] = []
        count = self._options.records_per_slice
        while True:
            chunk = yield partial(source.read, self._strict)
            assert isinstance(chunk, Chunk)
            bad += chunk.bad
            for found in chunk.found:
                self.filter.begin(found.header, found.data)
                count = self.filter.work(count)
                while count == 0:
                    yield 0
                    count = self.filter.work(self._options.records_per_slice)
            yield from self._write_full()
            if chunk.is_last:
                return bad
            pause = self._rate.pause_ms(chunk.size)
            if pause > 0:
                yield pause

    def _write_full(self) -> Task:
        """Write the blocks that are full."""
        blocks = [(builder, builder.take()) for builder in self.filter.builders if builder.full]
        if blocks:
            yield partial(self._files.write, blocks)

    def seal(self) -> Generator[Step, object, Added]:
        """Finish the new segments; which they are."""
        for builder in self.filter.builders:
            builder.cut()
        yield from self._write_full()
        added: Added = []
        if self.filter.builders:
            yield partial(self._files.seal, added)
        return added

    def discard(self) -> Task:
        """Nobody wants the new segments."""
        yield self._files.discard

    def install(self, added: Added) -> Task:
        """Let the logs read from the new segments; of which only a summary is left then."""
        per_slice = self._options.logs_per_slice
        for builder, size in added:
            segment = Segment(builder.number, size)
            segment.count = builder.count
            self._segments.add(segment)
            while builder.parts:
                for part in builder.parts[-per_slice:]:
                    _install_part(part, segment)
                del builder.parts[-per_slice:]
                yield 0
            self._segments.look_at(segment)


def _install_part(part: SegmentPart, segment: Segment) -> None:
    part.log.install(part.segment_extent(segment), part.source)
