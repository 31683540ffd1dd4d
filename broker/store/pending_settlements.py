"""Settlements of one log that wait for the next batch, merged: what a thousand acks in a row say is one range."""

from typing import Final, final

from broker.native import i64

PENDING_MAX: Final[i64] = 4096
"""More ranges than these do not wait: to write one takes a microsecond, and whoever settles them looks at the clock,
the batch does not."""

_COUNT_BITS: Final[i64] = 22
_COUNT_MAX: Final[i64] = (1 << 22) - 1
_NOTHING: Final[list[int]] = []
"""Shared, and never changed."""


@final
class PendingSettlements:
    """Ranges of positions that are settled and not written yet."""

    def __init__(self) -> None:
        self._packed = _NOTHING  # first position, and how many more, in one number each

    def is_empty(self) -> bool:
        """Whether nothing waits."""
        return not self._packed

    def is_full(self) -> bool:
        """Whether it is time to write them."""
        return len(self._packed) >= PENDING_MAX

    def add(self, first: i64, count: i64) -> None:
        """``count`` positions from ``first`` on are settled."""
        packed = self._packed
        if packed:
            last: i64 = packed[-1]
            more = last & _COUNT_MAX
            if (last >> _COUNT_BITS) + more + 1 == first and more + count <= _COUNT_MAX:
                packed[-1] = int(last + count)
                return
        else:
            self._packed = packed = []
        while count > _COUNT_MAX:
            packed.append(int((first << _COUNT_BITS) | _COUNT_MAX))
            first += _COUNT_MAX + 1
            count -= _COUNT_MAX + 1
        if count > 0:
            packed.append(int((first << _COUNT_BITS) | (count - 1)))

    def take(self) -> list[int]:
        """As few ranges as they make: first and last position of each, one behind the other."""
        packed = self._packed
        if not packed:
            return packed
        self._packed = _NOTHING
        if len(packed) > 1:
            packed.sort()
        ranges: list[int] = []
        start: i64 = -1
        end: i64 = -2
        for each in packed:
            first: i64 = each >> 22
            last: i64 = first + (each & 0x3FFFFF)
            if first <= end + 1:
                if last > end:
                    end = last
                continue
            if start >= 0:
                ranges.append(int(start))
                ranges.append(int(end))
            start = first
            end = last
        ranges.append(int(start))
        ranges.append(int(end))
        return ranges
