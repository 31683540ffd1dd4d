"""Page files: where messages go that need not survive a restart, when they are too many for the memory.

A backlog that needs no log (of a queue that is not durable) writes nothing until it has too much in memory. Then the
oldest of its tail is written as a block of its own, without a sync, and read back when consumers come near. Blocks of
all backlogs stand one behind the other in files of 64 MiB, which are removed when nothing in them is live, and at the
next start in any case. So what pages costs one write and one read, and nothing of it burdens the write-ahead log: no
sync, no settlement, no second copy.

A page file is a segment (segment_extent.py) that no manifest names: extents, reading, and the rewriting of files of
which little is live are the same. This file decides what is written where; page_files.py does it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, final

from mypy_extensions import mypyc_attr

from broker.native import i64
from broker.store.batch import Batch
from broker.store.log import Log
from broker.store.segment_extent import Extent, Segment, SegmentExtent
from broker.store.wal_file import START

_FILE_SIZE: Final[i64] = 64 << 20
_STILL_MS: Final[i64] = 3000
_STILL_SHARE: Final[i64] = 64
"""A file of which less than such a part was consumed in that time is still."""
_WRITE_MAX: Final[i64] = 4 << 20
"""Blocks of so many bytes are written together, at the most."""


@final
class PageBlock:
    """Records of one log on their way to a page file: one batch."""

    def __init__(self, log: Log, batch: Batch, extents: list[Extent], memory_bytes: i64) -> None:
        self.log = log
        self.batch = batch
        self.extents = extents
        """All of its records."""
        self.memory_bytes: i64 = memory_bytes
        """About what they cost in memory until they are written, as ``memory_size`` counts it."""


@mypyc_attr(allow_interpreted_subclasses=True)
class PageWriter:
    """Whoever writes page files."""

    def write(self, file: Segment, blocks: list[PageBlock]) -> None:
        """Write these blocks where they are placed; ``Pages.written`` is told when they are. An error is tried again
        until it is none."""
        raise NotImplementedError

    def remove(self, file: Segment) -> None:
        """Nothing in it is live."""
        raise NotImplementedError


@final
class Pages:
    """All page files of a node, and what waits to be written to them."""

    def __init__(self) -> None:
        self.files: dict[int, Segment] = {}
        self.writer: PageWriter | None = None
        """None on a node without a disk: then no log is on pages."""
        self.next_number: i64 = 1
        """Of the next file. Neither used twice nor by a segment."""
        self.unwritten: i64 = 0
        """Bytes of the blocks that are not written yet."""
        self.added: i64 = 0
        """Blocks so far."""
        self.relieved: Callable[[], None] | None = None
        """Called when blocks were written."""
        self.on_full_file: Callable[[], None] | None = None
        """Called when a file was closed: sooner or later, little of it will be live."""
        self.file_size: i64 = _FILE_SIZE
        """A page file is closed when it has so many bytes."""
        self._waiting: list[PageBlock] = []
        self._current: Segment | None = None
        """The file that blocks are added to."""
        self._busy = False
        """Blocks are being written."""

    def attach(self, writer: PageWriter, wall_ms: i64) -> None:
        """Let ``writer`` write them. Numbers begin where no earlier run has left a file, nor a segment will come to."""
        self.writer = writer
        self.next_number = wall_ms << 20

    def add(self, block: PageBlock) -> None:
        """Write it soon; its log and the log's user are told then."""
        self.added += 1
        self.unwritten += block.batch.payload_size
        self._waiting.append(block)
        self._write_on()

    def _write_on(self) -> None:
        writer = self.writer
        if self._busy or not self._waiting or writer is None:
            return
        file = self._current
        if file is None:
            file = Segment(self.next_number, START)
            file.on_pages = True
            self.next_number += 1
            self.files[int(file.number)] = file
            self._current = file
        blocks: list[PageBlock] = []
        size: i64 = 0
        count = file.count
        for block in self._waiting:
            block.batch.first_sequence = count + 1
            count += block.batch.record_count
            location = block.batch.location
            location.generation = file.number
            location.offset = file.size + size
            location.size = block.batch.size()
            size += location.size
            blocks.append(block)
            if size >= _WRITE_MAX:
                break
        del self._waiting[: len(blocks)]
        self._busy = True
        writer.write(file, blocks)

    def written(self, file: Segment, blocks: list[PageBlock]) -> None:
        """These blocks can be read now. Told by ``writer``."""
        self._busy = False
        for block in blocks:
            self.unwritten -= block.batch.payload_size
            file.size += block.batch.size()
            file.count += block.batch.record_count
            log = block.log
            if not log.dropped:
                extents = block.extents
                last = extents[-1]
                segment_extent = SegmentExtent(
                    file, extents[0].first, last.first + last.count - 1, block.batch.record_count
                )
                segment_extent.extents = extents
                log.paged(segment_extent)
        is_full = file.size >= self.file_size
        if is_full:
            self._current = None
        if file.live == 0:
            self.emptied(file)
        self._write_on()
        for block in blocks:
            user = block.log.user
            if user is not None and not block.log.dropped:
                user.paged(block.memory_bytes)
        relieved = self.relieved
        if relieved is not None:
            relieved()
        on_full_file = self.on_full_file
        if is_full and on_full_file is not None:
            on_full_file()

    def emptied(self, file: Segment) -> None:
        """Nothing in it is live any more."""
        if file is self._current:
            if self._busy:
                return  # ``written`` looks again
            self._current = None
        writer = self.writer
        if writer is not None and self.files.pop(int(file.number), None) is not None:
            writer.remove(file)

    def still_files(self, now_ms: i64) -> list[Segment]:
        """Those that nothing is added to, and little was taken out of lately: what is live in the others will soon be
        gone anyway."""
        found: list[Segment] = []
        for file in self.files.values():
            if file is self._current or file.leaving or file.live == 0:
                continue
            is_still = (file.seen_live - file.live) * _STILL_SHARE < file.count
            if file.is_still and is_still:
                found.append(file)
            if now_ms >= file.seen_ms + _STILL_MS:
                file.is_still = is_still and file.seen_ms > 0
                file.seen_ms = now_ms
                file.seen_live = file.live
        return found
