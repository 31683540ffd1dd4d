"""What waits until the entry that says so is applied: deliveries, and the answers to basic.get."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from mypy_extensions import mypyc_attr

from broker.message import Message
from broker.native import i64
from broker.queues.consumer import Consumer
from broker.queues.delivery import Delivery
from broker.queues.entry import Entry
from broker.queues.quorum.counting import counted
from broker.queues.quorum.values import UNDELIVERED
from broker.turn import Deferred

if TYPE_CHECKING:
    from broker.queues.quorum.queue import QuorumQueue


@mypyc_attr(allow_interpreted_subclasses=True)
class Held:
    """One such thing."""

    def release(self, queue: QuorumQueue) -> None:
        """The entry is applied."""
        raise NotImplementedError

    def drop(self) -> None:
        """The queue is deleted."""


@final
class HeldDeliveries(Held):
    """Messages that were never delivered before, for a consumer."""

    def __init__(
        self, consumer: Consumer, level: i64, items: list[Message | Entry | None], first: i64, stride: i64
    ) -> None:
        self.consumer = consumer
        self.level: i64 = level
        self.items = items[:]  # it may be the backlog's own list, which goes on changing
        self.first: i64 = first
        self.stride: i64 = stride
        self.size: i64 = 0
        """Bytes of their contents."""
        for item in items:
            if isinstance(item, Message):
                self.size += len(item.content)

    def release(self, queue: QuorumQueue) -> None:
        consumer = self.consumer
        count: i64 = len(self.items)
        if consumer.registered:
            consumer.unreserve(count, self.size)
            consumer.deliver(queue, self.level, self.items, self.first, self.stride, False)
            return
        consumer.forgo(count, self.size)
        if not consumer.no_ack:
            queue.put_back(self.level, self.first, count, self.stride, UNDELIVERED)

    def drop(self) -> None:
        self.consumer.forgo(len(self.items), self.size)


@final
class HeldDelivery(Held):
    """One message for a consumer: one that was delivered before, or that expires."""

    def __init__(self, consumer: Consumer, delivery: Delivery) -> None:
        self.consumer = consumer
        self.delivery = delivery
        self.size: i64 = len(delivery.message.content)

    def release(self, queue: QuorumQueue) -> None:
        consumer = self.consumer
        delivery = self.delivery
        if consumer.registered:
            consumer.unreserve(1, self.size)
            consumer.deliver_one(queue, counted(queue.replica.ledger, delivery))
            if consumer.no_ack and delivery.redelivered:
                queue.settle(delivery.level, delivery.position, 1, 1)
            return
        consumer.forgo(1, self.size)
        if not consumer.no_ack or delivery.redelivered:
            queue.put_back(delivery.level, delivery.position, 1, 1, UNDELIVERED)

    def drop(self) -> None:
        self.consumer.forgo(1, self.size)


@final
class HeldGet(Held):
    """The answer to a basic.get."""

    def __init__(self, waiter: Deferred, delivery: Delivery) -> None:
        self.waiter = waiter
        self.delivery = delivery

    def release(self, queue: QuorumQueue) -> None:
        queue.got(self.waiter, counted(queue.replica.ledger, self.delivery))
