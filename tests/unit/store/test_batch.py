"""broker/store/batch.py: the byte layout of a batch, encoded and decoded; sizes are checked before anything is taken
for granted."""

from __future__ import annotations

import random
import struct

import pytest
import xxhash

from broker.store.batch import BLOCK, HEADER_SIZE, is_whole, read_header, records, whole_size
from broker.store.batch_writer import PIECE_SIZE_MIN, UNDIVIDED, BatchWriter

Record = tuple[int, int, bytes]


def sealed(appended: list[Record], first: int = 1, generation: int = 5, salt: int = 6) -> bytes:
    writer = BatchWriter(first, UNDIVIDED)
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
