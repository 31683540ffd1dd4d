"""What the logs ask of whoever reads files: batches, by their places. Knows no files itself (batch_reader.py does)."""

from __future__ import annotations

from typing import Final, final

from librt.strings import read_i64_be
from mypy_extensions import mypyc_attr

from broker.native import i64
from broker.store.batch import (
    HEADER_SIZE,
    LARGE,
    RECORD_HEADER_SIZE,
    BatchLocation,
    StoredBatch,
    location_at,
    record_end,
)
from broker.store.log import Log, LogUser
from broker.store.records import BODY_AT, REFERENCE
from broker.store.segment_extent import Extent, SegmentExtent, reaching

COUNT_MAX: Final[i64] = 4096
"""Positions that one read tells at the most: a turn must not be long because of it."""
BATCHES_SIZE_MAX: Final[i64] = 4 << 20
"""A read that has chosen batches of so many bytes ends with them."""


def index_location(segment_extent: SegmentExtent) -> BatchLocation:
    """Where its extents are told."""
    return location_at(segment_extent.segment.number, segment_extent.index_offset, segment_extent.index_size)


@final
class Read:
    """Records of one log on their way back from the disk."""

    def __init__(
        self, log: Log, start: i64, end: i64, budget: i64, user: LogUser | None, count: i64 = COUNT_MAX
    ) -> None:
        self.log = log
        self.user = user
        """Who is told; None for the log's own user."""
        self.start: i64 = start
        """The first position that is wanted."""
        self.end: i64 = end
        """Behind the last one that is wanted."""
        self.budget: i64 = budget
        """Bytes of records to tell, about."""
        self.count: i64 = count
        """Positions to tell at the most."""
        self.extents: list[Extent] = []
        self.batches: dict[BatchLocation, StoredBatch | None] = {}
        """Their batches; None for one that is damaged."""
        self.segment_extent: SegmentExtent | None = None
        """Where they are, if they are not in the write-ahead log."""
        self.index: list[Extent] | None = None
        """All extents of that segment extent; None if they could not be read."""

    def add(self, extents: list[Extent], index: i64) -> None:
        """Choose what to read, from the extent of this index on."""
        size: i64 = 0
        budget = self.budget
        count = self.count
        while index < len(extents):
            extent = extents[index]
            location = extent.location
            if extent.first >= self.end or location.generation < 0:
                return
            if location not in self.batches:
                if size >= BATCHES_SIZE_MAX or (size > 0 and location.size > LARGE):
                    return
                self.batches[location] = None
                size += location.size
            self.extents.append(extent)
            first = extent.first if extent.first > self.start else self.start
            taken = extent.first + extent.count - first
            record_size = (extent.end - extent.start) // extent.count
            if taken > count:
                taken = count
            if taken * record_size > budget:
                taken = budget // record_size + 1
            count -= taken
            budget -= taken * record_size
            if count <= 0 or budget <= 0:
                if first + taken < self.end:
                    self.end = first + taken
                return
            index += 1

    def choose(self) -> None:
        """Choose from the extents of the segment extent, which are known now."""
        index = self.index
        if index is not None:
            self.add(index, reaching(index, 0, self.start))

    def tell(self, extent: Extent, batch: StoredBatch, user: LogUser) -> Exception | None:
        """Tell the user those records of an extent that are wanted and live.

        What the user has raised for one of them: that costs this record, until the next start; the others are told.
        """
        mistake: Exception | None = None
        positions = self.log.positions
        data = batch.data
        content = batch.content
        at = HEADER_SIZE + extent.start
        extent_end = HEADER_SIZE + extent.end
        while at < extent_end:
            end = record_end(data, at)
            position = read_i64_be(data, at + RECORD_HEADER_SIZE)
            if position >= self.start and position < self.end and positions.is_live(position):
                try:
                    if data[at + 12] == REFERENCE:
                        original = HEADER_SIZE + read_i64_be(data, at + BODY_AT)
                        user.record(position, data, original + BODY_AT, record_end(data, original))
                    elif content is not None and end > len(data):
                        user.large_record(position, data[at + BODY_AT :], content)
                    else:
                        user.record(position, data, at + BODY_AT, end)
                except Exception as error:
                    mistake = error
            at = end
        return mistake

    def is_large(self) -> bool:
        """Whether it takes long: nobody should wait for it. It is if what it needs is not known yet."""
        if self.segment_extent is not None and self.index is None:
            return True
        for location in self.batches:
            if location.size > LARGE:
                return True
        return False

    def through(self) -> i64:
        """Behind the last position that it reads."""
        end = self.end
        segment_extent = self.segment_extent
        if segment_extent is not None and segment_extent.last < end:
            end = segment_extent.last + 1
        if self.extents:
            last = self.extents[-1]
            index = self.index
            if (index is None or index[-1] is not last) and last.first + last.count < end:
                end = last.first + last.count
        return end


def chosen_read(log: Log, start: i64, end: i64, budget: i64, user: LogUser | None, count: i64) -> Read:
    """A read that has chosen what to read first, as far as that is known: of a segment, or of the write-ahead log."""
    read = Read(log, start, end, budget, user, count)
    extents = log.extents
    if start <= extents.moved_through():
        segment_extent = extents.segments[extents.find_segment(start)]
        if segment_extent.first < end:
            read.segment_extent = segment_extent
            read.index = segment_extent.extents
            read.choose()
            return read
    read.add(extents.wal, extents.find(start))
    return read


@mypyc_attr(allow_interpreted_subclasses=True)
class LogReader:
    """Fetches batches from files."""

    def fetch(self, read: Read) -> bool:
        """Fill in ``batches``: True if that is done, otherwise ``Logs.fetched`` is called later."""
        raise NotImplementedError

    def fetch_now(self, read: Read) -> None:
        """Fill in ``batches`` before returning.

        Raises: DiskError if there is no descriptor for it
        """
        raise NotImplementedError
