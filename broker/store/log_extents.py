"""Where the records of one log are.

    segments    summaries of the older ones, one for each segment that holds some of them (segment_extent.py)
    wal         extents of the newer ones, in the write-ahead log: consecutive records that stand behind each other in
                one batch; one for each turn, not for each record

Everything in segments is before everything in the write-ahead log.
"""

from __future__ import annotations

from typing import Final, final

from broker.discard import discard
from broker.native import i64
from broker.store.batch import BatchLocation
from broker.store.index import Positions
from broker.store.segment_extent import Extent, SegmentExtent, reaching
from broker.store.segments import Segments
from broker.turn import Turn

_TRIM_AT: Final[i64] = 64
"""So many settled extents stay in front of the others, or as many as there are of those."""
_NO_SEGMENTS: Final[list[SegmentExtent]] = []
"""All logs share these while they have none, so nothing is ever put into an empty list:"""
_NO_EXTENTS: Final[list[Extent]] = []
"""there is a new one instead. Most logs of most nodes have nothing."""


@final
class LogExtents:
    """The extents of one log; which of its positions are live is known to ``Positions``."""

    def __init__(self, segments: Segments) -> None:
        self.segments = _NO_SEGMENTS
        """What is in segments, in order; only to be read."""
        self.wal = _NO_EXTENTS
        """What is in the write-ahead log, in order; those before ``head`` are settled. Only to be read."""
        self.head: i64 = 0
        self._segments = segments

    # ---- the write-ahead log -----------------------------------------------------------------------------------------

    def extend(self, position: i64, location: BatchLocation, start: i64) -> Extent:
        """The extent of the record that begins there: the last one, if it goes on where that ends, or a new one."""
        extents = self.wal
        if extents:
            last = extents[-1]
            if last.end == start and last.location is location and last.first + last.count == position:
                last.count += 1
                return last
        made = Extent(position, location, start)
        if extents:
            extents.append(made)
        else:
            self.wal = [made]
        return made

    def find(self, position: i64) -> i64:
        """Index in ``wal`` of the first extent that reaches up to ``position`` or behind it."""
        return reaching(self.wal, self.head, position)

    def trim(self, first_live: i64, turn: Turn | None) -> None:
        """Forget the extents at the front in which nothing is live."""
        extents = self.wal
        size: i64 = len(extents)
        if size == 0:
            return
        head = self.find(first_live)
        if head == size:
            self.wal = _NO_EXTENTS
            discard(turn, [extents])
            head = 0
        elif head >= _TRIM_AT and head * 2 >= size:
            discard(turn, [extents[:head]])
            del extents[:head]
            head = 0
        self.head = head

    def live_size(self, generation: i64, positions: Positions) -> i64:
        """Bytes of the live records in this file of the write-ahead log, the oldest one, about."""
        extents = self.wal
        index = self.head
        end: i64 = len(extents)
        size: i64 = 0
        while index < end:
            extent = extents[index]
            if extent.location.generation != generation:
                break
            live = positions.live_between(extent.first, extent.first + extent.count)
            size += (extent.end - extent.start) * live // extent.count
            index += 1
        return size

    def forget(self, generation: i64) -> None:
        """What is live in this file of the write-ahead log, the oldest one, is in segments now."""
        extents = self.wal
        index = self.head
        end: i64 = len(extents)
        while index < end and extents[index].location.generation == generation:
            index += 1
        if index > self.head:
            if index == end:
                self.wal = _NO_EXTENTS
            else:
                del extents[:index]
            self.head = 0

    # ---- segments ----------------------------------------------------------------------------------------------------

    def moved_through(self) -> i64:
        """Everything live up to and including this position is in segments."""
        segments = self.segments
        return segments[-1].last if segments else -1

    def find_segment(self, position: i64) -> i64:
        """Index in ``segments`` of the first one that reaches up to ``position`` or behind it."""
        segments = self.segments
        low: i64 = 0
        high: i64 = len(segments)
        while low < high:
            middle = (low + high) // 2
            if segments[middle].last < position:
                low = middle + 1
            else:
                high = middle
        return low

    def install(self, made: SegmentExtent, old: SegmentExtent | None, positions: Positions) -> None:
        """Records are in this segment from now on; they were in the write-ahead log, or in the ``old`` one."""
        segments = self.segments
        index: i64 = len(segments)
        if old is not None:
            index = self.find_segment(old.first)
            if index == len(segments) or segments[index] is not old:
                return  # settled meanwhile
            del segments[index]
            old.segment.live -= old.live
        made.live = positions.live_between(made.first, made.last + 1)
        if made.live > 0:
            if segments:
                segments.insert(index, made)
            else:
                self.segments = [made]
            made.segment.live += made.live

    def add_page(self, made: SegmentExtent, live: i64) -> None:
        """Records behind all others are in a page file; so many of them are live."""
        made.live = live
        made.segment.live += live
        self.add_segment(made)

    def add_segment(self, found: SegmentExtent) -> None:
        """The records of one more segment, behind all others, or, where a start has found it, anywhere: ``sort`` is
        called in the end."""
        if self.segments:
            self.segments.append(found)
        else:
            self.segments = [found]

    def sort(self) -> None:
        """Bring what a start has found in segments into its order."""
        if len(self.segments) > 1:
            self.segments.sort(key=_first_of)

    def count_out(self, start: i64, end: i64, positions: Positions) -> None:
        """The positions from ``start`` to ``end``, both included, are being settled: they are live in no segment any
        more."""
        segments = self.segments
        if not segments or start > segments[-1].last:
            return
        index = self.find_segment(start)
        while index < len(segments):
            segment_extent = segments[index]
            if segment_extent.first > end:
                return
            low = start if start > segment_extent.first else segment_extent.first
            high = end if end < segment_extent.last else segment_extent.last
            count = positions.live_between(low, high + 1)
            if count > 0:
                segment_extent.live -= count
                self._segments.unload(segment_extent.segment, count)
            if segment_extent.live == 0:
                del segments[index]
            else:
                index += 1

    def drop_dead(self) -> None:
        """Forget the segments in which nothing is live."""
        left = [each for each in self.segments if each.live > 0]
        self.segments = left if left else _NO_SEGMENTS

    def clear(self, turn: Turn | None) -> None:
        """Nothing of the log is needed any more."""
        if self.wal:
            discard(turn, [self.wal])
            self.wal = _NO_EXTENTS
        self.head = 0
        for segment_extent in self.segments:
            self._segments.unload(segment_extent.segment, segment_extent.live)
        self.segments = _NO_SEGMENTS


def _first_of(segment_extent: SegmentExtent) -> int:
    return int(segment_extent.first)
