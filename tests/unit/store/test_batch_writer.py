"""broker/store/batch_writer.py: records are numbered, and put together to batches of a bounded size."""

from __future__ import annotations

import random

import pytest

from broker.store.batch import BLOCK, is_whole, read_header, records
from broker.store.batch_writer import BODY_SIZE_MAX, PIECE_SIZE_MIN, BatchWriter


def decoded(data: bytes) -> list[tuple[int, int, int, bytes]]:
    header = read_header(data)
    assert header is not None
    assert is_whole(header, data)
    return list(records(header, data))


def test_head_and_body_are_one_body_wherever_they_are_cut() -> None:
    """Large parts are not copied; what is written is the same."""
    body = random.Random(1).randbytes(20_000)
    for cut in (0, 1, 100, PIECE_SIZE_MIN - 1, PIECE_SIZE_MIN, 12_000, 19_999, 20_000):
        writer = BatchWriter(1)
        writer.append(1, 2, b"before")
        writer.append(3, 4, body[:cut], body[cut:])
        writer.append(5, 6, b"", b"behind")
        data = b"".join(writer.take_batch().seal(5, 6))
        assert decoded(data) == [(1, 1, 2, b"before"), (2, 3, 4, body), (3, 5, 6, b"behind")]


def test_large_bodies_are_not_copied() -> None:
    body = bytes(PIECE_SIZE_MIN)
    writer = BatchWriter(1)
    writer.append(1, 1, b"head", body)
    assert any(piece is body for piece in writer.take_batch().pieces)


def test_records_are_numbered_from_batch_to_batch() -> None:
    writer = BatchWriter(100)
    assert [writer.append(1, 1, b"a") for _ in range(3)] == [100, 101, 102]
    assert (writer.record_count, writer.size()) == (3, 42)
    batch = writer.take_batch()
    assert (batch.first_sequence, batch.record_count, batch.through(), batch.payload_size) == (100, 3, 102, 42)
    assert writer.size() == 0
    assert writer.append(1, 1, b"a") == 103
    empty = BatchWriter(7).take_batch()
    assert (empty.first_sequence, empty.record_count, empty.size(), empty.through()) == (7, 0, BLOCK, 6)


def test_a_large_group_is_several_batches_and_says_so() -> None:
    """broker/store/batch_writer.py: what has to be read to get at one record stays small, whatever a group holds."""
    writer = BatchWriter(10, 1000)
    locations = []
    for size in (400, 400, 400, 3000, 10, 10):
        locations.append(writer.location)
        writer.append(1, 1, b"", bytes(size))
    assert (writer.record_count, writer.size(), writer.group_size()) == (6, 46, 4298)
    assert writer.group_location() is locations[0]
    batches = writer.take_batches()
    assert [batch.record_count for batch in batches] == [3, 1, 2]
    assert [batch.location for batch in batches] == [locations[0], locations[3], locations[4]]
    heads = [read_header(b"".join(batch.seal(1, 2))) for batch in batches]
    told = [
        (head.first_sequence, head.group_offset, head.group_first(), head.more) for head in heads if head is not None
    ]
    assert told == [(10, 0, 10, True), (13, 3, 10, True), (14, 4, 10, False)]
    assert (writer.record_count, writer.group_size()) == (0, 0)
    writer.append(1, 1, b"next")
    following = writer.take_batch()
    assert (following.first_sequence, following.group_offset, following.flags) == (16, 0, 0)


def test_a_group_that_ends_with_a_full_batch_has_no_empty_one_behind_it() -> None:
    writer = BatchWriter(1, 1000)
    writer.append(1, 1, bytes(2000))
    assert [batch.record_count for batch in writer.take_batches()] == [1]


@pytest.mark.parametrize("size", [BODY_SIZE_MAX + 1, 1 << 40])
def test_a_record_has_a_largest_size(size: int) -> None:
    """The length of a record is told in four bytes, which readers take for a signed number."""
    with pytest.raises(ValueError, match=f"a record of {size} bytes"):
        BatchWriter(1).begin(1, 1, size)
