"""broker/store/batch.py: the byte layout of a batch, encoded and decoded; sizes are checked before anything is taken
for granted."""

from __future__ import annotations

import random
import struct

import pytest
import xxhash

from broker.store.batch import (
    BLOCK,
    HEADER_SIZE,
    PIECE_SIZE_MIN,
    UNDIVIDED,
    BatchHost,
    BatchWriter,
    Listener,
    is_whole,
    read_header,
    records,
    whole_size,
)
from broker.turn import Turn
from tests.support.fake_clock import FakeClock

Record = tuple[int, int, bytes]


def sealed(appended: list[Record], first: int = 1, generation: int = 5, salt: int = 6) -> bytes:
    writer = BatchWriter(first, None, UNDIVIDED)
    for log_id, kind, body in appended:
        writer.append(log_id, kind, body)
    return b"".join(writer.take_batch().seal(generation, salt))


def reference(appended: list[Record], first: int, generation: int, salt: int) -> bytes:
    """The drawing at the top of batch.py, by struct."""
    payload = b"".join(struct.pack(">QIB", log_id, len(body), kind) + body for log_id, kind, body in appended)
    head = struct.pack(">4sHHQQQQII", b"LEVB", 1, 0, generation, salt, first, len(payload), len(appended), 0)
    data = head + xxhash.xxh3_64_digest(head + payload) + payload
    return data + bytes(-len(data) % 4096)


def decoded(data: bytes) -> list[tuple[int, int, int, bytes]]:
    header = read_header(data)
    assert header is not None
    assert is_whole(header, data)
    return list(records(header, data))


SIZES = (0, 1, 13, 500, 4027, 4028, 4096, PIECE_SIZE_MIN - 1, PIECE_SIZE_MIN, 70_000, 300_000)


@pytest.mark.parametrize("seed", range(30))
def test_a_batch_is_as_drawn_and_reads_back(seed: int) -> None:
    chance = random.Random(seed)
    appended = [
        (
            chance.getrandbits(chance.choice((1, 31, 32, 63))),
            chance.randrange(256),
            chance.randbytes(chance.choice(SIZES)),
        )
        for _ in range(chance.choice((0, 1, 2, 7, 40)))
    ]
    first, generation, salt = chance.getrandbits(62), chance.getrandbits(63), chance.getrandbits(63)
    data = sealed(appended, first, generation, salt)
    assert data == reference(appended, first, generation, salt)
    assert decoded(data) == [(first + at, *record) for at, record in enumerate(appended)]
    header = read_header(data)
    assert header is not None
    assert (header.generation, header.salt, header.first_sequence, header.record_count) == (
        generation,
        salt,
        first,
        len(appended),
    )
    assert header.size() == len(data) == whole_size(header.payload_size)


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


class Host(BatchHost):
    def __init__(self) -> None:
        self.syncs = 0

    def sync(self) -> None:
        self.syncs += 1


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
    """broker/store/batch.py: what has to be read to get at one record stays small, whatever a group holds."""
    writer = BatchWriter(10, None, 1000)
    locations = []
    for size in (400, 400, 400, 3000, 10, 10):
        locations.append(writer.location)
        writer.append(1, 1, b"", bytes(size))
    assert (writer.record_count, writer.size(), writer.group_size()) == (6, 46, 4298)
    assert writer.group_location() is locations[0]
    group = writer.take()
    assert [batch.record_count for batch in group.batches] == [3, 1, 2]
    assert [batch.location for batch in group.batches] == [locations[0], locations[3], locations[4]]
    heads = [read_header(b"".join(batch.seal(1, 2))) for batch in group.batches]
    told = [
        (head.first_sequence, head.group_offset, head.group_first(), head.more) for head in heads if head is not None
    ]
    assert told == [(10, 0, 10, True), (13, 3, 10, True), (14, 4, 10, False)]
    assert (group.first_sequence(), group.through(), group.size()) == (10, 15, 3 * BLOCK)
    assert (writer.group_size(), writer.unwritten()) == (0, 4298)
    writer.append(1, 1, b"next")
    assert writer.unwritten() == 4298 + 17
    writer.committed()
    assert (writer.durable_through, writer.durable_group, writer.unwritten()) == (15, 1, 17)
    (following,) = writer.take().batches
    assert (following.first_sequence, following.group_offset, following.flags) == (16, 0, 0)


def test_a_group_that_ends_with_a_full_batch_has_no_empty_one_behind_it() -> None:
    writer = BatchWriter(1, None, 1000)
    writer.append(1, 1, bytes(2000))
    assert [batch.record_count for batch in writer.take().batches] == [1]


def test_the_turn_syncs_once_for_each_batch_that_was_begun() -> None:
    """broker/turn.py: whoever marks itself does so once."""
    host = Host()
    writer = BatchWriter(1, host)
    writer.append(1, 1, b"before there was a turn")
    turn = writer.turn = Turn(FakeClock())
    turn.run()
    assert host.syncs == 0
    writer.take()
    for _ in range(3):
        writer.append(1, 1, b"a")
    turn.run()
    assert host.syncs == 1
    writer.append(1, 1, b"a")
    turn.run()
    assert host.syncs == 1, "the host has not taken the batch yet and knows that it must"
    writer.take()
    writer.append(1, 1, b"a")
    turn.run()
    assert host.syncs == 2


def test_listeners_belong_to_the_batch_that_was_open() -> None:
    writer = BatchWriter(1)
    first, second = Listener(), Listener()
    writer.listen(first)
    writer.listen(second)
    assert writer.take().listeners == [first, second]
    assert writer.take().listeners == []


def test_a_damaged_batch_is_not_whole() -> None:
    """Every bit of header and payload is covered; of the padding none."""
    data = sealed([(1, 2, b"three"), (4, 5, b"six")])
    end = HEADER_SIZE + 2 * 13 + 8
    for at in range(end):
        for bit in range(8):
            bad = data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]
            header = read_header(bad)
            assert header is None or not is_whole(header, bad), (at, bit)
    assert decoded(data[:end] + b"\xff" * (len(data) - end)) == decoded(data)


def test_a_batch_that_is_cut_off_is_not_whole() -> None:
    data = sealed([(1, 2, bytes(5000))])
    end = HEADER_SIZE + 13 + 5000
    for size in range(0, end, 7):
        header = read_header(data[:size])
        assert header is None or not is_whole(header, data[:size])
    header = read_header(data)
    assert header is not None
    assert is_whole(header, data[:end])


def forged(payload: bytes, count: int, size: int | None = None) -> bytes:
    head = struct.pack(">4sHHQQQQII", b"LEVB", 1, 0, 5, 6, 1, len(payload) if size is None else size, count, 0)
    return head + xxhash.xxh3_64_digest(head + payload) + payload


@pytest.mark.parametrize(
    ("payload", "count"),
    [
        (b"", 1),
        (bytes(12), 1),
        (struct.pack(">QIB", 1, 1, 1), 1),
        (struct.pack(">QIB", 1, 0xFFFFFFFF, 1) + bytes(20), 1),
        (struct.pack(">QIB", 1, 0x7FFFFFFF, 1) + bytes(20), 2),
        (struct.pack(">QIB", 1, 3, 1) + bytes(4), 1),
        (struct.pack(">QIB", 1, 3, 1) + bytes(16), 1),
    ],
)
def test_records_that_do_not_fill_their_batch_are_refused_under_a_right_checksum(payload: bytes, count: int) -> None:
    """Reliability, section 3: no length is believed before it is compared with what there is."""
    data = forged(payload, count)
    header = read_header(data)
    assert header is None or not is_whole(header, data)


@pytest.mark.parametrize("size", [1 << 62, (1 << 64) - 1, 1 << 63])
def test_impossible_sizes_are_refused_in_the_header(size: int) -> None:
    assert read_header(forged(b"", 0, size)) is None


@pytest.mark.parametrize("count", [1 << 31, (1 << 32) - 1, 1000])
def test_impossible_counts_are_refused_in_the_header(count: int) -> None:
    assert read_header(forged(bytes(13), count)) is None


def test_other_bytes_are_no_header() -> None:
    chance = random.Random(3)
    assert read_header(b"") is None
    assert read_header(bytes(BLOCK)) is None
    assert all(read_header(chance.randbytes(BLOCK)) is None for _ in range(1000))
    newer = bytearray(sealed([]))
    newer[5] = 2
    assert read_header(bytes(newer)) is None
