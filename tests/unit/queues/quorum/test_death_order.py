"""Which dead letters are next (broker/queues/quorum/death_order.py)."""

from __future__ import annotations

import random

import pytest

from broker.queues.quorum.death_order import DeathOrder


def all_of(order: DeathOrder) -> list[tuple[int, int]]:
    found = []
    while order.take():
        found.append((int(order.level), int(order.position)))
    return found


def test_the_order_of_death() -> None:
    order = DeathOrder()
    order.add(4, 10, 3, 1)
    order.add(4, 13, 1, 1)
    order.add(0, 5, 2, 3)
    order.add(4, 2, 1, 1)
    assert len(order._ranges) == 3
    assert all_of(order) == [(4, 10), (4, 11), (4, 12), (4, 13), (0, 5), (0, 8), (4, 2)]
    assert not order.take()


def test_a_million_that_die_together_are_one_range() -> None:
    order = DeathOrder()
    for first in range(0, 1_000_000, 1000):
        order.add(4, first, 1000, 1)
    assert len(order._ranges) == 1
    for position in range(5000):
        assert order.take()
        assert order.position == position


def test_beyond_many_ranges_they_go_by_level_and_position() -> None:
    order = DeathOrder()
    scattered = list(range(0, 10_000, 2))
    random.Random(1).shuffle(scattered)
    for position in scattered:
        order.add(4, position, 1, 1)
    order.add(9, 7, 2, 2)
    assert len(order._ranges) == 1024
    found = all_of(order)
    assert found[:1024] == [(4, position) for position in scattered[:1024]]
    assert found[1024:] == [(9, 7), (9, 9), *((4, position) for position in sorted(scattered[1024:]))]


def test_what_is_found_at_a_start_goes_by_level_and_position() -> None:
    order = DeathOrder()
    order.add_rest(4, 5, 2, 1)
    order.add_rest(6, 1, 1, 1)
    order.add(9, 0, 1, 1)
    assert all_of(order) == [(9, 0), (6, 1), (4, 5), (4, 6)]


@pytest.mark.parametrize("seed", range(20))
def test_each_comes_once(seed: int) -> None:
    chance = random.Random(seed)
    order, other = DeathOrder(), DeathOrder()
    free = {(level, position) for level in (0, 4) for position in range(6000)}
    expected: set[tuple[int, int]] = set()
    found: list[tuple[int, int]] = []
    for _ in range(4000):
        level, first = chance.choice((0, 4)), chance.randrange(6000)
        count, stride = chance.randint(1, 4), chance.choice((1, 1, 2, 5))
        positions = {(level, position) for position in range(first, first + count * stride, stride)}
        if positions <= free:
            free -= positions
            expected |= positions
            (other if chance.random() < 0.5 else order).add(level, first, count, stride)
        if chance.random() < 0.01:
            order.join(other)
            other = DeathOrder()
        if chance.random() < 0.2 and order.take():
            found.append((int(order.level), int(order.position)))
    order.join(other)
    found += all_of(order)
    assert len(found) == len(set(found))
    assert set(found) == expected
    order.add(4, 1, 1, 1)
    order.add_rest(4, 3, 1, 1)
    order.clear()
    assert not order.take()
