"""From an exchange and routing keys to queues: through exchange-to-exchange bindings and alternate exchanges, each queue once.

RabbitMQ's order of things (`rabbit_exchange:route`): every exchange is visited once, so cycles end; the alternate exchange of any
visited exchange is visited when that exchange's *own* bindings match nothing, whatever the exchanges behind them do; a missing
alternate exchange is passed over. Queues come in the order they are found, which is the same every time.

``route`` finds what it takes to find. Who must not keep others waiting asks ``attempt``, which gives up when it becomes much (100,000
queues, patterns that are long to match), and then lets ``begin`` find the same in steps.
"""

from typing import Final, cast, final

from librt.strings import read_i32_be

from broker.destination import Destination
from broker.errors import PRECONDITION_FAILED, ChannelException
from broker.native import i64
from broker.routing.exchange import UNLIMITED, Exchange, Matching
from broker.wire import table
from broker.wire.table import FieldTable

_SENDER_SELECTED: Final = (b"CC", b"BCC")
ATTEMPT: Final[i64] = 20_000
"""The budget of ``attempt``, in units of ``Exchange.match``: 1 to 2 ms."""


@final
class Routing:
    """A route that is found in steps. The exchanges, and queues found early, may be gone when it is done: ask ``Queue.deleted``."""

    def __init__(self, exchanges: dict[str, Exchange], exchange: Exchange, keys: list[str], headers: FieldTable | None) -> None:
        self.used_headers: bool = False
        """Whether the route depends on the headers, so that it must not be remembered by routing key."""
        self._exchanges = exchanges
        self._keys = keys
        self._headers = headers
        self._queues: dict[Destination, None] = {}
        self._seen: set[Destination] = {exchange}
        self._waiting: list[Exchange] = []
        self._exchange = exchange
        self._matched: bool = False
        """Whether the bindings of ``_exchange`` have led anywhere yet."""
        self._matching: Matching = self._enter(exchange)
        self._fresh: list[Destination] = []
        self._at: i64 = 0
        """The next of ``_fresh`` to look at: what a matching has found."""

    @property
    def found(self) -> list[Destination]:
        """The queues, each once, when ``step`` has said that these are all."""
        return list(self._queues)

    def _enter(self, exchange: Exchange) -> Matching:
        self._exchange = exchange
        self._matched = False
        if exchange.needs_headers:
            self.used_headers = True
        return exchange.matching(self._keys, self._headers)

    def step(self, budget: i64) -> bool:
        """Do some ``budget`` units of work (``exchange.UNLIMITED``: some 50 ns each); whether that was the last of it."""
        whole = budget
        while budget > 0:
            budget -= self._look(budget)
            if self._at < len(self._fresh) or budget < whole - (whole >> 2):
                return False  # a match gets most of a budget, so that it is not taken for a long one
            left = self._matching.step(budget)
            self._fresh = self._matching.found
            self._matching.found = []
            self._at = 0
            if self._fresh:
                self._matched = True
            if left < 0:
                return False
            budget = left - 1
            if self._fresh:
                continue  # the matching is done: it finds nothing more, and says so again
            if not self._matched:
                self._try_alternate()
            if not self._waiting:
                return True
            self._matching = self._enter(self._waiting.pop())
        return False

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
            if not destination.is_exchange:
                self._queues[destination] = None
            elif destination not in self._seen:
                self._seen.add(destination)
                self._waiting.append(cast(Exchange, destination))
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
        self.used_headers: bool = False
        """Whether the last route depended on the headers, so that it must not be remembered by routing key."""

    def route(self, exchange: Exchange, keys: list[str], headers: FieldTable | None) -> list[Destination]:
        """The queues a message with these routing keys (its own first, then CC and BCC) goes to, each once; [] if none."""
        found = self.attempt(exchange, keys, headers)
        if found is not None:
            return found
        routing = self.begin(exchange, keys, headers)
        routing.step(UNLIMITED)
        self.used_headers = routing.used_headers
        return routing.found

    def begin(self, exchange: Exchange, keys: list[str], headers: FieldTable | None) -> Routing:
        """The same in steps."""
        return Routing(self._exchanges, exchange, keys, headers)

    def attempt(
        self, exchange: Exchange, keys: list[str], headers: FieldTable | None, budget: i64 = ATTEMPT
    ) -> list[Destination] | None:
        """As ``route``; None if it takes more than ``budget`` units of work."""
        self.used_headers = exchange.needs_headers
        found: list[Destination] = []
        budget = exchange.match_keys(keys, headers, found, budget)
        if budget < 0:
            return None
        if not found:
            return self._follow(exchange, keys, headers, found, budget) if exchange.alternate_exchange else found
        for destination in found:
            if destination.is_exchange:
                return self._follow(exchange, keys, headers, found, budget)
        return found if len(found) == 1 else list(dict.fromkeys(found))

    def _follow(
        self, exchange: Exchange, keys: list[str], headers: FieldTable | None, found: list[Destination], budget: i64
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
            if exchange.needs_headers:
                self.used_headers = True
            found = []
            budget = exchange.match_keys(keys, headers, found, budget - 1)
            if budget < 0:
                return None


def extra_keys(headers: FieldTable) -> list[str]:
    """The further routing keys in the CC and BCC headers (RabbitMQ docs, Sender-selected Distribution).

    Elements that are not long strings are passed over, as RabbitMQ does. Raises: PRECONDITION_FAILED (406) if a header is no array.
    """
    keys: list[str] = []
    data = headers.raw
    for name in _SENDER_SELECTED:
        at = table.find(data, 0, len(data), name)
        if at < 0:
            continue
        if data[at] != table.ARRAY:
            type_name = table.TYPE_NAMES[data[at]]
            text = f'invalid message: {{unacceptable_type_in_header,"{name.decode()}",{type_name}}}'
            raise ChannelException(PRECONDITION_FAILED, text)
        end = at + 5 + (i64(read_i32_be(data, at + 1)) & 0xFFFFFFFF)
        at += 5
        while at < end:
            after = table.after_value(data, at)
            if data[at] == table.LONGSTR:
                keys.append(data[at + 5 : after].decode("utf-8", "surrogateescape"))
            at = after
    return keys
