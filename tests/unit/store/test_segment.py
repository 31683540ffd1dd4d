"""broker/store/segment.py: written once, found again through its index. docs/durability-format.md, "Layout"."""

from __future__ import annotations

import struct

from broker.store.batch import BLOCK, Place, place_at, records
from broker.store.piece import Stretch
from broker.store.read_back import index_place
from broker.store.records import MESSAGE, TRANSIENT
from broker.store.segment import INDEX, TRAILER, decode_stretches, encode_stretches, number_of, read_stretches, segment_name
from broker.store.wal_file import Found, Scan, read_file_header
from tests.support.faulty_disk import FaultyDisk
from tests.support.store import Running


def stretch(first: int, count: int, kind: int, place: Place, start: int, end: int) -> Stretch:
    made = Stretch(first, place, start)
    made.count, made.kind, made.end = count, kind, end
    return made


def test_names() -> None:
    assert segment_name(0xAB) == "00000000000000ab.seg"
    assert number_of("00000000000000ab.seg") == 0xAB
    assert number_of("00000000000000ab.tmp") == 0xAB
    assert [number_of(name) for name in ("ab.seg", "00000000000000AB.seg", "00000000000000ab.wal", "00000000000000ab")] == [None] * 4


def test_stretches_are_what_was_encoded() -> None:
    place, other = place_at(9, 8192, 4096), place_at(9, 1 << 40, (1 << 32) - 4096)
    stretches = [stretch(5, 3, MESSAGE, place, 0, 100), stretch(1 << 50, 1, TRANSIENT, other, 100, (1 << 32) - 1)]
    found = decode_stretches(9, encode_stretches(stretches))
    values = [(each.first, each.count, each.kind, each.place.offset, each.place.size, each.start, each.end) for each in found]
    assert values == [(5, 3, MESSAGE, 8192, 4096, 0, 100), (1 << 50, 1, TRANSIENT, 1 << 40, (1 << 32) - 4096, 100, (1 << 32) - 1)]
    assert {each.place.generation for each in found} == {9}


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
        for piece in log.pieces:
            if piece.segment.number == number:
                found = read_stretches(file, index_place(piece), log.number, piece.first)
                assert found
                assert sum(each.count for each in found) == piece.count
    assert read_stretches(file, index_place(first.pieces[-1]), first.number, 12345) is None


def test_the_index_is_read_when_it_is_needed_and_goes_with_the_piece() -> None:
    running = Running()
    log = running.declare()
    running.fill(log, 24)
    running.rest()
    assert len(log.pieces) > 3
    assert all(piece.stretches is None for piece in log.pieces)
    running.read(log, 0, 1)
    assert [piece.stretches is not None for piece in log.pieces] == [True] + [False] * (len(log.pieces) - 1)
    count = len(log.pieces)
    running.settle(log, 0, int(log.pieces[0].last))
    assert len(log.pieces) == count - 1
