"""Dead-lettering in a virtual host: what has died is routed through the dead letter exchange of its queue, and enqueued
where that leads.

Mostly that is done at once. Where it takes long, because the exchange leads to very many queues or its bindings are
long to match, it is done in slices (``DeadLettering``), and what dies in the same queue meanwhile waits behind it, so
that order is kept. A queue that is told so (``QueueHost.is_dead_lettering``) lets nothing else die until it is done:
what waits is little. The same is said to a queue that gets a dead letter which would die there at once, as it did in
many queues before, when the time is over: it stays there until the next turn.
"""

from __future__ import annotations

from typing import Final, cast, final

from broker.destination import MessageTarget
from broker.message import Message
from broker.native import i64
from broker.queues.dead_letter import DeadLetterWriter, Death
from broker.queues.deaths import is_cycle
from broker.queues.options import REJECT_PUBLISH_DLX
from broker.queues.queue import Queue
from broker.routing.exchange import Exchange
from broker.routing.routed import Routed
from broker.routing.router import STEP, Routing
from broker.stats import ExchangeFigures
from broker.store.logs import GroupHold
from broker.turn import SlicedWork
from broker.vhost.environment import Tables, VHostEnvironment
from broker.vhost.publishing import publish

_AT_ONCE: Final[i64] = 64
"""A dead letter for so many queues is not worth slices."""
_PER_LOOK: Final[i64] = 16
"""Queues that a dead letter reaches, or deaths of what dies again at once, between two looks at the clock."""
_CROWD: Final = 256
"""More than so many dead letters of one queue wait: whoever publishes to it has to wait as well."""


@final
class DeadLetters:
    """The dead letters of one virtual host; ``exchanges`` is the host's own dictionary."""

    def __init__(self, tables: Tables, environment: VHostEnvironment) -> None:
        self.router = tables.router
        self.turn = environment.turn
        self.clock = environment.clock
        self.logs = environment.logs
        self.under_way: dict[MessageTarget, DeadLettering] = {}
        self.crowded = 0
        """Queues of which many dead letters wait."""
        self._exchanges = tables.exchanges
        self._counters = environment.counters
        self._sampler = environment.sampler
        self._writer = DeadLetterWriter()
        self._deaths: list[tuple[Queue, Message, str]] = []
        self._busy = False
        self._left: i64 = 0
        """Deaths of what dies again at once, until the next look at the clock."""

    def is_late(self) -> bool:
        """Whether a dead letter that would die again had better wait for the next turn: it did so often, and the time
        is over."""
        if not self._busy or self._left > 0:
            return False
        if self.turn.out_of_time():
            return True
        self._left = _PER_LOOK
        return False

    def must_wait(self) -> bool:
        """Whether nothing should die in a durable queue now: what is on its way has held the log's open group for long
        (``GroupHold``)."""
        logs = self.logs
        return bool(self.under_way) and logs is not None and logs.promises.is_held_for_long()

    def add(self, queue: Queue, message: Message, reason: str) -> None:
        """Route ``message``, which has died in ``queue``; dropped if that has no dead letter exchange."""
        if queue.options.dead_letter_exchange is None:
            return
        self._deaths.append((queue, message, reason))
        if self._busy:
            return  # a dead letter that dies at once, again: no recursion
        self._busy = True
        try:
            self._left = _PER_LOOK
            while self._deaths:
                deaths = self._deaths
                self._deaths = []
                for origin, dead, why in deaths:
                    under_way = self.under_way.get(origin)
                    if under_way is None and self.is_late():
                        under_way = self._begin(origin)  # no queue could keep it: it was refused
                    if under_way is not None:
                        under_way.add(dead, why)
                        continue
                    self._left -= 1
                    try:
                        self._route(origin, dead, why)
                    except Exception as error:  # the others that died meanwhile must not be lost with it
                        self.clock.faults.caught("dead letter", None, error)
        finally:
            self._busy = False

    def _begin(self, queue: Queue) -> DeadLettering:
        """What dies in ``queue`` is done in slices from now on."""
        under_way = DeadLettering(self, queue)
        self.under_way[queue] = under_way
        self.turn.begin(under_way)
        return under_way

    def crowds_out(self, targets: list[MessageTarget]) -> bool:
        """Whether a message for these targets has to wait, because too many dead letters of one of them do."""
        if self.crowded:
            for target in targets:
                under_way = self.under_way.get(target)
                if under_way is not None and under_way.crowds:
                    return True
        return False

    def death(self, queue: Queue, message: Message, reason: str) -> tuple[Exchange, Death] | None:
        """What becomes of a message that has died, and the exchange it goes to; None if there is no such exchange."""
        found = self.written(queue, message, reason)
        if found is not None:
            self._count(reason)
        return found  # RabbitMQ docs, Dead Letter Exchanges: without an exchange silently dropped

    def written(self, queue: Queue, message: Message, reason: str) -> tuple[Exchange, Death] | None:
        """The same, but nothing is counted."""
        target = queue.options.dead_letter_exchange
        exchange = self._exchanges.get(target) if target is not None else None
        if exchange is None:
            return None
        routing_key = queue.options.dead_letter_routing_key
        return exchange, self._writer.make(message, queue.name, reason, exchange.name, routing_key, self.clock.wall_s())

    def _route(self, queue: Queue, message: Message, reason: str) -> None:
        found = self.death(queue, message, reason)
        if found is None:
            return
        exchange, death = found
        reached = self.targets_at_once(exchange, death)
        if reached is not None and len(reached) <= _AT_ONCE:
            deliver(self.count_in(exchange), reached, death, reason)
            return
        self._begin(queue).begin(exchange, death, reason)

    def targets_at_once(self, exchange: Exchange, death: Death) -> list[MessageTarget] | None:
        """Where it goes; None if it takes long to find that."""
        reached = self.router.attempt(exchange, death.routing_keys, None)
        if reached is not None and self.router.used_message:
            reached = self.router.attempt(exchange, death.routing_keys, Routed(death.message, self.clock))
        return cast("list[MessageTarget] | None", reached)

    def count_in(self, exchange: Exchange) -> ExchangeFigures:
        """A dead letter is published to that exchange: what is counted for it."""
        figures = exchange.stirred(self._sampler)
        figures.publish_in += 1
        return figures

    def count_kept(self, reason: str) -> None:
        """One that stays until it has arrived is sent for the first time."""
        if reason == "expired":
            self._counters.kept_dead_letters_expired += 1
        elif reason == "rejected":
            self._counters.kept_dead_letters_rejected += 1
        else:
            self._counters.kept_dead_letters_delivery_limit += 1

    def count_arrived(self, count: i64) -> None:
        """So many of these have arrived."""
        self._counters.kept_dead_letters_confirmed += int(count)

    def _count(self, reason: str) -> None:
        if reason == "expired":
            self._counters.dead_lettered_expired += 1
        elif reason == "maxlen":
            self._counters.dead_lettered_maxlen += 1
        else:
            self._counters.dead_lettered_rejected += 1


def deliver(source: ExchangeFigures, targets: list[MessageTarget], death: Death, reason: str) -> None:
    """Put a dead letter where it goes, except where it would go round in a circle."""
    if reason != "rejected":
        targets = [target for target in targets if not is_cycle(target.name, death.deaths)]
    publish(source, targets, death.message, None)


@final
class DeadLettering(SlicedWork):
    """A dead letter that takes long, or comes when the time is over, and those that have died after it in the same
    queue."""

    def __init__(self, letters: DeadLetters, queue: Queue) -> None:
        self._letters = letters
        self._queue = queue
        self._death: Death | None = None
        """The one that is on its way."""
        self._source: ExchangeFigures | None = None
        """What is counted for the exchange that it goes to."""
        self._reason = ""
        self._routing: Routing | None = None
        """None once it has found the queues."""
        self._reached: list[MessageTarget] = []
        self._at: i64 = 0
        """The next of them."""
        self._waiting: list[tuple[Message, str]] = []
        self._next: i64 = 0
        """The first one that waits."""
        self.ended = False
        self.crowds = False
        """So many wait that whoever publishes to the queue has to wait as well."""
        self._moving: i64 = 0
        """So many of them are settled where they have died, and must not be lost: all that the log is told of them is
        one commit group."""
        self._hold = GroupHold(letters.logs)

    def begin(self, exchange: Exchange, death: Death, reason: str) -> None:
        """This is the first one."""
        self._count_moving(reason, 1)
        self._send(exchange, death, reason)

    def add(self, message: Message, reason: str) -> None:
        """This one comes behind it."""
        self._waiting.append((message, reason))
        self._count_moving(reason, 1)
        if not self.crowds and self.count() > _CROWD:
            self.crowds = True
            self._letters.crowded += 1

    def count(self) -> int:
        """How many wait behind it."""
        return len(self._waiting) - int(self._next)

    def step(self) -> bool:
        """Do some of it; whether it is done."""
        done = True
        try:
            while self._go_on():
                if self._letters.turn.out_of_time():
                    done = False
                    break
        finally:  # a mistake of ours ends the work, but must not keep the log and the queue from going on
            if done:
                self._end()
        return done

    def _end(self) -> None:
        self.ended = True
        self._letters.under_way.pop(self._queue, None)
        if self.crowds:
            self._letters.crowded -= 1
        if self._moving:  # it ends by a mistake of ours
            self._count_moving("", -self._moving)

    def _count_moving(self, reason: str, added: i64) -> None:
        if not self._queue.durable or (reason == "maxlen" and self._queue.options.overflow == REJECT_PUBLISH_DLX):
            return  # what a full queue has refused was never in it
        self._moving += added
        self._hold.set(self._moving > 0)

    def _go_on(self) -> bool:
        """Some steps of a route, or some queues; whether there is more to do."""
        try:
            return self._advance()
        except Exception as error:  # what waits must not be lost with it
            self._letters.clock.faults.caught("dead letter", None, error)
            if self._routing is not None:
                self._routing = None
                self._reached = []
            return True

    def _advance(self) -> bool:
        routing = self._routing
        if routing is not None:
            if routing.step(STEP):
                self._routing = None
                self._reached = cast("list[MessageTarget]", routing.found)
                self._at = 0
            return True
        death = self._death
        if death is not None:
            if self._at < len(self._reached):
                part = self._reached[self._at : self._at + _PER_LOOK]
                self._at += _PER_LOOK
                assert self._source is not None
                deliver(self._source, part, death, self._reason)
                return True
            self._death = None
            self._count_moving(self._reason, -1)
        if self._next == len(self._waiting):
            return False
        self._begin_next()
        return True

    def _begin_next(self) -> None:
        message, reason = self._waiting[self._next]
        self._next += 1
        if self.crowds and self.count() <= _CROWD:
            self.crowds = False
            self._letters.crowded -= 1
        if self._next >= _CROWD:
            del self._waiting[: self._next]
            self._next = 0
        try:
            found = self._letters.death(self._queue, message, reason)
        except Exception:
            self._count_moving(reason, -1)
            raise
        if found is None:
            self._count_moving(reason, -1)
        else:
            self._send(found[0], found[1], reason)

    def _send(self, exchange: Exchange, death: Death, reason: str) -> None:
        self._death = death
        self._source = self._letters.count_in(exchange)
        self._reason = reason
        self._reached = []
        self._at = 0
        self._routing = self._letters.router.begin(
            exchange, death.routing_keys, Routed(death.message, self._letters.clock)
        )
