"""What the logs ask of whoever reads files: batches, by their places. Knows no files itself (batch_reader.py does)."""

from __future__ import annotations

from typing import Final, final

from mypy_extensions import mypyc_attr

from broker.native import i64
from broker.store.batch import LARGE, BatchLocation, StoredBatch, location_at
from broker.store.log import Log, LogUser
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
