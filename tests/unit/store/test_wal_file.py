"""broker/store/wal_file.py: what a file says is found again, whatever the sizes of its batches. Recovery as a whole:
test_recovery.py."""

from __future__ import annotations

import pytest

from broker.store.batch import BLOCK
from broker.store.batch_writer import UNDIVIDED, BatchWriter
from broker.store.wal_file import START, BadRange, FileHeader, Found, Scan
from tests.support.faulty_disk import FaultyDisk, FaultyFile

HEADER = FileHeader(3, 77, 1)
SMALL, LARGE = 100, 300_000
"""Bytes of a record: with a large batch, the head of the next one is read as well."""


def written(sizes: list[int], room: int) -> tuple[FaultyFile, list[int]]:
    """A file with a batch for each size, and where they begin."""
    disk = FaultyDisk()
    file = disk.create("wal.create", "/file")
    assert isinstance(file, FaultyFile)
    file.write("wal.header", 0, [HEADER.encode()])
    writer = BatchWriter(1, UNDIVIDED)
    starts, at = [], START
    for number, size in enumerate(sizes):
        writer.append(1, 1, bytes([number]) * size)
        batch = writer.take_batch()
        file.write("wal.write", at, batch.seal(HEADER.generation, HEADER.salt))
        starts.append(at)
        at += int(batch.size())
    file.allocate("wal.allocate", at + room)
    return file, starts


@pytest.mark.parametrize("room", [0, BLOCK, 10 * BLOCK])
@pytest.mark.parametrize(
    "sizes", [[SMALL], [LARGE], [LARGE, SMALL, LARGE], [LARGE, LARGE, LARGE], [SMALL, LARGE, SMALL, SMALL]]
)
def test_every_batch_is_found_once(sizes: list[int], room: int) -> None:
    file, starts = written(sizes, room)
    scan = Scan(file, HEADER)
    found = [each for each in scan if isinstance(each, Found)]
    assert [each.offset for each in found] == starts
    assert scan.end == starts[-1] + found[-1].header.size()
    assert scan.unreadable_blocks == 0


@pytest.mark.parametrize("sizes", [[LARGE, SMALL, LARGE], [LARGE, LARGE, LARGE]])
@pytest.mark.parametrize("at", [0, 60, 4000])
def test_behind_a_damaged_one_the_next_is_found(sizes: list[int], at: int) -> None:
    file, starts = written(sizes, BLOCK)
    file.inode.cache[starts[1] + at % sizes[1]] ^= 1
    found = list(Scan(file, HEADER))
    assert [each.offset for each in found] == starts
    assert [isinstance(each, BadRange) for each in found] == [False, True, False]
