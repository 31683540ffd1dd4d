"""Messages from before the start of the node that must not be delivered when their turn comes: they stand among those
that wait, and are delayed, or dead letters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker.native import i64
from broker.queues.delivery import Delivery
from broker.queues.quorum.values import OUT, delivery_count, state_of

if TYPE_CHECKING:
    from broker.queues.quorum.queue import QuorumQueue


def holds_back(queue: QuorumQueue, delivery: Delivery) -> bool:
    """Whether this is one of them; what becomes of it is settled then."""
    delays = queue.delays
    if delays is not None and delays.unseen > 0 and delays.set_aside(delivery.level, delivery.position):
        return True
    if not _has_failed_too_often(queue, delivery):
        return False
    backlog = queue.backlog_at(delivery.level)
    if queue.keeper is not None:
        queue.keeper.keep(backlog, delivery.position, 1, 1, "delivery_limit")
        return True
    queue.host.dead_letter(queue, delivery.message, "delivery_limit")
    backlog.settle(delivery.position, 1, 1)
    return True


def _has_failed_too_often(queue: QuorumQueue, delivery: Delivery) -> bool:
    """Whether the end of the node was one failure too many for a message that consumers had then."""
    limit: i64 = queue.options.delivery_limit
    if limit < 0 or not delivery.redelivered or not queue.replica.was_out(delivery.level, delivery.position):
        return False
    value = queue.replica.ledger.value_at(delivery.level, delivery.position)
    failed = delivery_count(value)
    if state_of(value) == OUT:
        failed += 1  # the entry that says that it came back is not applied yet
    return failed > limit
