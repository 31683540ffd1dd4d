"""From an exchange and routing keys to queues: through exchange-to-exchange bindings and alternate exchanges, each
queue once.

RabbitMQ's order of things (`rabbit_exchange:route`): every exchange is visited once, so cycles end; the alternate
exchange of any visited exchange is visited when that exchange's *own* bindings match nothing, whatever the exchanges
behind them do; a missing alternate exchange is passed over. Queues come in the order they are found, which is the same
every time.

``route`` finds what it takes to find. Who must not keep others waiting asks ``attempt``, which gives up when it becomes
much (100,000 queues, patterns that are long to match), and then lets ``begin`` find the same in steps.
"""

from typing import Final, cast, final

from librt.strings import read_i32_be

from broker.destination import Destination
from broker.errors import PRECONDITION_FAILED, ChannelException
from broker.native import i64
from broker.routing.exchange import UNLIMITED, Exchange, Matching
from broker.routing.routed import Routed
from broker.wire import table
from broker.wire.field_types import ARRAY, LONGSTR, TYPE_NAMES, after_value
from broker.wire.table import FieldTable

_SENDER_SELECTED: Final = (b"CC", b"BCC")
ATTEMPT: Final[i64] = 8000
"""The budget of ``attempt``, in units of ``Exchange.match``: up to half a millisecond."""
STEP: Final[i64] = 8000
"""A good budget for a step of a ``Routing``."""
KEY_COST: Final[i64] = 4
"""Units of it that reading a routing key from the headers takes."""


@final
class Routing:
    """A route that is found in steps. The exchanges, and queues found early, may be gone when it is done: ask
    ``Queue.deleted``."""

    def __init__(
        self,
        exchanges: dict[str, Exchange],
        exchange: Exchange,
        keys: list[str],
        routed: Routed | None,
        copies: "CarbonCopies | None",
    ) -> None:
        self.found: list[Destination] = []
        """The queues, each once, when ``step`` has said that these are all."""
        self.used_message: bool = False
        """Whether the route depends on the message, so that it must not be remembered by routing key."""
        self._exchanges = exchanges
        self._keys = keys
        self._routed = routed
        self._copies = copies
        """Where further keys are still to be read from."""
        self._seen: set[Destination] = {exchange}
        """What must not be taken again: exchanges, and the first ``_known`` of the queues, all of them once any may be
        found again."""
        self._known: i64 = 0
        self._distinct: bool = True
        """No queue was found, or can be, more than once: a set of very many takes long to build."""
        self._waiting: list[Exchange] = []
        self._exchange = exchange
        self._matched: bool = False
        """Whether the bindings of ``_exchange`` have led anywhere yet."""
        self._matching: Matching | None = None
        self._fresh: list[Destination] = []
        self._at: i64 = 0
        """The next of ``_fresh`` to look at: what a matching has found."""

    def _enter(self, exchange: Exchange) -> Matching:
        self._exchange = exchange
        self._matched = False
        if exchange.needs_message:
            self.used_message = True
        return exchange.matching(self._keys, self._routed)

    def step(self, budget: i64) -> bool:
        """Do some ``budget`` units of work (``exchange.UNLIMITED``: some 50 ns each); whether that was the last of
        it."""
        whole = budget
        while budget > 0:
            if self._copies is not None:
                if self._copies.read(self._keys, budget // KEY_COST + 1):
                    self._copies = None
                return False
            budget -= (
                self._get_to_know(budget)
                if not self._distinct and self._known < len(self.found)
                else self._look(budget)
            )
            if self._at < len(self._fresh) or budget < whole - (whole >> 2):
                return False  # a match gets most of a budget, so that it is not taken for a long one
            matching = self._matching
            if matching is None:
                matching = self._enter(self._exchange)
                self._matching = matching
            left = matching.step(budget)
            self._distinct = self._distinct and matching.distinct
            self._fresh = matching.found
            matching.found = []
            self._at = 0
            if left < 0:
                return False
            budget = left - 1
            if self._fresh:
                continue  # the matching is done: it finds nothing more, and says so again
            if not self._matched:
                self._try_alternate()
            if not self._waiting:
                return True
            self._distinct = False
            self._matching = self._enter(self._waiting.pop())
        return False

    def _get_to_know(self, limit: i64) -> i64:
        """Prepare for queues that were found before; returns for how many."""
        part = self.found[self._known : self._known + limit]
        self._seen.update(part)
        self._known += len(part)
        return len(part)

    def _look(self, budget: i64) -> i64:
        """Take some of what was found; returns how many."""
        fresh = self._fresh
        at = self._at
        end: i64 = len(fresh)
        if end - at > budget:
            end = at + budget
        taken = end - at
        while at < end:
            destination = fresh[at]
            at += 1
            if destination.deleted:
                continue
            self._matched = True
            if not destination.is_exchange and self._distinct:
                self.found.append(destination)
            elif destination not in self._seen:
                self._seen.add(destination)
                if destination.is_exchange:
                    self._waiting.append(cast(Exchange, destination))
                else:
                    self.found.append(destination)
                    self._known += 1
        self._at = at
        return taken

    def _try_alternate(self) -> None:
        name = self._exchange.alternate_exchange
        alternate = self._exchanges.get(name) if name else None
        if alternate is not None and alternate not in self._seen:
            self._seen.add(alternate)
            self._waiting.append(alternate)


@final
class Router:
    """Finds routes in one vhost; ``exchanges`` is the vhost's own dictionary."""

    def __init__(self, exchanges: dict[str, Exchange]) -> None:
        self._exchanges = exchanges
        self.used_message: bool = False
        """Whether the last route depended on the message, so that it must not be remembered by routing key."""
        self.unbinding = 0
        """How many deletions are under way whose bindings are still to be undone."""

    def route(self, exchange: Exchange, keys: list[str], routed: Routed | None) -> list[Destination]:
        """The queues a message with these routing keys (its own first, then CC and BCC) goes to, each once; [] if
        none."""
        found = self.attempt(exchange, keys, routed)
        if found is not None:
            return found
        routing = self.begin(exchange, keys, routed)
        routing.step(UNLIMITED)
        self.used_message = routing.used_message
        return routing.found

    def begin(
        self, exchange: Exchange, keys: list[str], routed: Routed | None, copies: "CarbonCopies | None" = None
    ) -> Routing:
        """The same in steps; ``copies`` holds keys besides ``keys``."""
        return Routing(self._exchanges, exchange, keys, routed, copies)

    def attempt(
        self, exchange: Exchange, keys: list[str], routed: Routed | None, budget: i64 = ATTEMPT
    ) -> list[Destination] | None:
        """As ``route``; None if it takes more than ``budget`` units of work."""
        self.used_message = exchange.needs_message
        found: list[Destination] = []
        budget = exchange.match_keys(keys, routed, found, budget)
        if budget < 0:
            return None
        if self.unbinding:
            found = _living(found)
        if not found:
            return self._follow(exchange, keys, routed, found, budget) if exchange.alternate_exchange else found
        for destination in found:
            if destination.is_exchange:
                return self._follow(exchange, keys, routed, found, budget)
        return found if len(found) == 1 else list(dict.fromkeys(found))

    def _follow(
        self, exchange: Exchange, keys: list[str], routed: Routed | None, found: list[Destination], budget: i64
    ) -> list[Destination] | None:
        queues: dict[Destination, None] = {}
        seen: set[Destination] = {exchange}
        waiting: list[Exchange] = []
        while True:
            if not found:
                alternate = self._exchanges.get(exchange.alternate_exchange) if exchange.alternate_exchange else None
                if alternate is not None and alternate not in seen:
                    seen.add(alternate)
                    waiting.append(alternate)
            for destination in found:
                if not destination.is_exchange:
                    queues[destination] = None
                elif destination not in seen:
                    seen.add(destination)
                    waiting.append(cast(Exchange, destination))
            if not waiting:
                return list(queues)
            exchange = waiting.pop()
            if exchange.needs_message:
                self.used_message = True
            found = []
            budget = exchange.match_keys(keys, routed, found, budget - 1)
            if budget < 0:
                return None
            if self.unbinding:
                found = _living(found)


def _living(found: list[Destination]) -> list[Destination]:
    """Without what is deleted but still bound."""
    return [destination for destination in found if not destination.deleted]


@final
class CarbonCopies:
    """The further routing keys in the CC and BCC headers (RabbitMQ docs, Sender-selected Distribution), read some at a
    time.

    Elements that are not long strings are passed over, as RabbitMQ does. Raises: PRECONDITION_FAILED (406) if a header
    is no array.
    """

    def __init__(self, headers: FieldTable) -> None:
        self._data = headers.raw
        self._at: i64 = 0
        self._end: i64 = 0
        self._following: list[int] = []
        """Where the arrays begin that are still to be read, the last one first."""
        data = headers.raw
        for name in _SENDER_SELECTED:
            at = table.find(data, 0, len(data), name)
            if at < 0:
                continue
            if data[at] != ARRAY:
                type_name = TYPE_NAMES[data[at]]
                text = f'invalid message: {{unacceptable_type_in_header,"{name.decode()}",{type_name}}}'
                raise ChannelException(PRECONDITION_FAILED, text)
            self._following.insert(0, int(at))

    def read(self, keys: list[str], limit: i64) -> bool:
        """Append up to ``limit`` keys; whether that was all of them."""
        data = self._data
        while True:
            if self._at >= self._end:
                if not self._following:
                    return True
                start: i64 = self._following.pop()
                self._at = start + 5
                self._end = self._at + (i64(read_i32_be(data, start + 1)) & 0xFFFFFFFF)
                continue
            if limit <= 0:
                return False
            limit -= 1
            at = self._at
            self._at = after_value(data, at)
            if data[at] == LONGSTR:
                keys.append(data[at + 5 : self._at].decode("utf-8", "surrogateescape"))
