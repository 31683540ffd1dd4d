"""The deaths of a message, in bytes (broker/queues/deaths.py), against a reading of the whole header."""

from __future__ import annotations

import random

import pytest

from broker.queues.deaths import deaths_of, is_cycle, whole_deaths_of, with_death
from broker.wire import table
from broker.wire.field_values import Timestamp

QUEUES = ["q", "q2", "", "\u00e9"]
REASONS = ["rejected", "expired", "maxlen", "delivery_limit"]


def array(deaths: list[object]) -> bytes:
    return whole_deaths_of(table.encode({"mine": 1, "x-death": deaths, "more": "x"}))


def a_death(queue: object, reason: object, count: object = 1, **more: object) -> dict[str, object]:
    fields = {
        "count": count,
        "reason": reason,
        "queue": queue,
        "time": Timestamp(5),
        "exchange": "e",
        "routing-keys": ["k"],
    }
    return fields | more


def read(deaths: bytes) -> list[dict[str, object]]:
    found = table.FieldTable(table.join([(b"x-death", b"A" + len(deaths).to_bytes(4, "big") + deaths)])).values[
        "x-death"
    ]
    assert isinstance(found, list)
    return found


def random_deaths(pick: random.Random) -> list[object]:
    """What a client may have made of it."""
    deaths: list[object] = []
    for _ in range(pick.randrange(12)):
        queue = pick.choice([*QUEUES, *QUEUES, 5, b"q\x00\xff"])
        death = a_death(queue, pick.choice([*REASONS, *REASONS, None]), pick.choice([1, 7, -1, 1 << 40, 9, "many"]))
        death |= {"inner": {"queue": "q", "reason": "expired"}, "original-expiration": "60000"}
        death["time"] = pick.choice([Timestamp(7), Timestamp(7), 7, "now"])
        death["routing-keys"] = pick.choice([["queue", "q"], [], ["queue"], "q"])
        if pick.random() < 0.2:
            del death[pick.choice(list(death))]
        items = list(death.items())
        pick.shuffle(items)
        death = dict(items)
        deaths.append(pick.choice([death, death, death, death, death, "none", [1], None]))
    return deaths


def whole(deaths: list[object]) -> list[dict[str, object]]:
    """What RabbitMQ 3.13 takes for deaths (mc_amqpl, recover_deaths), one for each queue and reason."""
    found: dict[tuple[str, str], dict[str, object]] = {}
    for death in deaths:
        if not isinstance(death, dict):
            continue
        queue, reason, exchange = death.get("queue"), death.get("reason"), death.get("exchange")
        is_told = isinstance(death.get("count"), int) and isinstance(death.get("routing-keys"), list)
        is_timed = isinstance(death.get("time"), int | Timestamp)
        if is_told and is_timed and isinstance(queue, str) and isinstance(reason, str) and isinstance(exchange, str):
            found.setdefault((queue, reason), death)
    return list(found.values())


@pytest.mark.parametrize("seed", range(400))
def test_one_more_death(seed: int) -> None:
    """RabbitMQ docs, Dead Letter Exchanges: one table for each queue and reason, the newest first."""
    pick = random.Random(seed)
    given, queue, reason = random_deaths(pick), pick.choice(QUEUES), pick.choice(REASONS)
    tables = whole(given)
    known = [death for death in tables if (death["queue"], death["reason"]) == (queue, reason)]
    first = a_death(queue, reason)
    for death in known:
        count = death["count"]
        assert isinstance(count, int)
        first = death | {"count": count + 1}
    found = with_death(array(given), queue, reason, a_death(queue, reason))
    assert found[:5] == b"A" + (len(found) - 5).to_bytes(4, "big")
    assert read(found[5:]) == [first, *(death for death in tables if death not in known)]
    assert deaths_of(table.encode({"x-death": read(found[5:])})) == array(list(read(found[5:]))), (
        "what was written here is whole"
    )


@pytest.mark.parametrize("lacking", ["count", "reason", "queue", "time", "exchange", "routing-keys"])
def test_a_death_that_lacks_something_is_none(lacking: str) -> None:
    """RabbitMQ 3.13: an entry that a publisher has made up is passed over; those beside it are not."""
    death = a_death("q", "expired", 3)
    del death[lacking]
    assert array([death]) == b""
    assert read(array([death, a_death("q", "expired", 5), a_death("q", "expired", 7)])) == [a_death("q", "expired", 5)]
    assert not is_cycle("q", array([death]))


@pytest.mark.parametrize("seed", range(200))
def test_a_cycle_ends_where_a_client_has_rejected(seed: int) -> None:
    pick = random.Random(seed)
    given, queue = random_deaths(pick), pick.choice(QUEUES)
    reasons: list[object] = []
    for death in whole(given):
        reasons.append(death["reason"])
        if death["reason"] == "rejected" or death["queue"] == queue:
            break
    else:
        reasons.append("rejected")
    assert is_cycle(queue, array(given)) is (reasons[-1] != "rejected")


def test_earlier_deaths_keep_their_bytes() -> None:
    """Fields keep the type that they came with."""
    one = table.join(
        [(b"queue", b"S\x00\x00\x00\x01a"), (b"reason", b"S\x00\x00\x00\x07expired"), (b"count", b"I\x00\x00\x00\x05")]
    )
    element = b"F" + len(one).to_bytes(4, "big") + one
    assert with_death(element, "b", "expired", {})[5:] == b"F\x00\x00\x00\x00" + element
    counted = with_death(element, "a", "expired", {})[10:]
    assert counted == one[: one.index(b"I")] + b"l" + (6).to_bytes(8, "big")


def test_a_count_does_not_run_over() -> None:
    death = a_death("q", "expired", (1 << 63) - 1)
    assert read(with_death(array([death]), "q", "expired", {})[5:]) == [death]


@pytest.mark.parametrize("headers", [{}, {"x-death": "none"}, {"x-death": []}, {"x-death": {"queue": "q"}}])
def test_there_may_be_none(headers: dict[str, object]) -> None:
    assert deaths_of(table.encode(headers)) == b""
    assert whole_deaths_of(table.encode(headers)) == b""
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
    """RabbitMQ docs, Dead Letter Exchanges: newest first; a rejection since the last visit means that a client has a
    hand in it."""
    assert is_cycle("q", array([a_death(queue, reason) for queue, reason in deaths])) is cycle
