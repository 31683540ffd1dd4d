"""Topic matching when the route is not known yet: many bindings, many different keys."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest

from broker.destination import Destination
from broker.routing.exchange import Binding, Exchange
from broker.routing.registry import create
from broker.wire.table import EMPTY
from tests.bench.timing import ceiling, microseconds


def topic(patterns: Iterable[str]) -> Exchange:
    """An exchange with a queue for each pattern."""
    exchange = create("topic", "t", False, False, False, EMPTY)
    for number, pattern in enumerate(patterns):
        exchange.bind(Binding(exchange, Destination(f"q{number}", False), pattern, EMPTY))
    return exchange


def measure(name: str, exchange: Exchange, keys: list[str]) -> float:
    """Each key once a round; every round may know what the one before has found out."""
    matched = 0

    def run() -> None:
        nonlocal matched
        matched = 0
        for key in keys:
            found: list[Destination] = []
            exchange.match(key, None, found)
            matched += len(found)

    each = microseconds(name, len(keys), run)
    assert matched > 0
    return each


def test_a_thousand_bindings() -> None:
    dice = random.Random(7)
    words = ["eu", "us", "asia", "order", "payment", "created", "failed", "*", "#"]
    exchange = topic(
        ".".join(dice.choice(words) for _ in range(dice.randint(1, 4))) + f".{number % 100}" for number in range(1000)
    )
    keys = [
        ".".join(dice.choice(words[:7]) for _ in range(dice.randint(1, 4))) + f".{dice.randrange(100)}"
        for _ in range(500)
    ]
    assert measure("topic.match, 1000 bindings with wildcards", exchange, keys) < ceiling(200.0, 800.0)


@pytest.mark.parametrize("hashes", [0, 10, 100])
def test_keys_of_which_each_comes_once(hashes: int) -> None:
    """20,000 devices with a binding each, some patterns for all of them, and a number that never comes again at the end
    of each key."""
    dice = random.Random(8)
    patterns = [f"fleet.{number}.#" for number in range(20_000)] + [f"#.{number}.status.#" for number in range(hashes)]
    keys = [f"fleet.{dice.randrange(20_000)}.status.{number}" for number in range(50_000)]
    each = measure(f"topic.match, one-off keys, {hashes} patterns for all", topic(patterns), keys)
    assert each < ceiling(20.0, 100.0)


@pytest.mark.parametrize(("words", "compiled_us"), [("#*", 200.0), ("##*ab", 20_000.0)])
def test_ten_thousand_random_patterns(words: str, compiled_us: float) -> None:
    """Keys of 127 words; with words in the patterns what was found out before helps little."""
    dice = random.Random(9)
    patterns: set[str] = set()
    while len(patterns) < 10_000:
        patterns.add(".".join(dice.choices(words, k=dice.randint(1, 16))))
    keys = [".".join(dice.choices("abcdefgh", k=127)) for _ in range(5)]
    each = measure(f"topic.match, 10,000 patterns of {words}, 127 words", topic(sorted(patterns)), keys)
    assert each < ceiling(compiled_us, 20 * compiled_us)
