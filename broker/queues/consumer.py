"""The contract of a consumer: what a queue knows of whoever takes its messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from mypy_extensions import mypyc_attr

from broker.faults import FaultOwner
from broker.message import Message
from broker.native import i64
from broker.queues.delivery import Delivery
from broker.queues.entry import Entry

if TYPE_CHECKING:
    from broker.queues.queue import Queue


@final
class Subscription:
    """What a client has asked for with basic.consume."""

    def __init__(self, tag: str, no_ack: bool, exclusive: bool, priority: int) -> None:
        self.tag = tag
        self.no_ack = no_ack
        self.exclusive = exclusive
        self.priority = priority
        """x-priority (RabbitMQ docs, Consumer Priorities); 0 if it was not given."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Consumer:
    """The queue's view of a consumer. Whoever talks to the client subclasses it."""

    def __init__(self, asked: Subscription, ordering_key: object | None = None) -> None:
        self.tag = asked.tag
        self.no_ack = asked.no_ack
        self.exclusive = asked.exclusive
        self.priority = asked.priority
        # given, not set again by the subclass: mypyc takes an assignment in __init__ for the first one and would leak
        # what it replaces
        self.ordering_key: object = self if ordering_key is None else ordering_key
        """What its messages leave by: consumers with the same key (one channel) must see a queue's messages in its
        order."""
        self.blocked = False
        """Not in the rotation because it had no room when asked last."""
        self.shared = False
        """Its window is shared with other consumers, so that room offered to it may be gone after a delivery to another
        one."""
        self.registered = False
        """Whether its queue still knows it."""

    def credit(self) -> i64:
        """How many more messages it may have before it settles some; 0 or less for none. When that changes, it is
        unblocked."""
        raise NotImplementedError

    def has_room(self) -> bool:
        """Whether its connection takes more now. If not, it is unblocked when it does: this is asked only by whoever
        has a message for it."""
        raise NotImplementedError

    def room_bytes(self) -> i64:
        """How many bytes its connection takes now: a bound for batches of large messages."""
        raise NotImplementedError

    def reserve(self, count: i64, size: i64) -> None:
        """So many messages, of so many bytes, will be delivered later: what ``credit`` and ``has_room`` say is less by
        that."""

    def unreserve(self, count: i64, size: i64) -> None:
        """They are delivered now."""

    def forgo(self, count: i64, size: i64) -> None:
        """They are never delivered: whoever waits for credit or for room may have it."""

    def deliver(
        self,
        queue: Queue,
        level: i64,
        items: list[Message | Entry | None],
        first_position: i64,
        stride: i64,
        redelivered: bool,
    ) -> None:
        """Take these messages, at most ``credit()``, and only read the list: the one at index i has position
        first_position + i * stride.

        ``redelivered``: all of them were delivered before, or none.
        """
        raise NotImplementedError

    def deliver_one(self, queue: Queue, delivery: Delivery) -> None:
        """Take one message that expires or that may have been delivered before a crash."""
        raise NotImplementedError

    def settled(self, count: i64) -> None:
        """The client settled ``count`` of the messages this consumer got."""
        raise NotImplementedError

    def cancelled(self) -> None:
        """The queue is gone: tell the client (basic.cancel), forget the queue."""
        raise NotImplementedError

    def left(self) -> None:
        """It has left its queue, and need not know it any more: what it got may stay unacknowledged for long."""

    def fault_owner(self) -> FaultOwner | None:
        """Whose connection a delivery is for, which ends when that fails by a mistake of ours."""
        return None
