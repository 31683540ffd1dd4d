"""Bytes waiting for one socket (broker/protocol/outbox.py): one write a turn, large contents uncopied, high water."""

from __future__ import annotations

from random import Random
from typing import Final

import pytest

from broker.protocol.outbox import HIGH_WATER, PART_SIZE, PIECE_SIZE_MIN, WHOLE_MAX, Outbox
from tests.support.fake_transport import FakeSink
from tests.support.fakes import make_message
from tests.support.wire import split_frames


def made() -> tuple[Outbox, FakeSink]:
    sink = FakeSink()
    return Outbox(sink), sink


def test_small_frames_leave_in_one_write() -> None:
    outbox, sink = made()
    for _ in range(10):
        outbox.write(b"frame")
    assert (outbox.size(), sink.writes) == (50, [])
    outbox.flush()
    assert (sink.writes, sink.take()) == ([50], b"frame" * 10)
    assert (outbox.size(), outbox.bytes_written) == (0, 50)


def test_nothing_to_write_is_no_write() -> None:
    outbox, sink = made()
    outbox.flush()
    assert sink.writes == []


def test_a_large_content_is_a_piece_of_its_own_and_the_order_is_kept() -> None:
    """Measured at 64 KiB: a copy costs more than the system call it saves."""
    outbox, sink = made()
    large = make_message(b"x" * PIECE_SIZE_MIN, channel=3)
    outbox.write(b"before")
    outbox.write_content(large, 3, 0)
    outbox.write(b"between")
    outbox.write_content(large, 3, 131064)
    outbox.write_content(make_message(b"small", channel=3), 3, 0)
    size = outbox.size()
    outbox.flush()
    assert (
        sink.take()
        == b"before" + large.content + b"between" + large.content + make_message(b"small", channel=3).content
    )
    assert [len(pieces) for pieces in sink.pieces] == [5]
    assert (size, outbox.bytes_written, outbox.size()) == (sum(sink.pieces[0]), sum(sink.pieces[0]), 0)


@pytest.mark.parametrize(("channel", "payload_max"), [(4, 0), (3, 1000)])
def test_one_that_needs_other_frames_is_copied(channel: int, payload_max: int) -> None:
    outbox, sink = made()
    large = make_message(b"x" * PIECE_SIZE_MIN, channel=3)
    outbox.write_content(large, channel, payload_max)
    outbox.flush()
    frames = split_frames(sink.take())
    assert {frame.channel for frame in frames} == {channel}
    assert b"".join(frame.payload for frame in frames[1:]) == b"x" * PIECE_SIZE_MIN


def test_room_ends_at_the_high_water() -> None:
    outbox, _ = made()
    assert outbox.room() == HIGH_WATER
    outbox.write(b"x" * 1000)
    assert outbox.room() == HIGH_WATER - 1000
    outbox.write_content(make_message(b"x" * (HIGH_WATER - 1000)), 1, 0)
    assert outbox.room() <= 0
    outbox.flush()
    assert outbox.room() == HIGH_WATER


def test_a_paused_socket_has_no_room_and_gets_nothing() -> None:
    outbox, sink = made()
    outbox.write(b"answer")
    outbox.paused = True
    assert outbox.room() == 0
    outbox.flush()
    assert (sink.writes, outbox.size()) == ([], 6)
    outbox.paused = False
    outbox.flush()
    assert sink.take() == b"answer"


def test_a_closed_socket_gets_nothing_any_more() -> None:
    outbox, sink = made()
    outbox.write(b"late")
    outbox.closed = True
    assert outbox.room() == 0
    outbox.flush()
    assert (sink.writes, outbox.size()) == ([], 0)


def test_what_is_discarded_is_gone() -> None:
    outbox, sink = made()
    outbox.write(b"small")
    outbox.write_content(make_message(b"x" * PIECE_SIZE_MIN), 1, 0)
    outbox.discard()
    assert outbox.size() == 0
    outbox.write(b"next")
    outbox.flush()
    assert sink.take() == b"next"


def test_a_burst_does_not_spoil_what_follows() -> None:
    """The buffer is renewed after a burst and reused otherwise."""
    outbox, sink = made()
    for size in (10, 1 << 20, 10, 100_000, 10):
        outbox.write(b"x" * size)
        outbox.flush()
    assert sink.writes == [10, 1 << 20, 10, 100_000, 10]


FRAME: Final = 131_064
LARGE: Final = 5 * PART_SIZE + 12_345


@pytest.mark.parametrize(("channel", "payload_max"), [(3, 0), (3, FRAME), (4, 0), (3, 4088), (4, 1000)])
def test_a_very_large_content_leaves_a_part_at_a_time(channel: int, payload_max: int) -> None:
    """The system copies 128 MiB in 10 ms, and with new frames it took 100 ms: in one turn, with everybody else
    waiting."""
    outbox, sink = made()
    text = Random(1).randbytes(LARGE)
    outbox.write(b"before")
    outbox.write_content(make_message(text, channel=3), channel, payload_max)
    outbox.write(b"behind")
    written: list[bytes] = []
    while outbox.size() > 0:
        outbox.flush()
        written.append(sink.take())
        assert 0 < len(written[-1]) < PART_SIZE + FRAME + 1000
        assert len(written) < 20
    data = b"".join(written)
    assert outbox.bytes_written == len(data)
    assert (data[:6], data[-6:]) == (b"before", b"behind")
    frames = split_frames(data[6:-6])
    assert {frame.channel for frame in frames} == {channel}
    assert b"".join(frame.payload for frame in frames[1:]) == text
    assert max(len(frame.payload) for frame in frames) <= (payload_max or FRAME)


def test_several_large_ones_keep_their_order() -> None:
    outbox, sink = made()
    sizes = [WHOLE_MAX + 1, PIECE_SIZE_MIN, 100, WHOLE_MAX, 3 * PART_SIZE, WHOLE_MAX + 5]
    messages = [make_message(bytes([number]) * size, channel=1) for number, size in enumerate(sizes)]
    for message in messages:
        outbox.write_content(message, 1, 0)
    while outbox.size() > 0:
        outbox.flush()
    assert sink.take() == b"".join(message.content for message in messages)


def test_a_full_socket_stops_it_and_the_end_does_not() -> None:
    outbox, sink = made()
    message = make_message(b"x" * LARGE, channel=1)
    outbox.write_content(message, 1, 0)
    outbox.flush()
    outbox.paused = True
    outbox.flush()
    assert len(sink.data) == PART_SIZE
    outbox.paused = False
    outbox.write(b"last")
    outbox.finish()
    assert sink.take() == message.content + b"last"
    assert outbox.size() == 0


def test_what_is_forgotten_is_forgotten_in_the_middle_of_it_too() -> None:
    outbox, sink = made()
    outbox.write_content(make_message(b"x" * LARGE, channel=1), 1, 0)
    outbox.flush()
    sink.take()
    outbox.discard()
    outbox.write(b"next")
    outbox.flush()
    assert (sink.take(), outbox.size()) == (b"next", 0)
