"""A content that comes in many frames (broker/protocol/content.py): no time or memory is spent per frame, and never
much at once."""

from __future__ import annotations

import random

import pytest

from broker.protocol.content import Content
from tests.support.wire import body, header, split_frames

PAYLOAD_MIN = 4096 - 8
"""AMQP 0-9-1 §4.2.3: frame-min-size is 4096; every client takes frames of that size."""


def received(sizes: list[int], channel: int = 3) -> tuple[Content, bytes]:
    """A content that has come in frames of these sizes, and its body."""
    text = random.Random(len(sizes)).randbytes(sum(sizes))
    content = Content(header(channel, len(text)), len(text))
    at = 0
    for size in sizes:
        read = b"before" + body(channel, text[at : at + size]) + b"behind"
        content.add(read, 6 + 7, 6 + 7 + size)
        at += size
    return content, text


def check(content: Content, text: bytes, channel: int = 3) -> list[int]:
    """It is whole and right; the sizes of its frames."""
    assert content.missing == 0
    joined = content.joined()
    frames = split_frames(joined)
    assert joined[: content.header_size] == header(channel, len(text))
    assert [frame.kind for frame in frames] == [2] + [3] * (len(frames) - 1)
    assert {frame.channel for frame in frames} == {channel}
    assert b"".join(frame.payload for frame in frames[1:]) == text
    sizes = [len(frame.payload) for frame in frames[1:]]
    assert content.payload_max == max(sizes)
    return sizes


def test_a_few_frames_stay_as_they_came() -> None:
    sizes = [1, 2, 3000, 1, 131_064, 7]
    content, text = received(sizes)
    assert content.received == sum(sizes) - 7
    assert check(content, text) == sizes


@pytest.mark.parametrize("size", [1, 2, 100, 2047])
def test_many_small_frames_become_few(size: int) -> None:
    """A body of 2 MiB in frames of one byte took 120 MiB and stood still for 140 ms."""
    content, text = received([size] * (200_000 // size))
    assert len(content._frames) <= 17 + 200_000 // 2048
    sizes = check(content, text)
    assert max(sizes) <= PAYLOAD_MIN
    assert len(sizes) <= 17 + 200_000 // 2044


def test_what_is_put_together_ends_where_a_larger_frame_comes() -> None:
    sizes = [1] * 20 + [5000] + [1] * 5 + [2048] + [10]
    content, text = received(sizes)
    assert check(content, text) == [1] * 15 + [5, 5000, 5, 2048, 10]


@pytest.mark.parametrize("frame", [1000, 4088, 50_000, 131_064])
def test_a_large_one_is_written_to_its_place_as_it_comes(frame: int) -> None:
    """Joining 128 MiB took 80 ms."""
    whole = 3 << 20
    content, text = received([frame] * (whole // frame) + [whole % frame])
    assert content._frames == []
    assert content._whole is not None
    assert check(content, text)


def test_one_that_begins_with_large_frames_and_ends_with_small_ones() -> None:
    """More frames than there was room for."""
    content, text = received([131_064] * 17 + [2048] * 3000)
    assert content._whole is not None
    check(content, text)


@pytest.mark.parametrize("seed", range(30))
def test_frames_of_any_sizes(seed: int) -> None:
    chance = random.Random(seed)
    choices = chance.sample([1, 2, 50, 2047, 2048, 4088, 4089, 30_000, 131_064], 3)
    content, text = received([chance.choice(choices) for _ in range(chance.choice([3, 15, 16, 17, 40, 400]))])
    check(content, text)
