"""broker/store/segments.py: numbers are new, and what is empty is told once."""

from __future__ import annotations

from broker.store.segment_extent import Segment
from broker.store.segments import Segments


def test_numbers_are_not_used_twice() -> None:
    segments = Segments()
    assert [int(segments.new_number()) for _ in range(3)] == [1, 2, 3]
    segments.skip_to(10)
    segments.skip_to(5)
    assert (segments.new_number(), segments.next_number) == (10, 11)


def test_a_segment_is_empty_when_the_last_live_record_has_gone() -> None:
    segments = Segments()
    segment = Segment(1, 4096)
    segment.live = 3
    segments.unload(segment, 2)
    assert segments.take_empty() == []
    segments.unload(segment, 1)
    segments.look_at(segment)
    assert segments.take_empty() == [segment]
    assert segments.take_empty() == []


def test_one_that_leaves_already_is_not_told() -> None:
    segments = Segments()
    segment = Segment(1, 4096)
    segments.look_at(segment)
    segment.leaving = True
    assert segments.take_empty() == []


def test_an_empty_page_file_goes_at_once() -> None:
    """No manifest knows it."""
    segments = Segments()
    told: list[Segment] = []
    segments.on_empty_page_file = told.append
    page = Segment(1, 4096)
    page.on_pages = True
    page.live = 1
    segments.unload(page, 1)
    assert told == [page]
    assert segments.take_empty() == []
