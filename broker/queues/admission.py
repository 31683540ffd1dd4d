"""What a queue with arguments does with a message that comes: its guards and limits decide, and it may expire (RabbitMQ
docs, Queue Length Limit; Time-To-Live)."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from broker.clock import Clock
from broker.message import ACCEPTED, PENDING, REJECTED, Message
from broker.native import i64
from broker.queues.arguments import guards, is_guarded
from broker.queues.entry import Entry
from broker.queues.expiry import ttl_ms
from broker.queues.guard import ADMITTED
from broker.queues.message_backlog import MessageBacklog
from broker.queues.options import DROP_HEAD, REJECT_PUBLISH_DLX, QueueOptions
from broker.wire.table import FieldTable

if TYPE_CHECKING:
    from broker.queues.backlog_queue import BacklogQueue


def needs_admission(options: QueueOptions, arguments: FieldTable) -> bool:
    """Whether anything is decided about a message that comes, and does not expire itself."""
    return options.levels() > 1 or options.limited or options.message_ttl_ms >= 0 or is_guarded(arguments)


@final
class Admission:
    """Of one queue, which is handed in every time: neither keeps the other when the queue is gone."""

    def __init__(self, arguments: FieldTable, clock: Clock) -> None:
        self._guards = tuple(guards(arguments))
        self._clock = clock

    def enqueue(self, queue: BacklogQueue, message: Message) -> int:
        """As ``Queue.enqueue``."""
        for guard in self._guards:
            outcome = guard.decide(message)
            if outcome != ADMITTED:
                return outcome
        options = queue.options
        if options.limited and options.overflow != DROP_HEAD and queue.length_limit().is_full(queue):
            if options.overflow == REJECT_PUBLISH_DLX:
                queue.host.dead_letter(queue, message, "maxlen")
            return REJECTED
        backlog = queue.backlog_for(message)
        ttl = ttl_ms(options, message)
        stored = backlog.append(message) if ttl < 0 else self._append_expiring(queue, backlog, message, ttl)
        if options.limited and options.overflow == DROP_HEAD:
            queue.length_limit().drop_excess(queue)
        if queue.consumers.groups:
            queue.schedule.schedule(queue)
        return PENDING if stored else ACCEPTED

    def _append_expiring(self, queue: BacklogQueue, backlog: MessageBacklog, message: Message, ttl: i64) -> bool:
        now_us = self._clock.now_us
        if ttl == 0:
            queue.dispatcher.dispatch_now(queue, now_us)  # consumers are offered what stands before it
        stored = backlog.add(Entry(message, backlog.next, now_us + ttl * 1000), message)
        queue.expiring = True
        if ttl > 0:
            queue.expiration().arm(queue)
            return stored
        queue.dispatcher.dispatch_now(queue, now_us - 1)  # one that has room now gets it, nobody else ever
        queue.expiration().expire(queue, now_us)
        return stored
