"""The fanout exchange: everything goes to everyone who is bound (AMQP 0-9-1 §3.1.3.2)."""

from typing import final

from broker.destination import Destination
from broker.routing.exchange import Exchange
from broker.wire.table import FieldTable


@final
class FanoutExchange(Exchange):
    """Routes to all destinations; the shared index by destination is all it needs."""

    def match(self, key: str, headers: FieldTable | None, found: list[Destination]) -> None:
        """Append all destinations."""
        found.extend(self._by_destination)

    def match_keys(self, keys: list[str], headers: FieldTable | None, found: list[Destination]) -> None:
        """Append all destinations, once for all keys."""
        found.extend(self._by_destination)
