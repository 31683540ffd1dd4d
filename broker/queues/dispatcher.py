"""Hands the waiting messages of one level to the consumers of their queue: to a single one in batches, to equal ones in
turns.

RabbitMQ docs, Consumers, and Consumer Priorities; who is next is the rotation's matter (consumers.py). It knows of a
queue what every queue has, and of a level what ``MessageBacklog`` offers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from broker.clock import Clock
from broker.message import Message
from broker.native import i64
from broker.queues.consumer import Consumer
from broker.queues.consumers import Group
from broker.queues.entry import Entry
from broker.queues.expiration import is_past
from broker.queues.message_backlog import MessageBacklog
from broker.turn import Turn

if TYPE_CHECKING:
    from broker.queues.classic import ClassicQueue

_BATCH_MAX: Final[i64] = 1024
_SMALL_BODY: Final[i64] = 1024
_TURNS_MAX: Final[i64] = 256
"""So many consumers at the most get their share of a batch in one go; more get one message after the other."""
_DELIVERIES_PER_LOOK: Final[i64] = 16
"""Deliveries, of one message or of sixteen in a row, between two looks at the clock."""


@final
class Dispatcher:
    """Of one queue, which is handed in every time: neither keeps the other when the queue is gone."""

    def __init__(self, turn: Turn, clock: Clock) -> None:
        self.bounded_time = False
        """What is being done looks at the clock."""
        self.is_cut = False
        """The last dispatch ended because the time was over."""
        self._turn = turn
        self._clock = clock
        self._left: i64 = _DELIVERIES_PER_LOOK
        """Deliveries, on all levels, until it does so again."""

    def dispatch(self, queue: ClassicQueue, backlog: MessageBacklog, now_us: i64) -> bool:
        """Dispatch one level; False when consumers ran out before messages did, messages are on their way from the
        disk, or too much has expired between those that were delivered."""
        consumers = queue.consumers
        while backlog.available() > 0:
            if self._left <= 0:
                self._left = _DELIVERIES_PER_LOOK
                if self.bounded_time and self._turn.out_of_time():
                    self.is_cut = True
                    queue.schedule_dispatch()
                    return False
                if self.bounded_time and queue.expiration.expiring:
                    now_us = self._clock.monotonic_us()
            group = consumers.group()
            if group is None:
                return False
            active = group.active
            consumer = active[group.turn]
            capacity = consumer.capacity()
            self._left -= 1
            if capacity <= 0:
                group.block(consumer)
                continue
            plain = backlog.plain()
            if plain == 0:
                if not is_past(backlog.head_deadline(), now_us):
                    self._deliver_one(queue, group, consumer, backlog)
                elif not queue.expiration.expire_level(queue, backlog, now_us):
                    self.is_cut = True
                    return False
                continue
            size: i64 = len(active)
            if size == 1:
                count = plain if plain < capacity else capacity
                count = self._bounded(backlog, consumer, count)
                queue.unacked += 0 if consumer.no_ack else count
                position = backlog.next_position()
                stride = backlog.next_stride()
                redelivered = backlog.redelivers()
                items = backlog.take(count)
                try:
                    consumer.deliver(queue, backlog.level, items, position, stride, redelivered)
                except Exception as error:
                    self._undelivered(queue, consumer, error)
                if consumer.no_ack:
                    backlog.settle(position, count, stride)
                queue.delivered += count
                self._left -= count // 16
            elif plain >= size and size <= _TURNS_MAX and not group.shares_channel:
                self._left -= (
                    self._deliver_in_turns(queue, group, backlog, plain if plain < _BATCH_MAX else _BATCH_MAX) // 16
                )
            else:
                self._deliver_one(queue, group, consumer, backlog)
        return backlog.count() == 0 and backlog.holds == 0

    def _bounded(self, backlog: MessageBacklog, consumer: Consumer, count: i64) -> i64:
        if count > _BATCH_MAX:
            count = _BATCH_MAX
        size = backlog.head_body_size()
        if size > _SMALL_BODY:
            room = consumer.room_bytes() // size + 1
            if count > room:
                count = room
        return count

    def _deliver_one(self, queue: ClassicQueue, group: Group, consumer: Consumer, backlog: MessageBacklog) -> None:
        group.turn += 1
        if group.turn >= len(group.active):
            group.turn = 0
        if not consumer.no_ack:
            queue.unacked += 1
        queue.delivered += 1
        plain = backlog.plain()
        position = backlog.next_position()
        redelivered = backlog.redelivers()
        entry: Entry | None = None
        items: list[Message | Entry | None] = []
        if plain:
            items = backlog.take(1)
        else:
            entry = backlog.pop()
            position = entry.position
        try:
            if entry is None:
                consumer.deliver(queue, backlog.level, items, position, 1, redelivered)
            else:
                consumer.deliver_entry(queue, backlog.level, entry)
        except Exception as error:
            self._undelivered(queue, consumer, error)
        if consumer.no_ack:
            backlog.settle(position, 1, 1)

    def _deliver_in_turns(self, queue: ClassicQueue, group: Group, backlog: MessageBacklog, plain: i64) -> i64:
        """Every consumer of the group gets one message a round, as many rounds as all have room for; how many messages
        that is."""
        active = group.active
        size: i64 = len(active)
        rounds = plain // size
        index: i64 = 0
        while index < size:
            consumer = active[index]
            capacity = consumer.capacity()
            if capacity <= 0:
                group.block(consumer)
                return size
            capacity = self._bounded(backlog, consumer, capacity)
            if capacity < rounds:
                rounds = capacity
            if consumer.shared:
                self._deliver_one(queue, group, active[group.turn], backlog)
                return size
            index += 1
        position = backlog.next_position()
        stride = backlog.next_stride()
        redelivered = backlog.redelivers()
        items = backlog.take(rounds * size)
        queue.delivered += rounds * size
        start = group.turn
        failed: list[tuple[Consumer, Exception]] = []
        index = 0
        while index < size:
            at = start + index
            if at >= size:
                at -= size
            consumer = active[at]
            if not consumer.no_ack:
                queue.unacked += rounds
            try:
                consumer.deliver(
                    queue, backlog.level, items[index::size], position + index * stride, size * stride, redelivered
                )
            except Exception as error:
                failed.append((consumer, error))
            if consumer.no_ack:
                backlog.settle(position + index * stride, rounds, size * stride)
            index += 1
        for refused, mistake in failed:
            self._undelivered(queue, refused, mistake)
        return rounds * size

    def _undelivered(self, queue: ClassicQueue, consumer: Consumer, error: Exception) -> None:
        """A delivery failed by a mistake of ours: its connection ends, and what it had goes back; until then it gets
        nothing more."""
        queue.consumers.suspend(consumer)
        self._clock.faults.caught(f"delivery from queue '{queue.name}'", consumer.fault_owner(), error)
