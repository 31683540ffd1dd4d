"""Topic matching when the route is not known yet: many bindings, many different keys."""

from __future__ import annotations

import random

from broker.destination import Destination
from broker.routing.exchange import Binding
from broker.routing.registry import create
from broker.wire.table import EMPTY
from tests.bench.timing import ceiling, microseconds


def test_a_thousand_bindings() -> None:
    dice = random.Random(7)
    exchange = create("topic", "t", False, False, False, EMPTY)
    words = ["eu", "us", "asia", "order", "payment", "created", "failed", "*", "#"]
    for number in range(1000):
        key = ".".join(dice.choice(words) for _ in range(dice.randint(1, 4))) + f".{number % 100}"
        exchange.bind(Binding(exchange, Destination(f"q{number}", False), key, EMPTY))
    keys = [".".join(dice.choice(words[:7]) for _ in range(dice.randint(1, 4))) + f".{dice.randrange(100)}" for _ in range(500)]
    matched = 0

    def run() -> None:
        nonlocal matched
        matched = 0
        for key in keys:
            found: list[Destination] = []
            exchange.match(key, None, found)
            matched += len(found)

    each = microseconds("topic.match, 1000 bindings with wildcards", len(keys), run)
    assert matched > 0
    assert each < ceiling(200.0, 800.0)
