"""broker/time_slice.py: a phase ends when its time is over; who comes last has some as well."""

from __future__ import annotations

from broker.time_slice import SLICE_MIN_US, SLICE_US, TimeSlice

NOW = 1_000_000


def test_what_is_done_between_two_turns_has_a_slice_from_its_first_look_on() -> None:
    piece = TimeSlice()
    assert not piece.has_begun()
    assert not piece.is_over(NOW)
    assert piece.has_begun()
    assert not piece.is_over(NOW + SLICE_US - 1)
    assert piece.is_over(NOW + SLICE_US)
    piece.end()
    assert not piece.is_over(NOW + SLICE_US), "the next one has its own"


def test_a_slice_ends_at_its_time() -> None:
    piece = TimeSlice()
    piece.start(NOW)
    assert not piece.ends_by(NOW + SLICE_US - 1)
    assert piece.ends_by(NOW + SLICE_US)
    piece.start(NOW, 5 * SLICE_US)
    assert not piece.is_over(NOW + 5 * SLICE_US - 1)


def test_a_short_slice_is_neither_nothing_nor_longer_than_any_other() -> None:
    piece = TimeSlice()
    for until, length in ((-1000, SLICE_MIN_US), (SLICE_MIN_US + 5, SLICE_MIN_US + 5), (10 * SLICE_US, SLICE_US)):
        piece.start_short(NOW, NOW + until)
        assert not piece.ends_by(NOW + length - 1)
        assert piece.ends_by(NOW + length)


def test_everything_is_done_where_there_is_no_limit() -> None:
    piece = TimeSlice()
    piece.set_unlimited(True)
    assert not piece.is_over(NOW)
    assert not piece.is_over(NOW + 100 * SLICE_US)
    piece.set_unlimited(False)
    assert not piece.is_over(NOW)
    assert piece.is_over(NOW + SLICE_US)
