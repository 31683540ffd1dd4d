"""The next message of a queue, for a basic.get."""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker.message import ON_DISK
from broker.native import i64
from broker.queues.delivery import Delivery
from broker.queues.dispatcher import evict_some
from broker.queues.levels import highest

if TYPE_CHECKING:
    from broker.queues.backlog_queue import BacklogQueue


def take_next(queue: BacklogQueue, now_us: i64, no_ack: bool) -> Delivery | None:
    """It is not ready any more; None if nothing is there, or everything is about to expire."""
    level = highest(queue.levels)
    while level.count() > 0:
        if not no_ack:
            evict_some(level, queue.unacked, 1)
        entry = level.pop()
        if entry.message is not ON_DISK:
            return Delivery(entry.message, level.level, entry.position, entry.redelivered)
        level.settle(entry.position, 1, 1)  # its content is lost: the one behind it is the head now
        if queue.expiring and not queue.expiration().expire(queue, now_us):
            return None
        level = highest(queue.levels)
    return None
