"""The contract of a queue: what channels, the virtual host and the management ask of one, whatever its type.

A queue knows consumers, never channels; a host, never the virtual host's class. Client **publishes**, queue
**enqueues**, **dispatches**, client **settles**, queue **requeues**, **expires** or **dead-letters**.

A delivery is known by its queue, its level (a number below ``QueueOptions.levels``) and its position: a dense number
that the queue gives out when it takes the message, on each level from 0. What is settled or comes back is said in such
positions, never in messages: a queue need not have their content.
"""

from __future__ import annotations

from mypy_extensions import mypyc_attr

from broker.destination import MessageTarget
from broker.message import Message
from broker.native import i64
from broker.queues.consumer import Consumer
from broker.queues.consumers import Consumers
from broker.queues.declaration import QueueDeclaration
from broker.queues.delivery import Delivery
from broker.queues.kept_dead_letter import KeptDeadLetter
from broker.queues.queue_link import QueueLink
from broker.stats import QueueFigures, Sampler
from broker.turn import Deferred, Dispatchable


@mypyc_attr(allow_interpreted_subclasses=True)
class QueueHost:
    """What a queue asks of the place it lives in."""

    def dead_letter(self, queue: Queue, message: Message, reason: str) -> None:
        """Publish ``message`` to the queue's dead letter exchange, if it has one."""
        raise NotImplementedError

    def is_dead_lettering(self, queue: Queue) -> bool:
        """Whether nothing more should die in the queue now: a dead letter of it is still on its way, or there were too
        many at once."""
        return False

    def send_dead_letter(self, queue: Queue, letter: KeptDeadLetter) -> None:
        """Publish a dead letter that stays in the queue until all its targets have it, soon or at once."""
        raise NotImplementedError

    def dead_letters_arrived(self, count: i64) -> None:
        """So many of these need not stay any more."""

    def await_routes(self, queue: Queue) -> None:
        """Call ``queue.routes_changed`` when its dead letters may lead somewhere else than before. Once."""
        raise NotImplementedError

    def remove_queue(self, queue: Queue) -> None:
        """The queue expired or lost its last consumer: delete it."""
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class Queue(MessageTarget, Dispatchable):
    """One queue. Created by the virtual host; gone when ``deleted`` is true."""

    def __init__(self, declared: QueueDeclaration) -> None:
        super().__init__(declared.name)
        self.type = declared.type
        self.durable = declared.durable
        self.auto_delete = declared.auto_delete
        self.owner = declared.owner
        """The connection it is exclusive to, or None."""
        self.arguments = declared.arguments
        self.options = declared.options
        self.log_number: i64 = declared.log_number
        """The first of its logs; 0 for a queue that need not survive the node."""
        self.consumers = Consumers(declared.options.single_active)
        self.link = QueueLink(self)
        """How deliveries refer to it; cut when it is deleted."""
        self.unacked: i64 = 0
        """Messages that clients have got, also by basic.get, and not settled."""
        self.delayed: i64 = 0
        """Messages that came back and wait for a while before they are ready again."""
        self.delivered: i64 = 0
        """Messages that consumers have got."""

    def new_figures(self, sampler: Sampler) -> QueueFigures:
        return QueueFigures(sampler, self.link)

    def recover(self) -> None:
        """Its logs hold what recovery has found; everything in them waits."""
        raise NotImplementedError

    def ready_count(self) -> i64:
        """Messages waiting, as they stand: nothing is dispatched and nothing expires for whoever only counts."""
        raise NotImplementedError

    def set_aside_count(self) -> i64:
        """Messages that are neither ready nor with a client: delayed ones, and dead letters that stay."""
        return self.delayed + self.dead_count()

    def dead_count(self) -> i64:
        """Dead letters that stay until all their targets have them."""
        return 0

    def dead_bytes(self) -> i64:
        """Sum of the sizes of their bodies, about."""
        return 0

    def head(self) -> Message | None:
        """The message that is next, if it is at hand: nothing is read, dispatched or dropped for whoever only looks."""
        return None

    def ready_bytes(self) -> i64:
        """Sum of the body sizes of what waits; -1 if it is not known, or would take long to add up."""
        return -1

    def refresh(self) -> None:
        """Deliver what consumers can take and drop what has expired, as far as the slice of the turn goes: before a
        client is told how many are left."""
        raise NotImplementedError

    def dispatch(self) -> None:
        """Hand waiting messages to consumers with room."""
        raise NotImplementedError

    def dispatch_some(self) -> bool:
        """The same now, for whoever must come behind what was published before, as far as the slice of the turn goes;
        whether that sufficed. If not, the queue is dispatched again in the next turn."""
        raise NotImplementedError

    def schedule_dispatch(self) -> None:
        """Ask for a dispatch at the end of this turn."""
        raise NotImplementedError

    def can_get(self, waiter: Deferred) -> bool:
        """Whether ``get`` may be called now; otherwise ``waiter.resume`` is called when that may have changed."""
        raise NotImplementedError

    def give_up(self, waiter: Deferred) -> None:
        """Whoever was told to wait for ``can_get`` has ended."""

    def get(self, no_ack: bool) -> Delivery | None:
        """Take the next message for a basic.get; None when the queue is empty. With ``no_ack`` it is settled."""
        raise NotImplementedError

    def settle(self, level: i64, first: i64, count: i64, stride: i64) -> None:
        """Delivered messages were acknowledged: ``count`` of that level, from position ``first`` on, ``stride``
        apart."""
        raise NotImplementedError

    def hold(self, level: i64) -> None:
        """Deliver nothing from that level until ``release``, which is called as often: what is about to come back goes
        first."""
        raise NotImplementedError

    def release(self, level: i64) -> None:
        """What ``hold`` waited for has come back."""
        raise NotImplementedError

    def requeue(self, level: i64, first: i64, count: i64, stride: i64, refusal: i64) -> i64:
        """Delivered messages, said as for ``settle``, come back to the places they had; ``refusal`` says why
        (refusal.py). Some may have failed too often, and are dead-lettered or dropped instead.

        How many of them, the first ones: where that takes long, not all.
        """
        raise NotImplementedError

    def reject(self, level: i64, first: i64, count: i64, stride: i64) -> i64:
        """Delivered messages, said as for ``settle``, were refused without requeue: they are dead-lettered (reason
        ``rejected``) or dropped.

        How many of them, the first ones: where that takes long, not all.
        """
        raise NotImplementedError

    def routes_changed(self) -> None:
        """What ``QueueHost.await_routes`` was asked for."""

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

    def mark_used(self) -> None:
        """The queue was used (declared, asked with basic.get): x-expires starts anew."""
        raise NotImplementedError

    def on_shutdown(self) -> None:
        """The node ends, and nobody consumes any more: tell the log what was delivered, exactly."""

    def close(self) -> i64:
        """The queue is deleted: cancel its consumers and timers; returns the number of ready messages dropped."""
        raise NotImplementedError
