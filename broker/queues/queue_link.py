"""How deliveries find the queue that they came from, as long as it is there.

A channel may keep deliveries of very many queues that were deleted long ago, until the client acknowledges them. The
queue cuts the link when it is deleted, which costs the same however many deliveries there are, and they keep nothing of
it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from broker.stats import Depth

if TYPE_CHECKING:
    from broker.queues.queue import Queue


@final
class QueueLink(Depth):
    """One queue."""

    def __init__(self, queue: Queue | None) -> None:
        self.queue: Queue | None = queue
        """None once it is deleted."""

    def cut(self) -> None:
        """The queue is deleted."""
        self.queue = None

    def depth(self) -> tuple[int, int]:
        queue = self.queue
        return (0, 0) if queue is None else (int(queue.ready_count()), int(queue.unacked))


NOWHERE: Final = QueueLink(None)
"""Of what belongs to no queue any more."""
