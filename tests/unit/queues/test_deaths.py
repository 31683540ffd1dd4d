"""The deaths of a message, in bytes (broker/queues/deaths.py), against a reading of the whole header."""

from __future__ import annotations

import random

import pytest

from broker.queues.deaths import deaths_of, is_cycle, with_death
from broker.wire import table

QUEUES = ["q", "q2", "", "\u00e9"]
REASONS = ["rejected", "expired", "maxlen", "delivery_limit"]


def array(deaths: list[object]) -> bytes:
    return deaths_of(table.encode({"mine": 1, "x-death": deaths, "more": "x"}))


def read(deaths: bytes) -> list[dict[str, object]]:
    found = table.FieldTable(table.join([(b"x-death", b"A" + len(deaths).to_bytes(4, "big") + deaths)])).values["x-death"]
    assert isinstance(found, list)
    return found


def random_deaths(pick: random.Random) -> list[object]:
    """What a client may have made of it."""
    deaths: list[object] = []
    for _ in range(pick.randrange(8)):
        death: dict[str, object] = {"routing-keys": ["queue", "q"], "inner": {"queue": "q", "reason": "expired"}}
        if pick.random() < 0.9:
            death["queue"] = pick.choice([*QUEUES, 5, b"q"])
        if pick.random() < 0.9:
            death["reason"] = pick.choice([*REASONS, None])
        if pick.random() < 0.9:
            death["count"] = pick.choice([1, 7, "many", -1])
        deaths.append(pick.choice([death, death, death, "none", [1], None]))
    return deaths


@pytest.mark.parametrize("seed", range(200))
def test_one_more_death(seed: int) -> None:
    """RabbitMQ docs, Dead Letter Exchanges: one table for each queue and reason, the newest first."""
    pick = random.Random(seed)
    given, queue, reason = random_deaths(pick), pick.choice(QUEUES), pick.choice(REASONS)
    tables: list[dict[str, object]] = [death for death in given if isinstance(death, dict)]
    known = [death for death in tables if (death.get("queue"), death.get("reason")) == (queue, reason)][:1]
    first: dict[str, object] = {"count": 1, "queue": queue, "reason": reason}
    for death in known:
        count = death.get("count", 0)
        first = death | {"count": count + 1 if isinstance(count, int) else 1}
    found = with_death(array(given), queue, reason, {"count": 1, "queue": queue, "reason": reason})
    assert found[:5] == b"A" + (len(found) - 5).to_bytes(4, "big")
    assert read(found[5:]) == [first, *(death for death in tables if death not in known)]


@pytest.mark.parametrize("seed", range(200))
def test_a_cycle_ends_where_a_client_has_rejected(seed: int) -> None:
    pick = random.Random(seed)
    given, queue = random_deaths(pick), pick.choice(QUEUES)
    reasons: list[object] = []
    for death in given:
        if isinstance(death, dict):
            reasons.append(death.get("reason"))
            if death.get("reason") == "rejected" or death.get("queue") == queue:
                break
    else:
        reasons.append("rejected")
    assert is_cycle(queue, array(given)) is (reasons[-1] != "rejected")


def test_earlier_deaths_keep_their_bytes() -> None:
    """Fields keep the type that they came with."""
    one = table.join([(b"queue", b"S\x00\x00\x00\x01a"), (b"reason", b"S\x00\x00\x00\x07expired"), (b"count", b"I\x00\x00\x00\x05")])
    element = b"F" + len(one).to_bytes(4, "big") + one
    assert with_death(element, "b", "expired", {})[5:] == b"F\x00\x00\x00\x00" + element
    counted = with_death(element, "a", "expired", {})[10:]
    assert counted == one[: one.index(b"I")] + b"l" + (6).to_bytes(8, "big")


def test_a_count_does_not_run_over() -> None:
    death = {"queue": "q", "reason": "expired", "count": (1 << 63) - 1}
    assert read(with_death(array([death]), "q", "expired", {})[5:]) == [death]


@pytest.mark.parametrize("headers", [{}, {"x-death": "none"}, {"x-death": []}, {"x-death": {"queue": "q"}}])
def test_there_may_be_none(headers: dict[str, object]) -> None:
    assert deaths_of(table.encode(headers)) == b""
    assert not is_cycle("q", b"")


@pytest.mark.parametrize(
    ("deaths", "cycle"),
    [
        ([], False),
        ([("q", "expired")], True),
        ([("q", "maxlen")], True),
        ([("q", "rejected")], False),
        ([("other", "expired")], False),
        ([("other", "expired"), ("q", "expired")], True),
        ([("other", "rejected"), ("q", "expired")], False),
        ([("other", "expired"), ("third", "rejected"), ("q", "expired")], False),
        ([("q", "expired"), ("other", "rejected")], True),
    ],
)
def test_an_automatic_cycle(deaths: list[tuple[str, str]], cycle: bool) -> None:
    """RabbitMQ docs, Dead Letter Exchanges: newest first; a rejection since the last visit means that a client has a hand in it."""
    assert is_cycle("q", array([{"queue": queue, "reason": reason} for queue, reason in deaths])) is cycle
