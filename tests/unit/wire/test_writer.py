"""What the broker writes by hand while messages flow (broker/wire/writer.py); pamqp is the oracle of every frame."""

from __future__ import annotations

import random
from typing import Any

import pytest
from librt.strings import BytesWriter
from pamqp import body as pamqp_body
from pamqp import commands, frame, header

from broker.message import make_tail
from broker.wire import properties, table, writer
from broker.wire.properties import Properties
from tests.support.fakes import make_message
from tests.support.wire import split_frames

NAMES = [b"", b"e", "exchänge".encode(), b"x" * 255]
PLAIN_NAMES = [b"", b"e", b"x" * 127]
"""pamqp writes no others."""
TAGS = [1, 127, 128, 255, 256, 0x7FFFFFFF, 0x80000000, (1 << 63) - 1]
CHANNELS = [1, 127, 128, 255, 256, 0x7FFF, 0x8000, 0xFFFF]


def unmarshalled(data: bytes) -> list[tuple[int, Any]]:
    """Every frame as pamqp reads it: channel and object."""
    found = []
    while data:
        size, channel, value = frame.unmarshal(data)
        found.append((channel, value))
        data = data[size:]
    return found


def the_only(data: bytes, channel: int) -> Any:
    found = unmarshalled(data)
    assert [each for each, _ in found] == [channel]
    return found[0][1]


def delivered(channel: int, consumer_tag: bytes, delivery_tag: int, tail: bytes) -> bytes:
    """A basic.deliver as a consumer puts it together: start, delivery tag, tail."""
    return writer.deliver_start(channel, consumer_tag, len(tail)) + delivery_tag.to_bytes(8, "big") + tail


@pytest.mark.parametrize("exchange", NAMES)
@pytest.mark.parametrize("key", NAMES)
@pytest.mark.parametrize("consumer_tag", [b"", b"ctag", b"t" * 255])
def test_deliver_is_start_tag_and_tail(exchange: bytes, key: bytes, consumer_tag: bytes) -> None:
    data = delivered(5, consumer_tag, 77, make_tail(exchange, key))
    said = the_only(data, 5)
    assert isinstance(said, commands.Basic.Deliver)
    assert (said.consumer_tag, said.delivery_tag, said.redelivered) == (consumer_tag.decode(), 77, False)
    assert (said.exchange, said.routing_key) == (exchange.decode(), key.decode())


@pytest.mark.parametrize("channel", CHANNELS)
@pytest.mark.parametrize("tag", TAGS)
def test_numbers_of_a_deliver(channel: int, tag: int) -> None:
    """AMQP 0-9-1 §4.2.5.1: big-endian and unsigned."""
    said = the_only(delivered(channel, b"c", tag, make_tail(b"e", b"k")), channel)
    assert said.delivery_tag == tag


def test_deliver_is_octet_by_octet_what_pamqp_writes() -> None:
    expected = frame.marshal(commands.Basic.Deliver("ctag", 9, False, "amq.topic", "a.b"), 3)
    assert delivered(3, b"ctag", 9, make_tail(b"amq.topic", b"a.b")) == expected


def test_the_first_octet_of_the_tail_is_redelivered() -> None:
    tail = make_tail(b"e", b"k")
    assert the_only(delivered(1, b"c", 1, b"\x01" + tail[1:]), 1).redelivered is True


@pytest.mark.parametrize("redelivered", [True, False])
@pytest.mark.parametrize("count", [0, 1, 255, 65536, 0x7FFFFFFF])
@pytest.mark.parametrize("tag", TAGS)
def test_get_ok(redelivered: bool, count: int, tag: int) -> None:
    for name in PLAIN_NAMES:
        out = BytesWriter()
        writer.write_get_ok(out, 300, tag, redelivered, make_tail(name, b"key"), count)
        expected = commands.Basic.GetOk(tag, redelivered, name.decode(), "key", count)
        assert out.getvalue() == frame.marshal(expected, 300)


@pytest.mark.parametrize("channel", CHANNELS)
def test_return(channel: int) -> None:
    for name in PLAIN_NAMES:
        out = BytesWriter()
        writer.write_return(out, channel, 312, b"NO_ROUTE", make_tail(b"e", name))
        assert out.getvalue() == frame.marshal(commands.Basic.Return(312, "NO_ROUTE", "e", name.decode()), channel)


@pytest.mark.parametrize("channel", CHANNELS)
@pytest.mark.parametrize("tag", TAGS)
@pytest.mark.parametrize("multiple", [True, False])
def test_ack_and_nack(channel: int, tag: int, multiple: bool) -> None:
    out = BytesWriter()
    writer.write_ack(out, channel, tag, multiple)
    assert out.getvalue() == frame.marshal(commands.Basic.Ack(tag, multiple), channel)
    out = BytesWriter()
    writer.write_nack(out, channel, tag, multiple)
    assert out.getvalue() == frame.marshal(commands.Basic.Nack(tag, multiple, False), channel)


def test_the_heartbeat() -> None:
    """AMQP 0-9-1 §4.2.7."""
    assert bytes.fromhex("08 0000 00000000 ce") == writer.HEARTBEAT


def test_writers_append() -> None:
    out = BytesWriter()
    for tag in (1, 2, 3):
        writer.write_ack(out, 1, tag, False)
    assert [value.delivery_tag for _, value in unmarshalled(out.getvalue())] == [1, 2, 3]


# contents


@pytest.mark.parametrize("size", [0, 1, 10, 100, 101, 1000])
@pytest.mark.parametrize("payload_max", [1, 10, 100, 1000])
def test_a_content_is_cut_to_its_frames(size: int, payload_max: int) -> None:
    """AMQP 0-9-1 §4.2.6.2: no body frame for an empty body; the parts are the whole."""
    body = bytes(range(256)) * 4
    raw = properties.encode(Properties(message_id="m", headers=table.make({"a": 1})))
    data, header_size = writer.make_content(9, raw, body[:size], payload_max)
    head, *parts = unmarshalled(data)
    assert isinstance(head[1], header.ContentHeader)
    assert head[1].body_size == size
    assert head[1].properties.message_id == "m"
    assert split_frames(data[:header_size])[0].kind == 2
    assert all(isinstance(part, pamqp_body.ContentBody) for _, part in parts)
    assert b"".join(part.value for _, part in parts) == body[:size]
    assert all(0 < len(part.value) <= payload_max for _, part in parts)
    assert {channel for channel, _ in [head, *parts]} == {9}


@pytest.mark.parametrize("channel", CHANNELS)
@pytest.mark.parametrize("size", [0, 5, 5000])
def test_a_content_gets_its_consumers_channel(channel: int, size: int) -> None:
    """All frames of it, wherever it was published."""
    message = make_message(b"x" * size, channel=77, payload_max=1000)
    out = BytesWriter()
    out.write(b"before")
    writer.write_content(out, message, channel, 131064)
    frames = split_frames(out.getvalue()[6:])
    assert {each.channel for each in frames} == {channel}
    assert b"".join(each.payload for each in frames[1:]) == b"x" * size
    assert {each.channel for each in split_frames(message.content)} == {77}, (
        "the message itself is shared, and stays as it is"
    )


@pytest.mark.parametrize("payload_max", [1, 7, 999, 1000, 1001, 5000, 0])
def test_a_content_is_cut_anew_for_smaller_frames(payload_max: int) -> None:
    body = random.Random(1).randbytes(5000)
    message = make_message(body, payload_max=1000)
    out = BytesWriter()
    writer.write_content(out, message, 3, payload_max)
    head, *parts = split_frames(out.getvalue())
    assert head.payload == split_frames(message.content)[0].payload
    assert b"".join(part.payload for part in parts) == body
    assert all(len(part.payload) <= (payload_max or 5000) for part in parts)
    if payload_max == 0 or payload_max >= 1000:
        assert [len(part.payload) for part in parts] == [1000] * 5, "frames that fit are left as they came"


def test_the_body_without_its_frames() -> None:
    for size in (0, 1, 1000, 5000):
        body = random.Random(size).randbytes(size)
        assert writer.body_of(make_message(body, payload_max=999)) == body


@pytest.mark.parametrize("payload_max", [0, 1, 999, 1000, 1001, 4088])
@pytest.mark.parametrize("size", [1, 500, 5000, 1 << 20])
def test_frames_in_parts_are_the_same_frames(size: int, payload_max: int) -> None:
    """As the whole content has them, but that each frame is cut for itself where smaller ones are asked for."""
    body = random.Random(size).randbytes(3500)
    message = make_message(body, channel=300, payload_max=1000)
    at = 0
    parts = []
    while at < len(message.content):
        out = BytesWriter()
        at = writer.write_frames(out, message, at, size, 7, payload_max)
        parts.append(out.getvalue())
    assert all(len(part) < size + 9100 for part in parts), "a frame more, cut to single bytes"
    found = split_frames(b"".join(parts))
    assert {frame.channel for frame in found} == {7}
    assert [frame.kind for frame in found] == [2] + [3] * (len(found) - 1)
    assert found[0].payload == message.content[7 : message.header_size - 1]
    assert b"".join(frame.payload for frame in found[1:]) == body
    assert max(len(frame.payload) for frame in found[1:]) == min(payload_max or 1000, 1000)
