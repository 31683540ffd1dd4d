"""Routes in steps (router.Routing, exchange.Matching): the same queues as in one go, and never much more work than the
budget."""

from __future__ import annotations

import random

import pytest

from broker.destination import Destination
from broker.routing.exchange import UNLIMITED, Binding, Exchange
from broker.routing.registry import create
from broker.routing.router import Router
from broker.wire import table
from broker.wire.table import EMPTY, FieldTable
from tests.support.fakes import routed


def exchange(kind: str, name: str, alternate: str = "") -> Exchange:
    arguments = table.make({"alternate-exchange": alternate}) if alternate else EMPTY
    return create(kind, name, True, False, False, arguments)


def bind(source: Exchange, target: Destination, key: str = "", arguments: FieldTable = EMPTY) -> None:
    assert source.bind(Binding(source, target, key, arguments))


def names(found: list[Destination] | None) -> list[str]:
    assert found is not None
    assert len(set(found)) == len(found), "each once"
    return sorted(each.name for each in found)


def in_steps(
    router: Router, source: Exchange, keys: list[str], headers: FieldTable | None, budget: int
) -> tuple[list[str], int, bool]:
    """The queues, how many steps it took, and whether the headers counted."""
    routing = router.begin(source, keys, routed(headers))
    steps = 1
    while not routing.step(budget):
        steps += 1
        assert steps < 1_000_000
    return names(routing.found), steps, routing.used_message


def random_headers(pick: random.Random, kinds: list[str | None]) -> FieldTable:
    fields: dict[str, object] = {
        name: pick.choice([1, 2, None, "x"]) for name in pick.sample("abcd", pick.randrange(4))
    }
    kind = pick.choice(kinds)
    return table.make(fields if kind is None else {"x-match": kind, **fields})


def random_world(pick: random.Random) -> dict[str, Exchange]:
    kinds = ["direct", "fanout", "topic", "headers"]
    alternates = ["", "", "e0", "e1", "missing"]
    world = {f"e{number}": exchange(pick.choice(kinds), f"e{number}", pick.choice(alternates)) for number in range(6)}
    ends: list[Destination] = [*world.values(), *(Destination(f"q{number}", False) for number in range(30))]
    for source in world.values():
        for _ in range(pick.randrange(60)):
            key = ".".join(pick.choices(["a", "b", "*", "#"], k=pick.randrange(4)))
            source.bind(
                Binding(source, pick.choice(ends), key, random_headers(pick, [None, "all", "any", "all-with-x"]))
            )
    return world


@pytest.mark.parametrize("seed", range(60))
def test_steps_find_what_one_go_finds(seed: int) -> None:
    """Every type, exchanges bound to exchanges in circles, alternate exchanges, several keys; budgets from 1 unit
    up."""
    pick = random.Random(seed)
    world = random_world(pick)
    router = Router(world)
    for _ in range(15):
        source = pick.choice(list(world.values()))
        keys = [".".join(pick.choices(["a", "b", "c"], k=pick.randrange(5))) for _ in range(pick.randint(1, 3))]
        headers = None if pick.random() < 0.3 else random_headers(pick, [None])
        whole = names(router.route(source, keys, routed(headers)))
        used_message = router.used_message
        budget = pick.choice([1, 2, 3, 10, 1000])
        assert in_steps(router, source, keys, headers, budget)[::2] == (whole, used_message), (
            f"seed {seed}, budget {budget}"
        )
        found = router.attempt(source, keys, routed(headers), pick.choice([0, 3, 10, 40]))
        assert found is None or names(found) == whole


def test_other_matches_in_between_do_no_harm() -> None:
    """The nodes of a trie and the conditions of a headers exchange carry the number of the match that reached them
    last."""
    pick = random.Random(5)
    topics = exchange("topic", "t")
    for number in range(300):
        bind(
            topics,
            Destination(f"q{number}", False),
            ".".join(pick.choices(["#", "#", "*", "a", "b"], k=pick.randint(1, 8))) + f".{number % 7}",
        )
    headers = exchange("headers", "h")
    for number in range(300):
        bind(headers, Destination(f"q{number}", False), "", random_headers(pick, ["any", "all"]))
    router = Router({"t": topics, "h": headers})
    key = "a.b.a.b.a.3"
    fields = table.make({"a": 1, "b": 2, "c": "x"})
    for source in (topics, headers):
        whole = names(router.route(source, [key], routed(fields)))
        assert whole
        routing = router.begin(source, [key], routed(fields))
        while not routing.step(5):
            router.route(topics, ["b.b.b.3"], None)
            router.route(headers, ["b"], routed(table.make({"a": 2, "d": 1})))
        assert names(routing.found) == whole


def test_bindings_may_go_while_a_route_is_found() -> None:
    """What is bound all the time is found; what is unbound meanwhile may be found or not."""
    for kind in ("topic", "fanout", "direct", "headers"):
        source = exchange(kind, "e")
        queues = [Destination(f"q{number}", False) for number in range(200)]
        arguments = table.make({"a": 1})
        for queue in queues:
            bind(source, queue, "a", arguments)
        routing = Router({"e": source}).begin(source, ["a"], routed(arguments))
        for queue in queues[::2]:
            routing.step(3)
            source.unbind(queue, "a", arguments)
        while not routing.step(3):
            pass
        found = names(routing.found)
        assert {queue.name for queue in queues[1::2]} <= set(found) <= {queue.name for queue in queues}


def test_a_fanout_to_a_hundred_thousand_queues_is_too_much_for_one_go() -> None:
    source = exchange("fanout", "f")
    for number in range(100_000):
        bind(source, Destination(f"q{number}", False))
    router = Router({"f": source})
    assert router.attempt(source, [""], None) is None
    found, steps, _ = in_steps(router, source, ["", "k"], None, 10_000)
    assert len(found) == 100_000
    assert 10 <= steps <= 40
    assert len(router.route(source, [""], None)) == 100_000


def test_patterns_that_are_long_to_match_are_too_much_for_one_go() -> None:
    pick = random.Random(6)
    source = exchange("topic", "t")
    patterns = {".".join(pick.choices(["#", "#", "*", "a", "b"], k=pick.randint(1, 14))) for _ in range(4000)}
    for pattern in sorted(patterns):
        bind(source, Destination(pattern, False), pattern)
    router = Router({"t": source})
    key = ".".join(pick.choices("ab", k=100))
    assert router.attempt(source, [key], None) is None
    whole = names(router.route(source, [key], None))
    found, steps, _ = in_steps(router, source, [key], None, 2000)
    assert found == whole
    assert steps > 2
    assert router.attempt(source, [key, "a"], None, UNLIMITED) is not None


def test_ordinary_routes_take_one_go() -> None:
    source = exchange("topic", "t")
    for number in range(1000):
        bind(source, Destination(f"q{number}", False), f"sensor.{number}.#")
    found = Router({"t": source}).attempt(source, ["sensor.7.temperature"], None, 40)
    assert names(found) == ["q7"]
