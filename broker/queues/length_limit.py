"""x-max-length and x-max-length-bytes at work: what is refused, and what goes from the head (RabbitMQ docs, Queue
Length Limit).

RabbitMQ looks at consumers before it applies a limit, message by message; here a dispatch is due at the end of the
turn, so it is run early when there is something to decide.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from broker.clock import Clock
from broker.native import i64
from broker.queues.dropping import drop_head
from broker.queues.expiration import is_past
from broker.queues.levels import body_bytes, highest
from broker.queues.limits import full, over_limit
from broker.turn import Turn

if TYPE_CHECKING:
    from broker.queues.backlog_queue import BacklogQueue

_DROPS_PER_LOOK: Final[i64] = 16
"""Messages dropped between two looks at the clock."""


@final
class LengthLimit:
    """Of one queue, which is handed in every time: neither keeps the other when the queue is gone."""

    def __init__(self, turn: Turn, clock: Clock) -> None:
        self.is_over = False
        """The turn's time was over before the queue was as short as it should be."""
        self._turn = turn
        self._clock = clock

    def _totals(self, queue: BacklogQueue) -> tuple[i64, i64]:
        """Messages, and the sum of their bodies' sizes where there is a limit to it."""
        size = body_bytes(queue.levels) + queue.dead_bytes() if queue.options.max_length_bytes >= 0 else 0
        return queue.ready_count() + queue.set_aside_count(), size

    def is_full(self, queue: BacklogQueue) -> bool:
        count, size = self._totals(queue)
        if not full(queue.options, count, size):
            return False
        queue.dispatcher.dispatch_now(queue, self._clock.now_us)
        count, size = self._totals(queue)
        return full(queue.options, count, size)

    def drop_excess(self, queue: BacklogQueue) -> None:
        if queue.held:
            return  # ``release`` does it: what is about to come back goes first
        count, size = self._totals(queue)
        if not over_limit(queue.options, count, size):
            return
        now_us = self._clock.now_us
        queue.dispatcher.dispatch_now(queue, now_us)
        self.is_over = False
        left = _DROPS_PER_LOOK
        while True:
            count, size = self._totals(queue)
            if not over_limit(queue.options, count, size):
                break
            slow = queue.host.is_dead_lettering(queue)
            if not slow and not self._drop_head(queue, now_us):
                return
            left -= 1
            if left == 0 or slow:
                left = _DROPS_PER_LOOK
                if slow or queue.schedule.yields or self._turn.out_of_time():
                    self.is_over = True
                    queue.schedule.schedule_behind(queue)
                    return
        if queue.expiring:
            queue.expiration().expire(queue, now_us)  # another message stands at the head now

    def _drop_head(self, queue: BacklogQueue, now_us: i64) -> bool:
        level = highest(queue.levels)
        if level.count() == 0:
            return False
        disk = level.disk
        if disk is not None and disk.paging and level.in_memory() == 0:
            if queue.options.dead_letter_exchange is None and disk.skip():
                return True
            if not disk.load():
                self.is_over = True  # it goes on when the message is there
                return False
            if level.in_memory() == 0:
                return True  # what was there is lost
        is_expired = queue.expiring and is_past(level.head_deadline(), now_us)
        drop_head(queue, level, "expired" if is_expired else "maxlen")
        return True
