"""Matching through bits (broker/routing/topic_bits.py, topic_matching.py): what a linear matcher and the trie find, in
small steps."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.destination import Destination
from broker.routing.exchange import UNLIMITED, Binding
from broker.routing.topic import TopicExchange
from broker.routing.topic_bits import BITS, Patterns
from broker.routing.topic_trie import Node, split_key
from broker.wire.table import EMPTY
from tests.unit.routing.test_topic import fits, matched, topic

WORDS = ["a", "b", "", "*", "#", "#"]
keys = st.lists(st.sampled_from(["a", "b", "x", "", "*", "#"]), max_size=12).map(".".join)


def through_bits(patterns: Patterns, key: str) -> list[str]:
    reached: list[Node] = []
    for blocks in patterns.blocks:
        for block in blocks:
            if not block.ready:
                block.make_ready()
            block.match(split_key(key), reached)
    return sorted(node.key for node in reached)


def made(bound: list[str]) -> tuple[Patterns, dict[str, Node]]:
    patterns = Patterns()
    nodes = {key: Node(False) for key in bound}
    for key, node in nodes.items():
        patterns.add(node, key)
    return patterns, nodes


@settings(max_examples=150)
@given(bound=st.lists(keys, max_size=60, unique=True), asked=st.lists(keys, min_size=1, max_size=20))
def test_any_keys_against_any_patterns(bound: list[str], asked: list[str]) -> None:
    """AMQP 0-9-1 §3.1.3.3: the naive matcher is the oracle."""
    patterns, _ = made(bound)
    for key in asked:
        expected = sorted(pattern for pattern in bound if fits(split_key(pattern), split_key(key)))
        assert through_bits(patterns, key) == expected, key


@settings(max_examples=40)
@given(
    bound=st.lists(keys, min_size=1, max_size=60, unique=True),
    asked=st.lists(keys, min_size=1, max_size=10),
    data=st.data(),
)
def test_patterns_that_come_and_go(bound: list[str], asked: list[str], data: st.DataObject) -> None:
    patterns, nodes = made(bound)
    for key in asked:
        gone = data.draw(st.sampled_from(bound))
        if gone in nodes:
            patterns.remove(nodes.pop(gone))
        else:
            nodes[gone] = Node(False)
            patterns.add(nodes[gone], gone)
        expected = sorted(pattern for pattern in nodes if fits(split_key(pattern), split_key(key)))
        assert through_bits(patterns, key) == expected, key


@pytest.mark.parametrize(
    "key", ["." * 255, ".".join(["a"] * 128), ".".join(["*"] * 128), "#." * 127 + "#", "*.#." * 63, "a" * 255]
)
def test_the_longest_keys(key: str) -> None:
    patterns, _ = made([key, "#", "", "*.#"])
    for asked in ("." * 255, ".".join(["a"] * 128), "a" * 255, ""):
        expected = sorted(pattern for pattern in {key, "#", "", "*.#"} if fits(split_key(pattern), split_key(asked)))
        assert through_bits(patterns, asked) == expected


def test_many_words_and_blocks() -> None:
    """More words than a block remembers, words that stand in many places, and more binding keys than a block holds."""
    pick = random.Random(1)
    vocabulary = [f"w{number}" for number in range(200)] + ["*", "#", "same"] * 30
    bound = sorted({".".join(pick.choices(vocabulary, k=pick.randint(1, 20))) for _ in range(1500)})
    patterns, nodes = made(bound)
    assert max(len(blocks) for blocks in patterns.blocks) > 1
    assert all(len(block.nodes) == BITS >> kind for kind, blocks in enumerate(patterns.blocks) for block in blocks[:-1])
    for number in range(40):
        words = split_key(pick.choice(bound))
        key = ".".join(pick.choice(["same", "w7"]) if word in ("*", "#") else word for word in words)
        expected = sorted(pattern for pattern in nodes if fits(split_key(pattern), split_key(key)))
        assert through_bits(patterns, key) == expected
        gone = bound[number * 3]
        patterns.remove(nodes.pop(gone))
    for node in nodes.values():
        patterns.remove(node)
    assert patterns.blocks == [[] for _ in patterns.blocks]


def random_topic(pick: random.Random, count: int) -> TopicExchange:
    return topic(sorted({".".join(pick.choices(WORDS, k=pick.randint(1, 14))) for _ in range(count)}))


@pytest.mark.parametrize("seed", range(10))
def test_steps_find_what_the_trie_finds(seed: int) -> None:
    pick = random.Random(seed)
    source = random_topic(pick, 600)
    for _ in range(10):
        asked = [".".join(pick.choices(["a", "b", "c", ""], k=pick.randrange(30))) for _ in range(pick.randint(1, 3))]
        whole: list[Destination] = []
        source.match_keys(asked, None, whole)
        budget = pick.choice([1, 10, 100, 5000])
        matching = source.matching(asked, None)
        while matching.step(budget) < 0:
            pass
        assert set(matching.found) == set(whole), f"seed {seed}, budget {budget}, keys {asked}"


def test_what_is_bound_all_the_time_is_found_whoever_comes_and_goes() -> None:
    """Binding keys change places when others go, also while a match is between two blocks."""
    pick = random.Random(4)
    source = random_topic(pick, 1500)
    key = ".".join(pick.choices("ab", k=60))
    stays = {name for name in matched(source, key) if pick.random() < 0.5}
    goes = [binding for binding in source.bindings() if binding.key not in stays]
    pick.shuffle(goes)
    matching = source.matching([key], None)
    while matching.step(1) < 0:
        for binding in [goes.pop() for _ in range(min(40, len(goes)))]:
            source.unbind(binding.destination, binding.key, EMPTY)
    assert stays <= {destination.name for destination in matching.found}


def steps_of(source: TopicExchange, key: str, budget: int) -> tuple[int, set[Destination]]:
    matching = source.matching([key], None)
    steps = 1
    while matching.step(budget) < 0:
        steps += 1
    return steps, set(matching.found)


def test_steps_are_small_and_a_change_makes_few_blocks_anew() -> None:
    """10,000 patterns of words and wildcards, a key of 127 words: through the trie that takes a third of a second."""
    pick = random.Random(2)
    source = topic(sorted({".".join(pick.choices("##*ab", k=pick.randint(1, 20))) for _ in range(11_000)}))
    key = ".".join(pick.choices("ab", k=127))
    assert source.match(key, None, [], 8000) < 0, "too much for the trie"
    making, _ = steps_of(source, key, 4000)
    ready, before = steps_of(source, key, 4000)
    new = Destination("new", False)
    source.bind(Binding(source, new, "#.b.#", EMPTY))
    changed, after = steps_of(source, key, 4000)
    assert ready <= 60
    assert ready <= changed <= ready + 3 < making
    assert after == before | {new}
    whole: list[Destination] = []
    source.match(key, None, whole, UNLIMITED)
    assert set(whole) == after
