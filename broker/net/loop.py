"""Ties turn and clock to the event loop: at most one callback per turn, one timer for all deadlines.

A client that publishes one message at a time and waits for each confirm asks again some 50 us after it was answered. A
loop that has gone to sleep meanwhile takes as long again to wake up. So after such an answer it looks for input without
sleeping, for a moment, as long as that mostly pays (measured, 1 KiB with a sync each: 243 us a message -> 196 us, at
the same CPU: to sleep and to wake costs as much).

An event loop serves timers before it looks for input. When it comes late (the process was stopped, the machine
suspended), what clients have sent in time lies unread in their sockets, and a timer that judges them by it would be
wrong: the sockets are read first.
"""

from __future__ import annotations

import asyncio
import os
from typing import Final

from broker.clock import NEVER, Clock, Waker
from broker.turn import Turn

LINGER_US: Final = 150
"""So long input is looked for without sleeping."""
_PAYS: Final = 0.5
"""Lingering goes on while it finds input at least so often, ..."""
_TRY_EVERY: Final = 16
"""... and else is tried once in so many times."""
_MEAN_OF: Final = 8
LATE_MS: Final = 100
"""Timers that are so late wait until the sockets were read."""


def cpu_count() -> int:
    """Processors that this process may use: with one, lingering would only keep the client from running."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        return os.cpu_count() or 1


class LoopWaker(Waker):
    """Runs turns and timers of one node on one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, turn: Turn, clock: Clock) -> None:
        self._loop = loop
        self._turn = turn
        self._clock = clock
        self._timer: asyncio.Handle | None = None
        self._due_ms = 0
        """When the loop's timer should fire."""
        self._may_linger = cpu_count() > 1
        self._pays = 0.0
        self._skipped = 0
        self._lingering = False
        self._linger_until_us = 0
        self._linger_reads = 0
        turn.waker = self
        clock.waker = self

    def wake(self) -> None:
        """Run the turn as soon as this iteration's reads are taken."""
        self._loop.call_soon(self._turn.run)

    def linger(self) -> None:
        """A client was answered that may ask again at once: look for input without sleeping, for a moment, if that
        mostly pays."""
        if not self._may_linger:
            return
        if self._lingering:
            self._judge(True)  # this is the input it was waiting for
        elif self._pays < _PAYS and self._skipped < _TRY_EVERY:
            self._skipped += 1
            return
        else:
            self._skipped = 0
            self._lingering = True
            self._loop.call_soon(self._look)
        self._linger_reads = self._turn.reads
        self._linger_until_us = self._clock.monotonic_us() + LINGER_US

    def _look(self) -> None:
        found = self._turn.reads != self._linger_reads
        if not found and self._clock.monotonic_us() < self._linger_until_us:
            self._loop.call_soon(self._look)
            return
        self._lingering = False
        self._judge(found)

    def _judge(self, found: bool) -> None:
        self._pays += (found - self._pays) / _MEAN_OF

    def on_earlier(self, deadline_ms: int) -> None:
        """A timer earlier than all others was added."""
        self._schedule(deadline_ms)

    def _schedule(self, deadline_ms: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        delay = max(0, deadline_ms - self._clock.monotonic_ms())
        if delay == 0:
            self._fire_after_reads()  # some were left: the sockets come first
            return
        self._due_ms = deadline_ms
        # a millisecond more than asked: firing early would only mean to come again
        self._timer = self._loop.call_later((delay + 1) / 1000, self._fire)

    def _fire(self) -> None:
        if self._clock.monotonic_ms() - self._due_ms >= LATE_MS:
            self._fire_after_reads()
        else:
            self._run_due()

    def _fire_after_reads(self) -> None:
        """Called by a timer of the loop, what it calls soon comes before the loop looks for input (libuv); what that
        calls, behind it."""
        self._timer = self._loop.call_soon(self._read_first)

    def _read_first(self) -> None:
        self._timer = self._loop.call_soon(self._run_due)

    def _run_due(self) -> None:
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
