"""Dead letters that stay in their queue until all their targets have them, on their way: each is routed anew at every
attempt, and told to each target that does not have it yet (queues/kept_dead_letter.py)."""

from __future__ import annotations

from typing import Final, cast, final

from broker.destination import MessageTarget
from broker.native import i64
from broker.promises import PromiseSources
from broker.queues.dead_letter import Death
from broker.queues.deaths import is_cycle
from broker.queues.kept_dead_letter import KeptDeadLetter
from broker.queues.queue import Queue
from broker.routing.routed import Routed
from broker.routing.router import STEP, Routing
from broker.stats import ExchangeFigures
from broker.turn import SlicedWork
from broker.vhost.dead_letters import DeadLetters
from broker.vhost.publishing import REFUSED, publish
from broker.vhost.routes import RoutesWatcher

_AT_ONCE: Final[i64] = 16
"""Queues that a dead letter reaches between two looks at the clock."""


@final
class KeptDeadLetters(RoutesWatcher):
    """Of one virtual host."""

    def __init__(self, letters: DeadLetters) -> None:
        self._letters = letters
        self._awaiting: dict[Queue, None] = {}
        """Those whose dead letters lead nowhere, or to somewhere that refuses them."""

    def send(self, queue: Queue, letter: KeptDeadLetter) -> None:
        """An attempt, soon or at once."""
        letters = self._letters
        if not letter.was_sent:
            letters.count_kept(letter.reason)
        found = letters.written(queue, letter.message, letter.reason)
        if found is None:
            letter.end()
            return
        exchange, death = found
        source = letters.count_in(exchange)
        reached = letters.targets_at_once(exchange, death)
        if reached is not None and len(reached) <= _AT_ONCE:
            _Transfer(letters, letter, death, source, reached, None).step()
            return
        routing = letters.router.begin(exchange, death.routing_keys, Routed(death.message, letters.clock))
        letters.turn.begin(_Transfer(letters, letter, death, source, [], routing))

    def await_routes(self, queue: Queue) -> None:
        """As ``QueueHost.await_routes``."""
        self._awaiting[queue] = None

    def routes_changed(self) -> None:
        if self._awaiting:
            awaiting = self._awaiting
            self._awaiting = {}
            for queue in awaiting:
                queue.routes_changed()


@final
class _Transfer(SlicedWork):
    """One attempt with one of them."""

    def __init__(
        self,
        letters: DeadLetters,
        letter: KeptDeadLetter,
        death: Death,
        source: ExchangeFigures,
        reached: list[MessageTarget],
        routing: Routing | None,
    ) -> None:
        self._letters = letters
        self._letter = letter
        self._death = death
        self._source = source
        """What is counted for the exchange."""
        self._reached = reached
        self._routing = routing
        """None once it has found them."""
        self._at: i64 = 0
        """The next of them."""
        self._promised_by = PromiseSources()

    def step(self) -> bool:
        try:
            return self._go_on()
        except Exception as error:  # it stays where it is, and is sent again
            self._letters.clock.faults.caught("dead letter", None, error)
            self._letter.fail()
            return True

    def _go_on(self) -> bool:
        routing = self._routing
        while routing is not None:
            if routing.step(STEP):
                self._reached = cast("list[MessageTarget]", routing.found)
                self._routing = routing = None
            elif self._letters.turn.out_of_time():
                return False
        reached = self._reached
        while self._at < len(reached):
            self._offer(reached[self._at])
            self._at += 1
            if self._at % _AT_ONCE == 0 and self._at < len(reached) and self._letters.turn.out_of_time():
                return False
        self._letter.end()
        return True

    def _offer(self, target: MessageTarget) -> None:
        letter = self._letter
        if target.deleted:
            return
        if letter.reason != "rejected" and is_cycle(target.name, self._death.deaths):
            letter.circle()
            return
        if letter.has_it(target):
            return
        promised_by = self._promised_by
        outcome = publish(self._source, [target], self._death.message, promised_by)
        found = promised_by.take_others()
        letter.offered(target, outcome & REFUSED != 0, found[0] if found else None)
