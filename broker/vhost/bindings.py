"""The bindings of a virtual host: made, undone one by one, and in slices where they go because an end of them does.

A queue or exchange that is deleted is gone for everybody at once: routes and lists pass over what is ``deleted``, and
whatever is declared under its name afterwards is another one. Its bindings leave the exchanges' indexes some at a time
(``Unbinding``), and with them the auto-delete exchanges that lose their last one. What the journal is told of all that
is one commit group of the log, however many turns it takes: otherwise a crash could leave bindings to a name that
somebody may declare again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, cast, final

from broker.destination import Destination
from broker.metadata.changes import DurableBinding, DurableExchange
from broker.native import i64
from broker.queues.queue import Queue
from broker.routing.exchange import Binding, Exchange
from broker.store.logs import GroupHold
from broker.turn import SlicedWork
from broker.vhost.environment import Tables, VHostEnvironment
from broker.wire.table import FieldTable

_PER_LOOK: Final[i64] = 64
"""Bindings that go between two looks at the clock."""


@final
class Bindings:
    """Who is bound to what in one virtual host; ``queues`` and ``exchanges`` are the host's own dictionaries."""

    def __init__(self, tables: Tables, environment: VHostEnvironment, changed: Callable[[Exchange], None]) -> None:
        self.router = tables.router
        self.turn = environment.turn
        self.logs = environment.logs
        self._changed = changed
        """Told when routes through that exchange may lead elsewhere than before."""
        self._vhost = tables.vhost
        self._queues = tables.queues
        self._exchanges = tables.exchanges
        self._journal = environment.journal
        self._sources: dict[Destination, dict[Exchange, int]] = {}

    def add(self, binding: Binding) -> bool:
        """Make a binding; False if there is an equal one."""
        if not self.recover(binding):
            return False
        journal = self._journal
        if journal is not None and is_durable(binding):
            journal.put(self._durable(binding))
        return True

    def recover(self, binding: Binding) -> bool:
        """The same, where the journal knows it already."""
        source = binding.source
        if not source.bind(binding):
            return False
        known = self._sources.get(binding.destination)
        if known is None:
            known = {}
            self._sources[binding.destination] = known
        known[source] = known.get(source, 0) + 1
        self._changed(source)
        return True

    def remove(self, source: Exchange, destination: Destination, key: str, arguments: FieldTable) -> bool:
        """Undo a binding; False if there is none like it."""
        if not source.unbind(destination, key, arguments):
            return False
        self.forget(Binding(source, destination, key, arguments))
        self._changed(source)
        return True

    def forget(self, binding: Binding) -> bool:
        """``binding`` has left its exchange's index; whether the journal was told."""
        source = binding.source
        known = self._sources.get(binding.destination)
        if known is not None and source in known:
            known[source] -= 1
            if not known[source]:
                del known[source]
            if not known:
                del self._sources[binding.destination]
        journal = self._journal
        if journal is None or not is_durable(binding) or self._is_made_again(binding):
            return False
        journal.delete(self._durable(binding))
        return True

    def _is_made_again(self, binding: Binding) -> bool:
        """Whether there is an equal one, between others of the same names: the journal knows names only."""
        source = self._exchanges.get(binding.source.name)
        ends = cast("dict[str, Destination]", self._exchanges if binding.destination.is_exchange else self._queues)
        destination = ends.get(binding.destination.name)
        if source is None or destination is None:
            return False
        again = Binding(source, destination, binding.key, binding.arguments)
        return source.is_bound(destination, binding.key, binding.arguments) and is_durable(again)

    def _durable(self, binding: Binding) -> DurableBinding:
        destination = binding.destination
        return DurableBinding(
            self._vhost,
            binding.source.name,
            destination.is_exchange,
            destination.name,
            binding.key,
            binding.arguments.raw,
        )

    def take_sources(self, destination: Destination) -> dict[Exchange, int]:
        """The exchanges that are bound to something that is going away."""
        return self._sources.pop(destination, {})

    def sources_of(self, destination: Destination) -> dict[Exchange, int]:
        """The exchanges that are bound to a queue or exchange, and how often."""
        return self._sources.get(destination, {})

    def to(self, destination: Destination) -> list[Binding]:
        """All explicit bindings that lead to a queue or exchange."""
        found: list[Binding] = []
        for source in self._sources.get(destination, {}):
            if not source.deleted:
                found.extend(source.bindings_to(destination))
        return found

    def take_exchange(self, exchange: Exchange) -> bool:
        """It is gone for everybody, its bindings are still to be undone; whether the journal was told."""
        exchange.deleted = True
        del self._exchanges[exchange.name]
        self._changed(exchange)
        journal = self._journal
        if journal is None or not exchange.durable:
            return False
        journal.delete(DurableExchange(self._vhost, exchange.name))
        return True


@final
class Unbinding(SlicedWork):
    """Undoes all bindings from and to something that was deleted, and deletes the auto-delete exchanges that lose their
    last one by it."""

    def __init__(self, bindings: Bindings, gone: Destination, durable: bool) -> None:
        self._bindings = bindings
        self._gone = [gone]
        """What is deleted and still has bindings, except for ``_current``."""
        self._current: Destination | None = None
        self._sources: dict[Exchange, int] = {}
        """The exchanges that may still be bound to ``_current``."""
        self._recorded = durable
        """The journal was told something: the commit group stays open until the end."""
        self._hold = GroupHold(bindings.logs)
        bindings.router.unbinding += 1

    def step(self) -> bool:
        """Do some of it; whether it is done."""
        return self._go_on(False)

    def start(self) -> None:
        """Do it now if it is little, and else in the turns that follow: for whoever does not wait for it, perhaps
        outside a turn."""
        if not self._go_on(True):
            self._bindings.turn.begin(self)

    def _go_on(self, once: bool) -> bool:
        done = True
        try:
            while self._undo_some():
                if once or self._bindings.turn.out_of_time():
                    done = False
                    break
        finally:  # a mistake of ours ends the work, but must not keep the log from going on
            if done:
                self._bindings.router.unbinding -= 1
            self._hold.set(self._recorded and not done)
        return done

    def _undo_some(self) -> bool:
        """Undo some bindings; whether there may be more."""
        left = _PER_LOOK
        while left > 0:
            gone = self._current
            if gone is None:
                if not self._gone:
                    return False
                gone = self._gone.pop()
                self._current = gone
                self._sources = self._bindings.take_sources(gone)
                continue
            undone: i64 = 0
            if gone.is_exchange:
                undone = self._forget(cast(Exchange, gone).remove_last(left))
            if undone == 0 and self._sources:
                undone = self._undo_to(gone, left)
            elif undone == 0:
                self._current = None
            left -= 1 + undone
        return True

    def _undo_to(self, gone: Destination, limit: i64) -> i64:
        """Undo bindings from one exchange to what is gone; returns how many."""
        source, count = self._sources.popitem()
        undone = self._forget(source.remove_destination(gone, limit))
        if source.is_bound_to(gone):
            self._sources[source] = count
        elif source.is_unused() and not source.deleted:
            self._recorded = self._bindings.take_exchange(source) or self._recorded
            self._gone.append(source)
        return undone

    def _forget(self, removed: list[Binding]) -> i64:
        """These have left their exchange's index; returns how many."""
        for binding in removed:
            if self._bindings.forget(binding):
                self._recorded = True
        return len(removed)


def is_durable(binding: Binding) -> bool:
    """Whether it must survive the node."""
    destination = binding.destination
    if not binding.source.durable:
        return False
    if isinstance(destination, Exchange):
        return destination.durable
    return isinstance(destination, Queue) and destination.durable
