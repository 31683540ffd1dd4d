"""broker/store/survey.py: what a segment says of itself. docs/durability-format.md, "Layout"."""

from __future__ import annotations

import pytest

from broker.store.manifest_records import segment_parts
from broker.store.records import TRANSIENT
from broker.store.segment import number_of
from broker.store.segment_extent import Segment
from broker.store.survey import FoundPart, Survey, survey
from tests.support.faulty_disk import FaultyDisk
from tests.support.store import Running, options


def moved(compacted: bool = False) -> Running:
    """Segments of three logs, with flags, records that need not outlive the node, and gaps; perhaps rewritten."""
    running = Running(moving=options(garbage_size=3000, small_size=12_000, small_count=2) if compacted else options())
    logs = [running.declare() for _ in range(3)]
    for number in range(9):
        for log in logs:
            body = (number % 2 << 48 | number).to_bytes(8, "big") + b"." * (300 * number)
            running.append(log, body, TRANSIENT if number == 4 else 1)
            running.sync()
        if number == 6:
            running.settle(logs[0], 2, 3)
    running.rest()
    return running


def found_in(disk: FaultyDisk, name: str) -> Survey | None:
    number = number_of(name)
    assert number is not None
    return survey(disk.open("segment.read", f"/data/segments/{name}"), number)


def told(running: Running) -> dict[int, list[tuple[int, ...]]]:
    """The parts of each segment as the manifest tells them, in order."""
    disk = running.disk
    assert isinstance(disk, FaultyDisk)
    state = running.killed().store._manifest.recover()
    return {number: sorted(segment_parts(body)) for number, body in state.segments.items()}


def as_told(part: FoundPart) -> tuple[int, ...]:
    return part[:9]


@pytest.mark.parametrize("compacted", [False, True])
def test_it_says_what_the_manifest_says(compacted: bool) -> None:
    running = moved(compacted)
    disk = running.disk
    assert isinstance(disk, FaultyDisk)
    expected = told(running)
    assert expected
    for number, parts in expected.items():
        found = found_in(disk, f"{number:016x}.seg")
        assert found is not None
        assert [as_told(part) for part in found.parts] == parts
        for part in found.parts:
            positions = [position for run in part.runs for position in range(run.first, run.last + 1)]
            assert len(positions) == part.records
            assert (min(positions), max(positions)) == (part.first, part.last)


def test_without_its_index_every_run_is_a_part() -> None:
    """So no part lies around another one that is in another segment."""
    running = moved()
    disk = running.disk
    assert isinstance(disk, FaultyDisk)
    for name in running.files("segments"):
        whole = found_in(disk, name)
        assert whole is not None
        state = disk.restarted()
        for part in whole.parts:
            state.damage(f"/data/segments/{name}", part.index_offset, bytes(4096))
        found = found_in(state, name)
        assert found is not None
        assert {part.index_size for part in found.parts} == {0}
        for part in found.parts:
            assert part.records == part.last - part.first + 1
        expected = {
            (part.log, position)
            for part in whole.parts
            for run in part.runs
            for position in range(run.first, run.last + 1)
        }
        assert {
            (part.log, position) for part in found.parts for position in range(part.first, part.last + 1)
        } == expected
        assert sum(part.body_bytes for part in found.parts) == sum(part.body_bytes for part in whole.parts)


def test_without_its_header_the_end_tells_the_salt() -> None:
    running = moved()
    disk = running.disk
    assert isinstance(disk, FaultyDisk)
    name = running.files("segments")[0]
    expected = found_in(disk, name)
    disk.damage(f"/data/segments/{name}", 0, bytes(8192))
    assert found_in(disk, name) == expected
    size = len(disk.content(f"/data/segments/{name}"))
    disk.damage(f"/data/segments/{name}", size - 4096, bytes(4096))
    assert found_in(disk, name) is None


def test_a_damaged_index_costs_nothing() -> None:
    """The records that it tells of are found by reading the segment."""
    running = moved()
    disk = running.disk
    assert isinstance(disk, FaultyDisk)
    live = {number: running.killed().read(running.killed().logs.open(number)) for number in running.logs.logs}
    for name in running.files("segments"):
        found = found_in(disk, name)
        assert found is not None
        for part in found.parts:
            disk.damage(f"/data/segments/{name}", part.index_offset, bytes(4096))
    again = running.killed()
    assert {number: again.read(log) for number, log in again.logs.logs.items()} == live
    assert not again.logs.lost
    assert all(isinstance(segment, Segment) for segment in again.logs.segments.by_number.values())
