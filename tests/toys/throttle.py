"""A toy exchange type, `x-throttle`: so many messages in each second, and none with an empty body, go on to everybody
who is bound.

It looks at the message and at the clock, and has an argument of its own: this module and its registration are all of
it.
"""

from __future__ import annotations

from broker.destination import Destination
from broker.routing.exchange import UNLIMITED, Exchange, Matching
from broker.routing.registry import ExchangeType
from broker.routing.routed import Routed
from broker.wire.table import FieldTable

PER_SECOND = "x-per-second"


class Throttle(Exchange):
    """One such exchange."""

    def __init__(
        self, type_name: str, name: str, durable: bool, auto_delete: bool, internal: bool, arguments: FieldTable
    ) -> None:
        super().__init__(type_name, name, durable, auto_delete, internal, arguments)
        self.needs_message = True
        limit = arguments.get(PER_SECOND)
        assert isinstance(limit, int)
        self.limit = limit
        self.second = -1
        self.passed = 0

    def match(self, key: str, routed: Routed | None, found: list[Destination], budget: int = UNLIMITED) -> int:
        if routed is None or routed.message.body_size == 0:
            return budget
        second = routed.clock.monotonic_ms() // 1000
        if second != self.second:
            self.second, self.passed = second, 0
        self.passed += 1
        if self.passed <= self.limit:
            found.extend(each.destination for each in self.bindings())
        return budget

    def matching(self, keys: list[str], routed: Routed | None) -> Matching:
        return AtOnce(self, routed)


class AtOnce(Matching):
    """A match that needs no steps."""

    def __init__(self, exchange: Throttle, routed: Routed | None) -> None:
        super().__init__()
        exchange.match("", routed, self.found)

    def step(self, budget: int) -> int:
        return budget


def check(arguments: FieldTable) -> str:
    limit = arguments.get(PER_SECOND) if arguments.has(PER_SECOND) else None
    return "" if isinstance(limit, int) else f"{PER_SECOND} must be a number"


THROTTLE = ExchangeType("x-throttle", Throttle, check)
