"""Latencies in a fixed amount of memory: log-linear buckets, 64 per power of two, so a reading is off by less than 2
%."""

from __future__ import annotations

from typing import Final, final

from broker.native import i64

_BITS: Final[i64] = 6
_STEPS: Final[i64] = 1 << _BITS


@final
class Histogram:
    """Counts of durations in nanoseconds."""

    def __init__(self) -> None:
        self.count: i64 = 0
        self.largest: i64 = 0
        self._buckets: list[int] = [0] * (64 * int(_STEPS))

    def add(self, value: i64) -> None:
        """One duration."""
        self.count += 1
        if value > self.largest:
            self.largest = value
        shift: i64 = 0
        scaled = value
        while scaled >= 2 * _STEPS:
            scaled >>= 1
            shift += 1
        self._buckets[shift * _STEPS + scaled] += 1

    def quantile(self, share: float) -> int:
        """The duration below which ``share`` of all lie; 0 if there are none."""
        wanted = int(share * int(self.count))
        seen = 0
        for index, count in enumerate(self._buckets):
            seen += count
            if seen > wanted:
                if index < 2 * _STEPS:
                    return index
                shift = index // int(_STEPS) - 1
                return (index - shift * int(_STEPS)) << shift
        return int(self.largest)
