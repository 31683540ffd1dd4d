"""A set of integers as ranges, sorted, which neither overlap nor touch.

They stand in blocks of bounded length, so that a range in the middle of a million others does not move half of them.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import Final, final

from librt.strings import BytesWriter, write_i64_be

from broker.native import i64

BLOCK_MAX: Final[i64] = 512
"""Ranges in a block; one with more is cut into halves."""


@final
class Ranges:
    """Ranges of integers."""

    def __init__(self) -> None:
        self.size: i64 = 0
        """How many integers there are in all."""
        self.last: i64 = -1
        """The largest of them, if there is one."""
        # the ranges of a block: first and last integer of each; no block is empty
        self._starts: list[list[int]] = []
        self._ends: list[list[int]] = []

    def count(self) -> i64:
        """How many ranges there are."""
        count: i64 = 0
        for starts in self._starts:
            count += len(starts)
        return count

    def write(self, writer: BytesWriter) -> None:
        """All of them: first (8) and last (8) integer of each. No object is made for any: there may be half a
        million."""
        block: i64 = 0
        while block < len(self._starts):
            starts = self._starts[block]
            ends = self._ends[block]
            at: i64 = 0
            while at < len(starts):
                write_i64_be(writer, starts[at])
                write_i64_be(writer, ends[at])
                at += 1
            block += 1

    def pairs(self) -> list[tuple[int, int]]:
        """All ranges: first and last integer of each."""
        found: list[tuple[int, int]] = []
        for starts, ends in zip(self._starts, self._ends, strict=True):
            found += zip(starts, ends, strict=True)
        return found

    def _block(self, value: i64) -> i64:
        """The last block that begins at or before ``value``; 0 if none does."""
        blocks = self._starts
        low: i64 = 1
        high: i64 = len(blocks)
        while low < high:
            middle = (low + high) >> 1
            if blocks[middle][0] <= value:
                low = middle + 1
            else:
                high = middle
        return low - 1

    def end_of(self, value: i64) -> i64:
        """The last integer of the range that holds ``value``; -1 if none does."""
        if not self._starts:
            return -1
        block = self._block(value)
        at: i64 = bisect_right(self._starts[block], int(value)) - 1
        if at < 0:
            return -1
        end: i64 = self._ends[block][at]
        return end if end >= value else -1

    def next_from(self, value: i64) -> i64:
        """The smallest integer that is not less than ``value``; -1 if there is none."""
        if not self._starts or value > self.last:
            return -1
        block = self._block(value)
        at: i64 = bisect_left(self._ends[block], int(value))
        if at == len(self._ends[block]):
            block += 1
            at = 0
        start: i64 = self._starts[block][at]
        return start if start > value else value

    def count_between(self, start: i64, end: i64) -> i64:
        """How many there are from ``start`` up to but not including ``end``."""
        count: i64 = 0
        if self.size == 0:
            return 0
        block = self._block(start)
        while block < len(self._starts):
            starts = self._starts[block]
            ends = self._ends[block]
            at: i64 = bisect_left(ends, int(start))
            while at < len(starts):
                low: i64 = starts[at]
                high: i64 = ends[at] + 1
                if low >= end:
                    return count
                count += (high if high < end else end) - (low if low > start else start)
                at += 1
            block += 1
        return count

    def add(self, start: i64, end: i64) -> i64:
        """All from ``start`` to ``end``, both included, are in it; returns how many were not before."""
        if not self._starts or start > self.last + 1:
            self._append(start, end)
            return end - start + 1
        before = self.size
        block = self._block(start)
        at: i64 = bisect_left(self._ends[block], int(start) - 1)
        if at == len(self._ends[block]) and block + 1 < len(self._starts) and self._starts[block + 1][0] <= end + 1:
            block += 1
            at = 0
        start, end = self._absorb(block, at, start, end)
        self._starts[block].insert(at, int(start))
        self._ends[block].insert(at, int(end))
        self.size += end - start + 1
        if end > self.last:
            self.last = end
        if len(self._starts[block]) > BLOCK_MAX:
            self._cut(block)
        return self.size - before

    def _append(self, start: i64, end: i64) -> None:
        """Behind all others."""
        if not self._starts or len(self._starts[-1]) >= BLOCK_MAX:
            self._starts.append([])
            self._ends.append([])
        self._starts[-1].append(int(start))
        self._ends[-1].append(int(end))
        self.size += end - start + 1
        self.last = end

    def _absorb(self, block: i64, at: i64, start: i64, end: i64) -> tuple[i64, i64]:
        """Take out the ranges from there on that touch this one; what they and it are together."""
        first_block = block
        while block < len(self._starts):
            starts = self._starts[block]
            ends = self._ends[block]
            size: i64 = len(starts)
            high: i64 = bisect_right(starts, int(end) + 1)
            if high <= at:
                break
            if starts[at] < start:
                start = starts[at]
            if ends[high - 1] > end:
                end = ends[high - 1]
            self._forget(block, at, high)
            if high < size:
                break
            if block == first_block:
                block += 1
            else:
                self._remove(block)
            at = 0
        return start, end

    def _forget(self, block: i64, low: i64, high: i64) -> None:
        """Take ranges out of a block, which may be empty then."""
        starts = self._starts[block]
        ends = self._ends[block]
        at = low
        while at < high:
            range_start: i64 = starts[at]
            range_end: i64 = ends[at]
            self.size -= range_end - range_start + 1
            at += 1
        del starts[low:high]
        del ends[low:high]

    def _remove(self, block: i64) -> None:
        del self._starts[block]
        del self._ends[block]

    def _cut(self, block: i64) -> None:
        half: i64 = len(self._starts[block]) // 2
        self._starts.insert(block + 1, self._starts[block][half:])
        self._ends.insert(block + 1, self._ends[block][half:])
        del self._starts[block][half:]
        del self._ends[block][half:]

    def remove_through(self, end: i64) -> i64:
        """Take out all up to ``end``, and what follows it without a gap; the last integer of that, at least ``end``."""
        while self._starts:
            starts = self._starts[0]
            ends = self._ends[0]
            size: i64 = len(starts)
            high: i64 = bisect_right(starts, int(end) + 1)
            if high == 0:
                break
            if ends[high - 1] > end:
                end = ends[high - 1]
            self._forget(0, 0, high)
            if high < size:
                break
            self._remove(0)
        return end
