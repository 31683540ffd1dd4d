"""What one client can ask for and takes longer than a turn, done in slices: its channel's later frames wait behind it,
in order.

    Publishing      a message for very many queues, or through bindings that take long to follow
    Settling        deliveries that come back or are refused, a run at a time
    Commit          the publishes and settlements of a transaction; one commit group of the log, however many turns it
                    takes
    Deleting        a queue or exchange whose bindings are undone, before the answer

What a channel or a connection held when it ends is given back likewise (ending.py). Whoever begins one lets it do its
first slice at once (``Channel.carry_out``), so what is small is done as if there were no slices.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast, final

from broker.destination import MessageTarget
from broker.faults import FaultOwner
from broker.message import Message
from broker.native import i64
from broker.promises import PromiseSources
from broker.protocol.delivery_run import Run
from broker.protocol.transaction import Transaction
from broker.queues.queue import Queue
from broker.queues.refusal import DISCARDED
from broker.routing.router import STEP, Routing
from broker.store.logs import GroupHold
from broker.turn import Deferred, SlicedWork
from broker.vhost.bindings import Unbinding
from broker.vhost.dead_letters import DeadLettering
from broker.vhost.publishing import publish
from broker.vhost.routes import Route

if TYPE_CHECKING:
    from broker.protocol.channel import Channel

AT_ONCE: Final[i64] = 256
"""A message for so many queues is not worth slices."""
_FEW: Final[i64] = 64
"""Deliveries of a run that comes back: with more, the clock is looked at behind it, as each of them is touched."""
_PER_LOOK: Final[i64] = 16
"""Messages, consumers or queues between two looks at the clock."""


@final
class Publishing(SlicedWork):
    """A message on its way to its queues."""

    def __init__(
        self,
        channel: Channel,
        route: Route,
        message: Message,
        targets: list[MessageTarget] | None,
        routing: Routing | None,
    ) -> None:
        self._channel = channel
        self._route = route
        self._message = message
        self._targets = targets
        """None until ``routing`` has found them."""
        self._routing = routing
        self._began = routing is None
        """The first step of the routing comes behind an attempt that has failed: perhaps not in the same slice."""
        self._at: i64 = 0
        self._sequence: i64 = 0
        self._outcome: i64 = 0
        """As that of ``publish``, of all of them so far."""

    def step(self) -> bool:
        channel = self._channel
        turn = channel.session.turn
        routing = self._routing
        if routing is not None:
            if not self._began:
                self._began = True
                if turn.out_of_time():
                    return False
            while not routing.step(STEP):
                if turn.out_of_time():
                    return False
            self._routing = None
            channel.session.vhost.publishing.learn(self._route, routing)
            self._targets = cast("list[MessageTarget]", routing.found)
            if len(routing.found) > AT_ONCE and turn.out_of_time():
                return False
        targets = self._targets
        assert targets is not None
        publisher = channel.publishing()
        if len(targets) <= AT_ONCE or channel.transaction is not None:
            if channel.session.vhost.dead_letters.crowds_out(targets):
                return False
            publisher.publish_to(channel, targets, self._message, self._route)
            return True
        if self._at == 0:
            self._sequence = publisher.begin(channel, self._route)
        while self._at < len(targets):
            part = targets[self._at : self._at + _PER_LOOK]
            self._at += _PER_LOOK
            self._outcome |= publish(self._route.figures, part, self._message, publisher.confirms)
            if self._at < len(targets) and turn.out_of_time():
                return False
        if self._sequence > 0:
            publisher.promise(channel, self._sequence, self._outcome)
        return True

    def fault_owner(self) -> FaultOwner | None:
        return self._channel.session.owner


@final
class Settling(SlicedWork):
    """Deliveries that a client has refused: they go back to their places, or are dead-lettered or dropped.

    Nothing is delivered from a level that they go back to before the last of them is there, so nothing overtakes them.
    """

    def __init__(self, channel: Channel, runs: list[Run], refusal: i64, through: i64 = 0) -> None:
        self._channel = channel
        self._runs = runs
        self._refusal: i64 = refusal
        self._requeue = refusal != DISCARDED
        self._through: i64 = through
        """When these runs are done: all that is outstanding up to this tag, a share at a time."""
        self._at: i64 = 0
        """The next run."""
        self._ranges: list[tuple[int, int]] | None = None
        """What is left of it, once it was begun: (position, count), the first one last."""
        self._held: dict[tuple[Queue, int], None] = {}
        """Queues, and their levels."""
        self._dead_lettering: dict[DeadLettering, None] = {}
        """What is still on its way of that which was rejected."""

    def step(self) -> bool:
        turn = self._channel.session.turn
        vhost = self._channel.session.vhost
        runs = self._runs if self._at < len(self._runs) else self._take_more()
        while self._at < len(runs):
            queue = runs[self._at].link.queue
            if not self._requeue and queue is not None and vhost.is_dead_lettering(queue):
                return False  # what it has rejected before is still on its way
            is_costly = not self._requeue or queue is None or runs[self._at].live > _FEW
            if self._settle(runs[self._at]):
                self._at += 1
                self._ranges = None
            if (is_costly or self._at % _PER_LOOK == 0) and turn.out_of_time():
                return False
            if self._at == len(runs):
                runs = self._take_more()
        for letters in self._dead_lettering:
            if not letters.ended:
                return False
        if not self._release_held():
            return False
        self._channel.unblock()
        return True

    def _release_held(self) -> bool:
        """Nothing more comes back to these levels; whether all know. There may be 10,000, and their queues are let go
        with them."""
        left = _PER_LOOK
        while self._held:
            (queue, level), _ = self._held.popitem()
            queue.release(level)
            left -= 1
            if left == 0:
                left = _PER_LOOK
                if self._held and self._channel.session.turn.out_of_time():
                    return False
        return True

    def _take_more(self) -> list[Run]:
        if self._through > 0:
            self._runs = self._channel.unacked.take_some(self._through)
            self._at = 0
        return self._runs

    def _settle(self, run: Run) -> bool:
        """Some of a run; whether it is done."""
        ranges = self._ranges
        if ranges is None:
            ranges = [(int(run.first_position + at * run.stride), count) for at, count in run.ranges(run.size)]
            ranges.reverse()
            self._ranges = ranges
            consumer = run.consumer
            if consumer is not None:
                # first: one that has room again may take the message back in this very turn, and goes before others
                consumer.settled(run.live)
                self._channel.unblock()
        queue = run.link.queue
        if queue is None:  # it was deleted
            return True
        try:
            if not self._requeue:
                return self._reject(queue, run, ranges)
            place = (queue, int(run.level))
            if place not in self._held:
                self._held[place] = None
                queue.hold(run.level)
            while ranges:
                first, count = ranges.pop()
                done = queue.requeue(run.level, first, count, run.stride, self._refusal)
                if done < count:
                    return self._leave(queue, run, ranges, first, count, done)
        except Exception as error:  # what belongs to other queues must not stay behind
            session = self._channel.session
            session.clock.faults.caught("requeue or reject", session.owner, error)
        return True

    def _reject(self, queue: Queue, run: Run, ranges: list[tuple[int, int]]) -> bool:
        """Some of these ranges; whether all are done."""
        first, count = ranges.pop()
        done = queue.reject(run.level, first, count, run.stride)
        return self._leave(queue, run, ranges, first, count, done)

    def _leave(self, queue: Queue, run: Run, ranges: list[tuple[int, int]], first: i64, count: i64, done: i64) -> bool:
        """So many of a range were dead-lettered: what is left is done later, behind them; whether nothing is."""
        if done < count:
            ranges.append((int(first + done * run.stride), int(count - done)))
        letters = self._channel.session.vhost.dead_letters.under_way.get(queue)
        if letters is not None:
            self._dead_lettering[letters] = None
        return not ranges

    def fault_owner(self) -> FaultOwner | None:
        return self._channel.session.owner


@final
class Deleting(SlicedWork):
    """The bindings of something that a client has deleted are undone. The client's notices (that consumers of the queue
    were cancelled) wait for the answer, which is sent when all are."""

    def __init__(self, channel: Channel, unbinding: Unbinding) -> None:
        self._channel = channel
        self._unbinding = unbinding
        self._waits = False

    def step(self) -> bool:
        done = self._unbinding.step()
        if not done and not self._waits:
            self._waits = True
            self._channel.session.answers_held += 1
        if done and self._channel.closing:
            self.answered()
        return done

    def answered(self) -> None:
        """The answer is sent, or need not be."""
        if self._waits:
            self._waits = False
            self._channel.session.answers_held -= 1
            self._channel.session.schedule_flush()

    def fault_owner(self) -> FaultOwner | None:
        return self._channel.session.owner


@final
class ChannelWork(SlicedWork):
    """Work behind which the frames of a channel wait."""

    def __init__(self, channel: Channel, work: SlicedWork, then: Deferred | None) -> None:
        self._channel = channel
        self._work = work
        self._then = then

    def step(self) -> bool:
        channel = self._channel
        try:
            if not self._work.step():
                return False
        except Exception:
            channel.working -= 1
            raise
        channel.working -= 1
        if not channel.closing:
            channel.retry = self._then
            channel.session.release(channel)
        return True

    def fault_owner(self) -> FaultOwner | None:
        return self._channel.session.owner


@final
class Commit(SlicedWork):
    """Carries out a transaction: publishes first, then settlements. The open commit group of the log is not handed over
    before its end."""

    def __init__(self, channel: Channel, transaction: Transaction) -> None:
        self._channel = channel
        # the first one stands last: what is done is let go at once, and not all of it in the end
        self._publishes = transaction.pending
        self._publishes.reverse()
        self._settlements = transaction.settlements
        self._settlements.reverse()
        transaction.pending = []
        transaction.settlements = []
        channel.unacked.end_transaction()
        self._rejecting: Settling | None = None
        self._acked: i64 = 0
        """Runs of the settlement."""
        self._hold = GroupHold(channel.session.logs)
        self.promised_by = PromiseSources()
        """Who keeps what is published."""
        self.accepted = True
        """False once a queue has refused a message."""

    def step(self) -> bool:
        done = self._step()
        self._hold.set(not done)
        if done:
            self._channel.unblock()
        return done

    def _step(self) -> bool:
        channel = self._channel
        turn = channel.session.turn
        publishes = self._publishes
        publisher = channel.publishing()
        while publishes:
            if not publisher.carry_out(channel, publishes.pop(), self.promised_by):
                self.accepted = False
            if publishes and len(publishes) % _PER_LOOK == 0 and turn.out_of_time():
                return False
        settlements = self._settlements
        while settlements:
            rejecting = self._rejecting
            settlement = settlements[-1]
            if rejecting is None and not settlement.ack:
                rejecting = Settling(channel, settlement.runs, settlement.refusal)
                self._rejecting = rejecting
            if rejecting is not None:
                if not rejecting.step():
                    return False
                self._rejecting = None
            elif not self._acknowledge(settlement.runs):
                return False
            settlements.pop()
            if settlements and len(settlements) % _PER_LOOK == 0 and turn.out_of_time():
                return False
        return True

    def _acknowledge(self, runs: list[Run]) -> bool:
        """Some of the runs of an acknowledgement; whether all are done."""
        turn = self._channel.session.turn
        while True:
            start = self._acked
            left = _PER_LOOK
            while self._acked < len(runs) and left > 0:
                left -= runs[self._acked].weight()
                self._acked += 1
            self._channel.carry_out_acks(runs[start : self._acked])
            if self._acked == len(runs):
                self._acked = 0
                return True
            if turn.out_of_time():
                return False

    def fault_owner(self) -> FaultOwner | None:
        return self._channel.session.owner
