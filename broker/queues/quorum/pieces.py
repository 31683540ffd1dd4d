"""A range of positions cut into pieces of equal values: what decides about messages that come back looks at runs."""

from __future__ import annotations

from typing import final

from broker.native import i64
from broker.store.run_map import RunCursor, RunMap


@final
class Pieces:
    """``step`` goes to the next piece of ``count`` positions from ``first`` on, ``stride`` apart. The map must not
    change meanwhile."""

    def __init__(self, runs: RunMap, first: i64, count: i64, stride: i64) -> None:
        self.first: i64 = first
        """The first position of this piece."""
        self.count: i64 = 0
        """How many positions it has."""
        self.stride: i64 = stride
        self.value: i64 = 0
        """The value that all of them have."""
        self._left: i64 = count
        self._cursor = RunCursor(runs)
        self._cursor.seek(first)
        self._cursor.step()

    def step(self) -> bool:
        """Go to the next piece; False if there is none."""
        left = self._left
        if left <= 0:
            return False
        stride = self.stride
        cursor = self._cursor
        first = self.first + self.count * stride
        while cursor.end < first:
            if first - cursor.end > 1000:
                cursor.seek(first)
            cursor.step()
        count = (cursor.end - first) // stride + 1
        if count > left:
            count = left
        self.first = first
        self.count = count
        self.value = cursor.value
        self._left = left - count
        return True
