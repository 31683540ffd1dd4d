"""Hands the waiting messages of one level to the consumers of their queue: to a single one in batches, to equal ones in
turns.

RabbitMQ docs, Consumers, and Consumer Priorities; who is next is the rotation's matter (consumers.py). It knows of a
queue what every queue has, and of a level what ``MessageBacklog`` offers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from broker.clock import Clock
from broker.native import i64
from broker.queues.block import MESSAGE_BYTES, body_size
from broker.queues.consumer import Consumer
from broker.queues.consumers import Group
from broker.queues.delivery import Delivery
from broker.queues.expiration import is_past
from broker.queues.message_backlog import MessageBacklog
from broker.turn import Turn

if TYPE_CHECKING:
    from broker.queues.backlog_queue import BacklogQueue

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

    def dispatch(self, queue: BacklogQueue, now_us: i64) -> None:
        """Deliver what has not expired at that time, which nobody asks for where nothing expires."""
        self.is_cut = False
        if queue.expiring and not queue.expiration().expire(queue, now_us):
            self.is_cut = True
            return
        levels = queue.levels
        if queue.consumers.groups:
            at: i64 = len(levels) - 1
            while at >= 0 and self._dispatch_level(queue, levels[at], now_us):
                at -= 1
            if at > 0 and levels[at].available() == 0:
                # it waits for the disk: what the lower levels need from it comes with the same sync, not one after the
                # other
                for level in levels[:at]:
                    level.available()
        elif queue.expiring:
            for level in levels:
                level.at_hand()  # the head is read, so that it can expire without a consumer
        if queue.expiring and not queue.schedule.is_behind:
            queue.expiration().expire(queue, now_us)  # what stands at the head now may be another message than before

    def dispatch_bounded(self, queue: BacklogQueue, now_us: i64) -> bool:
        """The same, as far as the slice of the turn goes; whether that sufficed."""
        self.bounded_time = True
        try:
            self.dispatch(queue, now_us)
        finally:
            self.bounded_time = False
        return not self.is_cut

    def dispatch_now(self, queue: BacklogQueue, now_us: i64) -> None:
        """Consumers get what they can take, before something is decided about the rest."""
        # the mark stays: the turn's own dispatch then finds less, or nothing, to do
        if queue.consumers.groups:
            self.dispatch(queue, now_us)
        elif queue.expiring:
            queue.expiration().expire(queue, now_us)

    def _dispatch_level(self, queue: BacklogQueue, backlog: MessageBacklog, now_us: i64) -> bool:
        """Dispatch one level; False when consumers ran out before messages did, messages are on their way from the
        disk, or too much has expired between those that were delivered."""
        consumers = queue.consumers
        while backlog.available() > 0:
            if self._left <= 0:
                self._left = _DELIVERIES_PER_LOOK
                if self.bounded_time and self._turn.out_of_time():
                    self.is_cut = True
                    queue.schedule.schedule(queue)
                    return False
                if self.bounded_time and queue.expiring:
                    now_us = self._clock.monotonic_us()
            group = consumers.group()
            if group is None:
                return False
            active = group.active
            consumer = active[group.turn]
            credit = consumer.credit()
            self._left -= 1
            if credit <= 0 or not consumer.has_room():
                group.block(consumer)
                continue
            plain = backlog.plain()
            if plain == 0:
                if not is_past(backlog.head_deadline(), now_us):
                    self._deliver_one(queue, group, consumer, backlog)
                elif not queue.expiration().expire_level(queue, backlog, now_us):
                    self.is_cut = True
                    return False
                continue
            size: i64 = len(active)
            if size == 1:
                count = _bounded(consumer, plain if plain < credit else credit, body_size(backlog.next_item()))
                self._deliver_batch(queue, consumer, backlog, count)
                self._left -= count // 16
            elif plain >= size and size <= _TURNS_MAX and not group.shares_channel:
                self._left -= (
                    self._deliver_in_turns(queue, group, backlog, plain if plain < _BATCH_MAX else _BATCH_MAX) // 16
                )
            else:
                self._deliver_one(queue, group, consumer, backlog)
        return backlog.count() == 0 and backlog.holds == 0

    def _deliver_batch(self, queue: BacklogQueue, consumer: Consumer, backlog: MessageBacklog, count: i64) -> None:
        """The next ``count`` messages, at most ``plain``, go to this consumer."""
        no_ack = consumer.no_ack
        if not no_ack:
            evict_some(backlog, queue.unacked, count)
            queue.unacked += count
        queue.delivered += count
        redelivered = backlog.requeued.count > 0
        position = backlog.next_position()
        items = backlog.take(count)
        try:
            queue.hand_over(consumer, backlog.level, items, position, 1, redelivered)
        except Exception as error:
            self.undelivered(queue, consumer, error)
        if no_ack and (queue.settles_redelivered or not redelivered):
            backlog.settle(position, count, 1)

    def _deliver_one(self, queue: BacklogQueue, group: Group, consumer: Consumer, backlog: MessageBacklog) -> None:
        group.turn += 1
        if group.turn >= len(group.active):
            group.turn = 0
        if backlog.plain() > 0:
            self._deliver_batch(queue, consumer, backlog, 1)
            return
        if not consumer.no_ack:
            evict_some(backlog, queue.unacked, 1)
            queue.unacked += 1
        queue.delivered += 1
        entry = backlog.pop()
        is_handed_over = True
        try:
            is_handed_over = queue.hand_over_one(
                consumer, Delivery(entry.message, backlog.level, entry.position, entry.redelivered)
            )
        except Exception as error:
            self.undelivered(queue, consumer, error)
        if consumer.no_ack and is_handed_over and (queue.settles_redelivered or not entry.redelivered):
            backlog.settle(entry.position, 1, 1)

    def _deliver_in_turns(self, queue: BacklogQueue, group: Group, backlog: MessageBacklog, plain: i64) -> i64:
        """Every consumer of the group gets one message a round, as many rounds as all have room for; how many messages
        that is."""
        active = group.active
        size: i64 = len(active)
        rounds = plain // size
        head_size = body_size(backlog.next_item())
        keeping: i64 = 0
        index: i64 = 0
        while index < size:
            consumer = active[index]
            credit = consumer.credit()
            if credit <= 0 or not consumer.has_room():
                group.block(consumer)
                return size
            credit = _bounded(consumer, credit, head_size)
            if credit < rounds:
                rounds = credit
            if consumer.shared:
                self._deliver_one(queue, group, active[group.turn], backlog)
                return size
            if not consumer.no_ack:
                keeping += 1
            index += 1
        if keeping > 0:
            evict_some(backlog, queue.unacked, rounds * size)
        queue.unacked += rounds * keeping
        queue.delivered += rounds * size
        self._deliver_rounds(queue, group, backlog, rounds, keeping == 0)
        return rounds * size

    def _deliver_rounds(
        self, queue: BacklogQueue, group: Group, backlog: MessageBacklog, rounds: i64, settles: bool
    ) -> None:
        """Deliver so many rounds; ``settles``: none of the consumers acknowledges."""
        active = group.active
        size: i64 = len(active)
        redelivered = backlog.requeued.count > 0
        is_settled = queue.settles_redelivered or not redelivered
        position = backlog.next_position()
        items = backlog.take(rounds * size)
        failed: list[tuple[Consumer, Exception]] = []
        index: i64 = 0
        while index < size:
            at = group.turn + index
            if at >= size:
                at -= size
            consumer = active[at]
            first = position + index
            try:
                queue.hand_over(consumer, backlog.level, items[index::size], first, size, redelivered)
            except Exception as error:
                failed.append((consumer, error))
            if consumer.no_ack and not settles and is_settled:
                backlog.settle(first, rounds, size)
            index += 1
        if settles and is_settled:
            backlog.settle(position, rounds * size, 1)
        for refused, mistake in failed:
            self.undelivered(queue, refused, mistake)

    def undelivered(self, queue: BacklogQueue, consumer: Consumer, error: Exception) -> None:
        """A delivery failed by a mistake of ours: its connection ends, and what it had goes back; until then it gets
        nothing more."""
        queue.consumers.suspend(consumer)
        self._clock.faults.caught(f"delivery from queue '{queue.name}'", consumer.fault_owner(), error)


def evict_some(backlog: MessageBacklog, unacked: i64, delivered: i64) -> None:
    """So many messages are about to be delivered to consumers that have ``unacked`` already: some of the earlier ones
    may have to leave the memory."""
    disk = backlog.disk
    if disk is not None and unacked > 0:
        disk.evict(unacked * (MESSAGE_BYTES + body_size(backlog.next_item())), delivered)


def _bounded(consumer: Consumer, count: i64, body_size: i64) -> i64:
    """How many of ``count`` messages, if all are as large as the first one, a consumer may get at once."""
    if count > _BATCH_MAX:
        count = _BATCH_MAX
    if body_size > _SMALL_BODY:
        room = consumer.room_bytes() // body_size + 1
        if count > room:
            count = room
    return count
