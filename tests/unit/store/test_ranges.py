"""Ranges of integers (broker/store/ranges.py); a set is the model."""

from __future__ import annotations

import random

import pytest

from broker.store.ranges import BLOCK_MAX, Ranges


def pairs_of(numbers: set[int]) -> list[tuple[int, int]]:
    """The ranges of a set, sorted."""
    found: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if found and found[-1][1] == number - 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return found


def is_sound(ranges: Ranges) -> bool:
    """No block is empty or too long, and the blocks are in order."""
    assert all(1 <= len(block) <= BLOCK_MAX for block in ranges._starts)
    assert [len(block) for block in ranges._starts] == [len(block) for block in ranges._ends]
    flat = [value for pair in ranges.pairs() for value in pair]
    assert flat == sorted(flat)
    assert ranges.size == sum(end - start + 1 for start, end in ranges.pairs())
    return True


def test_nothing_is_in_it_at_first() -> None:
    ranges = Ranges()
    assert (ranges.size, ranges.pairs(), ranges.end_of(0), ranges.count_between(0, 100), ranges.remove_through(7)) == (
        0,
        [],
        -1,
        0,
        7,
    )


def test_ranges_that_touch_are_one() -> None:
    ranges = Ranges()
    for start, end in ((10, 12), (20, 20), (14, 15)):
        assert ranges.add(start, end) == end - start + 1
    assert ranges.add(13, 13) == 1
    assert ranges.pairs() == [(10, 15), (20, 20)]
    assert ranges.add(11, 30) == 14
    assert ranges.pairs() == [(10, 30)]


@pytest.mark.parametrize("order", ["forwards", "backwards", "random"])
def test_many_ranges_stand_in_blocks(order: str) -> None:
    """One in the middle of many is put there without moving the others, and all of them become one again."""
    numbers = list(range(1, 20_000, 2))
    if order == "backwards":
        numbers.reverse()
    elif order == "random":
        random.Random(1).shuffle(numbers)
    ranges = Ranges()
    for number in numbers:
        assert ranges.add(number, number) == 1
    assert is_sound(ranges)
    assert ranges.pairs() == [(number, number) for number in range(1, 20_000, 2)]
    assert len(ranges._starts) >= 10_000 // BLOCK_MAX
    random.Random(2).shuffle(numbers)
    for number in numbers:
        assert ranges.add(number + 1, number + 1) == 1
    assert is_sound(ranges)
    assert ranges.pairs() == [(1, 20_000)]


@pytest.mark.parametrize("seed", range(30))
def test_random_operations_agree_with_a_set(seed: int) -> None:
    chance = random.Random(seed)
    ranges, model = Ranges(), set[int]()
    span = chance.choice([200, 5000, 30_000])
    for step in range(3000):
        where = f"seed {seed}, step {step}"
        start = chance.randrange(span)
        end = start + chance.choice([0, 0, 0, 1, 3, 40, span // 10 if chance.random() < 0.01 else 0])
        action = chance.random()
        if action < 0.9:
            added = set(range(start, end + 1)) - model
            assert ranges.add(start, end) == len(added), where
            model |= added
        elif action < 0.95:
            assert ranges.count_between(start, end) == len(model & set(range(start, end))), where
            expected = start
            while expected in model:
                expected += 1
            above = [number for number in range(start, start + 50) if number in model]
            if above or start > max(model, default=-1):
                assert ranges.next_from(start) == (above[0] if above else -1), where
            assert ranges.end_of(start) == (expected - 1 if start in model else -1), where
        elif action < 0.96 and chance.random() < 0.3:
            reached = start // 4
            while reached + 1 in model:
                reached += 1
            assert ranges.remove_through(start // 4) == reached, where
            model = {number for number in model if number > reached}
        assert ranges.size == len(model), where
    assert is_sound(ranges)
    assert ranges.pairs() == pairs_of(model)
