"""The contract of a queue: what channels, the virtual host and the management ask of one, whatever its type.

A queue knows consumers, never channels; a host, never the virtual host's class. Client **publishes**, queue **enqueues**,
**dispatches**, client **settles**, queue **requeues**, **expires** or **dead-letters**.
"""

from __future__ import annotations

from mypy_extensions import mypyc_attr

from broker.destination import MessageTarget
from broker.message import Message
from broker.native import i64
from broker.queues.consumers import Consumer, Consumers
from broker.queues.entry import Entry
from broker.queues.options import QueueOptions
from broker.queues.ready import Ready
from broker.queues.returned_run import ReturnedRun
from broker.turn import Deferred, Dispatchable
from broker.wire.table import FieldTable


@mypyc_attr(allow_interpreted_subclasses=True)
class QueueHost:
    """What a queue asks of the place it lives in."""

    def dead_letter(self, queue: Queue, message: Message, reason: str) -> None:
        """Publish ``message`` to the queue's dead letter exchange, if it has one."""
        raise NotImplementedError

    def is_dead_lettering(self, queue: Queue) -> bool:
        """Whether nothing more should die in the queue now: a dead letter of it is still on its way, or there were too many at once."""
        return False

    def remove_queue(self, queue: Queue) -> None:
        """The queue expired or lost its last consumer: delete it."""
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class Queue(MessageTarget, Dispatchable):
    """One queue. Created by the virtual host; gone when ``deleted`` is true."""

    def __init__(
        self,
        name: str,
        durable: bool,
        auto_delete: bool,
        owner: object | None,
        arguments: FieldTable,
        options: QueueOptions,
    ) -> None:
        super().__init__(name)
        self.durable = durable
        self.auto_delete = auto_delete
        self.owner = owner
        """The connection it is exclusive to, or None."""
        self.arguments = arguments
        self.options = options
        self.consumers = Consumers(options.single_active)
        self.unacked: i64 = 0
        self.delivered: i64 = 0
        """Messages that consumers have got."""

    def ready_count(self) -> i64:
        """Messages waiting, as declare-ok and get-ok count them: what consumers can take at once is dispatched first, as far as the
        slice of the turn goes."""
        raise NotImplementedError

    def dispatch(self) -> None:
        """Hand waiting messages to consumers with room."""
        raise NotImplementedError

    def dispatch_some(self) -> bool:
        """The same now, for whoever must come behind what was published before, as far as the slice of the turn goes; whether that
        sufficed. If not, the queue is dispatched again in the next turn."""
        raise NotImplementedError

    def mark(self) -> None:
        """Ask for a dispatch at the end of this turn."""
        raise NotImplementedError

    def can_get(self) -> bool:
        """Whether ``get`` may be called now; otherwise ``wait`` and ask again."""
        raise NotImplementedError

    def wait(self, waiter: Deferred) -> None:
        """Call ``waiter.resume`` when ``can_get`` may have become true."""
        raise NotImplementedError

    def get(self) -> Entry | None:
        """Take the next message for a basic.get; None when the queue is empty."""
        raise NotImplementedError

    def level_of(self, entry: Entry) -> Ready:
        """The line that ``entry`` belongs to."""
        raise NotImplementedError

    def settle(self, ready: Ready, first: i64, count: i64, stride: i64) -> None:
        """Delivered messages were acknowledged: ``count`` of that line, from position ``first`` on, ``stride`` apart."""
        raise NotImplementedError

    def hold(self, ready: Ready) -> None:
        """Deliver nothing from that line until ``release``, which is called as often: what is about to come back goes first."""
        raise NotImplementedError

    def release(self, ready: Ready) -> None:
        """What ``hold`` waited for has come back."""
        raise NotImplementedError

    def requeue(self, ready: Ready, run: ReturnedRun) -> None:
        """Delivered messages come back to the places they had. The queue owns the run from now on."""
        raise NotImplementedError

    def reject(self, ready: Ready, run: ReturnedRun, limit: i64) -> bool:
        """Delivered messages were refused without requeue: they are dead-lettered (reason ``rejected``) or dropped.

        About ``limit`` of them, those from ``run.offset`` on, which moves on; whether all are done.
        """
        raise NotImplementedError

    def purge(self) -> i64:
        """Drop all ready messages; returns how many. Nothing is dead-lettered."""
        raise NotImplementedError

    def add_consumer(self, consumer: Consumer) -> None:
        """Start delivering to ``consumer``."""
        raise NotImplementedError

    def remove_consumer(self, consumer: Consumer) -> None:
        """Stop delivering to ``consumer``; an auto-delete queue goes with the last one."""
        raise NotImplementedError

    def unblock(self, consumer: Consumer) -> None:
        """``consumer`` has room again."""
        raise NotImplementedError

    def expires_from_now(self) -> None:
        """A message with a deadline has come back from the disk."""
        raise NotImplementedError

    def touch(self) -> None:
        """The queue was used (declared, asked with basic.get): x-expires starts anew."""
        raise NotImplementedError

    def rest(self) -> None:
        """The node ends, and nobody consumes any more: tell the log what was delivered, exactly."""

    def close(self) -> i64:
        """The queue is deleted: cancel its consumers and timers; returns the number of ready messages dropped."""
        raise NotImplementedError
