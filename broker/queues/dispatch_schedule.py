"""When a queue is dispatched next, and who waits for that (turn.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from broker.clock import Clock
from broker.turn import Deferred, Turn

if TYPE_CHECKING:
    from broker.queues.backlog_queue import BacklogQueue

_NOBODY: Final[list[Deferred]] = []
"""Shared, and never changed."""


@final
class DispatchSchedule:
    """Of one queue, which is handed in every time: neither keeps the other when the queue is gone."""

    def __init__(self, turn: Turn, clock: Clock) -> None:
        self.is_scheduled = False
        """It is dispatched in this turn or in the next one."""
        self.is_behind = False
        """In the slice of those with much to drop."""
        self.yields = False
        """What is being done comes before that slice: it drops little, and leaves the rest to it."""
        self._turn = turn
        self._clock = clock
        self._waiters = _NOBODY

    def schedule(self, queue: BacklogQueue) -> None:
        """Dispatch it at the end of this turn."""
        if not self.is_scheduled:
            self.is_scheduled = True
            self._turn.schedule_dispatch(queue)

    def schedule_behind(self, queue: BacklogQueue) -> None:
        """Dispatch it in the slice of those with much to drop."""
        if not self.is_scheduled:
            self.is_scheduled = True
            self.is_behind = True
            self._turn.schedule_dispatch_behind(queue)

    def begin(self) -> None:
        """Its time has come."""
        self.is_scheduled = False
        self.yields = not self.is_behind
        self.is_behind = False

    def wait(self, waiter: Deferred) -> None:
        """Call ``waiter.resume`` when it has been dispatched."""
        if self._waiters:
            self._waiters.append(waiter)
        else:
            self._waiters = [waiter]

    def end(self) -> None:
        """It was dispatched, or is gone."""
        self.yields = False
        if not self._waiters:
            return
        waiters = self._waiters
        self._waiters = _NOBODY
        for waiter in waiters:
            try:
                waiter.resume()
            except Exception as error:
                self._clock.faults.caught("waiting for a message", waiter.fault_owner(), error)
