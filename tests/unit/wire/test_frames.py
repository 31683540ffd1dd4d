"""Bytes to frames (broker/wire/frames.py): whole frames, an error, or a wait for more; cut however the network
likes."""

from __future__ import annotations

import random

import pytest

from broker.errors import FRAME_ERROR, ConnectionException
from broker.wire.frames import FrameReader
from tests.support.wire import frame

PAYLOAD_MAX = 4096


def read_all(reader: FrameReader) -> list[tuple[int, int, bytes]]:
    """Every frame that is there."""
    frames = []
    while reader.next():
        frames.append((int(reader.frame_type), int(reader.channel), reader.data[reader.start : reader.end]))
    return frames


def fed(data: bytes, sizes: list[int]) -> list[tuple[int, int, bytes]]:
    """The frames that come out when the bytes come in reads of these sizes, the rest last."""
    reader = FrameReader(PAYLOAD_MAX)
    frames = []
    position = 0
    for size in [*sizes, len(data)]:
        reader.feed(data[position : position + size])
        frames += read_all(reader)
        position += size
    return frames


def test_a_frame_has_type_channel_and_payload() -> None:
    """AMQP 0-9-1 §4.2.3."""
    assert fed(frame(1, 7, b"abc"), []) == [(1, 7, b"abc")]


@pytest.mark.parametrize("channel", [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF])
def test_channel_numbers_are_unsigned(channel: int) -> None:
    assert fed(frame(1, channel, b""), []) == [(1, channel, b"")]


@pytest.mark.parametrize("kind", [0, 1, 2, 3, 8, 127, 128, 255])
def test_any_type_is_read(kind: int) -> None:
    """What a type means is not the reader's business."""
    assert fed(frame(kind, 1, b"x"), []) == [(kind, 1, b"x")]


def test_several_frames_in_one_read() -> None:
    data = frame(1, 1, b"a") + frame(8, 0, b"") + frame(3, 2, b"bc")
    assert fed(data, []) == [(1, 1, b"a"), (8, 0, b""), (3, 2, b"bc")]


def test_cut_at_every_offset() -> None:
    data = frame(1, 1, b"abc") + frame(2, 1, b"") + frame(3, 1, bytes(range(40)))
    whole = fed(data, [])
    for offset in range(len(data)):
        assert fed(data, [offset]) == whole, offset


def test_octet_by_octet() -> None:
    data = frame(1, 1, b"abc") + frame(8, 0, b"") + frame(3, 1, b"z" * 300)
    assert fed(data, [1] * len(data)) == fed(data, [])


@pytest.mark.parametrize("seed", range(100))
def test_random_cuts(seed: int) -> None:
    chance = random.Random(seed)
    expected = [
        (chance.randrange(256), chance.randrange(65536), chance.randbytes(chance.choice((0, 1, 7, 100, 4096))))
        for _ in range(20)
    ]
    data = b"".join(frame(*each) for each in expected)
    sizes: list[int] = []
    while sum(sizes) < len(data):
        sizes.append(chance.choice((0, 1, 2, 6, 7, 8, 9, 50, 1000, 5000)))
    assert fed(data, sizes[:-1]) == expected, f"seed {seed}"


def test_the_largest_payload_is_taken() -> None:
    data = frame(3, 1, b"x" * PAYLOAD_MAX)
    assert len(fed(data, [])[0][2]) == PAYLOAD_MAX
    assert len(fed(data, [1000])[0][2]) == PAYLOAD_MAX


@pytest.mark.parametrize("size", [PAYLOAD_MAX + 1, 1 << 20, (1 << 31) - 1, 1 << 31, (1 << 32) - 1])
@pytest.mark.parametrize("cuts", [[], [1], [3], [6], [7], [1] * 6])
def test_a_larger_one_is_refused_by_its_header(size: int, cuts: list[int]) -> None:
    """AMQP 0-9-1 §4.2.3, RabbitMQ's security advisories: 501 before any of it is kept, and however the seven octets
    arrive."""
    with pytest.raises(ConnectionException) as raised:
        fed(b"\x03\x00\x01" + size.to_bytes(4, "big"), cuts)
    assert raised.value.code == FRAME_ERROR
    assert f"frame_too_large,{size}," in raised.value.text


def test_zero_is_no_limit() -> None:
    reader = FrameReader(0)
    reader.feed(frame(3, 1, b"x" * 1_000_000))
    assert [len(payload) for _, _, payload in read_all(reader)] == [1_000_000]


@pytest.mark.parametrize("end", [0x00, 0xCD, 0xCF])
@pytest.mark.parametrize("cuts", [[], [5], [10], [1] * 12])
def test_a_wrong_end_is_refused(end: int, cuts: list[int]) -> None:
    """AMQP 0-9-1 §4.2.3: frame-end."""
    with pytest.raises(ConnectionException) as raised:
        fed(frame(1, 1, b"abcd", end=end), cuts)
    assert raised.value.code == FRAME_ERROR


def test_frames_before_a_bad_one_are_given_out() -> None:
    reader = FrameReader(PAYLOAD_MAX)
    reader.feed(frame(1, 1, b"good") + frame(1, 1, b"bad", end=0))
    assert reader.next()
    with pytest.raises(ConnectionException):
        reader.next()


def test_what_is_kept_of_an_unfinished_frame_is_counted() -> None:
    reader = FrameReader(PAYLOAD_MAX)
    data = frame(3, 1, b"x" * 100)
    reader.feed(data[:50])
    assert not reader.next()
    assert reader.waiting == 50
    reader.feed(data[50:90])
    assert not reader.next()
    assert reader.waiting == 90
    reader.feed(data[90:])
    assert reader.next()
    assert not reader.next()
    assert reader.waiting == 0


def test_frames_can_be_skipped() -> None:
    """Whoever has looked ahead in the same read goes on behind what it took."""
    reader = FrameReader(PAYLOAD_MAX)
    second = frame(2, 1, b"taken")
    reader.feed(frame(1, 1, b"a") + second + frame(3, 1, b"c"))
    assert reader.next()
    ahead = reader.end + 1
    assert reader.data[ahead : ahead + len(second)] == second
    assert ahead + len(second) <= reader.limit
    reader.skip_to(ahead + len(second))
    assert read_all(reader) == [(3, 1, b"c")]


def test_looking_ahead_ends_with_the_frame_that_straddled_two_reads() -> None:
    """A joined frame stands alone: what follows it lies in the other read."""
    reader = FrameReader(PAYLOAD_MAX)
    data = frame(1, 1, b"straddles") + frame(2, 1, b"next")
    reader.feed(data[:5])
    assert not reader.next()
    reader.feed(data[5:])
    assert reader.next()
    assert reader.limit == reader.end + 1
    assert read_all(reader) == [(2, 1, b"next")]


def test_an_empty_read_is_nothing() -> None:
    reader = FrameReader(PAYLOAD_MAX)
    reader.feed(b"")
    assert not reader.next()
    reader.feed(frame(1, 1, b"a"))
    assert read_all(reader) == [(1, 1, b"a")]


@pytest.mark.parametrize("cut", range(40))
def test_the_rest_is_what_was_not_taken(cut: int) -> None:
    """Whoever takes a connection over goes on with the bytes behind the last frame taken, wherever reads have ended."""
    whole = b"".join(b"\x08\x00\x00\x00\x00\x00" + bytes([size]) + bytes(size) + b"\xce" for size in (3, 5, 7, 4))
    reader = FrameReader(0)
    reader.feed(whole[:cut])
    taken = 0
    while taken < 2 and reader.next():
        taken += 1
    if cut < 24:
        assert not reader.next()
        reader.feed(whole[cut:40])
        while taken < 2 and reader.next():
            taken += 1
        assert reader.rest() == whole[24:40]
    else:
        assert reader.rest() == whole[24:cut]
    assert reader.rest() == b""


@pytest.mark.parametrize("sizes", [[], [1] * 40, [3], [7], [10, 3]])
@pytest.mark.parametrize("wrong", [frame(1, 1, b"", size=PAYLOAD_MAX + 1), frame(1, 1, b"abc", end=0)])
def test_behind_a_bad_one_nothing_of_it_is_left(wrong: bytes, sizes: list[int]) -> None:
    """Whoever goes on feeding is out of step with the frames, but never inside the reader's own remains."""
    reader = FrameReader(PAYLOAD_MAX)
    data = frame(8, 0, b"") + wrong
    position = failed = 0
    for size in [*sizes, len(data)]:
        try:
            reader.feed(data[position : position + size])
            read_all(reader)
        except ConnectionException:
            failed += 1
            assert (reader.waiting, reader.rest()) == (0, b"")
            break
        position += size
    assert failed == 1
    reader.feed(frame(1, 7, b"abc"))
    assert read_all(reader) == [(1, 7, b"abc")]
