"""broker/store/segment.py: written once, found again through its index. docs/durability-format.md, "Layout"."""

from __future__ import annotations

import struct

import pytest

from broker.store.batch import BLOCK, LARGE, Batch, BatchLocation, location_at, records
from broker.store.batch_writer import BatchWriter
from broker.store.read_request import index_location
from broker.store.records import HEAD_SIZE, MESSAGE, TAIL_SIZE_AT, TRANSIENT
from broker.store.segment import (
    INDEX,
    TRAILER,
    decode_extents,
    encode_extents,
    number_of,
    read_extents,
    read_stored,
    segment_name,
)
from broker.store.segment_extent import Extent
from broker.store.wal_file import Found, Scan, read_file_header
from tests.support.faulty_disk import FaultyDisk
from tests.support.store import Running


def extent(first: int, count: int, kind: int, location: BatchLocation, start: int, end: int) -> Extent:
    made = Extent(first, location, start)
    made.count, made.kind, made.end = count, kind, end
    return made


def test_names() -> None:
    assert segment_name(0xAB) == "00000000000000ab.seg"
    assert number_of("00000000000000ab.seg") == 0xAB
    assert number_of("00000000000000ab.tmp") == 0xAB
    assert [
        number_of(name) for name in ("ab.seg", "00000000000000AB.seg", "00000000000000ab.wal", "00000000000000ab")
    ] == [None] * 4


def test_extents_are_what_was_encoded() -> None:
    location, other = location_at(9, 8192, 4096), location_at(9, 1 << 40, (1 << 32) - 4096)
    extents = [extent(5, 3, MESSAGE, location, 0, 100), extent(1 << 50, 1, TRANSIENT, other, 100, (1 << 32) - 1)]
    found = decode_extents(9, encode_extents(extents))
    values = [
        (each.first, each.count, each.kind, each.location.offset, each.location.size, each.start, each.end)
        for each in found
    ]
    assert values == [
        (5, 3, MESSAGE, 8192, 4096, 0, 100),
        (1 << 50, 1, TRANSIENT, 1 << 40, (1 << 32) - 4096, 100, (1 << 32) - 1),
    ]
    assert {each.location.generation for each in found} == {9}


def test_a_segment_tells_where_its_index_is() -> None:
    """From the end of the file to the index, from there to every record, without the manifest."""
    running = Running()
    first, second = running.declare(), running.declare()
    for _ in range(8):
        running.fill(first, 1, 600)
        running.fill(second, 1, 600)
    running.rest()
    disk = running.disk
    assert isinstance(disk, FaultyDisk)
    name = running.files("segments")[-1]
    number = number_of(name)
    assert number is not None
    file = disk.open("log.open", f"/data/segments/{name}")
    header = read_file_header(file, number)
    assert header is not None
    batches = [each for each in Scan(file, header) if isinstance(each, Found)]
    assert sum(each.header.size() for each in batches) + 2 * BLOCK == file.size("log.read")
    ((_, log_id, kind, body),) = records(batches[-1].header, batches[-1].data)
    assert (log_id, kind) == (0, TRAILER)
    start, end = struct.unpack(">QQ", body)
    assert end == file.size("log.read") - BLOCK
    index = [each for each in batches if start <= each.offset < end]
    assert {record[2] for each in index for record in records(each.header, each.data)} == {INDEX}
    for log in (first, second):
        for segment_extent in log.extents.segments:
            if segment_extent.segment.number == number:
                found = read_extents(file, index_location(segment_extent), log.number, segment_extent.first)
                assert found
                assert sum(each.count for each in found) == segment_extent.count
    assert read_extents(file, index_location(first.extents.segments[-1]), first.number, 12345) is None


def test_the_index_is_read_when_it_is_needed_and_goes_with_the_segment_extent() -> None:
    running = Running()
    log = running.declare()
    running.fill(log, 24)
    running.rest()
    assert len(log.extents.segments) > 3
    assert all(segment_extent.extents is None for segment_extent in log.extents.segments)
    running.read(log, 0, 1)
    assert [segment_extent.extents is not None for segment_extent in log.extents.segments] == [True] + [False] * (
        len(log.extents.segments) - 1
    )
    count = len(log.extents.segments)
    running.settle(log, 0, int(log.extents.segments[0].last))
    assert len(log.extents.segments) == count - 1


TAIL = b"the end of the basic.deliver"


def message(content: bytes) -> bytes:
    """The body of a MESSAGE record: position, head, content."""
    return (
        bytes(8)
        + bytes(TAIL_SIZE_AT)
        + len(TAIL).to_bytes(2, "big")
        + bytes(HEAD_SIZE - TAIL_SIZE_AT - 2)
        + TAIL
        + content
    )


def stored(*bodies: bytes, kind: int = MESSAGE) -> tuple[FaultyDisk, Batch]:
    """A file `/f` with one batch of these records."""
    writer = BatchWriter(1)
    for body in bodies:
        writer.append(5, kind, body)
    batch = writer.take_batches()[0]
    disk = FaultyDisk()
    disk.create("wal.create", "/f").write("wal.write", BLOCK, batch.seal(9, 77))
    batch.location.generation, batch.location.offset, batch.location.size = 9, BLOCK, batch.size()
    return disk, batch


@pytest.mark.parametrize("before", [0, 1, 200])
def test_a_large_content_at_the_end_of_a_batch_is_read_to_where_it_stays(before: int) -> None:
    """Rule: nobody copies it, which holds the interpreter for 20 ms with 32 MiB."""
    content = bytes(LARGE) + b"last"
    disk, batch = stored(*[message(b"x" * 5000)] * before, message(content))
    found = read_stored(disk.open("log.open", "/f"), batch.location)
    assert found is not None
    assert found.content == content
    assert (found.data + content).ljust(batch.size(), b"\0") == b"".join(batch.seal(9, 77))
    assert found.size() == len(found.data) + len(content)


@pytest.mark.parametrize(
    "bodies", [[b"x" * 5000] * 200, [b"x" * (LARGE // 2)] * 3, [bytes(LARGE + 5000)]], ids=["many", "no", "short"]
)
def test_other_batches_are_read_as_they_are(bodies: list[bytes]) -> None:
    kind = 9 if len(bodies) == 1 else MESSAGE
    disk, batch = stored(*map(message, bodies), kind=kind)
    found = read_stored(disk.open("log.open", "/f"), batch.location)
    assert found is not None
    assert found.content is None
    assert found.data == b"".join(batch.seal(9, 77))


@pytest.mark.parametrize("at", [0, 33, 50, 60, 64, 77, 80 + TAIL_SIZE_AT, 100, 5000, LARGE, LARGE + 100])
def test_nothing_of_a_large_batch_is_believed_that_is_damaged(at: int) -> None:
    content = bytes(LARGE) + b"last"
    disk, batch = stored(message(content))
    file = disk.open("log.open", "/f")
    byte = file.read("log.read", BLOCK + at, 1)
    file.write("wal.write", BLOCK + at, [bytes([byte[0] ^ 4])])
    assert read_stored(file, batch.location) is None
    file.write("wal.write", BLOCK + at, [byte])
    assert read_stored(file, batch.location) is not None
    file.truncate("wal.allocate", BLOCK + LARGE // 2)
    assert read_stored(file, batch.location) is None
