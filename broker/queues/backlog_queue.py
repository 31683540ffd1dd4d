"""A queue whose messages wait here, in the backlogs of its levels: what all such queues have in common.

It is made of parts, each with its file: the backlog of each level (message_backlog.py, levels.py) and its half on the
disk (disk_backlog.py), who gets the next message (dispatcher.py, consumers.py) and when (dispatch_schedule.py), what is
taken in (admission.py, guard.py), what expires (expiration.py), what is too much (length_limit.py), what becomes of
both (dropping.py), how long it goes unused (queue_expiry.py). Features cost only where they are on: a queue without
TTL, limits or priorities takes the short way in ``enqueue`` and ``dispatch``, in batches.
"""

from __future__ import annotations

from broker.discard import discard
from broker.message import ON_DISK, Message
from broker.native import i64
from broker.queues.admission import Admission, needs_admission
from broker.queues.block import message_of
from broker.queues.consumer import Consumer
from broker.queues.consumers import Cancelling
from broker.queues.declaration import QueueDeclaration, QueueEnvironment
from broker.queues.delivery import Delivery
from broker.queues.disk_backlog import DiskBacklog
from broker.queues.dispatch_schedule import DispatchSchedule
from broker.queues.dispatcher import Dispatcher
from broker.queues.dropping import reject
from broker.queues.entry import Entry
from broker.queues.expiration import Expiration
from broker.queues.length_limit import LengthLimit
from broker.queues.levels import body_bytes, highest, level_of, may_take, ready_count
from broker.queues.message_backlog import MessageBacklog
from broker.queues.options import DROP_HEAD
from broker.queues.queue import Queue
from broker.queues.queue_expiry import QueueExpiry
from broker.turn import Deferred


class BacklogQueue(Queue):
    """One such queue. All of its state belongs to the event loop's thread."""

    def __init__(self, declared: QueueDeclaration, environment: QueueEnvironment, levels: list[MessageBacklog]) -> None:
        super().__init__(declared)
        options = declared.options
        turn, clock = environment.turn, environment.clock
        self.host = environment.host
        self.levels: list[MessageBacklog] = levels
        """By ascending priority; at least one."""
        self.held: i64 = 0
        """Holds of all its backlogs."""
        self.schedule = DispatchSchedule(turn, clock)
        self.dispatcher = Dispatcher(turn, clock)
        self.expiring = False
        """Some message may have a deadline."""
        self.needs_admission = needs_admission(options, declared.arguments)
        """Without it, a message that does not expire itself is just added."""
        self.limit: LengthLimit | None = None
        self.expiry = QueueExpiry(clock, options.expires_ms) if options.expires_ms > 0 else None
        self._expiration: Expiration | None = None
        self._admission: Admission | None = None
        self._backlog = self.levels[0]
        self.settles_redelivered = True
        """What was delivered before and goes to a consumer that acknowledges nothing is settled with that; otherwise
        the queue does it itself."""
        self._turn = turn
        self._clock = clock

    def backlog_at(self, level: i64) -> MessageBacklog:
        """The backlog that deliveries of this level belong to."""
        return self.levels[level]

    def backlog_for(self, message: Message) -> MessageBacklog:
        """Where a message belongs that comes."""
        return level_of(self.levels, message)

    def disks(self) -> list[DiskBacklog]:
        """The halves of the levels that are on the disk."""
        return [level.disk for level in self.levels if level.disk is not None]

    def length_limit(self) -> LengthLimit:
        """Who sees to it that it does not become too long; only for a queue with such a limit."""
        limit = self.limit
        if limit is None:
            self.limit = limit = LengthLimit(self._turn, self._clock)
        return limit

    def expiration(self) -> Expiration:
        """Who sees to it that messages expire; only for a queue in which some may."""
        expiration = self._expiration
        if expiration is None:
            self._expiration = expiration = Expiration(self._turn, self._clock)
        return expiration

    def admission(self) -> Admission:
        """What decides about messages that come; only where anything does."""
        admission = self._admission
        if admission is None:
            self._admission = admission = Admission(self.arguments, self._clock)
        return admission

    def recover(self) -> None:
        if self.options.limited and self.options.overflow == DROP_HEAD:
            self.length_limit().is_over = True  # perhaps: what consumers had is ready again
            self.schedule.schedule_behind(self)
        for disk in self.disks():
            disk.recover()
            if disk.paging and (self.options.message_ttl_ms >= 0 or disk.kept.may_expire()):
                self.expiring = True
                self.schedule.schedule(self)  # the head is read, so that it can expire without a consumer

    # ---- how much ----------------------------------------------------------------------------------------------------

    def ready_count(self) -> i64:
        return ready_count(self.levels)

    def head(self) -> Message | None:
        message = message_of(highest(self.levels).next_item())
        return None if message is ON_DISK else message

    def ready_bytes(self) -> i64:
        return body_bytes(self.levels)

    # ---- out ---------------------------------------------------------------------------------------------------------

    def schedule_dispatch(self) -> None:
        self.schedule.schedule(self)

    def dispatch(self) -> None:
        self.schedule.begin()
        try:
            if not self.deleted:
                limit = self.limit
                if limit is not None and limit.is_over:
                    self.dispatcher.bounded_time = True
                    limit.drop_excess(self)
                now_us = self._clock.monotonic_us() if self.expiring else 0
                self.dispatcher.dispatch_bounded(self, now_us)
        finally:
            self.dispatcher.bounded_time = False
            self.schedule.end()

    def dispatch_some(self) -> bool:
        if not self.schedule.is_scheduled or not self.consumers.groups:
            return True
        return self.dispatcher.dispatch_bounded(self, self._clock.now_us)

    def refresh(self) -> None:
        self.dispatch_some()
        if self.expiring:
            self.expiration().expire(self, self._clock.now_us)

    def can_get(self, waiter: Deferred) -> bool:
        if (
            self.dispatch_some()
            and (not self.expiring or self.expiration().expire(self, self._clock.now_us))
            and may_take(self.levels)
        ):
            return True
        self.schedule.wait(waiter)
        return False

    def hand_over(
        self,
        consumer: Consumer,
        level: i64,
        items: list[Message | Entry | None],
        first: i64,
        stride: i64,
        redelivered: bool,
    ) -> None:
        """The dispatcher has decided that a consumer gets these messages (``Consumer.deliver``)."""
        consumer.deliver(self, level, items, first, stride, redelivered)

    def hand_over_one(self, consumer: Consumer, delivery: Delivery) -> bool:
        """The same for one (``Consumer.deliver_one``). False: it does not get it now, and what becomes of it is
        settled."""
        consumer.deliver_one(self, delivery)
        return True

    # ---- back --------------------------------------------------------------------------------------------------------

    def settle(self, level: i64, first: i64, count: i64, stride: i64) -> None:
        self.unacked -= count
        backlog = self._backlog
        if level != backlog.level:
            backlog = self.backlog_at(level)
        backlog.settle(first, count, stride)

    def hold(self, level: i64) -> None:
        self.backlog_at(level).holds += 1
        self.held += 1

    def release(self, level: i64) -> None:
        self.backlog_at(level).holds -= 1
        self.held -= 1
        if self.deleted:
            return
        if self.held == 0 and self.options.limited and self.options.overflow == DROP_HEAD:
            self.length_limit().drop_excess(self)
        self.schedule.schedule(self)

    def requeue(self, level: i64, first: i64, count: i64, stride: i64, refusal: i64) -> i64:
        self.unacked -= count
        if self.deleted:
            return count
        backlog = self.backlog_at(level)
        backlog.requeue(first, count, stride)
        if backlog.requeued.expiring > 0:
            self.expiring = True
        if self.expiring:
            self.expiration().arm(self)
        if self.options.limited and self.options.overflow == DROP_HEAD:
            self.length_limit().drop_excess(self)
        self.schedule.schedule(self)
        return count

    def reject(self, level: i64, first: i64, count: i64, stride: i64) -> i64:
        if not self.deleted:
            count = reject(self, self.backlog_at(level), first, count, stride, "rejected")
        self.unacked -= count
        return count

    def keep_dead(self, backlog: MessageBacklog, first: i64, count: i64, stride: i64, reason: str) -> None:
        """Messages of this level, which do not wait any more, are dead letters that stay
        (``QueueOptions.at_least_once``)."""
        raise NotImplementedError

    def purge(self) -> i64:
        self.dispatch_some()
        count: i64 = 0
        dropped: list[list[Message | Entry | None]] = []
        for level in self.levels:
            count += level.clear(dropped)
        discard(self._turn, dropped)
        return count

    # ---- consumers ---------------------------------------------------------------------------------------------------

    def add_consumer(self, consumer: Consumer) -> None:
        self.consumers.add(consumer)
        for disk in self.disks():
            disk.kept.has_consumers = True
        self.schedule.schedule(self)

    def remove_consumer(self, consumer: Consumer) -> None:
        if not consumer.registered:
            return
        self.consumers.remove(consumer)
        if self.consumers.count():
            self.schedule.schedule(self)
            return
        for disk in self.disks():
            disk.kept.has_consumers = False
        self.mark_used()
        if self.auto_delete and not self.deleted:
            self.host.remove_queue(self)

    def unblock(self, consumer: Consumer) -> None:
        if self.consumers.unblock(consumer):
            self.schedule.schedule(self)

    # ---- time --------------------------------------------------------------------------------------------------------

    def mark_used(self) -> None:
        if self.expiry is not None and not self.deleted:
            self.expiry.mark_used(self)

    def close(self) -> i64:
        count = self.ready_count()
        self.deleted = True
        if self._expiration is not None:
            self._expiration.stop()
        if self.expiry is not None:
            self.expiry.stop()
        self._turn.start(Cancelling(self._clock.faults, self.consumers.dissolve()))
        dropped: list[list[Message | Entry | None]] = []
        for disk in self.disks():
            try:
                disk.close()
            except Exception as error:
                self._clock.faults.caught("log of a queue that is deleted", None, error)
        self.link.cut()
        for level in self.levels:
            level.close(dropped)
        discard(self._turn, dropped)
        self.schedule.end()
        return count
