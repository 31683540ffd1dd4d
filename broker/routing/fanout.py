"""The fanout exchange: everything goes to everyone who is bound (AMQP 0-9-1 §3.1.3.2)."""

from collections.abc import Collection
from typing import final

from broker.destination import Destination
from broker.native import i64
from broker.routing.exchange import UNLIMITED, Exchange, KeyByKey, Matching
from broker.routing.routed import Routed


@final
class FanoutExchange(Exchange):
    """Routes to all destinations; the shared index by destination is all it needs."""

    def match(self, key: str, routed: Routed | None, found: list[Destination], budget: i64 = UNLIMITED) -> i64:
        """Append all destinations."""
        if len(self._by_destination) > budget:
            return -1
        found.extend(self._by_destination)
        return budget - len(self._by_destination)

    def match_keys(
        self, keys: list[str], routed: Routed | None, found: list[Destination], budget: i64 = UNLIMITED
    ) -> i64:
        """Append all destinations, once for all keys."""
        return self.match("", routed, found, budget)

    def matching(self, keys: list[str], routed: Routed | None) -> Matching:
        """The same in steps."""
        return KeyByKey(self, keys[:1])

    def bound_with(self, key: str) -> Collection[Destination]:
        """All destinations."""
        return self._by_destination
