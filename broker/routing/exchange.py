"""The contract of an exchange type, and what all exchanges have in common: their bindings.

A type says which of its destinations a routing key and headers lead to (``match``) and keeps whatever index makes that fast, by
the two hooks ``_added`` and ``_removed``. Bindings themselves live here, indexed by destination, so that deleting one queue costs as
much as it has bindings. Who may bind what, names, equivalence and auto-delete are decided in ``vhost.py``; following bindings from
exchange to exchange is the router's work.

A match is given a budget of work, and says so when it does not suffice; ``matching`` finds the same and can stop anywhere.
"""

from typing import Final, final

from broker.destination import Destination
from broker.native import i64
from broker.wire.table import FieldTable

ALTERNATE_EXCHANGE: Final = "alternate-exchange"
UNLIMITED: Final[i64] = 1 << 60
"""The budget of a match that may take as long as it does. A unit is a node, a binding or a destination: some 50 ns."""


@final
class Binding:
    """One arrow from an exchange to a queue or exchange. Two bindings are the same when source, destination, key and arguments
    are; the order of the arguments does not matter (RabbitMQ sorts them), their types do."""

    __slots__ = ("arguments", "destination", "key", "source")

    def __init__(self, source: "Exchange", destination: Destination, key: str, arguments: FieldTable) -> None:
        self.source = source
        self.destination = destination
        self.key = key
        self.arguments = arguments


class Exchange(Destination):
    """A live exchange; owned by its vhost, which alone binds and unbinds.

    ``alternate_exchange`` is the name of the exchange that takes what this one cannot route, '' for none; the vhost sets it again
    when a policy says so (the argument wins over the policy).
    """

    def __init__(self, type_name: str, name: str, durable: bool, auto_delete: bool, internal: bool, arguments: FieldTable) -> None:
        super().__init__(name, True)
        self.type_name = type_name
        self.durable = durable
        self.auto_delete = auto_delete
        self.internal = internal
        self.arguments = arguments
        self.alternate_exchange = arguments.get_str(ALTERNATE_EXCHANGE)
        self.needs_headers: bool = False
        """Whether ``match`` looks at the headers: then a route must not be remembered by routing key alone."""
        self.had_binding: bool = False
        """Whether it was ever the source of a binding: an auto-delete exchange goes with its last one, and not before it had one."""
        self.binding_count: int = 0
        self._by_destination: dict[Destination, dict[tuple[str, bytes], Binding]] = {}

    # What a type defines

    def match(self, key: str, headers: FieldTable | None, found: list[Destination], budget: i64 = UNLIMITED) -> i64:
        """Append every destination that a message with this routing key and these headers goes to; duplicates are allowed.

        Returns what is left of the budget; -1 if it was too small: then ``found`` is incomplete, and ``matching`` is the way.
        """
        raise NotImplementedError

    def match_keys(self, keys: list[str], headers: FieldTable | None, found: list[Destination], budget: i64 = UNLIMITED) -> i64:
        """The same for a message with several routing keys (CC, BCC). Types that do not look at the key answer once."""
        for key in keys:
            budget = self.match(key, headers, found, budget - 1)
            if budget < 0:
                return -1
        return budget

    def matching(self, keys: list[str], headers: FieldTable | None) -> "Matching":
        """The same in steps. This one suits types that find the destinations of a key by copying a list."""
        return KeyByKey(self, keys, headers)

    def validate_binding(self, arguments: FieldTable) -> None:
        """Whether a binding with these arguments can be made. Raises: PRECONDITION_FAILED (406) if the type cannot use them."""

    def _added(self, binding: Binding) -> None:
        """A binding was added: index it."""

    def _removed(self, binding: Binding) -> None:
        """A binding was removed: forget it."""

    # What all share

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
        self.binding_count -= 1
        self._removed(binding)
        return True

    def remove_destination(self, destination: Destination) -> int:
        """Remove all bindings to a queue or exchange that is going away; returns how many there were."""
        bound = self._by_destination.pop(destination, None)
        if bound is None:
            return 0
        self.binding_count -= len(bound)
        for binding in bound.values():
            self._removed(binding)
        return len(bound)

    def bindings(self) -> list[Binding]:
        """All bindings, destination by destination."""
        result: list[Binding] = []
        for bound in self._by_destination.values():
            result.extend(bound.values())
        return result

    def bindings_to(self, destination: Destination) -> list[Binding]:
        """The bindings that lead to one destination, oldest first."""
        bound = self._by_destination.get(destination)
        return [] if bound is None else list(bound.values())


class Matching:
    """A match that stops and goes on. Bindings that come or go meanwhile may be seen or not."""

    def __init__(self) -> None:
        self.found: list[Destination] = []
        """What was found so far, with duplicates; who takes it away leaves an empty list."""

    def step(self, budget: i64) -> i64:
        """Do some ``budget`` units of work; what is left of it when all is done, -1 when it is not."""
        raise NotImplementedError


@final
class KeyByKey(Matching):
    """One whole match for each routing key."""

    def __init__(self, exchange: Exchange, keys: list[str], headers: FieldTable | None) -> None:
        super().__init__()
        self._exchange = exchange
        self._keys = keys
        self._headers = headers
        self._at: i64 = 0

    def step(self, budget: i64) -> i64:
        """See ``Matching``."""
        while self._at < len(self._keys):
            if budget <= 0:
                return -1
            before: i64 = len(self.found)
            self._exchange.match(self._keys[self._at], self._headers, self.found)
            self._at += 1
            budget -= 1 + len(self.found) - before
        return budget if budget > 0 else 0


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
