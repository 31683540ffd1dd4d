"""Who gets the next message: consumers of one queue by priority, in turns, one active, or exclusively.

Only consumers that may have room stand in the rotation; one found without room leaves it (``blocked``) and comes back
when an ack, a flushed socket or a larger prefetch gives it room again, so a queue with a thousand busy consumers costs
nothing per message. Equal-priority consumers take turns message by message (RabbitMQ docs, Consumers); lower priorities
get messages only while all higher ones are blocked (RabbitMQ docs, Consumer Priorities).
"""

from __future__ import annotations

import heapq
from typing import Final, final

from broker.faults import Faults
from broker.native import i64
from broker.queues.consumer import Consumer
from broker.turn import SlicedWork

_SPARE: Final = 16
_NOBODY: Final[list[Consumer]] = []
"""All queues share these while they have no consumers, so nothing is ever put into them:"""
_NO_GROUPS: Final[list[Group]] = []
_NO_PRIORITIES: Final[list[int]] = []
"""there are new ones instead."""
_CANCELLED_AT_ONCE: Final[i64] = 128
"""Consumers that are told in one turn that their queue is gone; each takes 3 us."""


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
        self.shares_channel: i64 = 0
        """How many consumers share their channel (``ordering_key``) with an earlier one of the group."""
        self._on_channel: dict[object, int] = {}

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
        others = self._on_channel[consumer.ordering_key] - 1
        if others:
            self._on_channel[consumer.ordering_key] = others
            self.shares_channel -= 1
        else:
            del self._on_channel[consumer.ordering_key]

    def join(self, consumer: Consumer) -> None:
        """Last in line: right before the consumer whose turn it is."""
        if self.turn == 0:
            self.active.append(consumer)
        else:
            self.active.insert(self.turn, consumer)
            self.turn += 1
        consumer.blocked = False
        others = self._on_channel.get(consumer.ordering_key, 0)
        self._on_channel[consumer.ordering_key] = others + 1
        if others:
            self.shares_channel += 1


@final
class Consumers:
    """All consumers of one queue. Owned by the queue."""

    def __init__(self, single_active: bool) -> None:
        self.single_active = single_active
        self.all = _NOBODY
        """In the order in which they came; only to be read, as are the groups."""
        self.groups = _NO_GROUPS
        """By descending priority; groups without a member do not exist."""
        self.exclusive: Consumer | None = None
        self._heap = _NO_PRIORITIES
        """Priorities with the sign changed, so that the highest comes first: all groups that have a consumer in the
        rotation, and some that had one. With thousands of priorities nobody looks through the groups for each
        message."""

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
        if not self.all:
            self.all = []
            self.groups = []
            self._heap = []
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
        if not self.all:
            self._forget()
        elif was_active:
            self._enter(self.all[0])

    def _forget(self) -> None:
        """There are none."""
        self.all = _NOBODY
        self.groups = _NO_GROUPS
        self._heap = _NO_PRIORITIES

    def dissolve(self) -> list[Consumer]:
        """Forget all consumers, and return them."""
        everybody = self.all
        self._forget()
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
