"""x-expires: a queue that nobody uses for so long is deleted (RabbitMQ docs, Queue TTL)."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from broker.clock import Clock, Timed, Timer
from broker.native import i64

if TYPE_CHECKING:
    from broker.queues.backlog_queue import BacklogQueue


@final
class _UnusedTimer(Timed):
    def __init__(self, queue: BacklogQueue) -> None:
        self.queue = queue

    def on_timer(self, now_ms: i64) -> None:
        queue = self.queue
        expiry = queue.expiry
        if expiry is not None and expiry.is_over(queue, now_ms):
            queue.host.remove_queue(queue)


@final
class QueueExpiry:
    """How long a queue has gone unused: without a consumer, basic.get and declare. Made for queues with x-expires
    only."""

    def __init__(self, clock: Clock, after_ms: i64) -> None:
        self._clock = clock
        self._after_ms: i64 = after_ms
        self._used_ms: i64 = 0
        self._timer: Timer | None = None

    def mark_used(self, queue: BacklogQueue) -> None:
        """It is used now."""
        self._used_ms = self._clock.now_ms
        if self._timer is None:
            self._arm(queue)

    def is_over(self, queue: BacklogQueue, now_ms: i64) -> bool:
        """The timer's time has come: whether the queue is to be deleted; otherwise it is looked at again later."""
        self._timer = None
        if queue.deleted or queue.consumers.count():
            return False
        if self._used_ms + self._after_ms > now_ms:
            self._arm(queue)
            return False
        return True

    def _arm(self, queue: BacklogQueue) -> None:
        self._timer = self._clock.call_at(self._used_ms + self._after_ms, _UnusedTimer(queue))

    def stop(self) -> None:
        """The queue is gone."""
        if self._timer is not None:
            self._timer.cancel()
