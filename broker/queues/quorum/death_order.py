"""Which dead letters of a quorum queue are sent next: in the order in which they have died, as far as that is known."""

from __future__ import annotations

from typing import Final, final

from broker.native import i64
from broker.store.run_map import RunCursor, RunMap

_RANGES_MAX: Final = 1024
"""So many ranges are kept in their order; those behind them by their positions."""
_WAITS: Final[i64] = 1


@final
class _Range:
    def __init__(self, level: i64, first: i64, count: i64, stride: i64) -> None:
        self.level: i64 = level
        self.first: i64 = first
        self.count: i64 = count
        self.stride: i64 = stride


@final
class DeathOrder:
    """Those that nobody has begun to send. However many they are, they are ranges."""

    def __init__(self) -> None:
        self.level: i64 = 0
        self.position: i64 = 0
        """What ``take`` has found."""
        self._ranges: list[_Range] = []
        self._taken: i64 = 0
        """How many of these, the first ones, have nothing left."""
        self._rest: dict[int, RunMap] = {}
        """What comes behind them: positions by level."""

    def add(self, level: i64, first: i64, count: i64, stride: i64) -> None:
        """They have died, after all others."""
        if self._rest or len(self._ranges) - self._taken >= _RANGES_MAX:
            self.add_rest(level, first, count, stride)
            return
        ranges = self._ranges
        if ranges:
            last = ranges[-1]
            goes_on = last.level == level and first == last.first + last.count * last.stride
            if goes_on and (count == 1 or stride == last.stride):
                last.count += count
                return
        ranges.append(_Range(level, first, count, stride))

    def add_rest(self, level: i64, first: i64, count: i64, stride: i64) -> None:
        """The same for those of which nobody knows when they have died, or which are too many."""
        self._rest.setdefault(int(level), RunMap()).assign_each(first, count, stride, _WAITS)

    def join(self, others: DeathOrder) -> None:
        """Those have died after all of these."""
        for each in others._ranges[others._taken :]:
            self.add(each.level, each.first, each.count, each.stride)
        for level, runs in others._rest.items():
            last = runs.last()
            cursor = RunCursor(runs)
            cursor.seek(0)
            while cursor.end < last and cursor.step():
                if cursor.value == _WAITS:
                    self.add_rest(level, cursor.start, cursor.end - cursor.start + 1, 1)

    def take(self) -> bool:
        """The next one; False if there is none."""
        ranges = self._ranges
        if self._taken == len(ranges) and not self._refill():
            return False
        found = ranges[self._taken]
        self.level = found.level
        self.position = found.first
        found.first += found.stride
        found.count -= 1
        if found.count == 0:
            self._taken += 1
            if self._taken == _RANGES_MAX or self._taken == len(ranges):
                del ranges[: self._taken]
                self._taken = 0
        return True

    def _refill(self) -> bool:
        """The first run of the highest level is next."""
        if not self._rest:
            return False
        level = max(self._rest)
        runs = self._rest[level]
        first = runs.first()
        cursor = RunCursor(runs)
        cursor.seek(first)
        cursor.step()
        self._ranges.append(_Range(level, first, cursor.end - first + 1, 1))
        runs.remove(first, cursor.end)
        if runs.size == 0:
            del self._rest[level]
        return True

    def clear(self) -> None:
        """None of them is left."""
        self._ranges = []
        self._taken = 0
        self._rest = {}
