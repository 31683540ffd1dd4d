"""The topic exchange (broker/routing/topic.py, topic_trie.py): a linear matcher is the oracle for the trie."""

import random
import time

import pytest

from broker.destination import Destination
from broker.routing.exchange import Binding
from broker.routing.topic import TopicExchange
from broker.routing.topic_trie import split_key
from broker.wire.table import EMPTY


def topic(keys: list[str]) -> TopicExchange:
    """An exchange with one queue per binding key, named after it."""
    source = TopicExchange("topic", "t", True, False, False, EMPTY)
    for key in keys:
        source.bind(Binding(source, Destination(key, False), key, EMPTY))
    return source


def matched(source: TopicExchange, key: str) -> list[str]:
    found: list[Destination] = []
    source.match(key, None, found)
    return [destination.name for destination in found]


def fits(pattern: list[str], words: list[str]) -> bool:
    """The oracle: word by word through a table of (pattern prefix, key prefix), AMQP 0-9-1 §3.1.3.3."""
    row = [True] + [False] * len(words)
    for part in pattern:
        below = [row[0] and part == "#"]
        for i, word in enumerate(words):
            below.append(row[i + 1] or below[i] if part == "#" else row[i] and part in ("*", word))
        row = below
    return row[-1]


# What RabbitMQ 3.10 answered: one queue bound with each key, one message published with each routing key.
BOUND = [
    "",
    "#",
    "*",
    "a.",
    ".a",
    "*.*",
    ".",
    "#.#",
    "a",
    "a.*",
    "#.*",
    "*.#",
    "a.#",
    "a..b",
    "a.*.b",
    "#.a.#",
    "a.#.b",
]
ANSWERS = {
    "": ["", "#", "#.#"],
    "a": ["#", "*", "#.#", "a", "#.*", "*.#", "a.#", "#.a.#"],
    ".": ["#", "*.*", ".", "#.#", "#.*", "*.#"],
    "a.": ["#", "a.", "*.*", "#.#", "a.*", "#.*", "*.#", "a.#", "#.a.#"],
    ".a": ["#", ".a", "*.*", "#.#", "#.*", "*.#", "#.a.#"],
    "..": ["#", "#.#", "#.*", "*.#"],
    "a.b": ["#", "*.*", "#.#", "a.*", "#.*", "*.#", "a.#", "#.a.#", "a.#.b"],
    "a..b": ["#", "#.#", "#.*", "*.#", "a.#", "a..b", "a.*.b", "#.a.#", "a.#.b"],
    "*": ["#", "*", "#.#", "#.*", "*.#"],
    "#": ["#", "*", "#.#", "#.*", "*.#"],
    "a.*": ["#", "*.*", "#.#", "a.*", "#.*", "*.#", "a.#", "#.a.#"],
    "b": ["#", "*", "#.#", "#.*", "*.#"],
}


@pytest.mark.parametrize("key", ANSWERS)
def test_keys_match_as_in_rabbitmq(key: str) -> None:
    """The empty key has no words; a leading or trailing dot makes an empty word; wildcards in a routing key are plain
    words."""
    assert sorted(matched(topic(BOUND), key)) == sorted(ANSWERS[key])
    assert [pattern for pattern in BOUND if fits(split_key(pattern), split_key(key))] == ANSWERS[key], (
        "the oracle agrees"
    )


def random_key(pick: random.Random, words: list[str], most: int) -> str:
    return ".".join(pick.choices(words, k=pick.randrange(most)))


@pytest.mark.parametrize("seed", range(60))
def test_the_trie_finds_what_trying_every_binding_finds(seed: int) -> None:
    pick = random.Random(seed)
    patterns = {random_key(pick, ["a", "b", "", "*", "#", "#"], 7) for _ in range(40)}
    source = topic(sorted(patterns))
    for _ in range(60):
        key = random_key(pick, ["a", "b", "c", "", "*", "#"], 8)
        expected = sorted(pattern for pattern in patterns if fits(split_key(pattern), split_key(key)))
        assert sorted(set(matched(source, key))) == expected, f"seed {seed}, key {key!r}"


@pytest.mark.parametrize("seed", range(20))
def test_bindings_that_come_and_go_leave_no_trace(seed: int) -> None:
    """Unbinding prunes the trie: memory follows the bindings there are, not those there were."""
    pick = random.Random(seed)
    source = topic([])
    bound: dict[str, Destination] = {}
    for _ in range(300):
        pattern = random_key(pick, ["a", "b", "", "*", "#"], 6)
        if pattern in bound:
            assert source.unbind(bound.pop(pattern), pattern, EMPTY)
        else:
            bound[pattern] = Destination(pattern, False)
            assert source.bind(Binding(source, bound[pattern], pattern, EMPTY))
        key = random_key(pick, ["a", "b", "c", ""], 6)
        expected = sorted(pattern for pattern in bound if fits(split_key(pattern), split_key(key)))
        assert sorted(matched(source, key)) == expected, f"seed {seed}"
    assert source.node_count() <= 5 * len(bound)
    for pattern, target in list(bound.items()):
        assert len(source.remove_destination(target)) == 1, pattern
    assert source.node_count() == 0
    assert matched(source, "a.b") == []


def test_keys_that_mean_the_same_are_still_two_bindings() -> None:
    """#.# matches what # matches and shares its node; each can be unbound on its own."""
    source = topic([])
    target = Destination("q", False)
    assert source.bind(Binding(source, target, "a.#.#", EMPTY))
    assert source.bind(Binding(source, target, "a.#", EMPTY))
    assert source.node_count() == 2
    assert source.unbind(target, "a.#", EMPTY)
    assert matched(source, "a.b.c") == ["q"]
    assert source.unbind(target, "a.#.#", EMPTY)
    assert source.node_count() == 0


def best_ms(source: TopicExchange, key: str) -> float:
    best = 1e9
    for _ in range(7):
        found: list[Destination] = []
        start = time.perf_counter()
        source.match(key, None, found)
        best = min(best, (time.perf_counter() - start) * 1000)
    return best


def test_many_hashes_cost_no_more_than_words_times_nodes() -> None:
    """Combinatorial topic routing (CVE-2026-67419): #.#.# ... against keys of 255 bytes takes less than a
    millisecond."""
    source = topic([".".join(["#"] * 100)])
    assert matched(source, "." * 255) == [".".join(["#"] * 100)]
    assert best_ms(source, "." * 255) < 1
    assert best_ms(source, "a" * 255) < 1


@pytest.mark.parametrize("unit", ["#.*", "#.a", "*.#", "#.a.#"])
def test_mixed_hashes_stay_polynomial(unit: str) -> None:
    """Following every way on its own, these would take longer than the universe has; the bound leaves room for a slow
    machine."""
    pattern = ".".join([unit] * (250 // (len(unit) + 1)))
    source = topic([pattern, pattern + ".x"])
    key = ".".join(["a"] * 128)
    assert matched(source, key) == [pattern]
    assert best_ms(source, key) < 100
