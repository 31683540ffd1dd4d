"""Who gets the next message: consumers of one queue by priority, in turns, one active, or exclusively.

Only consumers that may have room stand in the rotation; one found without room leaves it (``blocked``) and comes back when an
ack, a flushed socket or a larger prefetch gives it room again, so a queue with a thousand busy consumers costs nothing per
message. Equal-priority consumers take turns message by message (RabbitMQ docs, Consumers); lower priorities get messages only
while all higher ones are blocked (RabbitMQ docs, Consumer Priorities).
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Final, final

from mypy_extensions import mypyc_attr

from broker.faults import FaultOwner, Faults
from broker.message import Message
from broker.native import i64
from broker.queues.entry import Entry
from broker.turn import SlicedWork

if TYPE_CHECKING:
    from broker.queues.queue import Queue

_SPARE: Final = 16
_CANCELLED_AT_ONCE: Final[i64] = 128
"""Consumers that are told in one turn that their queue is gone; each takes 3 us."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Consumer:
    """The queue's view of a consumer. Whoever talks to the client subclasses it."""

    def __init__(self, tag: str, no_ack: bool, exclusive: bool, priority: int, lane: object | None = None) -> None:
        self.tag = tag
        self.no_ack = no_ack
        self.exclusive = exclusive
        self.priority = priority
        # given, not set again by the subclass: mypyc takes an assignment in __init__ for the first one and would leak what it replaces
        self.lane: object = self if lane is None else lane
        """What its messages leave by: consumers with the same lane (one channel) must see a queue's messages in its order."""
        self.blocked = False
        """Not in the rotation because it had no room when asked last."""
        self.shared = False
        """Its window is shared with other consumers, so that room offered to it may be gone after a delivery to another one."""
        self.registered = False
        """Whether its queue still knows it."""

    def capacity(self) -> i64:
        """How many messages it takes now; 0 when it has no room."""
        raise NotImplementedError

    def room_bytes(self) -> i64:
        """How many bytes its connection takes now: a bound for batches of large messages."""
        raise NotImplementedError

    def deliver(
        self,
        queue: Queue,
        level: i64,
        items: list[Message | Entry | None],
        first_position: i64,
        stride: i64,
        redelivered: bool,
    ) -> None:
        """Take these messages, at most ``capacity()``: the one at index i has position first_position + i * stride.

        ``redelivered``: all of them were delivered before, or none.
        """
        raise NotImplementedError

    def deliver_entry(self, queue: Queue, level: i64, entry: Entry) -> None:
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


@final
class Group:
    """The consumers of one priority that are in the rotation."""

    def __init__(self, priority: int) -> None:
        self.priority = priority
        self.active: list[Consumer] = []
        self.turn: i64 = 0
        self.members: i64 = 0
        """Consumers that are in the rotation or will come back to it."""
        self.listed = False
        """Its priority is among those that may have a consumer in the rotation."""
        self.crowded: i64 = 0
        """Consumers that share their lane with an earlier one of the group."""
        self._lanes: dict[object, int] = {}

    def block(self, consumer: Consumer) -> None:
        """Take it out of the rotation."""
        at = self.turn
        if at >= len(self.active) or self.active[at] is not consumer:  # mostly it is the one whose turn it is
            at = self.active.index(consumer)
        del self.active[at]
        if at < self.turn:
            self.turn -= 1
        if self.turn >= len(self.active):
            self.turn = 0
        consumer.blocked = True
        others = self._lanes[consumer.lane] - 1
        if others:
            self._lanes[consumer.lane] = others
            self.crowded -= 1
        else:
            del self._lanes[consumer.lane]

    def join(self, consumer: Consumer) -> None:
        """Last in line: right before the consumer whose turn it is."""
        if self.turn == 0:
            self.active.append(consumer)
        else:
            self.active.insert(self.turn, consumer)
            self.turn += 1
        consumer.blocked = False
        others = self._lanes.get(consumer.lane, 0)
        self._lanes[consumer.lane] = others + 1
        if others:
            self.crowded += 1


@final
class Consumers:
    """All consumers of one queue. Owned by the queue."""

    def __init__(self, single_active: bool) -> None:
        self.single_active = single_active
        self.all: list[Consumer] = []
        self.groups: list[Group] = []
        """By descending priority; groups without a member do not exist."""
        self.exclusive: Consumer | None = None
        self._heap: list[int] = []
        """Priorities with the sign changed, so that the highest comes first: all groups that have a consumer in the rotation, and some
        that had one. With thousands of priorities nobody looks through the groups for each message."""

    def count(self) -> int:
        """Consumers of the queue, active or not."""
        return len(self.all)

    def group(self) -> Group | None:
        """The group whose turn it is: the highest priority with a consumer in the rotation."""
        groups = self.groups
        if not groups:
            return None
        first = groups[0]
        if first.active:
            return first
        heap = self._heap
        while heap:
            priority = -heap[0]
            at = self._place_of(priority)
            if at < len(groups):
                group = groups[at]
                if group.priority == priority:
                    if group.active:
                        return group
                    group.listed = False
            heapq.heappop(heap)
        return None

    def _join(self, group: Group, consumer: Consumer) -> None:
        group.join(consumer)
        if group.listed:
            return
        group.listed = True
        heapq.heappush(self._heap, -group.priority)
        if len(self._heap) > 2 * len(self.groups) + _SPARE:  # of groups that are gone
            self._heap = sorted([-each.priority for each in self.groups if each.listed])

    def _group_of(self, priority: int) -> Group:
        at = self._place_of(priority)
        if at < len(self.groups):
            found = self.groups[at]
            if found.priority == priority:
                return found
        fresh = Group(priority)
        self.groups.insert(at, fresh)
        return fresh

    def _place_of(self, priority: int) -> i64:
        """Where the group of this priority stands, or would stand."""
        low: i64 = 0
        high: i64 = len(self.groups)
        while low < high:
            middle = (low + high) >> 1
            if self.groups[middle].priority > priority:
                low = middle + 1
            else:
                high = middle
        return low

    def _enter(self, consumer: Consumer) -> None:
        group = self._group_of(consumer.priority)
        group.members += 1
        self._join(group, consumer)

    def add(self, consumer: Consumer) -> None:
        """A new consumer; last in its group's rotation. With single-active only the first one enters it."""
        self.all.append(consumer)
        consumer.registered = True
        if consumer.exclusive:
            self.exclusive = consumer
        if not self.single_active or len(self.all) == 1:
            self._enter(consumer)

    def remove(self, consumer: Consumer) -> None:
        """Forget a consumer; with single-active the next one takes over."""
        if not consumer.registered:
            return
        consumer.registered = False
        consumer.left()
        was_active = self.single_active and self.all[0] is consumer
        self.all.remove(consumer)
        if self.exclusive is consumer:
            self.exclusive = None
        at = self._place_of(consumer.priority)
        if at < len(self.groups) and self.groups[at].priority == consumer.priority:
            self._leave(self.groups[at], at, consumer)
        if was_active and self.all:
            self._enter(self.all[0])

    def dissolve(self) -> list[Consumer]:
        """Forget all consumers, and return them."""
        everybody = self.all
        self.all = []
        self.groups = []
        self._heap = []
        self.exclusive = None
        for consumer in everybody:
            consumer.registered = False
        return everybody

    def suspend(self, consumer: Consumer) -> None:
        """Take it out of the rotation, where it may or may not be."""
        at = self._place_of(consumer.priority)
        if at < len(self.groups) and consumer in self.groups[at].active:
            self.groups[at].block(consumer)

    def _leave(self, group: Group, at: i64, consumer: Consumer) -> None:
        if consumer in group.active:
            group.block(consumer)
        elif not consumer.blocked:
            return  # it waits to become the single active one
        group.members -= 1
        if not group.members:
            del self.groups[at]

    def unblock(self, consumer: Consumer) -> bool:
        """It may have room again; True when it is back in the rotation."""
        if not consumer.blocked or not consumer.registered:
            return False
        self._join(self._group_of(consumer.priority), consumer)
        return True


@final
class Cancelling(SlicedWork):
    """Consumers are told that their queue is gone."""

    def __init__(self, faults: Faults, consumers: list[Consumer]) -> None:
        self._faults = faults
        self._consumers = consumers
        self._consumers.reverse()  # what is done is let go at once

    def step(self) -> bool:
        consumers = self._consumers
        left = _CANCELLED_AT_ONCE
        while consumers and left > 0:
            left -= 1
            consumer = consumers.pop()
            self._faults.run("cancel of a consumer", consumer.fault_owner(), consumer.cancelled)
        return not consumers
