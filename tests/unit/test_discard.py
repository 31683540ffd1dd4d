"""Many messages are let go a slice at a time (broker/discard.py)."""

from __future__ import annotations

from itertools import pairwise

from broker.discard import discard
from broker.message import Message
from broker.queues.entry import Entry
from broker.turn import Turn
from tests.support.fake_clock import FakeClock
from tests.support.fakes import make_message

Items = list[Message | Entry | None]


class SlowClock(FakeClock):
    """Every look at it takes so long that a slice is over."""

    def slice_us(self) -> int:
        self.time_ms += 2
        return super().slice_us()


def lists(*sizes: int) -> list[Items]:
    message = make_message(b"m")
    return [[message] * size for size in sizes]


def test_a_few_are_let_go_at_once() -> None:
    turn = Turn(FakeClock())
    discard(turn, lists(10, 20))
    assert not turn.scheduled


def test_many_are_let_go_in_the_turns_that_follow() -> None:
    turn = Turn(FakeClock())
    given = lists(10_000, 3)
    first = given[0]
    discard(turn, given)
    assert (turn.scheduled, len(first)) == (True, 10_000)
    turn.drain()
    assert len(first) <= 1024, "the rest of it goes with the list"


def test_a_slice_ends_when_its_time_is_over() -> None:
    turn = Turn(SlowClock())
    given = lists(10_000, 0, 5000)
    discard(turn, given)
    left = [15_000]
    while turn.scheduled and len(left) < 100:
        turn.run()
        left.append(sum(map(len, given)))
    assert left[-1] <= 2 * 1024, "the rest of each goes with its list"
    assert len(left) > 10
    assert all(0 <= before - after <= 1024 for before, after in pairwise(left))
