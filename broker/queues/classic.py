"""The classic queue: one node; messages in memory, and on disk where they must survive it or are too many
(disk_backlog.py).

It is made of parts, each with its file: the backlog of each level (message_backlog.py), who gets the next message
(dispatcher.py, consumers.py), what expires (expiration.py), what is too much (length_limit.py), what its own arguments
decide (guard.py), how long it goes unused (queue_expiry.py). Features cost only where they are on: a queue without TTL,
limits or priorities takes the short way in ``enqueue`` and ``dispatch``, in batches.
"""

from __future__ import annotations

from typing import final

from broker.discard import discard
from broker.message import ACCEPTED, ON_DISK, PENDING, REJECTED, Message
from broker.native import i64
from broker.queues.arguments import guards
from broker.queues.consumer import Consumer
from broker.queues.consumers import Cancelling
from broker.queues.declaration import QueueDeclaration, QueueEnvironment
from broker.queues.disk_backlog import DiskBacklog
from broker.queues.dispatcher import Dispatcher
from broker.queues.entry import Entry
from broker.queues.expiration import Expiration
from broker.queues.expiry import ttl_ms
from broker.queues.guard import ADMITTED
from broker.queues.length_limit import LengthLimit
from broker.queues.message_backlog import MessageBacklog
from broker.queues.options import DROP_HEAD, REJECT_PUBLISH_DLX
from broker.queues.queue import Queue
from broker.queues.queue_expiry import QueueExpiry
from broker.queues.returned_run import ReturnedRun
from broker.turn import Deferred


@final
class ClassicQueue(Queue):
    """A queue of type classic. All of its state belongs to the event loop's thread."""

    def __init__(self, declared: QueueDeclaration, environment: QueueEnvironment) -> None:
        super().__init__(declared)
        options = declared.options
        self._host = environment.host
        self._turn = environment.turn
        self._clock = environment.clock
        levels = options.levels()
        self.levels: list[MessageBacklog] = [MessageBacklog(level) for level in range(levels)]
        self._backlog = self.levels[0]
        for level in self.levels:
            level.requeued.counts_bodies = options.max_length_bytes >= 0
        self._disks: list[DiskBacklog] = []
        self._waiters: list[Deferred] = []
        self._is_scheduled = False
        self._is_behind = False
        """It is marked for the slice of those with much to drop."""
        self.yields = False
        """What is being done comes before that slice: it drops little, and leaves the rest to it."""
        self.held: i64 = 0
        """Holds of all its backlogs."""
        self._guards = guards(declared.arguments)
        self._featured = levels > 1 or options.limited or options.message_ttl_ms >= 0 or bool(self._guards)
        self._limit = LengthLimit(self._turn, self._clock)
        self._dispatcher = Dispatcher(self._turn, self._clock)
        self.expiration = Expiration(self._turn, self._clock)
        self._expiry = QueueExpiry(self._clock, options.expires_ms) if options.expires_ms > 0 else None
        logs = environment.logs
        if logs is not None:
            self.promises = logs.promises
            for level in self.levels:
                log = logs.open(self.log_number + len(self._disks)) if self.log_number else None
                disk = DiskBacklog(level, self, logs, environment.clock, log, environment.memory)
                level.disk = disk
                self._disks.append(disk)
        if options.expires_ms > 0:
            self.mark_used()

    def recover(self) -> None:
        if self.options.limited and self.options.overflow == DROP_HEAD:
            self._limit.is_over = True  # perhaps: what consumers had is ready again
            self.schedule_dispatch_behind()
        for disk in self._disks:
            disk.recover()
            if disk.paging and (self.options.message_ttl_ms >= 0 or disk.may_expire()):
                self.expiration.expiring = True
                self.schedule_dispatch()  # the head is read, so that it can expire without a consumer

    # ---- in ----------------------------------------------------------------------------------------------------------

    def enqueue(self, message: Message) -> int:
        if self._featured or message.expiration_ms >= 0:
            return self._enqueue_featured(message)
        stored = self._backlog.append(message)
        if not self._is_scheduled and self.consumers.groups:
            self.schedule_dispatch()
        return PENDING if stored else ACCEPTED

    def _enqueue_featured(self, message: Message) -> int:
        for guard in self._guards:
            outcome = guard.decide(message)
            if outcome != ADMITTED:
                return outcome
        options = self.options
        if options.limited and options.overflow != DROP_HEAD and self._limit.is_full(self):
            if options.overflow == REJECT_PUBLISH_DLX:
                self._host.dead_letter(self, message, "maxlen")
            return REJECTED
        backlog = self._level(message)
        ttl = ttl_ms(options, message)
        stored = backlog.append(message) if ttl < 0 else self._append_expiring(backlog, message, ttl)
        if options.limited and options.overflow == DROP_HEAD:
            self._limit.drop_excess(self)
        if self.consumers.groups:
            self.schedule_dispatch()
        return PENDING if stored else ACCEPTED

    def _append_expiring(self, backlog: MessageBacklog, message: Message, ttl: i64) -> bool:
        now_us = self._clock.now_us
        if ttl == 0:
            self.dispatch_now(now_us)  # consumers are offered what stands before it
        stored = backlog.append_expiring(message, now_us + ttl * 1000)
        self.expiration.expiring = True
        if ttl > 0:
            self.expiration.arm(self)
            return stored
        self.dispatch_now(now_us - 1)  # one that has room now gets it, nobody else ever
        self.expiration.expire(self, now_us)
        return stored

    def _level(self, message: Message) -> MessageBacklog:
        top: i64 = len(self.levels) - 1
        if top == 0 or message.priority <= 0:
            return self._backlog
        priority: i64 = message.priority
        return self.levels[priority if priority < top else top]

    def ready_count(self) -> i64:
        if len(self.levels) == 1:
            return self._backlog.count()
        count: i64 = 0
        for level in self.levels:
            count += level.count()
        return count

    def head(self) -> Message | None:
        at: i64 = len(self.levels) - 1
        while at > 0 and self.levels[at].count() == 0:
            at -= 1
        return self.levels[at].head()

    def ready_bytes(self) -> i64:
        size: i64 = 0
        for level in self.levels:
            if not level.requeued.is_counted():
                return -1
            size += level.body_bytes
        return size

    def is_dead_lettering(self) -> bool:
        """Whether nothing more should die in it now."""
        return self._host.is_dead_lettering(self)

    def bury(self, level: MessageBacklog, reason: str) -> None:
        """What stands at the head of a level dies."""
        entry = level.pop(self.options.dead_letter_exchange is not None)
        self._dead_letter(entry, reason)
        level.settle(entry.position, 1, 1)

    # ---- out ---------------------------------------------------------------------------------------------------------

    def schedule_dispatch(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            self._turn.schedule_dispatch(self)

    def schedule_dispatch_behind(self) -> None:
        """Dispatch it in the slice of those with much to drop."""
        if not self._is_scheduled:
            self._is_scheduled = True
            self._is_behind = True
            self._turn.schedule_dispatch_behind(self)

    def dispatch_now(self, now_us: i64) -> None:
        """Consumers get what they can take, before something is decided about the rest."""
        # the mark stays: the turn's own dispatch then finds less, or nothing, to do
        if self.consumers.groups:
            self._dispatch(now_us)
        elif self.expiration.expiring:
            self.expiration.expire(self, now_us)

    def dispatch_some(self) -> bool:
        if not self._is_scheduled or not self.consumers.groups:
            return True
        self._dispatcher.bounded_time = True
        try:
            self._dispatch(self._clock.now_us)
        finally:
            self._dispatcher.bounded_time = False
        return not self._dispatcher.is_cut

    def dispatch(self) -> None:
        self._is_scheduled = False
        self.yields = not self._is_behind
        self._is_behind = False
        try:
            if not self.deleted:
                self._dispatcher.bounded_time = True
                if self._limit.is_over:
                    self._limit.drop_excess(self)
                self._dispatch(self._clock.monotonic_us() if self.expiration.expiring else 0)
        finally:
            self._dispatcher.bounded_time = False
            self.yields = False
            self._resume_waiters()

    def _resume_waiters(self) -> None:
        if self._waiters:
            waiters = self._waiters
            self._waiters = []
            for waiter in waiters:
                try:
                    waiter.resume()
                except Exception as error:
                    self._clock.faults.caught("waiting for a message", waiter.fault_owner(), error)

    def _dispatch(self, now_us: i64) -> None:
        """Deliver what has not expired at that time, which nobody asks for where nothing expires."""
        self._dispatcher.is_cut = False
        if self.expiration.expiring and not self.expiration.expire(self, now_us):
            self._dispatcher.is_cut = True
            return
        levels = self.levels
        if not self.consumers.groups:
            if self.expiration.expiring:
                for level in levels:
                    level.at_hand()  # the head is read, so that it can expire without a consumer
        else:
            at: i64 = len(levels) - 1
            while at >= 0 and self._dispatcher.dispatch(self, levels[at], now_us):
                at -= 1
            if at > 0 and levels[at].available() == 0:
                # it waits for the disk: what the lower levels need from it comes with the same sync, not one after the
                # other
                for level in levels[:at]:
                    level.available()
        if self.expiration.expiring and not self._is_behind:
            self.expiration.expire(self, now_us)  # what stands at the head now may be another message than before

    def can_get(self) -> bool:
        if not self.dispatch_some():
            return False
        if self.expiration.expiring and not self.expiration.expire(self, self._clock.now_us):
            return False
        at: i64 = len(self.levels) - 1
        while at >= 0:
            level = self.levels[at]
            if level.available() > 0:
                return True
            if level.count() > 0 or level.holds:
                return False
            at -= 1
        return True

    def wait(self, waiter: Deferred) -> None:
        self._waiters.append(waiter)

    def get(self, no_ack: bool) -> Entry | None:
        self.mark_used()
        self.dispatch_some()
        now_us = self._clock.now_us
        if self.expiration.expiring and not self.expiration.expire(self, now_us):
            return None
        entry = self._pop(now_us)
        if self.expiration.expiring:
            self.expiration.expire(self, now_us)
        if entry is None:
            return None
        if no_ack:
            self._level(entry.message).settle(entry.position, 1, 1)
        else:
            self.unacked += 1
        return entry

    def _pop(self, now_us: i64) -> Entry | None:
        at: i64 = len(self.levels) - 1
        while at >= 0:
            level = self.levels[at]
            while level.count() > 0:
                entry = level.pop()
                if entry.message is not ON_DISK:
                    return entry
                # its content is lost: the one behind it is the head now
                if self.expiration.expiring and not self.expiration.expire(self, now_us):
                    return None
            at -= 1
        return None

    def level_of(self, entry: Entry) -> i64:
        return self._level(entry.message).level

    def refresh(self) -> None:
        self.dispatch_some()
        if self.expiration.expiring:
            self.expiration.expire(self, self._clock.now_us)

    # ---- back --------------------------------------------------------------------------------------------------------

    def settle(self, level: i64, first: i64, count: i64, stride: i64) -> None:
        self.unacked -= count
        if self._disks:  # none once it is deleted
            self.levels[level].settle(first, count, stride)

    def over_memory_limit(self, level: i64, sample: Message) -> bool:
        disk = self.levels[level].disk
        return disk is not None and disk.over_memory_limit(self.unacked, sample)

    def evict(
        self, level: i64, items: list[Message | Entry | None], start: i64, end: i64, first_position: i64, stride: i64
    ) -> i64:
        disk = self.levels[level].disk
        return end if disk is None else disk.evict(items, start, end, first_position, stride)

    def hold(self, level: i64) -> None:
        self.levels[level].holds += 1
        self.held += 1

    def release(self, level: i64) -> None:
        self.levels[level].holds -= 1
        self.held -= 1
        if self.deleted:
            return
        if self.held == 0 and self.options.limited and self.options.overflow == DROP_HEAD:
            self._limit.drop_excess(self)
        self.schedule_dispatch()

    def requeue(self, level: i64, run: ReturnedRun) -> None:
        self.unacked -= run.live
        if self.deleted:
            discard(self._turn, [run.items])
            return
        if run.expiring:
            self.expiration.expiring = True
        self.levels[level].put_back(run)
        if self.expiration.expiring:
            self.expiration.arm(self)
        if self.options.limited and self.options.overflow == DROP_HEAD:
            self._limit.drop_excess(self)
        self.schedule_dispatch()

    def reject(self, level: i64, run: ReturnedRun, limit: i64) -> bool:
        backlog = self.levels[level]
        end: i64 = len(run.items)
        if end > run.offset + limit and not self.deleted:
            end = run.offset + limit
        if not self.deleted:
            if self.options.dead_letter_exchange is not None:
                end = backlog.reloaded_at_once(run, end)
                self._dead_letter_rejected(backlog, run, end)
            if backlog.disk is not None:
                run.settle(backlog, end)
        self.unacked -= run.drop(end)
        return run.live == 0

    def _dead_letter_rejected(self, backlog: MessageBacklog, run: ReturnedRun, end: i64) -> None:
        entries = run.entries(end)
        backlog.reload_now(entries)
        for entry in entries:
            self._dead_letter(entry, "rejected")

    def _dead_letter(self, entry: Entry, reason: str) -> None:
        if entry.message is not ON_DISK:  # otherwise its content is lost, and the log has told so
            self._host.dead_letter(self, entry.message, reason)

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
        for disk in self._disks:
            disk.has_consumers = True
        self.schedule_dispatch()

    def remove_consumer(self, consumer: Consumer) -> None:
        if not consumer.registered:
            return
        self.consumers.remove(consumer)
        if self.consumers.count():
            self.schedule_dispatch()
            return
        for disk in self._disks:
            disk.has_consumers = False
        self.mark_used()
        if self.auto_delete and not self.deleted:
            self._host.remove_queue(self)

    def unblock(self, consumer: Consumer) -> None:
        if self.consumers.unblock(consumer):
            self.schedule_dispatch()

    # ---- time --------------------------------------------------------------------------------------------------------

    def expires_from_now(self) -> None:
        self.expiration.expiring = True

    def mark_used(self) -> None:
        if self._expiry is not None and not self.deleted:
            self._expiry.mark_used(self)

    def expire_if_unused(self, now_ms: i64) -> None:
        """x-expires: its time may be over."""
        if self._expiry is not None and self._expiry.is_over(self, now_ms):
            self._host.remove_queue(self)

    def on_shutdown(self) -> None:
        for disk in self._disks:
            disk.on_shutdown()

    def close(self) -> i64:
        count = self.ready_count()
        self.deleted = True
        self.expiration.stop()
        if self._expiry is not None:
            self._expiry.stop()
        self._turn.start(Cancelling(self._clock.faults, self.consumers.dissolve()))
        dropped: list[list[Message | Entry | None]] = []
        for disk in self._disks:
            try:
                disk.close(dropped)
            except Exception as error:
                self._clock.faults.caught("log of a queue that is deleted", None, error)
        self._disks = []
        self.link.cut()
        for level in self.levels:
            level.disk = None
            level.clear(dropped)
        discard(self._turn, dropped)
        self._resume_waiters()
        return count
