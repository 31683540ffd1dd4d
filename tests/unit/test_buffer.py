"""Room of a size that is about known (broker/buffer.py)."""

from __future__ import annotations

import pytest

from broker.buffer import Buffer


@pytest.mark.parametrize("room", [0, 5, 11, 12, 13, 100, 1 << 20, 1 << 40])
def test_what_was_written_and_nothing_else(room: int) -> None:
    """Less than there is room for, exactly so much, and more; what is announced beyond all measure is not made room
    for."""
    buffer = Buffer(room)
    for part in (b"hello", b" ", b"", b"world!"):
        buffer.write(part)
    assert buffer.size == 12
    assert buffer.take() == b"hello world!"


def test_it_grows() -> None:
    buffer = Buffer(10)
    for number in range(1000):
        buffer.write(b"%04d" % number)
    assert buffer.take() == b"".join(b"%04d" % number for number in range(1000))


@pytest.mark.parametrize(("size", "there"), [(10, 10), (10, 100), (10, 7), (1, 0), (0, 5)])
def test_it_is_filled_in_steps_without_a_copy(size: int, there: int) -> None:
    data = bytes(range(there))
    steps: list[int] = []

    def source(part: memoryview, at: int) -> int:
        steps.append(len(part))
        count = min(len(part), there - at)
        part[:count] = data[at : at + count]
        return count

    buffer = Buffer(size)
    buffer.fill(size, 3, source)
    assert buffer.take() == data[:size]
    assert max(steps, default=0) <= 3
