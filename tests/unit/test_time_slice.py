"""broker/time_slice.py: a phase ends when its time is over; who comes last has some as well."""

from __future__ import annotations

from broker.time_slice import SLICE_MIN_US, SLICE_US, TimeSlice
from tests.support.fake_clock import FakeClock

SLICE_MS = -(-int(SLICE_US) // 1000)
"""After so many milliseconds a slice is over."""


def test_what_is_done_between_two_turns_has_a_slice_from_its_first_look_on() -> None:
    clock = FakeClock()
    slice_ = TimeSlice(clock)
    clock.advance(1000)
    assert not slice_.has_begun()
    assert not slice_.is_over()
    assert slice_.has_begun()
    clock.advance(SLICE_MS)
    assert slice_.is_over()
    slice_.end()
    assert not slice_.is_over(), "the next one has its own"


def test_a_slice_ends_at_its_time() -> None:
    clock = FakeClock()
    slice_ = TimeSlice(clock)
    now = clock.slice_us()
    slice_.start(now)
    assert not slice_.ends_by(now + SLICE_US - 1)
    assert slice_.ends_by(now + SLICE_US)
    slice_.start(now, 5 * SLICE_US)
    assert not slice_.ends_by(now + 5 * SLICE_US - 1)


def test_a_short_slice_is_neither_nothing_nor_longer_than_any_other() -> None:
    clock = FakeClock()
    slice_ = TimeSlice(clock)
    now = clock.slice_us()
    for until, length in ((-1000, SLICE_MIN_US), (SLICE_MIN_US + 5, SLICE_MIN_US + 5), (10 * SLICE_US, SLICE_US)):
        slice_.start_short(now + until)
        assert not slice_.ends_by(now + length - 1)
        assert slice_.ends_by(now + length)


def test_everything_is_done_where_there_is_no_limit() -> None:
    clock = FakeClock()
    slice_ = TimeSlice(clock)
    slice_.set_unlimited(True)
    assert not slice_.is_over()
    clock.advance(100_000)
    assert not slice_.is_over()
    slice_.set_unlimited(False)
    assert not slice_.is_over()
    clock.advance(SLICE_MS)
    assert slice_.is_over()
