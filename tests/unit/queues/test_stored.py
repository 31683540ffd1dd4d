"""A message as the log keeps it (broker/queues/stored.py): what is read is what was written, at every field's edges."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.hidden_keys import keys_of, with_keys
from broker.message import Message, exchange_of, make_tail, routing_key_of
from broker.queues.stored import EXPIRES, enqueued_ms, read_message, stored_size, write_message
from broker.store.batch import RECORD_HEADER_SIZE
from broker.store.batch_writer import BatchWriter
from broker.store.records import HEAD_SIZE

FIELDS = (
    "content",
    "tail",
    "body_size",
    "expiration_ms",
    "header_size",
    "payload_max",
    "channel",
    "priority",
    "persistent",
)
LONGEST = make_tail(b"x" * 255, b"k" * 255)
NO_TAIL = b""


def message(
    content: bytes = b"content",
    tail: bytes = make_tail(b"x", b"k"),
    *,
    channel: int = 1,
    header_size: int = 22,
    body_size: int = 7,
    payload_max: int = 131064,
    persistent: bool = True,
    priority: int = -1,
    expiration_ms: int = -1,
) -> Message:
    return Message(content, tail, channel, header_size, body_size, payload_max, persistent, priority, expiration_ms)


def fields_of(one: Message) -> tuple[object, ...]:
    return tuple(getattr(one, name) for name in FIELDS)


def stored(*messages: Message, wall_ms: int = 1_700_000_000_000) -> tuple[bytes, list[tuple[int, int]]]:
    """Messages as they stand in a batch, and where."""
    batch = BatchWriter(1)
    places = []
    at = 0
    for one in messages:
        size = int(stored_size(one))
        batch.begin(1, 1, size)
        write_message(batch, one, wall_ms)
        at += int(RECORD_HEADER_SIZE)
        places.append((at, at + size))
        at += size
    data = b"".join(batch.take_batch().pieces)
    assert len(data) == at, "as long as it was said to be"
    return data, places


def round_trip(one: Message, tail: bytes = NO_TAIL) -> Message:
    data, ((start, end),) = stored(one)
    return read_message(data, start, end, tail)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("channel", [1, 255, 0x7FFF, 0x8000, 65535]),
        ("priority", [-1, 0, 1, 127, 128, 255]),
        ("expiration_ms", [-1, 0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x100000000, (1 << 62) - 1]),
        ("body_size", [0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x100000000, (1 << 48) - 1]),
        ("header_size", [22, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF]),
        ("payload_max", [0, 4088, 0x7FFF, 0x8000, 131064, 16 << 20, 0x7FFFFFFF]),
        ("persistent", [False, True]),
        ("content", [b"", b"\x00", b"\xce" * 8191, b"x" * 8192, b"y" * 300_000]),
        (
            "tail",
            [
                make_tail(b"", b""),
                make_tail(b"x" * 255, b""),
                make_tail(b"", b"k" * 255),
                make_tail(b"\xff\x00", b"\xce"),
                LONGEST,
            ],
        ),
    ],
)
def test_every_field_at_its_edges(name: str, values: list[object]) -> None:
    """AMQP 0-9-1 §4.2: channels have 16 bits, names up to 255 octets; docs/queues.md: expirations may have more than 32
    bits."""
    for value in values:
        one = message(**{name: value})  # type: ignore[arg-type]
        found = round_trip(one)
        assert fields_of(found) == fields_of(one), value
        assert (exchange_of(found.tail), routing_key_of(found.tail)) == (
            exchange_of(one.tail),
            routing_key_of(one.tail),
        )


@given(
    st.binary(max_size=10_000), st.binary(max_size=255), st.binary(max_size=255), st.integers(1, 65535),
    st.integers(0, (1 << 48) - 1), st.integers(-1, 255), st.integers(-1, 1 << 62), st.booleans(),
)  # fmt: skip
def test_any_message(
    content: bytes,
    exchange: bytes,
    key: bytes,
    channel: int,
    body_size: int,
    priority: int,
    expiration_ms: int,
    persistent: bool,
) -> None:
    one = message(
        content,
        make_tail(exchange, key),
        channel=channel,
        body_size=body_size,
        priority=priority,
        expiration_ms=expiration_ms,
        persistent=persistent,
    )
    assert fields_of(round_trip(one)) == fields_of(one)


@pytest.mark.parametrize("wall_ms", [0, 1, 1_700_000_000_000, (1 << 62) - 1])
def test_the_time_it_came(wall_ms: int) -> None:
    data, ((start, _),) = stored(message(), wall_ms=wall_ms)
    assert enqueued_ms(data, start) == wall_ms


@pytest.mark.parametrize(("expiration_ms", "flags"), [(-1, 0), (0, EXPIRES), (1, EXPIRES), (1 << 40, EXPIRES)])
def test_flags_and_size_stand_in_front_for_the_log(expiration_ms: int, flags: int) -> None:
    """The log adds up both without knowing what they mean: 2 and 6 bytes (docs/durability-format.md)."""
    data, ((start, _),) = stored(message(body_size=12345, expiration_ms=expiration_ms))
    assert int.from_bytes(data[start : start + 2], "big") == flags
    assert int.from_bytes(data[start + 2 : start + 8], "big") == 12345


def test_messages_one_behind_the_other() -> None:
    """Small and large ones: a large content is not copied into the batch, and still stands in its place."""
    messages = [
        message(bytes([index]) * size, channel=index + 1)
        for index, size in enumerate([0, 10, 8191, 8192, 5, 100_000, 1])
    ]
    data, places = stored(*messages)
    assert [fields_of(read_message(data, start, end, NO_TAIL)) for start, end in places] == [
        fields_of(one) for one in messages
    ]


def test_neighbours_share_their_tail() -> None:
    """A backlog of one route keeps one object for all of them, and another route does not take it over."""
    shared = make_tail(b"x", b"k")
    assert round_trip(message(tail=make_tail(b"x", b"k")), shared).tail is shared
    assert round_trip(message(tail=make_tail(b"x", b"l")), shared).tail == make_tail(b"x", b"l")
    assert round_trip(message(tail=make_tail(b"x", b"k2")), shared).tail == make_tail(b"x", b"k2")


def test_the_size_is_that_of_head_tail_and_content() -> None:
    assert stored_size(message(b"12345", LONGEST)) == HEAD_SIZE + len(LONGEST) + 5


@given(st.lists(st.text(max_size=40), min_size=1, max_size=20), st.booleans())
def test_hidden_keys_are_kept(keys: list[str], persistent: bool) -> None:
    """broker/hidden_keys.py: behind the tail, for those messages that have some."""
    tail = make_tail(b"exchange", b"key")
    before, hiding, after = (message(tail=tail, persistent=persistent) for _ in range(3))
    hiding.tail = with_keys(tail, keys)
    hiding.hides_keys = True
    data, places = stored(before, hiding, after)
    shared = NO_TAIL
    for one, (start, end) in zip((before, hiding, after), places, strict=True):
        found = read_message(data, start, end, shared)
        assert (fields_of(found), found.hides_keys) == (fields_of(one), one.hides_keys)
        if one.hides_keys:
            assert keys_of(found.tail) == keys
        shared = found.tail


def test_more_hidden_keys_than_there_is_room_for_are_not_kept() -> None:
    tail = make_tail(b"x", b"k")
    assert type(with_keys(tail, ["k" * 1000] * 61)) is bytes
    assert type(with_keys(tail, [])) is bytes
