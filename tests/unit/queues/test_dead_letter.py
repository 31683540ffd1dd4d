"""The message that goes to a dead letter exchange (broker/queues/dead_letter.py; RabbitMQ docs, Dead Letter Exchanges)."""

from __future__ import annotations

import pytest

from broker.message import Message, exchange_of, routing_key_of
from broker.queues.dead_letter import bury, headers_of, is_cycle
from broker.wire import table
from broker.wire.writer import body_of
from tests.support.fakes import make_message
from tests.support.wire import Typed, plain, read_header, split_frames


def properties_of(message: Message) -> dict[str, object]:
    """What a client reads; the frames are sound and hold the whole body."""
    header, *bodies = split_frames(message.content)
    size, properties = read_header(header.payload)
    assert size == message.body_size == sum(len(body.payload) for body in bodies)
    assert message.header_size == len(header.payload) + 8
    return properties


def headers(message: Message) -> dict[str, object]:
    found = plain(properties_of(message)["headers"])
    assert isinstance(found, dict)
    return found


def test_the_first_death() -> None:
    """RabbitMQ docs, Dead Letter Exchanges."""
    message = make_message(b"body", exchange="e", routing_key="k", headers=table.make({"mine": 1}), priority=3, persistent=True)
    death = bury(message, "q", "rejected", "dlx", None, 1_700_000_000)
    assert death.routing_keys == ["k"]
    dead = death.message
    assert (exchange_of(dead.tail), routing_key_of(dead.tail), body_of(dead)) == (b"dlx", b"k", b"body")
    assert (dead.priority, dead.persistent, dead.expiration_ms, dead.channel) == (3, True, -1, message.channel)
    record = {"count": 1, "reason": "rejected", "queue": "q", "time": 1_700_000_000, "exchange": "e", "routing-keys": ["k"]}
    assert headers(dead) == {
        "mine": 1,
        "x-death": [record],
        **{
            f"x-{when}-death-{what}": value
            for when in ("first", "last")
            for what, value in (("exchange", "e"), ("queue", "q"), ("reason", "rejected"))
        },
    }


def test_the_time_is_a_timestamp_and_the_count_a_long() -> None:
    """RabbitMQ docs, Dead Letter Exchanges: clients look at the types."""
    death = bury(make_message(b"x"), "q", "expired", "dlx", None, 5)
    found = properties_of(death.message)["headers"]
    assert isinstance(found, dict)
    record = found["x-death"].value[0].value
    assert (record["time"], record["count"]) == (Typed("T", 5), Typed("l", 1))


def test_a_routing_key_of_the_queues_own() -> None:
    """RabbitMQ docs, Dead Letter Exchanges: it replaces the message's keys, CC included."""
    message = make_message(b"x", routing_key="k", headers=table.make({"CC": ["copy"], "mine": 1}))
    death = bury(message, "q", "rejected", "dlx", "dead", 5)
    assert death.routing_keys == ["dead"]
    assert routing_key_of(death.message.tail) == b"dead"
    found = headers(death.message)
    assert "CC" not in found
    assert found["mine"] == 1
    records = found["x-death"]
    assert isinstance(records, list)
    assert records[0]["routing-keys"] == ["k", "copy"]


def test_without_one_the_copies_are_kept() -> None:
    message = make_message(b"x", routing_key="k", headers=table.make({"CC": ["copy", "k"]}))
    death = bury(message, "q", "rejected", "dlx", None, 5)
    assert death.routing_keys == ["k", "copy", "k"]
    assert headers(death.message)["CC"] == ["copy", "k"]


def test_the_expiration_is_taken_out_and_remembered() -> None:
    """RabbitMQ docs, Dead Letter Exchanges."""
    death = bury(make_message(b"x", expiration_ms=60_000), "q", "expired", "dlx", None, 5)
    assert death.message.expiration_ms == -1
    assert "expiration" not in properties_of(death.message)
    records = headers(death.message)["x-death"]
    assert isinstance(records, list)
    assert records[0]["original-expiration"] == "60000"


def test_the_same_death_again_raises_its_count_and_comes_to_the_front() -> None:
    """RabbitMQ docs, Dead Letter Exchanges: the time of the first death stays."""
    message = bury(make_message(b"x"), "a", "rejected", "", "b", 1).message
    message = bury(message, "b", "expired", "", "a", 2).message
    message = bury(message, "a", "expired", "", "b", 3).message
    death = bury(message, "a", "rejected", "", "b", 4)
    found = headers(death.message)
    records = found["x-death"]
    assert isinstance(records, list)
    assert [(record["queue"], record["reason"], record["count"], record["time"]) for record in records] == [
        ("a", "rejected", 2, 1),
        ("a", "expired", 1, 3),
        ("b", "expired", 1, 2),
    ]
    assert (found["x-first-death-queue"], found["x-first-death-reason"]) == ("a", "rejected")
    assert (found["x-last-death-queue"], found["x-last-death-reason"]) == ("a", "rejected")


@pytest.mark.parametrize("size", [0, 1, 999, 1000, 1001, 5000])
def test_bodies_of_every_size(size: int) -> None:
    body = bytes(range(256)) * 20
    message = make_message(body[:size], payload_max=1000)
    dead = bury(message, "q", "maxlen", "dlx", None, 5).message
    assert body_of(dead) == body[:size]
    assert properties_of(dead)
    assert max([len(each.payload) for each in split_frames(dead.content)[1:]], default=0) <= 1000


def test_a_message_without_headers_has_none() -> None:
    assert headers_of(make_message(b"x")).values == {}
    assert headers_of(make_message(b"x", headers=table.make({"a": 1}))).values == {"a": 1}


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
    assert is_cycle("q", [{"queue": queue, "reason": reason} for queue, reason in deaths]) is cycle
