"""broker/store/pending_settlements.py: what was settled comes out once, in as few ranges as it makes."""

from __future__ import annotations

import random

import pytest

from broker.store.pending_settlements import PENDING_MAX, PendingSettlements


def ranges(pending: PendingSettlements) -> list[tuple[int, int]]:
    taken = pending.take()
    return list(zip(taken[::2], taken[1::2], strict=True))


def runs(positions: set[int]) -> list[tuple[int, int]]:
    """The oracle: maximal runs of positions."""
    found: list[tuple[int, int]] = []
    for position in sorted(positions):
        if found and found[-1][1] == position - 1:
            found[-1] = (found[-1][0], position)
        else:
            found.append((position, position))
    return found


@pytest.mark.parametrize("seed", range(20))
def test_ranges_are_merged_in_whatever_order_they_come(seed: int) -> None:
    chance = random.Random(seed)
    pending = PendingSettlements()
    settled: set[int] = set()
    for _ in range(chance.choice((1, 3, 50))):
        first, count = chance.randrange(200), chance.choice((1, 1, 2, 20))
        pending.add(first, count)
        settled.update(range(first, first + count))
    assert not pending.is_empty()
    assert ranges(pending) == runs(settled)
    assert pending.is_empty()
    assert ranges(pending) == []


def test_what_comes_in_a_row_waits_as_one_range() -> None:
    pending = PendingSettlements()
    for position in range(2 * int(PENDING_MAX)):
        pending.add(position, 1)
    assert not pending.is_full()
    for position in range(0, 2 * int(PENDING_MAX), 2):
        pending.add(1 << 40 | position, 1)
    assert pending.is_full()


@pytest.mark.parametrize("count", [(1 << 22) - 1, 1 << 22, (1 << 22) + 1, 10_000_000])
def test_a_range_may_be_longer_than_one_number_tells(count: int) -> None:
    pending = PendingSettlements()
    pending.add(7, count)
    pending.add(7 + count, 1)
    assert ranges(pending) == [(7, 7 + count)]
