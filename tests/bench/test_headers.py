"""Headers matching with 5,000 bindings of 21 conditions."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from broker.destination import Destination
from broker.routing.exchange import Binding
from broker.routing.registry import create
from broker.wire import table
from broker.wire.table import EMPTY
from tests.bench.timing import ceiling, microseconds
from tests.support.fakes import routed

DICE = random.Random(1)
COMMON: dict[str, object] = {f"key-{place:02}": "value" for place in range(20)}
ONES: dict[str, object] = {f"key-{place:02}": 1 for place in range(21)}


def one_wrong(number: int) -> dict[str, object]:
    """All but one condition are met, and the one that is not is shared by a twenty-first of the bindings."""
    return {**ONES, f"key-{number % 21:02}": 2}


def two_values(number: int) -> dict[str, object]:
    """No condition tells much."""
    return {name: DICE.randrange(2) for name in ONES}


@pytest.mark.parametrize(
    ("name", "wanted", "given", "compiled_us"),
    [
        ("one key differs", lambda number: {**COMMON, "last": number}, {**COMMON, "last": 7}, 200.0),
        ("one condition of each fails", one_wrong, ONES, 400.0),
        ("two values", two_values, ONES, 400.0),
        ("all match", lambda number: {**ONES, "x-match": "all", "x-number": number}, ONES, 2000.0),
        ("any", lambda number: {**ONES, "x-match": "any", "x-number": number}, ONES, 4000.0),
    ],
)
def test_five_thousand_bindings(
    name: str, wanted: Callable[[int], dict[str, object]], given: dict[str, object], compiled_us: float
) -> None:
    exchange = create("headers", "h", False, False, False, EMPTY)
    for number in range(5000):
        exchange.bind(Binding(exchange, Destination(f"q{number}", False), "", table.make(wanted(number))))
    headers = routed(table.make(given))

    def run() -> None:
        for _ in range(20):
            found: list[Destination] = []
            exchange.match("", headers, found)

    each = microseconds(f"headers.match, 5,000 bindings of 21 keys, {name}", 20, run)
    assert each < ceiling(compiled_us, 50 * compiled_us)
