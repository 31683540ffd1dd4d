"""Which positions of a log are live: everything that was appended and is not settled.

    dead ... dead | live or dead, by ranges | not there yet
                  first                     next

Positions are dense, so almost always this is two numbers: a queue settles in the order it delivers. What is settled out
of order is kept as sorted ranges above ``first``, which vanish when the ones before them are settled too. A position
that was never appended (its message was not persistent) is dead from the start; ``append`` finds such gaps by itself.
"""

from typing import Final, final

from librt.strings import BytesWriter, read_i64_be, write_i64_be

from broker.native import i64
from broker.store.ranges import Ranges

HEAD_SIZE: Final[i64] = 24


@final
class Positions:
    """The live positions of one log."""

    def __init__(self) -> None:
        self.first: i64 = 0
        """Everything below is dead."""
        self.next: i64 = 0
        """The position that comes next."""
        self._dead: Ranges | None = None
        """Those from ``first`` on that are dead; None where none are."""

    def live(self) -> i64:
        """How many there are."""
        dead = self._dead
        count = self.next - self.first
        return count if dead is None else count - dead.size

    def dead(self) -> i64:
        """How many of those from ``first`` on are dead."""
        dead = self._dead
        return 0 if dead is None else dead.size

    def append(self, position: i64) -> None:
        """``position`` is live; those between the last one and it are dead. It must not be below ``next``."""
        if position != self.next:
            self._skip_to(position)
        self.next = position + 1

    def append_run(self, first: i64, last: i64) -> None:
        """The same for all positions from ``first`` to ``last``, both included."""
        self.append(first)
        self.next = last + 1

    def _skip_to(self, position: i64) -> None:
        assert position > self.next, "positions ascend"
        start = self.next
        self.next = position
        if start == self.first and self._dead is None:
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
        dead = self._dead
        if dead is None:
            self._dead = dead = Ranges()
        return dead.add(start, end)

    def _advance(self, end: i64) -> i64:
        """Everything up to ``end`` is dead, and what follows it directly."""
        first = self.first
        dead = self._dead
        if dead is None:
            self.first = end + 1
            return self.first - first
        known = dead.size
        self.first = dead.remove_through(end) + 1
        count = self.first - first - (known - dead.size)
        if dead.size == 0:
            self._dead = None
        return count

    def is_live(self, position: i64) -> bool:
        """Whether it was appended and is not settled."""
        if position < self.first or position >= self.next:
            return False
        dead = self._dead
        return dead is None or dead.end_of(position) < 0

    def next_live(self, position: i64) -> i64:
        """The first live one at or behind ``position``; ``next`` if there is none."""
        if position < self.first:
            return self.first
        dead = self._dead
        if dead is not None and position < self.next:
            end = dead.end_of(position)
            if end >= 0:
                return end + 1
        return position if position < self.next else self.next

    def live_between(self, start: i64, end: i64) -> i64:
        """How many of those from ``start`` up to but not including ``end`` are live."""
        if start < self.first:
            start = self.first
        if end > self.next:
            end = self.next
        if start >= end:
            return 0
        dead = self._dead
        return end - start if dead is None else end - start - dead.count_between(start, end)

    def dead_ranges(self) -> list[tuple[int, int]]:
        """What is settled above ``first``: (start, end), both included."""
        dead = self._dead
        return [] if dead is None else dead.pairs()

    def encode(self) -> bytes:
        """``first`` (8), ``next`` (8), number of ranges (8), then start (8) and end (8) of each."""
        writer = BytesWriter()
        write_i64_be(writer, self.first)
        write_i64_be(writer, self.next)
        dead = self._dead
        write_i64_be(writer, 0 if dead is None else dead.count())
        if dead is not None:
            dead.write(writer)
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
