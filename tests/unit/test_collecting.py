"""broker/collecting.py: when everything is looked at for cycles."""

from __future__ import annotations

import gc

import pytest

from broker import collecting
from broker.collecting import AGED_US, QUICK_US, SHARE, Collector, times_aged


class Process:
    """A process whose heap and traffic the test sets."""

    def __init__(self, takes_us: int) -> None:
        self.takes_us = takes_us
        self.time_us = 0
        self.collections = 0
        self.reads = 0
        self.collector = Collector(lambda: self.reads, lambda: self.time_us, self.collect)

    def collect(self) -> None:
        self.collections += 1
        self.time_us += self.takes_us

    def looks(self, count: int, busy: bool = False) -> int:
        """How often everything was looked at in so many looks."""
        before = self.collections
        for _ in range(count):
            self.reads += busy
            self.time_us += self.collector.look() * 1000
        return self.collections - before


@pytest.fixture
def ages(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is always something new in the old generation."""
    monkeypatch.setattr(collecting, "times_aged", lambda: 1)


@pytest.mark.usefixtures("ages")
def test_a_quiet_node_looks_at_everything_as_often_as_it_costs_little() -> None:
    process = Process(takes_us=200_000)
    process.collector.look()
    assert process.collections == 1
    wait_looks = process.takes_us * SHARE // 2_000_000
    assert process.looks(wait_looks) == 0
    assert process.looks(2) == 1


@pytest.mark.usefixtures("ages")
def test_a_busy_node_with_a_large_heap_is_not_stopped() -> None:
    process = Process(takes_us=QUICK_US - AGED_US + 1)
    process.looks(1)
    assert process.looks(10_000, busy=True) == 0
    assert process.looks(3) == 1


@pytest.mark.usefixtures("ages")
def test_a_busy_node_with_a_small_heap_is_looked_at_in_between() -> None:
    process = Process(takes_us=1000)
    assert 1000 + AGED_US <= QUICK_US
    assert process.looks(60, busy=True) == 10, "the share of the time that it may take is one in ten thousand"


def test_a_heap_that_has_just_grown_is_not_looked_at_while_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collecting, "times_aged", lambda: 30)
    process = Process(takes_us=100_000)
    process.looks(1)
    assert process.collections == 0
    assert process.looks(1000, busy=True) == 0
    assert process.looks(2) == 1


def test_nothing_is_looked_at_twice() -> None:
    process = Process(takes_us=100)
    gc.collect()
    assert not times_aged()
    assert process.looks(10) == 0


def test_the_old_generation_ages_with_what_outlives_the_middle_one() -> None:
    gc.collect()
    gc.collect(1)
    assert times_aged() == 1
    gc.collect()


def test_the_young_are_few_and_the_old_are_left_alone() -> None:
    before = gc.get_threshold()
    collector = Collector(lambda: 0, lambda: 0)
    try:
        collector.begin()
        young, middle, old = gc.get_threshold()
        assert young <= 5000
        assert young * middle <= 6000, "a look at both takes about a millisecond"
        assert young * middle * 3 // 10 <= AGED_US, "what is looked at may lie far apart in memory: 0.3 us each"
        assert old >= 1 << 30, "never in passing"
        assert gc.get_freeze_count() > 1000
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)
