"""Ranges of one command made as few as possible: those that interleave become one, as do neighbours.

Equal consumers get every third message each, and what they acknowledge comes in any order; what one command says of a
position does not depend on its other positions, so its ranges may be sorted.
"""

from __future__ import annotations

from typing import Final

from broker.native import i64

STRIDE_MAX: Final[i64] = 64
"""Single positions further apart do not become a range: whoever applies it looks at everything in between."""
_CHANCE: Final[i64] = 3
"""As many positions in a range, on average, stand equally far apart by chance: they were acknowledged in any order, and
are looked at one by one."""


def woven(ranges: list[int]) -> list[int]:
    """The same positions: first, count and stride of each range, one behind the other, as few as easily found."""
    total: i64 = 0
    at: i64 = 0
    while at < len(ranges):
        total += ranges[at + 1]
        at += 3
    by_chance = total <= _CHANCE * (len(ranges) // 3)
    found: list[tuple[int, int, int]] = []
    at = 0
    while at < len(ranges):
        first: i64 = ranges[at]
        count: i64 = ranges[at + 1]
        stride: i64 = ranges[at + 2]
        at += 3
        if stride == 1 or not by_chance:
            found.append((int(first), int(count), int(stride)))
            continue
        while count > 0:
            found.append((int(first), 1, 1))
            first += stride
            count -= 1
    found.sort()
    made: list[int] = []
    index: i64 = 0
    while index < len(found):
        first, count, stride = found[index]
        twins = _twins(found, index)
        if twins > 1:
            count = 0
            for each in found[index : index + twins]:
                count += each[1]
            stride = 1
        append_range(made, first, count, stride)
        index += twins
    return made if len(made) < len(ranges) else ranges


def _twins(found: list[tuple[int, int, int]], index: i64) -> i64:
    """How many ranges from this one on are together all positions from its first to their last; 1 if only itself can be
    one of them."""
    first: i64
    count: i64
    stride: i64
    first, count, stride = found[index]
    if count == 1 or stride == 1 or stride > STRIDE_MAX or index + stride > len(found):
        return 1
    lowest = first + (count - 1) * stride
    highest = lowest
    total = count
    number: i64 = 1
    while number < stride:
        other_first: i64
        other_count: i64
        other_stride: i64
        other_first, other_count, other_stride = found[index + number]
        if other_first != first + number or (other_stride != stride and other_count != 1):
            return 1
        last = other_first + (other_count - 1) * stride
        if last < lowest:
            lowest = last
        if last > highest:
            highest = last
        total += other_count
        number += 1
    return stride if highest - lowest == stride - 1 and total == highest - first + 1 else 1


def append_range(made: list[int], first: i64, count: i64, stride: i64) -> None:
    """Put a range behind the others, or make the last one longer."""
    size = len(made)
    if size > 0:
        last_first: i64 = made[size - 3]
        last_count: i64 = made[size - 2]
        last_stride: i64 = made[size - 1]
        apart = first - last_first
        if last_count == 1 and 0 < apart <= STRIDE_MAX and (count == 1 or stride == apart):
            made[size - 2] = int(1 + count)
            made[size - 1] = int(apart)
            return
        if apart == last_count * last_stride and (stride == last_stride or count == 1):
            made[size - 2] = int(last_count + count)
            return
    made.append(int(first))
    made.append(int(count))
    made.append(int(stride))
