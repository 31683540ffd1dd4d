"""broker/net/loop.py: turns and timers on an event loop, and when it looks for input without sleeping
(docs/benchmarks.md)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from unittest.mock import Mock

import pytest

from broker.clock import TIMERS_US, Timed
from broker.net import loop as module
from broker.net.loop import LATE_MS, LINGER_US, LoopWaker
from broker.turn import Turn
from tests.support.fake_clock import FakeClock
from tests.support.fakes import needs_traits


class Clock(FakeClock):
    """Microseconds in the test's hands."""

    def __init__(self) -> None:
        self.us = 0
        super().__init__()

    def monotonic_us(self) -> int:
        return self.time_ms * 1000 + self.us


class Loop:
    """Stands where the event loop stands: one iteration at a time, each a microsecond."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.soon: list[Callable[[], object]] = []
        self.later: tuple[float, Callable[[], None]] | None = None
        """The timer that was set last."""

    def call_soon(self, call: Callable[[], object]) -> None:
        self.soon.append(call)

    def call_later(self, delay_s: float, call: Callable[[], None]) -> asyncio.TimerHandle:
        self.later = (delay_s, call)
        return Mock()

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
        """A turn that answers a client, which asks again so long after; how many iterations of the loop did not
        sleep."""
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


class Due(Timed):
    """A timer that takes so long."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.fired = 0

    def on_timer(self, now_ms: int) -> None:
        self.fired += 1
        self.clock.time_ms += TIMERS_US // 1000


@needs_traits
def test_timers_that_are_left_fire_at_once_after_the_sockets_were_read() -> None:
    """What a timer of the loop calls soon comes before the loop looks for input (libuv); what that calls soon, behind
    it."""
    setting = Setting()
    due = Due(setting.clock)
    for _ in range(2):
        setting.clock.call_at(setting.clock.time_ms + 5, due)
    setting.clock.time_ms += 5
    assert setting.loop.later is not None
    assert setting.loop.later[0] == pytest.approx(0.006)
    setting.loop.later[1]()
    assert due.fired == 1
    setting.loop.iterate()
    assert due.fired == 1
    setting.loop.iterate()
    assert due.fired == 2


@needs_traits
@pytest.mark.parametrize(("late_ms", "iterations"), [(0, 0), (LATE_MS - 1, 0), (LATE_MS, 2), (60_000, 2)])
def test_timers_that_come_late_fire_after_the_sockets_were_read(late_ms: int, iterations: int) -> None:
    """The process stood still: what clients sent meanwhile counts before any of them is judged."""
    setting = Setting()
    due = Due(setting.clock)
    setting.clock.call_at(setting.clock.time_ms + 5, due)
    setting.clock.time_ms += 5 + late_ms
    assert setting.loop.later is not None
    setting.loop.later[1]()
    for _ in range(iterations):
        assert due.fired == 0
        setting.loop.iterate()
    assert due.fired == 1


def test_processors_are_counted() -> None:
    assert module.cpu_count() >= 1
