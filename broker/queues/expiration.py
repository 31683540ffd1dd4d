"""Messages that expire while they wait: dropped, or dead-lettered with reason ``expired``, when they stand at the head
of their level.

Only heads are looked at: a message behind one that lives longer waits (RabbitMQ docs, Per-Message TTL in Publishers).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from broker.clock import NEVER, Clock, Timed, Timer
from broker.native import i64
from broker.queues.dropping import drop_head
from broker.queues.message_backlog import MessageBacklog
from broker.turn import Turn

if TYPE_CHECKING:
    from broker.queues.backlog_queue import BacklogQueue

_DROPS_PER_LOOK: Final[i64] = 16
"""Messages that expire between two looks at the clock."""


def is_past(deadline_us: i64, now_us: i64) -> bool:
    """Whether a message with this deadline has expired."""
    return deadline_us != 0 and deadline_us <= now_us


@final
class _ExpiryTimer(Timed):
    def __init__(self, queue: BacklogQueue) -> None:
        self.queue = queue

    def on_timer(self, now_ms: i64) -> None:
        self.queue.schedule.schedule_behind(self.queue)  # what has expired goes in the turn, where time is bounded


@final
class Expiration:
    """Of one queue, which is handed in every time: neither keeps the other when the queue is gone."""

    def __init__(self, turn: Turn, clock: Clock) -> None:
        self._turn = turn
        self._clock = clock
        self._timer: Timer | None = None
        self._drops_left: i64 = 0
        """Messages until the next look at the clock."""

    def expire(self, queue: BacklogQueue, now_us: i64) -> bool:
        """Drop what stands at the head of a level past its deadline.

        False if the turn's time was over before everything was gone: the queue is dispatched again, and delivers
        nothing until then.
        """
        if queue.deleted:
            return True
        self._drops_left = _DROPS_PER_LOOK
        waiting = False
        for level in queue.levels:
            if not self.expire_level(queue, level, now_us):
                return False
            waiting = waiting or level.expiring
        queue.expiring = waiting
        if waiting:
            self.arm(queue)
        return True

    def expire_level(self, queue: BacklogQueue, level: MessageBacklog, now_us: i64) -> bool:
        """The same for one level."""
        while is_past(level.head_deadline(), now_us):
            if queue.host.is_dead_lettering(queue):
                queue.schedule.schedule_behind(queue)
                return False
            drop_head(queue, level, "expired")
            self._drops_left -= 1
            if self._drops_left <= 0:
                self._drops_left = _DROPS_PER_LOOK
                if queue.schedule.yields or self._turn.out_of_time():
                    queue.schedule.schedule_behind(queue)
                    return False
        return True

    def arm(self, queue: BacklogQueue) -> None:
        """Look again when the next head expires."""
        earliest: i64 = NEVER
        for level in queue.levels:
            deadline = level.head_deadline()
            if deadline and deadline < earliest:
                earliest = deadline
        if earliest != NEVER:
            self._timer = self._clock.call_by((earliest + 999) // 1000, _ExpiryTimer(queue), self._timer)

    def stop(self) -> None:
        """The queue is gone."""
        if self._timer is not None:
            self._timer.cancel()
