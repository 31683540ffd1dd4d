"""The contract of an exchange type, and what all exchanges have in common: their bindings.

A type says which of its destinations a routing key leads to, or a message (``match``), and keeps whatever index makes
that fast, by the two hooks ``_added`` and ``_removed``. Bindings themselves live here, indexed by destination, so that
deleting one queue costs as much as it has bindings. Who may bind what, names, equivalence and auto-delete are decided
in ``vhost/``; following bindings from exchange to exchange is the router's work.

A match is given a budget of work, and says so when it does not suffice; ``matching`` finds the same and can stop
anywhere.
"""

from collections.abc import Collection, Iterator
from itertools import islice
from typing import Final, final

from mypy_extensions import mypyc_attr

from broker.destination import Destination
from broker.native import i64
from broker.routing.routed import Routed
from broker.stats import ExchangeFigures, Sampler
from broker.wire.table import FieldTable

ALTERNATE_EXCHANGE: Final = "alternate-exchange"
UNLIMITED: Final[i64] = 1 << 60
"""The budget of a match that may take as long as it does. A unit is a node, a binding or a destination: some 50 ns."""


@final
class Binding:
    """One arrow from an exchange to a queue or exchange. Two bindings are the same when source, destination, key and
    arguments are; the order of the arguments does not matter (RabbitMQ sorts them), their types do."""

    __slots__ = ("arguments", "destination", "key", "source")

    def __init__(self, source: "Exchange", destination: Destination, key: str, arguments: FieldTable) -> None:
        self.source = source
        self.destination = destination
        self.key = key
        self.arguments = arguments


@mypyc_attr(allow_interpreted_subclasses=True)
class Exchange(Destination):
    """A live exchange; owned by its vhost, which alone binds and unbinds.

    ``alternate_exchange`` is the name of the exchange that takes what this one cannot route, '' for none; the vhost
    sets it again when a policy says so (the argument wins over the policy).
    """

    def __init__(
        self, type_name: str, name: str, durable: bool, auto_delete: bool, internal: bool, arguments: FieldTable
    ) -> None:
        super().__init__(name, True)
        self.type_name = type_name
        self.durable = durable
        self.auto_delete = auto_delete
        self.internal = internal
        self.arguments = arguments
        self.alternate_exchange = arguments.get_str(ALTERNATE_EXCHANGE)
        self.needs_message: bool = False
        """Whether ``match`` looks at more than the routing key: then a route must not be remembered by it."""
        self.had_binding: bool = False
        """Whether it was ever the source of a binding: an auto-delete exchange goes with its last one, and not before
        it had one."""
        self.binding_count: int = 0
        self.changes: int = 0
        """Raised whenever a binding comes or goes."""
        self.figures: ExchangeFigures | None = None
        """What was counted; None while nothing was published to it."""
        self._by_destination: dict[Destination, dict[tuple[str, bytes], Binding]] = {}

    # What a type defines

    def match(self, key: str, routed: Routed | None, found: list[Destination], budget: i64 = UNLIMITED) -> i64:
        """Append every destination that a message with this routing key goes to; duplicates are allowed.

        ``routed`` is the message; None where nobody has one at hand, which a type that needs it is asked with once and
        not relied on.

        Returns what is left of the budget; -1 if it was too small: then ``found`` is incomplete, and ``matching`` is
        the way.
        """
        raise NotImplementedError

    def match_keys(
        self, keys: list[str], routed: Routed | None, found: list[Destination], budget: i64 = UNLIMITED
    ) -> i64:
        """The same for a message with several routing keys (CC, BCC). Types that do not look at the key answer once."""
        for key in keys:
            budget = self.match(key, routed, found, budget - 1)
            if budget < 0:
                return -1
        return budget

    def matching(self, keys: list[str], routed: Routed | None) -> "Matching":
        """The same in steps. This one suits types that know the destinations of a key (``bound_with``)."""
        return KeyByKey(self, keys)

    def bound_with(self, key: str) -> Collection[Destination]:
        """The destinations of a routing key, for types that have them in a table of their own."""
        raise NotImplementedError

    def validate_binding(self, arguments: FieldTable) -> None:
        """Whether a binding with these arguments can be made. Raises: PRECONDITION_FAILED (406) if the type cannot use
        them."""

    def _added(self, binding: Binding) -> None:
        """A binding was added: index it."""

    def _removed(self, binding: Binding) -> None:
        """A binding was removed: forget it."""

    # What all share

    def stirred(self, sampler: Sampler) -> ExchangeFigures:
        """Its figures, now that something happens."""
        figures = self.figures
        if figures is None:
            figures = ExchangeFigures(sampler)
            self.figures = figures
        figures.stir()
        return figures

    def bind(self, binding: Binding) -> bool:
        """Add a binding whose source this is; False if there is an equal one already."""
        identity = (binding.key, binding.arguments.canonical)
        bound = self._by_destination.get(binding.destination)
        if bound is None:
            bound = {}
            self._by_destination[binding.destination] = bound
        elif identity in bound:
            return False
        bound[identity] = binding
        self.changes += 1
        self.binding_count += 1
        self.had_binding = True
        self._added(binding)
        return True

    def is_bound(self, destination: Destination, key: str, arguments: FieldTable) -> bool:
        """Whether there is such a binding."""
        bound = self._by_destination.get(destination)
        return bound is not None and (key, arguments.canonical) in bound

    def unbind(self, destination: Destination, key: str, arguments: FieldTable) -> bool:
        """Remove one binding; False if there is none like it."""
        bound = self._by_destination.get(destination)
        if bound is None:
            return False
        binding = bound.pop((key, arguments.canonical), None)
        if binding is None:
            return False
        if not bound:
            del self._by_destination[destination]
        self.changes += 1
        self.binding_count -= 1
        self._removed(binding)
        return True

    def remove_destination(self, destination: Destination, limit: i64 = UNLIMITED) -> list[Binding]:
        """Remove up to ``limit`` bindings to a queue or exchange that is going away, the newest first; returns them."""
        removed: list[Binding] = []
        bound = self._by_destination.get(destination)
        if bound is None:
            return removed
        while bound and limit > 0:
            binding = bound.popitem()[1]
            limit -= 1
            self.changes += 1
            self.binding_count -= 1
            self._removed(binding)
            removed.append(binding)
        if not bound:
            del self._by_destination[destination]
        return removed

    def remove_last(self, limit: i64) -> list[Binding]:
        """Remove up to ``limit`` bindings to the destination that was bound last; returns them, [] when nothing is
        bound."""
        by_destination = self._by_destination
        if not by_destination:
            return []
        destination, bound = by_destination.popitem()
        by_destination[destination] = bound  # only now it is known
        return self.remove_destination(destination, limit)

    def is_bound_to(self, destination: Destination) -> bool:
        """Whether a binding leads there."""
        return destination in self._by_destination

    def is_unused(self) -> bool:
        """Whether it is an auto-delete exchange that has lost its last binding."""
        return self.auto_delete and self.had_binding and self.binding_count == 0

    def bindings(self) -> list[Binding]:
        """All bindings to what is not deleted, destination by destination."""
        result: list[Binding] = []
        for destination, bound in self._by_destination.items():
            if not destination.deleted:
                result.extend(bound.values())
        return result

    def bindings_to(self, destination: Destination) -> list[Binding]:
        """The bindings that lead to one destination, oldest first."""
        bound = self._by_destination.get(destination)
        return [] if bound is None else list(bound.values())


@mypyc_attr(allow_interpreted_subclasses=True)
class Matching:
    """A match that stops and goes on. Bindings that come or go meanwhile may be seen or not."""

    def __init__(self) -> None:
        self.found: list[Destination] = []
        """What was found so far, with duplicates; who takes it away leaves an empty list."""
        self.distinct: bool = False
        """So far each was found once."""

    def step(self, budget: i64) -> i64:
        """Do some ``budget`` units of work; what is left of it when all is done, -1 when it is not."""
        raise NotImplementedError


@final
class Listing:
    """The destinations in an exchange's table, some at a time: to copy 100,000 takes milliseconds."""

    def __init__(self, exchange: Exchange, table: Collection[Destination]) -> None:
        self._exchange = exchange
        self._changes = exchange.changes
        self._table = table
        self._left: Iterator[Destination] = iter(table)

    def is_stale(self) -> bool:
        """Whether a binding has come or gone since."""
        return self._changes != self._exchange.changes

    def take(self, found: list[Destination], limit: i64) -> bool:
        """Append up to ``limit`` more; whether these were the last. All of them, again, if a binding has come or gone
        since."""
        if self.is_stale():
            found.extend(self._table)
            return True
        before: i64 = len(found)
        found.extend(islice(self._left, int(limit)))
        return len(found) - before < limit


@final
class KeyByKey(Matching):
    """The destinations of one routing key after the other."""

    def __init__(self, exchange: Exchange, keys: list[str]) -> None:
        super().__init__()
        self._exchange = exchange
        self._keys = keys
        self._at: i64 = 0
        self._listing: Listing | None = None
        self.distinct = len(keys) == 1

    def step(self, budget: i64) -> i64:
        """See ``Matching``."""
        while True:
            listing = self._listing
            if listing is None and self._at >= len(self._keys):
                return budget if budget > 0 else 0
            if budget <= 0:
                return -1
            if listing is None:
                listing = Listing(self._exchange, self._exchange.bound_with(self._keys[self._at]))
                self._at += 1
                budget -= 1
            before: i64 = len(self.found)
            self.distinct = self.distinct and not listing.is_stale()
            self._listing = None if listing.take(self.found, budget + 1) else listing
            budget -= len(self.found) - before


def add_reference(table: dict[Destination, int], destination: Destination) -> None:
    """Count one more binding to a destination: several bindings of one key may lead to it, with different arguments."""
    table[destination] = table.get(destination, 0) + 1


def drop_reference(table: dict[Destination, int], destination: Destination) -> None:
    """Count one binding less; a destination without any leaves the table."""
    count = table[destination] - 1
    if count:
        table[destination] = count
    else:
        del table[destination]
