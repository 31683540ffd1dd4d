"""Timers for classes that are not compiled: the clock calls compiled ones only."""

from __future__ import annotations

from typing import final

from mypy_extensions import mypyc_attr

from broker.clock import Clock, Timed, Timer
from broker.native import i64


@mypyc_attr(allow_interpreted_subclasses=True)
class Sleeper:
    """Somebody who waits for a time."""

    def wake(self) -> None:
        """It has come."""
        raise NotImplementedError


@final
class Alarm(Timed):
    """Wakes somebody at one time."""

    def __init__(self, clock: Clock, sleeper: Sleeper) -> None:
        self._clock = clock
        self._sleeper = sleeper
        self._timer: Timer | None = None

    def set(self, delay_ms: i64) -> None:
        """Wake it so much later, and at no other time."""
        self.cancel()
        self._timer = self._clock.call_at(self._clock.monotonic_ms() + delay_ms, self)

    def is_set(self) -> bool:
        """Whether it will wake it."""
        return self._timer is not None

    def cancel(self) -> None:
        """Let it sleep."""
        timer = self._timer
        if timer is not None:
            timer.cancel()
            self._timer = None

    def on_timer(self, now_ms: i64) -> None:
        self._timer = None
        self._sleeper.wake()
