"""broker/net/loop.py: turns and timers on an event loop, and when it looks for input without sleeping (docs/benchmarks.md)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from broker.net import loop as module
from broker.net.loop import LINGER_US, LoopWaker
from broker.turn import Turn
from tests.support.fake_clock import FakeClock


class Clock(FakeClock):
    """Microseconds in the test's hands."""

    def __init__(self) -> None:
        self.us = 0
        super().__init__()

    def monotonic_us(self) -> int:
        return self.us


class Loop:
    """Stands where the event loop stands: one iteration at a time, each a microsecond."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.soon: list[Callable[[], object]] = []

    def call_soon(self, call: Callable[[], object]) -> None:
        self.soon.append(call)

    def iterate(self) -> bool:
        """Whether there was something to do."""
        calls, self.soon = self.soon, []
        for call in calls:
            call()
        self.clock.us += 1
        return bool(calls)


class Setting:
    def __init__(self) -> None:
        self.clock = Clock()
        self.loop = Loop(self.clock)
        self.turn = Turn(self.clock)
        self.waker = LoopWaker(self.loop, self.turn, self.clock)  # type: ignore[arg-type]

    def answer(self, next_after_us: int) -> int:
        """A turn that answers a client, which asks again so long after; how many iterations of the loop did not sleep."""
        self.turn.admit(100)
        self.loop.iterate()  # the turn
        self.waker.linger()
        for awake in range(next_after_us):
            if not self.loop.iterate():
                return awake
        return next_after_us


@pytest.fixture(autouse=True)
def two_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever the tests run."""
    monkeypatch.setattr(module, "cpu_count", lambda: 2)


def test_it_stays_awake_for_a_client_that_asks_again_at_once() -> None:
    setting = Setting()
    awake = [setting.answer(50) for _ in range(300)]
    assert awake[0] == 0, "not before it is known to pay"
    assert awake[-100:] == [50] * 100


def test_it_does_not_for_one_that_takes_its_time() -> None:
    """Tried now and then, in case that has changed."""
    setting = Setting()
    awake = [setting.answer(5 * LINGER_US) for _ in range(300)]
    assert max(awake) <= LINGER_US + 1
    assert 5 < sum(each > 0 for each in awake) < 30


def test_it_gives_up_when_it_does_not_pay_any_more() -> None:
    setting = Setting()
    for _ in range(300):
        setting.answer(50)
    awake = [setting.answer(5 * LINGER_US) for _ in range(100)]
    assert awake[0] > 0
    assert sum(each > 0 for each in awake) < 20


def test_one_processor_is_left_to_the_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "cpu_count", lambda: 1)
    setting = Setting()
    assert [setting.answer(50) for _ in range(300)] == [0] * 300


def test_processors_are_counted() -> None:
    assert module.cpu_count() >= 1
