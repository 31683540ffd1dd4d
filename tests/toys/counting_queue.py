"""A toy queue type, `x-queue-type: counting`: it keeps no message, only how many there were, and each comes out as its
own number.

It shows what a queue type must bring: this module and its registration. Positions are numbers of its own, from 1000 on;
what comes back is known by them.
"""

from __future__ import annotations

import heapq

from broker.message import ACCEPTED, Message
from broker.queues.consumer import Consumer
from broker.queues.declaration import QueueDeclaration, QueueEnvironment
from broker.queues.delivery import Delivery
from broker.queues.queue import Queue
from broker.queues.queue_type import QueueType
from broker.turn import Deferred
from tests.support.fakes import make_message

FIRST = 1000


class CountingQueue(Queue):
    """Hands out numbers in their order."""

    def __init__(self, declared: QueueDeclaration, environment: QueueEnvironment) -> None:
        super().__init__(declared)
        self.environment = environment
        self.next = FIRST
        """The position of the message that comes next."""
        self.waiting: list[int] = []
        """Positions; a heap: what comes back takes its place again."""
        self.again: set[int] = set()
        """Those of them that were delivered before."""
        self.marked = False

    def enqueue(self, message: Message) -> int:
        heapq.heappush(self.waiting, self.next)
        self.next += 1
        self.schedule_dispatch()
        return ACCEPTED

    def recover(self) -> None:
        raise AssertionError("it keeps nothing")

    def ready_count(self) -> int:
        return len(self.waiting)

    def refresh(self) -> None:
        self.dispatch_some()

    def schedule_dispatch(self) -> None:
        if not self.marked:
            self.marked = True
            self.environment.turn.schedule_dispatch(self)

    def dispatch(self) -> None:
        self.marked = False
        self.dispatch_some()

    def dispatch_some(self) -> bool:
        while self.waiting and (group := self.consumers.group()) is not None:
            consumer = group.active[group.turn]
            if consumer.credit() <= 0 or not consumer.has_room():
                group.block(consumer)
                continue
            group.turn = (group.turn + 1) % len(group.active)
            self.unacked += 0 if consumer.no_ack else 1
            self.delivered += 1
            consumer.deliver_one(self, self.taken())
        return True

    def taken(self) -> Delivery:
        position = heapq.heappop(self.waiting)
        is_again = position in self.again
        self.again.discard(position)
        return Delivery(make_message(b"%d" % position, routing_key=self.name), 0, position, is_again)

    def can_get(self, waiter: Deferred) -> bool:
        return True

    def get(self, no_ack: bool) -> Delivery | None:
        self.dispatch_some()
        if not self.waiting:
            return None
        self.unacked += 0 if no_ack else 1
        return self.taken()

    def settle(self, level: int, first: int, count: int, stride: int) -> None:
        self.unacked -= count

    def hold(self, level: int) -> None:
        pass

    def release(self, level: int) -> None:
        self.schedule_dispatch()

    def requeue(self, level: int, first: int, count: int, stride: int, refusal: int) -> int:
        for position in range(first, first + count * stride, stride):
            self.again.add(position)
            heapq.heappush(self.waiting, position)
        self.unacked -= count
        self.schedule_dispatch()
        return count

    def reject(self, level: int, first: int, count: int, stride: int) -> int:
        self.unacked -= count
        return count

    def purge(self) -> int:
        count = len(self.waiting)
        self.waiting = []
        return count

    def add_consumer(self, consumer: Consumer) -> None:
        self.consumers.add(consumer)
        self.schedule_dispatch()

    def remove_consumer(self, consumer: Consumer) -> None:
        self.consumers.remove(consumer)

    def unblock(self, consumer: Consumer) -> None:
        if self.consumers.unblock(consumer):
            self.schedule_dispatch()

    def mark_used(self) -> None:
        pass

    def close(self) -> int:
        self.deleted = True
        self.link.cut()
        for consumer in self.consumers.dissolve():
            consumer.cancelled()
        return len(self.waiting)


COUNTING = QueueType(
    "counting",
    "rabbit_counting_queue",
    CountingQueue,
    arguments=("x-max-age",),
    consumer_arguments=("x-stream-offset",),
)
