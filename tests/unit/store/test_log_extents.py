"""broker/store/log_extents.py: where records are, found again whatever was settled or moved meanwhile."""

from __future__ import annotations

import random

import pytest

from broker.store.batch import BatchLocation, location_at
from broker.store.index import Positions
from broker.store.log_extents import LogExtents
from broker.store.segment_extent import Segment, SegmentExtent
from broker.store.segments import Segments


class Model:
    """Extents with ten positions for each of some batches, each in a file of its own."""

    def __init__(self, batches: int) -> None:
        self.segments = Segments()
        self.extents = LogExtents(self.segments)
        self.positions = Positions()
        self.locations: list[BatchLocation] = []
        for generation in range(1, batches + 1):
            self.locations.append(location_at(generation))
            for at in range(10):
                self.add(self.locations[-1], at * 100)

    def add(self, location: BatchLocation, start: int) -> None:
        position = self.positions.next
        self.positions.append(position)
        self.extents.extend(position, location, start).end = start + 100

    def move(self, generation: int) -> SegmentExtent:
        """What is in that file goes to a segment."""
        first = (generation - 1) * 10
        made = SegmentExtent(Segment(generation, 4096), first, first + 9, 10)
        self.extents.install(made, None, self.positions)
        self.extents.forget(generation)
        return made


def test_records_that_follow_each_other_share_an_extent() -> None:
    model = Model(3)
    assert [(int(each.first), int(each.count), int(each.end)) for each in model.extents.wal] == [
        (0, 10, 1000),
        (10, 10, 1000),
        (20, 10, 1000),
    ]
    model.add(model.locations[-1], 5000)
    assert len(model.extents.wal) == 4, "something else stands between"


@pytest.mark.parametrize("seed", range(10))
def test_what_is_settled_at_the_front_is_forgotten_and_the_rest_is_found(seed: int) -> None:
    chance = random.Random(seed)
    model = Model(300)
    while model.positions.live():
        through = int(model.positions.first) + chance.choice((0, 5, 30, 300))
        model.positions.settle(0, min(through, 2999))
        model.extents.trim(model.positions.first, None)
        kept = model.extents.wal[model.extents.head :]
        assert sum(int(each.count) for each in kept) < model.positions.live() + 10
        for position in range(int(model.positions.first), 3000, 7):
            assert model.extents.wal[model.extents.find(position)].first == position // 10 * 10
    assert model.extents.wal == []


def test_live_bytes_of_a_file_are_estimated_by_its_live_records() -> None:
    model = Model(2)
    model.positions.settle(3, 7)
    assert model.extents.live_size(1, model.positions) == 500
    assert model.extents.live_size(2, model.positions) == 0, "not the oldest one"


def test_what_has_moved_is_found_in_its_segment_and_counted_out_of_it() -> None:
    model = Model(3)
    model.positions.settle(2, 3)
    first, second = model.move(1), model.move(2)
    assert (first.segment.live, second.segment.live) == (8, 10)
    assert model.extents.moved_through() == 19
    assert [int(model.extents.find_segment(position)) for position in (0, 9, 10, 19, 20)] == [0, 0, 1, 1, 2]
    model.extents.count_out(0, 14, model.positions)
    model.positions.settle(0, 14)
    assert model.extents.segments == [second]
    assert (first.segment.live, second.live, second.segment.live) == (0, 5, 5)
    assert model.segments.take_empty() == [first.segment]


def test_a_rewritten_segment_takes_the_place_of_the_old_one() -> None:
    model = Model(2)
    old, other = model.move(1), model.move(2)
    made = SegmentExtent(Segment(9, 4096), 0, 9, 10)
    model.extents.install(made, old, model.positions)
    assert model.extents.segments == [made, other]
    assert (old.segment.live, made.segment.live) == (0, 10)
    late = SegmentExtent(Segment(10, 4096), 0, 9, 10)
    model.extents.install(late, old, model.positions)
    assert model.extents.segments == [made, other], "the old one was settled, or replaced, meanwhile"


def test_a_log_that_is_dropped_leaves_nothing_live() -> None:
    model = Model(2)
    moved = model.move(1)
    model.extents.clear(None)
    assert (model.extents.wal, model.extents.segments, moved.segment.live) == ([], [], 0)
