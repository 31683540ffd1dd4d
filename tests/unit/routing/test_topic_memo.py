"""What a topic exchange remembers of earlier matches (broker/routing/topic_memo.py): same answers, bounded, forgotten
with a binding."""

from __future__ import annotations

import random
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker import build
from broker.destination import Destination
from broker.routing.exchange import Binding
from broker.routing.topic import TopicExchange
from broker.routing.topic_memo import REST, SET_MAX, SIZE_MAX
from broker.wire.table import EMPTY
from tests.unit.routing.test_topic import fits, matched, topic

WORDS = ["a", "b", "", "*", "#", "#"]


def random_patterns(pick: random.Random, count: int, words: list[str], most: int) -> list[str]:
    found: set[str] = set()
    while len(found) < count:
        found.add(".".join(pick.choices(words, k=pick.randint(1, most))))
    return sorted(found)


def expected(patterns: list[str], key: str) -> list[str]:
    words = key.split(".") if key else []
    return sorted(pattern for pattern in patterns if fits(pattern.split(".") if pattern else [], words))


@pytest.mark.parametrize("seed", range(8))
def test_what_is_remembered_answers_as_trying_every_binding_does(seed: int) -> None:
    """Keys come again and again, words that stand in no binding too; bindings change in between."""
    pick = random.Random(seed)
    patterns = random_patterns(pick, 120, WORDS, 8)
    source = topic(patterns)
    targets = {binding.key: binding.destination for binding in source.bindings()}
    for number in range(100):
        key = ".".join(pick.choices(["a", "b", "x", "y", "", "*", "#"], k=pick.randrange(9)))
        assert sorted(matched(source, key)) == expected(patterns, key), f"seed {seed}, key {key!r}"
        if number % 25 == 24:
            assert source.memo_size() > 0
            gone = patterns.pop(pick.randrange(len(patterns)))
            assert source.unbind(targets[gone], gone, EMPTY)
            assert source.memo_size() == 0


keys = st.lists(st.sampled_from(["a", "b", "x", "", "*", "#"]), max_size=8).map(".".join)


@settings(max_examples=40)
@given(patterns=st.lists(keys, min_size=30, max_size=80, unique=True), asked=st.lists(keys, min_size=1, max_size=20))
def test_any_keys_against_any_patterns(patterns: list[str], asked: list[str]) -> None:
    source = topic(patterns)
    for key in asked * 2:
        assert sorted(matched(source, key)) == expected(patterns, key)


def large(pick: random.Random) -> TopicExchange:
    return topic(random_patterns(pick, 1000, ["#", "#", "*", "a", "b"], 14))


def test_what_is_remembered_is_bounded() -> None:
    """Random keys against 1,000 patterns lead to ever new sets: never more than SIZE_MAX, and a rest when it was of no
    use."""
    pick = random.Random(1)
    source = large(pick)
    sizes: list[int] = []
    for _ in range(40):
        matched(source, ".".join(pick.choices("ab", k=20)))
        sizes.append(source.memo_size())
    assert 0 < max(sizes) <= SIZE_MAX
    assert sizes[-3:] == [0, 0, 0], "it rests"
    for _ in range(REST):
        matched(source, "x")
    matched(source, ".".join(["x"] * 100))
    assert source.memo_size() > 0, "it has had its rest"


@pytest.mark.skipif(build.loaded().compiled, reason="what compiled objects take is not seen by tracemalloc in full")
def test_memory_follows_the_size() -> None:
    pick = random.Random(2)
    source = large(pick)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    most = 0.0
    for _ in range(20):
        matched(source, ".".join(pick.choices("abx", k=20)))
        if source.memo_size() > SIZE_MAX // 4:
            most = max(most, (tracemalloc.get_traced_memory()[0] - before) / source.memo_size())
    tracemalloc.stop()
    assert 0 < most < 100, "bytes for each membership"


def test_a_set_that_is_too_large_is_not_remembered() -> None:
    source = topic([])
    for number in range(SET_MAX + 10):
        pattern = f"#.{number}"
        source.bind(Binding(source, Destination(pattern, False), pattern, EMPTY))
    for number in range(2000):
        pattern = "*." * 3 + f"#.{number}"
        source.bind(Binding(source, Destination(pattern, False), pattern, EMPTY))
    for _ in range(2):
        assert sorted(matched(source, "x.y.z.1")) == ["#.1", "*.*.*.#.1"]
        assert source.memo_size() <= SET_MAX


def test_the_destinations_of_many_patterns_are_listed_once() -> None:
    source = TopicExchange("topic", "t", True, False, False, EMPTY)
    target = Destination("q", False)
    for pattern in random_patterns(random.Random(3), 500, ["#", "*"], 12):
        source.bind(Binding(source, target, pattern, EMPTY))
    found: list[Destination] = []
    source.match(".".join(["x"] * 30), None, found)
    assert found == [target]
