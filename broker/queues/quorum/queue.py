"""The quorum queue: replicated, every message on the disk of a majority before anybody hears of it (RabbitMQ docs,
Quorum Queues).

At the leader its messages wait in backlogs as those of a classic queue do (backlog_queue.py), one for each of 32 strict
priorities that was ever used. What is decided about them goes through a Raft group first (replica.py).
"""

from __future__ import annotations

from typing import Final, final

from broker.message import PENDING, Message
from broker.native import i64
from broker.queues.backlog_queue import BacklogQueue
from broker.queues.consumer import Consumer
from broker.queues.declaration import QueueDeclaration, QueueEnvironment
from broker.queues.delivery import Delivery
from broker.queues.disk_backlog import DiskBacklog
from broker.queues.dropping import reject
from broker.queues.entry import Entry
from broker.queues.message_backlog import MessageBacklog
from broker.queues.options import QueueOptions
from broker.queues.quorum.commands import DEFAULT_LEVEL, LEVELS
from broker.queues.quorum.dead import AT_ONCE, Dead
from broker.queues.quorum.delayed_retry import delayed_retry
from broker.queues.quorum.delays import Delays
from broker.queues.quorum.delivery_limit import is_over
from broker.queues.quorum.held import HeldDeliveries, HeldDelivery, HeldGet
from broker.queues.quorum.holding_back import holds_back
from broker.queues.quorum.level import LedgerLevel
from broker.queues.quorum.pieces import Pieces
from broker.queues.quorum.replica import Replica
from broker.queues.quorum.values import (
    CRASH,
    NACK,
    REJECT,
    TIMEOUT,
    UNDELIVERED,
    is_failure,
)
from broker.queues.refusal import ABANDONED, GIVEN_BACK, REJECTED, TIMED_OUT
from broker.queues.taking import take_next
from broker.turn import Deferred

_NO_GETS: Final[dict[Deferred, Delivery | None]] = {}
"""Shared, and never changed."""
MEMBER = 1
"""The member of a group that has only one."""


def log_count(options: QueueOptions) -> int:
    """Its entries, and the contents of each level."""
    return int(1 + LEVELS)


@final
class QuorumQueue(BacklogQueue):
    """A queue of type quorum."""

    def __init__(self, declared: QueueDeclaration, environment: QueueEnvironment) -> None:
        super().__init__(declared, environment, [MessageBacklog(DEFAULT_LEVEL, environment.turn)])
        self.settles_redelivered = False
        self._environment = environment
        self.replica = Replica(self, environment.groups(), environment.clock, MEMBER)
        self._gets = _NO_GETS
        """Who waits for the answer to a basic.get: None, or what it is until he comes for it."""
        self._next: Delivery | None = None
        """What the next ``get`` returns."""
        retry = delayed_retry(declared.arguments)
        self.delays = None if retry is None else Delays(self, retry, environment.clock, environment.turn)
        self.keeper: Dead | None = None
        """Of its dead letters, if they stay until they have arrived."""
        if declared.options.at_least_once:
            self.keeper = Dead(self, environment.logs, environment.clock, environment.turn)
        self.mark_used()

    # ---- levels ------------------------------------------------------------------------------------------------------

    def _add_disk(self, level: MessageBacklog) -> None:
        """Something is in it, or comes."""
        environment = self._environment
        logs = environment.groups().logs
        log = self.replica.contents(level.level)
        disk = DiskBacklog(level, self, environment, logs, log)
        disk.kept.recorder = self.replica.recorder(level.level)
        level.disk = disk

    def backlog_at(self, level: i64) -> MessageBacklog:
        found = self._backlog
        if found.level == level:
            return found
        levels = self.levels
        at: i64 = 0
        while at < len(levels) and levels[at].level <= level:
            if levels[at].level == level:
                return levels[at]
            at += 1
        found = MessageBacklog(level, self._environment.turn)
        levels.insert(at, found)
        return found

    def backlog_for(self, message: Message) -> MessageBacklog:
        level: i64 = message.priority
        if level < 0:
            level = DEFAULT_LEVEL
        elif level >= LEVELS:
            level = LEVELS - 1
        found = self.backlog_at(level)
        if found.disk is None:
            self._add_disk(found)
        return found

    def recover(self) -> None:
        for level in self.replica.recover():
            backlog = self.backlog_at(level)
            self._add_disk(backlog)
            found = self.replica.ledger.levels[level]
            if self.keeper is not None and backlog.disk is not None and found is not None:
                self.keeper.recover(found, backlog.disk)
        super().recover()
        if self.delays is not None:
            for found in self.replica.ledger.levels:
                if found is not None:
                    self.delays.recover(found)
        self.replica.recovery_is_over()

    # ---- in ----------------------------------------------------------------------------------------------------------

    def enqueue(self, message: Message) -> int:
        if self.needs_admission or message.expiration_ms >= 0:
            return self.admission().enqueue(self, message)
        self.backlog_for(message).append(message)
        if not self.schedule.is_scheduled and self.consumers.groups:
            self.schedule.schedule(self)
        return PENDING

    # ---- out ---------------------------------------------------------------------------------------------------------

    def hand_over(
        self,
        consumer: Consumer,
        level: i64,
        items: list[Message | Entry | None],
        first: i64,
        stride: i64,
        redelivered: bool,
    ) -> None:
        if redelivered:
            at: i64 = 0
            for item in items:
                if isinstance(item, Message):
                    self.hand_over_one(consumer, Delivery(item, level, first + at * stride, True))
                at += 1
            return
        replica = self.replica
        if not consumer.no_ack:
            replica.gather().deliver(level, first, len(items), stride)
        held = HeldDeliveries(consumer, level, items, first, stride)
        consumer.reserve(len(items), held.size)
        replica.hold(held)

    def hand_over_one(self, consumer: Consumer, delivery: Delivery) -> bool:
        replica = self.replica
        if holds_back(self, delivery):
            self.delivered -= 1
            if not consumer.no_ack:
                self.unacked -= 1
            return False
        if not consumer.no_ack or delivery.redelivered:
            replica.gather().deliver(delivery.level, delivery.position, 1, 1)
            if consumer.no_ack:
                self.unacked += 1  # until the counts that the ledger has of it were told
        held = HeldDelivery(consumer, delivery)
        consumer.reserve(1, held.size)
        replica.hold(held)
        return True

    # ---- basic.get ---------------------------------------------------------------------------------------------------

    def can_get(self, waiter: Deferred) -> bool:
        if waiter in self._gets:
            found = self._gets[waiter]
            if found is None:
                return False
            self._forget_get(waiter)
            self._next = found
            return True
        if not super().can_get(waiter):
            return False
        self.mark_used()
        taken = take_next(self, self._environment.clock.now_us, False)
        while taken is not None and holds_back(self, taken):
            taken = take_next(self, self._environment.clock.now_us, False)
        if taken is None:
            self._next = None
            return True
        self.unacked += 1
        replica = self.replica
        replica.gather().deliver(taken.level, taken.position, 1, 1)
        replica.hold(HeldGet(waiter, taken))
        if not self._gets:
            self._gets = {}
        self._gets[waiter] = None
        return False

    def _forget_get(self, waiter: Deferred) -> None:
        del self._gets[waiter]
        if not self._gets:
            self._gets = _NO_GETS

    def got(self, waiter: Deferred, delivery: Delivery) -> None:
        """The answer to a basic.get may leave."""
        if waiter in self._gets and self._gets[waiter] is None:
            self._gets[waiter] = delivery
            self._resume(waiter)
        else:
            self.put_back(delivery.level, delivery.position, 1, 1, UNDELIVERED)

    def _resume(self, waiter: Deferred) -> None:
        self._environment.clock.faults.run("waiting for a message", waiter.fault_owner(), waiter.resume)

    def get(self, no_ack: bool) -> Delivery | None:
        taken = self._next
        self._next = None
        if taken is not None and no_ack:
            self.settle(taken.level, taken.position, 1, 1)
        return taken

    def give_up(self, waiter: Deferred) -> None:
        if waiter in self._gets:
            left = self._gets[waiter]
            self._forget_get(waiter)
            if left is not None:
                self.put_back(left.level, left.position, 1, 1, UNDELIVERED)

    # ---- back --------------------------------------------------------------------------------------------------------

    def settle(self, level: i64, first: i64, count: i64, stride: i64) -> None:
        replica = self.replica
        replica.are_out = True
        super().settle(level, first, count, stride)
        replica.are_out = False

    def requeue(self, level: i64, first: i64, count: i64, stride: i64, refusal: i64) -> i64:
        found = self.replica.ledger.levels[level]
        if self.deleted or found is None:
            return super().requeue(level, first, count, stride, refusal)
        cause = _cause(refusal)
        limit: i64 = self.options.delivery_limit
        if limit < 0 or not is_failure(cause):
            return self._come_back(found, first, count, stride, cause)
        done: i64 = 0
        pieces = Pieces(found.runs, first, count, stride)
        while pieces.step():
            if not is_over(pieces.value, cause, limit):
                done += self._come_back(found, pieces.first, pieces.count, stride, cause)
                continue
            dropped = self._discard(level, pieces.first, pieces.count, stride, "delivery_limit")
            done += dropped
            if dropped < pieces.count:
                break
        return done

    def _come_back(self, found: LedgerLevel, first: i64, count: i64, stride: i64, cause: i64) -> i64:
        """They wait again, at once or after a delay."""
        delays = self.delays
        if delays is None or not delays.retry.delays(cause):
            return self.put_back(found.number, first, count, stride, cause)
        self.unacked -= count
        delays.delay(found, first, count, stride, cause)
        return count

    def are_due(self, level: i64, first: i64, count: i64, stride: i64) -> None:
        """The delay of these messages is over."""
        self.unacked += count
        super().requeue(level, first, count, stride, GIVEN_BACK)

    def put_back(self, level: i64, first: i64, count: i64, stride: i64, cause: i64) -> i64:
        """What was delivered, or was decided to be (``UNDELIVERED``), waits again now, for this cause."""
        self.replica.gather().requeue(level, first, count, stride, cause)
        return super().requeue(level, first, count, stride, GIVEN_BACK)

    def reject(self, level: i64, first: i64, count: i64, stride: i64) -> i64:
        return self._discard(level, first, count, stride, "rejected")

    def _discard(self, level: i64, first: i64, count: i64, stride: i64, reason: str) -> i64:
        replica = self.replica
        if self.keeper is not None and not self.deleted:
            count = count if count < AT_ONCE else AT_ONCE
            self.keeper.keep(self.backlog_at(level), first, count, stride, reason)
            self.unacked -= count
            return count
        replica.are_out = True
        try:
            if not self.deleted:
                count = reject(self, self.backlog_at(level), first, count, stride, reason)
            self.unacked -= count
            return count
        finally:
            replica.are_out = False

    def keep_dead(self, backlog: MessageBacklog, first: i64, count: i64, stride: i64, reason: str) -> None:
        assert self.keeper is not None
        self.keeper.keep(backlog, first, count, stride, reason)

    def dead_count(self) -> i64:
        return 0 if self.keeper is None else self.keeper.count

    def dead_bytes(self) -> i64:
        return 0 if self.keeper is None else self.keeper.bytes

    def routes_changed(self) -> None:
        if self.keeper is not None:
            self.keeper.sender.routes_changed()

    def purge(self) -> i64:
        count = super().purge()
        if self.delays is not None:
            count += self.delays.purge()
        return count if self.keeper is None else count + self.keeper.purge()

    def ready_count(self) -> i64:
        count = super().ready_count()
        return count if self.delays is None else count - self.delays.unseen

    def close(self) -> i64:
        count = super().close()
        if self.delays is not None:
            self.delays.stop()
        if self.keeper is not None:
            self.keeper.clear()
        self.replica.close()
        gets = self._gets
        self._gets = _NO_GETS
        for waiter, found in gets.items():
            if found is None:
                self._resume(waiter)
        return count


def _cause(refusal: i64) -> i64:
    """Why a delivery comes back."""
    if refusal == REJECTED:
        return REJECT
    if refusal == ABANDONED:
        return CRASH
    return TIMEOUT if refusal == TIMED_OUT else NACK
