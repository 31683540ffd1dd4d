"""Which positions of a log are live: everything that was appended and is not settled.

    dead ... dead | live or dead, by ranges | not there yet
                  first                     next

Positions are dense, so almost always this is two numbers: a queue settles in the order it delivers. What is settled out of order is kept
as sorted ranges above ``first``, which vanish when the ones before them are settled too. A position that was never appended (its message
was not persistent) is dead from the start; ``append`` finds such gaps by itself.
"""

from bisect import bisect_left, bisect_right
from typing import Final, final

from librt.strings import BytesWriter, read_i64_be, write_i64_be

from broker.native import i64

HEAD_SIZE: Final[i64] = 24


@final
class Positions:
    """The live positions of one log."""

    def __init__(self) -> None:
        self.first: i64 = 0
        """Everything below is dead."""
        self.next: i64 = 0
        """The position that comes next."""
        self.dead: i64 = 0
        """How many of those from ``first`` on are dead."""
        self._starts: list[int] = []
        self._ends: list[int] = []  # inclusive

    def live(self) -> i64:
        """How many there are."""
        return self.next - self.first - self.dead

    def append(self, position: i64) -> None:
        """``position`` is live; those between the last one and it are dead. It must not be below ``next``."""
        if position != self.next:
            self._skip_to(position)
        self.next = position + 1

    def _skip_to(self, position: i64) -> None:
        assert position > self.next, "positions ascend"
        start = self.next
        self.next = position
        if start == self.first + self.dead and self.dead == 0:
            self.first = position
        else:
            self.settle(start, position - 1)

    def settle(self, start: i64, end: i64) -> i64:
        """All from ``start`` to ``end``, both included, are dead; returns how many of them were live."""
        if end >= self.next:
            # not persistent, hence never appended: dead anyway
            known = self.next
            self.next = end + 1
            if start < known:
                count = self.settle(start, known - 1)
                self._settle(known, end)
                return count
            if start > known:
                start = known
            self._settle(start, end)
            return 0
        return self._settle(start, end)

    def _settle(self, start: i64, end: i64) -> i64:
        if start <= self.first:
            if end < self.first:
                return 0
            return self._advance(end)
        starts = self._starts
        if starts and start <= self._ends[-1] + 1:
            return self._merge(start, end)
        starts.append(int(start))
        self._ends.append(int(end))
        count = end - start + 1
        self.dead += count
        return count

    def _advance(self, end: i64) -> i64:
        """Everything up to ``end`` is dead, and what follows it directly."""
        count = end + 1 - self.first
        self.first = end + 1
        starts = self._starts
        if starts and starts[0] <= end + 1:
            ends = self._ends
            at: i64 = 0
            size: i64 = len(starts)
            reached = end
            while at < size and starts[at] <= reached + 1:
                range_start: i64 = starts[at]
                range_end: i64 = ends[at]
                self.dead -= range_end - range_start + 1
                if range_end > reached:
                    if range_start <= reached:
                        count -= reached - range_start + 1
                    reached = range_end
                else:
                    count -= range_end - range_start + 1
                at += 1
            del starts[:at]
            del ends[:at]
            self.first = reached + 1
        return count

    def _merge(self, start: i64, end: i64) -> i64:
        """Unite a range with those it touches."""
        starts = self._starts
        ends = self._ends
        low: i64 = bisect_left(ends, int(start) - 1)
        high: i64 = bisect_right(starts, int(end) + 1)
        count = end - start + 1
        if low < high:
            at = low
            while at < high:
                range_start: i64 = starts[at]
                range_end: i64 = ends[at]
                self.dead -= range_end - range_start + 1
                overlap_start = range_start if range_start > start else start
                overlap_end = range_end if range_end < end else end
                if overlap_end >= overlap_start:
                    count -= overlap_end - overlap_start + 1
                at += 1
            united_start: i64 = starts[low]
            united_end: i64 = ends[high - 1]
            if united_start < start:
                start = united_start
            if united_end > end:
                end = united_end
            if high - low == 1:
                starts[low] = int(start)
                ends[low] = int(end)
            else:
                starts[low:high] = [int(start)]
                ends[low:high] = [int(end)]
        else:
            starts.insert(low, int(start))
            ends.insert(low, int(end))
        self.dead += end - start + 1
        return count

    def is_live(self, position: i64) -> bool:
        """Whether it was appended and is not settled."""
        if position < self.first or position >= self.next:
            return False
        if not self._starts:
            return True
        at: i64 = bisect_right(self._starts, int(position)) - 1
        return at < 0 or self._ends[at] < position

    def next_live(self, position: i64) -> i64:
        """The first live one at or behind ``position``; ``next`` if there is none."""
        if position < self.first:
            return self.first
        if self._starts and position < self.next:
            at: i64 = bisect_right(self._starts, int(position)) - 1
            if at >= 0 and self._ends[at] >= position:
                return self._ends[at] + 1
        return position if position < self.next else self.next

    def live_between(self, start: i64, end: i64) -> i64:
        """How many of those from ``start`` up to but not including ``end`` are live."""
        if start < self.first:
            start = self.first
        if end > self.next:
            end = self.next
        if start >= end:
            return 0
        count = end - start
        starts = self._starts
        if starts:
            at: i64 = bisect_left(self._ends, int(start))
            size: i64 = len(starts)
            while at < size and starts[at] < end:
                low: i64 = starts[at]
                high: i64 = self._ends[at] + 1
                if low < start:
                    low = start
                if high > end:
                    high = end
                count -= high - low
                at += 1
        return count

    def dead_ranges(self) -> list[tuple[int, int]]:
        """What is settled above ``first``: (start, end), both included."""
        return list(zip(self._starts, self._ends, strict=True))

    def encode(self) -> bytes:
        """``first`` (8), ``next`` (8), number of ranges (8), then start (8) and end (8) of each."""
        writer = BytesWriter()
        write_i64_be(writer, self.first)
        write_i64_be(writer, self.next)
        write_i64_be(writer, len(self._starts))
        at: i64 = 0
        size: i64 = len(self._starts)
        while at < size:
            write_i64_be(writer, self._starts[at])
            write_i64_be(writer, self._ends[at])
            at += 1
        return writer.getvalue()


def decode_positions(data: bytes) -> Positions:
    """What ``Positions.encode`` has written.

    Raises: ValueError if it is something else
    """
    size: i64 = len(data)
    if size < HEAD_SIZE:
        raise ValueError("no positions")
    positions = Positions()
    positions.first = read_i64_be(data, 0)
    positions.next = positions.first
    last = read_i64_be(data, 8)
    count = read_i64_be(data, 16)
    if positions.first < 0 or last < positions.first or count < 0 or size != HEAD_SIZE + 16 * count:
        raise ValueError("no positions")
    positions.next = last
    at: i64 = HEAD_SIZE
    while at < size:
        start = read_i64_be(data, at)
        end = read_i64_be(data, at + 8)
        if end < start or start < positions.first or end >= last:
            raise ValueError("no positions")
        positions.settle(start, end)
        at += 16
    return positions
