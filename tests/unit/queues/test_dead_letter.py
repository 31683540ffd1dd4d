"""The message that goes to a dead letter exchange (broker/queues/dead_letter.py; RabbitMQ docs, Dead Letter
Exchanges)."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.message import Message, exchange_of, make_tail, routing_key_of
from broker.queues.dead_letter import DeadLetterWriter, Death, make_dead_letter
from broker.wire import table
from broker.wire.properties import headers_of
from broker.wire.writer import body_of
from tests.support.fakes import make_message
from tests.support.wire import Typed, body, header, plain, read_header, split_frames


def properties_of(message: Message) -> dict[str, object]:
    """What a client reads; the frames are sound and hold the whole body."""
    first, *others = split_frames(message.content)
    size, properties = read_header(first.payload)
    assert size == message.body_size == sum(len(each.payload) for each in others)
    assert message.header_size == len(first.payload) + 8
    return properties


def headers(message: Message) -> dict[str, object]:
    found = plain(properties_of(message)["headers"])
    assert isinstance(found, dict)
    return found


def test_the_first_death() -> None:
    """RabbitMQ docs, Dead Letter Exchanges."""
    message = make_message(
        b"body", exchange="e", routing_key="k", headers=table.make({"mine": 1}), priority=3, persistent=True
    )
    death = make_dead_letter(message, "q", "rejected", "dlx", None, 1_700_000_000)
    assert death.routing_keys == ["k"]
    dead = death.message
    assert (exchange_of(dead.tail), routing_key_of(dead.tail), body_of(dead)) == (b"dlx", b"k", b"body")
    assert (dead.priority, dead.persistent, dead.expiration_ms, dead.channel) == (3, True, -1, message.channel)
    record = {
        "count": 1,
        "reason": "rejected",
        "queue": "q",
        "time": 1_700_000_000,
        "exchange": "e",
        "routing-keys": ["k"],
    }
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
    death = make_dead_letter(make_message(b"x"), "q", "expired", "dlx", None, 5)
    found = properties_of(death.message)["headers"]
    assert isinstance(found, dict)
    record = found["x-death"].value[0].value
    assert (record["time"], record["count"]) == (Typed("T", 5), Typed("l", 1))


def test_a_routing_key_of_the_queues_own() -> None:
    """RabbitMQ docs, Dead Letter Exchanges: it replaces the message's keys, CC included."""
    message = make_message(b"x", routing_key="k", headers=table.make({"CC": ["copy"], "mine": 1}))
    death = make_dead_letter(message, "q", "rejected", "dlx", "dead", 5)
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
    death = make_dead_letter(message, "q", "rejected", "dlx", None, 5)
    assert death.routing_keys == ["k", "copy", "k"]
    assert headers(death.message)["CC"] == ["copy", "k"]


def test_the_expiration_is_taken_out_and_remembered() -> None:
    """RabbitMQ docs, Dead Letter Exchanges."""
    death = make_dead_letter(make_message(b"x", expiration_ms=60_000), "q", "expired", "dlx", None, 5)
    assert death.message.expiration_ms == -1
    assert "expiration" not in properties_of(death.message)
    records = headers(death.message)["x-death"]
    assert isinstance(records, list)
    assert records[0]["original-expiration"] == "60000"


def test_the_same_death_again_raises_its_count_and_comes_to_the_front() -> None:
    """RabbitMQ docs, Dead Letter Exchanges: the time of the first death stays."""
    message = make_dead_letter(make_message(b"x"), "a", "rejected", "", "b", 1).message
    message = make_dead_letter(message, "b", "expired", "", "a", 2).message
    message = make_dead_letter(message, "a", "expired", "", "b", 3).message
    death = make_dead_letter(message, "a", "rejected", "", "b", 4)
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


@pytest.mark.parametrize("size", [0, 1, 999, 1000, 1001, 5000, 100_000])
def test_bodies_of_every_size(size: int) -> None:
    data = bytes(range(256)) * 400
    message = make_message(data[:size], payload_max=1000)
    dead = make_dead_letter(message, "q", "maxlen", "dlx", None, 5).message
    assert body_of(dead) == data[:size]
    assert properties_of(dead)
    assert max([len(each.payload) for each in split_frames(dead.content)[1:]], default=0) <= 1000


def test_a_message_without_headers_has_none() -> None:
    assert headers_of(make_message(b"x")).values == {}
    assert headers_of(make_message(b"x", headers=table.make({"a": 1}))).values == {"a": 1}


# DeadLetterWriter: the same messages as `make_dead_letter`, to the byte


def everything(death: Death) -> tuple[object, ...]:
    """All that a death is."""
    message = death.message
    numbers = (
        message.body_size,
        message.expiration_ms,
        message.header_size,
        message.payload_max,
        message.channel,
        message.priority,
    )
    return message.content, message.tail, *numbers, message.persistent, death.routing_keys, death.deaths


def same_as_slow(
    writer: DeadLetterWriter, message: Message, queue: str, reason: str, exchange: str, key: str | None, second: int
) -> Death:
    """What both say."""
    fast = writer.make(message, queue, reason, exchange, key, second)
    assert everything(fast) == everything(make_dead_letter(message, queue, reason, exchange, key, second))
    return fast


HEADERS = [
    None,
    table.EMPTY,
    table.make({"mine": 1}),
    table.make({"CC": ["copy", "k"], "mine": "x" * 300}),
    table.make({"x-death": "no list", "x-first-death-reason": "claimed", "x-last-death-queue": 5}),
    table.FieldTable(table.join([(b"twice", b"t\x01"), (b"twice", b"V"), (b"bad \xff", b"S\x00\x00\x00\x01\xff")])),
]


def random_message(pick: random.Random) -> Message:
    return make_message(
        bytes(pick.randrange(256) for _ in range(pick.choice([0, 1, 7, 8, 9, 100]))),
        exchange=pick.choice(["", "e"]),
        routing_key=pick.choice(["", "k", "k2"]),
        channel=pick.choice([1, 2, 2047]),
        headers=pick.choice(HEADERS),
        expiration_ms=pick.choice([-1, -1, 0, 60_000]),
        priority=pick.choice([-1, 3]),
        persistent=pick.random() < 0.5,
        payload_max=pick.choice([8, 131064]),
        message_id=pick.choice([None, "a", "b"]),
    )


@pytest.mark.parametrize("seed", range(30))
def test_a_writer_writes_what_bury_makes(seed: int) -> None:
    """Whatever it has written before, and messages that die again and again."""
    pick = random.Random(seed)
    writer = DeadLetterWriter()
    messages = [random_message(pick) for _ in range(10)]
    second = 1
    for _ in range(300):
        second += pick.random() < 0.02
        at = pick.randrange(len(messages))
        queue, reason = pick.choice(["q", "q2"]), pick.choice(["rejected", "expired", "maxlen"])
        death = same_as_slow(
            writer, messages[at], queue, reason, pick.choice(["", "dlx"]), pick.choice([None, None, "dead"]), second
        )
        if pick.random() < 0.2:
            messages[at] = death.message if pick.random() < 0.8 else random_message(pick)


names = st.text(max_size=4)
values = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=5) | st.binary(max_size=5)
fields = st.dictionaries(names, values | st.lists(values, max_size=3), max_size=4) | st.just({"CC": ["a", 1, "b"]})


@given(
    headers=st.lists(st.none() | fields.map(table.make), min_size=1, max_size=4),
    bodies=st.lists(st.binary(max_size=20), min_size=1, max_size=4),
    ways=st.lists(st.tuples(names, names, names, st.none() | names, st.integers(0, 3)), min_size=1, max_size=4),
)
def test_any_headers_and_any_way_to_die(
    headers: list[table.FieldTable | None], bodies: list[bytes], ways: list[tuple[str, str, str, str | None, int]]
) -> None:
    writer = DeadLetterWriter()
    for queue, reason, exchange, key, second in ways * 2:
        for given_headers in headers:
            for data in bodies:
                message = make_message(data, exchange="e", routing_key="k", headers=given_headers)
                again = same_as_slow(writer, message, queue, reason, exchange, key, second)
                same_as_slow(writer, again.message, queue, reason, exchange, key, second)


def test_what_a_writer_remembers_is_bounded() -> None:
    """Each message has headers of 60,000 bytes of its own: what is remembered stays below 4 MiB, and the answers
    right."""
    writer = DeadLetterWriter()
    for number in range(200):
        headers = table.make({"large": "x" * 60_000, "number": number})
        same_as_slow(writer, make_message(b"x", headers=headers), "q", "rejected", "dlx", None, 1)
        assert writer.remembered() <= 4 << 20
    assert writer.remembered() > 0
    same_as_slow(writer, make_message(b"x"), "q", "rejected", "dlx", None, 2)
    assert writer.remembered() < 5000, "the second is over"


def test_the_body_may_come_in_odd_frames() -> None:
    """A client need not fill its frames; a dead letter's are the same."""
    content = header(1, 5) + body(1, b"ab") + body(1, b"") + body(1, b"cde")
    message = Message(content, make_tail(b"e", b"k"), 1, len(header(1, 5)), 5, 3, False, -1, -1)
    for _ in range(2):
        death = same_as_slow(DeadLetterWriter(), message, "q", "rejected", "dlx", None, 1)
        assert body_of(death.message) == b"abcde"
        assert [each.payload for each in split_frames(death.message.content)[1:]] == [b"ab", b"", b"cde"]
