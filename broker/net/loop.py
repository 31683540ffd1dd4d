"""Ties turn and clock to the event loop: at most one callback per turn, one timer for all deadlines."""

from __future__ import annotations

import asyncio

from broker.clock import NEVER, Clock, Waker
from broker.turn import Turn


class LoopWaker(Waker):
    """Runs turns and timers of one node on one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, turn: Turn, clock: Clock) -> None:
        self._loop = loop
        self._turn = turn
        self._clock = clock
        self._timer: asyncio.TimerHandle | None = None
        turn.waker = self
        clock.waker = self

    def wake(self) -> None:
        """Run the turn as soon as this iteration's reads are taken."""
        self._loop.call_soon(self._turn.run)

    def on_earlier(self, deadline_ms: int) -> None:
        """A timer earlier than all others was added."""
        self._schedule(deadline_ms)

    def _schedule(self, deadline_ms: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        delay = max(0, deadline_ms - self._clock.monotonic_ms())
        # a millisecond more than asked: firing early would only mean to come again
        self._timer = self._loop.call_later((delay + 1) / 1000, self._fire)

    def _fire(self) -> None:
        self._timer = None
        try:
            self._clock.run_due()
        finally:  # a fault in one timer must not stop all others
            following = self._clock.next_deadline()
            if following != NEVER:
                self._schedule(following)

    def stop(self) -> None:
        """No further timers."""
        if self._timer is not None:
            self._timer.cancel()
