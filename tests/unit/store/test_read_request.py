"""broker/store/read_request.py: which records and batches a read asks for."""

from __future__ import annotations

from broker.store.batch import location_at
from broker.store.logs import Logs
from broker.store.read_request import BATCHES_SIZE_MAX, Read
from broker.store.segment_extent import Extent
from tests.support.fake_clock import FakeClock

RECORD = 100


def extents(*batches: tuple[int, int, int]) -> list[Extent]:
    """For every batch: how many extents it has, of how many records of 100 bytes each, and its own size."""
    made: list[Extent] = []
    position = 0
    for number, (count, records, size) in enumerate(batches):
        location = location_at(1, 4096 * number, size)
        for _ in range(count):
            extent = Extent(position, location, 0)
            extent.count = records
            extent.end = records * RECORD
            made.append(extent)
            position += records
    return made


def chosen(read: Read, *batches: tuple[int, int, int]) -> tuple[int, int, int]:
    """How many extents and batches a read takes, and up to which position."""
    read.add(extents(*batches), 0)
    return len(read.extents), len(read.batches), int(read.through())


def a_read(budget: int = 1 << 20, count: int = 1000, start: int = 0, end: int = 1000) -> Read:
    logs = Logs(FakeClock())
    return Read(logs.open(1), start, end, budget, None, count)


def test_everything_in_a_batch_that_is_read_anyway_is_taken() -> None:
    """Otherwise every run of records in a large batch would cost a read of the whole batch."""
    large = 2 * BATCHES_SIZE_MAX
    assert chosen(a_read(), (50, 1, large), (50, 1, large)) == (50, 1, 50)


def test_the_size_of_the_batches_bounds_it() -> None:
    size = BATCHES_SIZE_MAX // 2 - 1
    assert chosen(a_read(), (2, 1, size), (2, 1, size), (2, 1, size), (2, 1, size)) == (6, 3, 6)


def test_the_size_of_the_records_bounds_it() -> None:
    assert chosen(a_read(budget=350), (5, 1, 9000)) == (4, 1, 4)
    assert chosen(a_read(budget=350), (1, 90, 9000)) == (1, 1, 4)
    assert chosen(a_read(budget=350, start=50), (1, 90, 9000)) == (1, 1, 54)


def test_the_number_of_positions_bounds_it() -> None:
    """A turn must not be long because of one read."""
    assert chosen(a_read(count=7), (1, 5, 9000), (1, 5, 9000), (1, 5, 9000)) == (2, 2, 7)
    assert chosen(a_read(count=10), (1, 5, 9000), (1, 5, 9000), (1, 5, 9000)) == (2, 2, 10)


def test_it_ends_where_it_was_to_end() -> None:
    assert chosen(a_read(end=7), (1, 5, 9000), (1, 5, 9000), (1, 5, 9000)) == (2, 2, 7)
