"""The classic queue: one node; messages in memory, and on disk where they must survive it or are too many (paging.py).

Features cost only where they are on: a queue without TTL, limits or priorities takes the short way in ``enqueue`` and
``dispatch``, in batches. RabbitMQ looks at consumers before it applies a limit or a TTL of zero, message by message; here a
dispatch is due at the end of the turn, so both run it early when they have to decide.
"""

from __future__ import annotations

from typing import Final, final

from broker.clock import NEVER, Timed, Timer
from broker.discard import discard
from broker.message import ACCEPTED, LOGGED, ON_DISK, REJECTED, Confirm, Message
from broker.native import i64
from broker.queues.arguments import guards
from broker.queues.consumer import Consumer
from broker.queues.consumers import Cancelling, Group
from broker.queues.declaration import QueueDeclaration, QueueEnvironment
from broker.queues.entry import Entry
from broker.queues.expiry import ttl_ms
from broker.queues.guard import ADMITTED
from broker.queues.limits import full, over_limit
from broker.queues.options import DROP_HEAD, REJECT_PUBLISH_DLX
from broker.queues.paging import Pager
from broker.queues.queue import Queue
from broker.queues.ready import Ready
from broker.queues.returned_run import ReturnedRun
from broker.turn import Deferred

_BATCH_MAX: Final[i64] = 1024
_SMALL_BODY: Final[i64] = 1024
_TURNS_MAX: Final[i64] = 256
"""So many consumers at the most get their share of a batch in one go; more get one message after the other."""
_DROPS_PER_LOOK: Final[i64] = 16
"""Messages dropped or dead-lettered between two looks at the clock."""
_DELIVERIES_PER_LOOK: Final[i64] = 16
"""Deliveries, of one message or of sixteen in a row, between two looks at the clock."""


def _is_past(deadline_us: i64, now_us: i64) -> bool:
    """Whether a message with this deadline has expired."""
    return deadline_us != 0 and deadline_us <= now_us


@final
class _ExpiryTimer(Timed):
    def __init__(self, queue: ClassicQueue) -> None:
        self.queue = queue

    def on_timer(self, now_ms: i64) -> None:
        self.queue.mark_behind()  # what has expired goes in the turn, where time is bounded


@final
class _LeaseTimer(Timed):
    def __init__(self, queue: ClassicQueue) -> None:
        self.queue = queue

    def on_timer(self, now_ms: i64) -> None:
        self.queue.check_lease(now_ms)


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
        self._levels: list[Ready] = [Ready(level) for level in range(levels)]
        self._ready = self._levels[0]
        for level in self._levels:
            level.requeued.counts_bodies = options.max_length_bytes >= 0
        self._pagers: list[Pager] = []
        self._waiters: list[Deferred] = []
        self._marked = False
        self._is_behind = False
        """It is marked for the slice of those with much to drop."""
        self._yields = False
        """What is being done comes before that slice: it drops little, and leaves the rest to it."""
        self._bounded_time = False
        """What is being done looks at the clock."""
        self._is_cut = False
        """The last dispatch ended because the time was over."""
        self._left: i64 = _DELIVERIES_PER_LOOK
        """Deliveries, on all levels, until it does so again."""
        self._drops_left: i64 = 0
        """The same of messages that expire."""
        self._is_over_limit = False
        """The turn's time was over before the queue was as short as it should be."""
        self._held: i64 = 0
        """Holds of all its lines."""
        self._guards = guards(declared.arguments)
        self._featured = levels > 1 or options.limited or options.message_ttl_ms >= 0 or bool(self._guards)
        self._expiring = False
        self._expiry_timer: Timer | None = None
        self._lease_timer: Timer | None = None
        self._lease_from: i64 = 0
        logs = environment.logs
        if logs is not None:
            for level in self._levels:
                log = logs.open(self.log_number + len(self._pagers)) if self.log_number else None
                pager = Pager(level, self, logs, environment.clock, log, environment.memory)
                level.pager = pager
                self._pagers.append(pager)
        if options.expires_ms > 0:
            self.touch()

    def recover(self) -> None:
        if self.options.limited and self.options.overflow == DROP_HEAD:
            self._is_over_limit = True  # perhaps: what consumers had is ready again
            self.mark_behind()
        for pager in self._pagers:
            pager.recover()
            if pager.active and (self.options.message_ttl_ms >= 0 or pager.may_expire()):
                self._expiring = True
                self.mark()  # the head is read, so that it can expire without a consumer

    # ---- in -----------------------------------------------------------------------------------------------------------

    def enqueue(self, message: Message, confirm: Confirm | None, sequence: i64) -> int:
        if self._featured or message.expiration_ms >= 0:
            return self._enqueue_featured(message)
        stored = self._ready.append(message)
        if not self._marked and self.consumers.groups:
            self.mark()
        return LOGGED if stored else ACCEPTED

    def _enqueue_featured(self, message: Message) -> int:
        for guard in self._guards:
            outcome = guard.decide(message)
            if outcome != ADMITTED:
                return outcome
        options = self.options
        if options.limited and options.overflow != DROP_HEAD and self._is_full():
            if options.overflow == REJECT_PUBLISH_DLX:
                self._host.dead_letter(self, message, "maxlen")
            return REJECTED
        ready = self._level(message)
        ttl = ttl_ms(options, message)
        stored = ready.append(message) if ttl < 0 else self._append_expiring(ready, message, ttl)
        if options.limited and options.overflow == DROP_HEAD:
            self._drop_excess()
        if self.consumers.groups:
            self.mark()
        return LOGGED if stored else ACCEPTED

    def _append_expiring(self, ready: Ready, message: Message, ttl: i64) -> bool:
        now_us = self._clock.now_us
        if ttl == 0:
            self._dispatch_now(now_us)  # consumers are offered what stands before it
        stored = ready.append_expiring(message, now_us + ttl * 1000)
        self._expiring = True
        if ttl > 0:
            self._arm_expiry()
            return stored
        self._dispatch_now(now_us - 1)  # one that has room now gets it, nobody else ever
        self.expire(now_us)
        return stored

    def _level(self, message: Message) -> Ready:
        top: i64 = len(self._levels) - 1
        if top == 0 or message.priority <= 0:
            return self._ready
        priority: i64 = message.priority
        return self._levels[priority if priority < top else top]

    def ready_count(self) -> i64:
        if len(self._levels) == 1:
            return self._ready.count()
        count: i64 = 0
        for level in self._levels:
            count += level.count()
        return count

    def head(self) -> Message | None:
        at: i64 = len(self._levels) - 1
        while at > 0 and self._levels[at].count() == 0:
            at -= 1
        return self._levels[at].head()

    def ready_bytes(self) -> i64:
        size: i64 = 0
        for level in self._levels:
            if not level.requeued.is_counted():
                return -1
            size += level.body_bytes
        return size

    def _totals(self) -> tuple[i64, i64]:
        """Messages, and the sum of their bodies' sizes where there is a limit to it."""
        size: i64 = 0
        if self.options.max_length_bytes >= 0:
            for level in self._levels:
                size += level.body_bytes
        return self.ready_count(), size

    def _is_full(self) -> bool:
        count, size = self._totals()
        if not full(self.options, count, size):
            return False
        self._dispatch_now(self._clock.now_us)
        count, size = self._totals()
        return full(self.options, count, size)

    def _drop_excess(self) -> None:
        if self._held:
            return  # ``release`` does it: what is about to come back goes first
        count, size = self._totals()
        if not over_limit(self.options, count, size):
            return
        now_us = self._clock.now_us
        self._dispatch_now(now_us)
        self._is_over_limit = False
        left = _DROPS_PER_LOOK
        while True:
            count, size = self._totals()
            if not over_limit(self.options, count, size):
                break
            slow = self._host.is_dead_lettering(self)
            if not slow and not self._drop_head(now_us):
                return
            left -= 1
            if left == 0 or slow:
                left = _DROPS_PER_LOOK
                if slow or self._yields or self._turn.out_of_time():
                    self._is_over_limit = True
                    self.mark_behind()
                    return
        if self._expiring:
            self.expire(now_us)  # another message stands at the head now

    def _drop_head(self, now_us: i64) -> bool:
        at: i64 = len(self._levels) - 1
        while at >= 0 and self._levels[at].count() == 0:
            at -= 1
        if at < 0:
            return False
        level = self._levels[at]
        pager = level.pager
        if pager is not None and pager.active and level.in_memory() == 0:
            if self.options.dead_letter_exchange is None and pager.skip():
                return True
            if not pager.load():
                self._is_over_limit = True  # it goes on when the message is there
                return False
            if level.in_memory() == 0:
                return True  # what was there is lost
        self._bury(level, "expired" if self._expiring and _is_past(level.head_deadline(), now_us) else "maxlen")
        return True

    def _bury(self, level: Ready, reason: str) -> None:
        entry = level.pop(self.options.dead_letter_exchange is not None)
        self._dead_letter(entry, reason)
        level.settle(entry.position, 1, 1)

    # ---- out ----------------------------------------------------------------------------------------------------------

    def mark(self) -> None:
        if not self._marked:
            self._marked = True
            self._turn.mark_dispatch(self)

    def mark_behind(self) -> None:
        """Dispatch it in the slice of those with much to drop."""
        if not self._marked:
            self._marked = True
            self._is_behind = True
            self._turn.mark_behind(self)

    def _dispatch_now(self, now_us: i64) -> None:
        # the mark stays: the turn's own dispatch then finds less, or nothing, to do
        if self.consumers.groups:
            self._dispatch(now_us)
        elif self._expiring:
            self.expire(now_us)

    def dispatch_some(self) -> bool:
        if not self._marked or not self.consumers.groups:
            return True
        self._bounded_time = True
        try:
            self._dispatch(self._clock.now_us)
        finally:
            self._bounded_time = False
        return not self._is_cut

    def dispatch(self) -> None:
        self._marked = False
        self._yields = not self._is_behind
        self._is_behind = False
        try:
            if not self.deleted:
                self._bounded_time = True
                if self._is_over_limit:
                    self._drop_excess()
                self._dispatch(self._clock.monotonic_us() if self._expiring else 0)
        finally:
            self._bounded_time = False
            self._yields = False
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
        self._is_cut = False
        if self._expiring and not self.expire(now_us):
            self._is_cut = True
            return
        levels = self._levels
        if not self.consumers.groups:
            if self._expiring:
                for level in levels:
                    level.at_hand()  # the head is read, so that it can expire without a consumer
        else:
            at: i64 = len(levels) - 1
            while at >= 0 and self._dispatch_level(levels[at], now_us):
                at -= 1
            if at > 0 and levels[at].available() == 0:
                # it waits for the disk: what the lower levels need from it comes with the same sync, not one after the other
                for level in levels[:at]:
                    level.available()
        if self._expiring and not self._is_behind:
            self.expire(now_us)  # what stands at the head now may be another message than before

    def _dispatch_level(self, ready: Ready, now_us: i64) -> bool:
        """Dispatch one level; False when consumers ran out before messages did, messages are on their way from the disk, or too much
        has expired between those that were delivered."""
        consumers = self.consumers
        while ready.available() > 0:
            if self._left <= 0:
                self._left = _DELIVERIES_PER_LOOK
                if self._bounded_time and self._turn.out_of_time():
                    self._is_cut = True
                    self.mark()
                    return False
                if self._bounded_time and self._expiring:
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
            plain = ready.plain()
            if plain == 0:
                if not _is_past(ready.head_deadline(), now_us):
                    self._deliver_one(group, consumer, ready)
                elif not self._expire_level(ready, now_us):
                    self._is_cut = True
                    return False
                continue
            size: i64 = len(active)
            if size == 1:
                count = plain if plain < capacity else capacity
                count = self._bounded(ready, consumer, count)
                self.unacked += 0 if consumer.no_ack else count
                position = ready.next_position()
                stride = ready.next_stride()
                redelivered = ready.redelivers()
                items = ready.take(count)
                try:
                    consumer.deliver(self, ready.level, items, position, stride, redelivered)
                except Exception as error:
                    self._undelivered(consumer, error)
                if consumer.no_ack:
                    ready.settle(position, count, stride)
                self.delivered += count
                self._left -= count // 16
            elif plain >= size and size <= _TURNS_MAX and not group.crowded:
                self._left -= self._deliver_in_turns(group, ready, plain if plain < _BATCH_MAX else _BATCH_MAX) // 16
            else:
                self._deliver_one(group, consumer, ready)
        return ready.count() == 0 and ready.holds == 0

    def _bounded(self, ready: Ready, consumer: Consumer, count: i64) -> i64:
        if count > _BATCH_MAX:
            count = _BATCH_MAX
        size = ready.head_body_size()
        if size > _SMALL_BODY:
            room = consumer.room_bytes() // size + 1
            if count > room:
                count = room
        return count

    def _deliver_one(self, group: Group, consumer: Consumer, ready: Ready) -> None:
        group.turn += 1
        if group.turn >= len(group.active):
            group.turn = 0
        if not consumer.no_ack:
            self.unacked += 1
        self.delivered += 1
        plain = ready.plain()
        position = ready.next_position()
        redelivered = ready.redelivers()
        entry: Entry | None = None
        items: list[Message | Entry | None] = []
        if plain:
            items = ready.take(1)
        else:
            entry = ready.pop()
            position = entry.position
        try:
            if entry is None:
                consumer.deliver(self, ready.level, items, position, 1, redelivered)
            else:
                consumer.deliver_entry(self, ready.level, entry)
        except Exception as error:
            self._undelivered(consumer, error)
        if consumer.no_ack:
            ready.settle(position, 1, 1)

    def _deliver_in_turns(self, group: Group, ready: Ready, plain: i64) -> i64:
        """Every consumer of the group gets one message a round, as many rounds as all have room for; how many messages that is."""
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
            capacity = self._bounded(ready, consumer, capacity)
            if capacity < rounds:
                rounds = capacity
            if consumer.shared:
                self._deliver_one(group, active[group.turn], ready)
                return size
            index += 1
        position = ready.next_position()
        stride = ready.next_stride()
        redelivered = ready.redelivers()
        items = ready.take(rounds * size)
        self.delivered += rounds * size
        start = group.turn
        failed: list[tuple[Consumer, Exception]] = []
        index = 0
        while index < size:
            at = start + index
            if at >= size:
                at -= size
            consumer = active[at]
            if not consumer.no_ack:
                self.unacked += rounds
            try:
                consumer.deliver(self, ready.level, items[index::size], position + index * stride, size * stride, redelivered)
            except Exception as error:
                failed.append((consumer, error))
            if consumer.no_ack:
                ready.settle(position + index * stride, rounds, size * stride)
            index += 1
        for refused, mistake in failed:
            self._undelivered(refused, mistake)
        return rounds * size

    def _undelivered(self, consumer: Consumer, error: Exception) -> None:
        """A delivery failed by a mistake of ours: its connection ends, and what it had goes back; until then it gets nothing more."""
        self.consumers.suspend(consumer)
        self._clock.faults.caught(f"delivery from queue '{self.name}'", consumer.fault_owner(), error)

    def can_get(self) -> bool:
        if not self.dispatch_some():
            return False
        if self._expiring and not self.expire(self._clock.now_us):
            return False
        at: i64 = len(self._levels) - 1
        while at >= 0:
            level = self._levels[at]
            if level.available() > 0:
                return True
            if level.count() > 0 or level.holds:
                return False
            at -= 1
        return True

    def wait(self, waiter: Deferred) -> None:
        self._waiters.append(waiter)

    def get(self, no_ack: bool) -> Entry | None:
        self.touch()
        self.dispatch_some()
        now_us = self._clock.now_us
        if self._expiring and not self.expire(now_us):
            return None
        entry = self._pop(now_us)
        if self._expiring:
            self.expire(now_us)
        if entry is None:
            return None
        if no_ack:
            self._level(entry.message).settle(entry.position, 1, 1)
        else:
            self.unacked += 1
        return entry

    def _pop(self, now_us: i64) -> Entry | None:
        at: i64 = len(self._levels) - 1
        while at >= 0:
            level = self._levels[at]
            while level.count() > 0:
                entry = level.pop()
                if entry.message is not ON_DISK:
                    return entry
                if self._expiring and not self.expire(now_us):  # its content is lost: the one behind it is the head now
                    return None
            at -= 1
        return None

    def level_of(self, entry: Entry) -> i64:
        return self._level(entry.message).level

    def refresh(self) -> None:
        self.dispatch_some()
        if self._expiring:
            self.expire(self._clock.now_us)

    # ---- back ---------------------------------------------------------------------------------------------------------

    def settle(self, level: i64, first: i64, count: i64, stride: i64) -> None:
        self.unacked -= count
        if self._pagers:  # none once it is deleted
            self._levels[level].settle(first, count, stride)

    def over_memory_limit(self, level: i64, sample: Message) -> bool:
        pager = self._levels[level].pager
        return pager is not None and pager.over_memory_limit(self.unacked, sample)

    def evict(
        self, level: i64, items: list[Message | Entry | None], start: i64, end: i64, first_position: i64, stride: i64
    ) -> i64:
        pager = self._levels[level].pager
        return end if pager is None else pager.evict(items, start, end, first_position, stride)

    def hold(self, level: i64) -> None:
        self._levels[level].holds += 1
        self._held += 1

    def release(self, level: i64) -> None:
        self._levels[level].holds -= 1
        self._held -= 1
        if self.deleted:
            return
        if self._held == 0 and self.options.limited and self.options.overflow == DROP_HEAD:
            self._drop_excess()
        self.mark()

    def requeue(self, level: i64, run: ReturnedRun) -> None:
        self.unacked -= run.live
        if self.deleted:
            discard(self._turn, [run.items])
            return
        if run.expiring:
            self._expiring = True
        self._levels[level].put_back(run)
        if self._expiring:
            self._arm_expiry()
        if self.options.limited and self.options.overflow == DROP_HEAD:
            self._drop_excess()
        self.mark()

    def reject(self, level: i64, run: ReturnedRun, limit: i64) -> bool:
        ready = self._levels[level]
        end: i64 = len(run.items)
        if end > run.offset + limit and not self.deleted:
            end = run.offset + limit
        if not self.deleted:
            if self.options.dead_letter_exchange is not None:
                end = ready.recalled_at_once(run, end)
                self._dead_letter_rejected(ready, run, end)
            if ready.pager is not None:
                run.settle(ready, end)
        self.unacked -= run.drop(end)
        return run.live == 0

    def _dead_letter_rejected(self, ready: Ready, run: ReturnedRun, end: i64) -> None:
        entries = run.entries(end)
        ready.recall_now(entries)
        for entry in entries:
            self._dead_letter(entry, "rejected")

    def _dead_letter(self, entry: Entry, reason: str) -> None:
        if entry.message is not ON_DISK:  # otherwise its content is lost, and the log has told so
            self._host.dead_letter(self, entry.message, reason)

    def purge(self) -> i64:
        self.dispatch_some()
        count: i64 = 0
        dropped: list[list[Message | Entry | None]] = []
        for level in self._levels:
            count += level.clear(dropped)
        discard(self._turn, dropped)
        return count

    # ---- consumers ----------------------------------------------------------------------------------------------------

    def add_consumer(self, consumer: Consumer) -> None:
        self.consumers.add(consumer)
        for pager in self._pagers:
            pager.watched = True
        self.mark()

    def remove_consumer(self, consumer: Consumer) -> None:
        if not consumer.registered:
            return
        self.consumers.remove(consumer)
        if self.consumers.count():
            self.mark()
            return
        for pager in self._pagers:
            pager.watched = False
        self.touch()
        if self.auto_delete and not self.deleted:
            self._host.remove_queue(self)

    def unblock(self, consumer: Consumer) -> None:
        if self.consumers.unblock(consumer):
            self.mark()

    # ---- time ---------------------------------------------------------------------------------------------------------

    def expire(self, now_us: i64) -> bool:
        """Drop (or dead-letter, reason ``expired``) what stands at the head of a line past its deadline.

        Only heads are looked at: a message behind one that lives longer waits (RabbitMQ docs, Per-Message TTL in Publishers).
        False if the turn's time was over before everything was gone: the queue is dispatched again, and delivers nothing until then.
        """
        if self.deleted:
            return True
        self._drops_left = _DROPS_PER_LOOK
        waiting = False
        for level in self._levels:
            if not self._expire_level(level, now_us):
                return False
            waiting = waiting or level.expiring
        self._expiring = waiting
        if waiting:
            self._arm_expiry()
        return True

    def _expire_level(self, level: Ready, now_us: i64) -> bool:
        """The same for one level."""
        while _is_past(level.head_deadline(), now_us):
            if self._host.is_dead_lettering(self):
                self.mark_behind()
                return False
            self._bury(level, "expired")
            self._drops_left -= 1
            if self._drops_left <= 0:
                self._drops_left = _DROPS_PER_LOOK
                if self._yields or self._turn.out_of_time():
                    self.mark_behind()
                    return False
        return True

    def _arm_expiry(self) -> None:
        earliest: i64 = NEVER
        for level in self._levels:
            deadline = level.head_deadline()
            if deadline and deadline < earliest:
                earliest = deadline
        timer = self._expiry_timer
        if earliest == NEVER:
            return
        earliest = (earliest + 999) // 1000
        if timer is not None and timer.target is not None:
            if timer.deadline_ms <= earliest:
                return
            timer.cancel()
        self._expiry_timer = self._clock.call_at(earliest, _ExpiryTimer(self))

    def expires_from_now(self) -> None:
        self._expiring = True

    def touch(self) -> None:
        if self.options.expires_ms <= 0 or self.deleted:
            return
        self._lease_from = self._clock.now_ms
        if self._lease_timer is None:
            self._lease_timer = self._clock.call_at(self._lease_from + self.options.expires_ms, _LeaseTimer(self))

    def check_lease(self, now_ms: i64) -> None:
        """x-expires: delete the queue when it went unused for so long (no consumer, no get, no declare)."""
        self._lease_timer = None
        if self.deleted or self.consumers.count():
            return
        if self._lease_from + self.options.expires_ms > now_ms:
            self._lease_timer = self._clock.call_at(self._lease_from + self.options.expires_ms, _LeaseTimer(self))
            return
        self._host.remove_queue(self)

    def rest(self) -> None:
        for pager in self._pagers:
            pager.rest()

    def close(self) -> i64:
        count = self.ready_count()
        self.deleted = True
        for timer in (self._expiry_timer, self._lease_timer):
            if timer is not None:
                timer.cancel()
        self._turn.start(Cancelling(self._clock.faults, self.consumers.dissolve()))
        dropped: list[list[Message | Entry | None]] = []
        for pager in self._pagers:
            try:
                pager.close(dropped)
            except Exception as error:
                self._clock.faults.caught("log of a queue that is deleted", None, error)
        self._pagers = []
        self.link.cut()
        for level in self._levels:
            level.pager = None
            level.clear(dropped)
        discard(self._turn, dropped)
        self._resume_waiters()
        return count
