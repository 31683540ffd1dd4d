"""broker/store/manifest_recovery.py: the segments against the manifest. docs/durability-format.md, "What outlives the
log"."""

from __future__ import annotations

import errno

from tests.support.faulty_disk import Fault, FaultyDisk
from tests.support.store import Running


def moved() -> tuple[Running, FaultyDisk]:
    running = Running()
    log = running.declare()
    running.fill(log, 20)
    running.rest()
    disk = running.disk
    assert isinstance(disk, FaultyDisk)
    return running, disk


def test_what_nothing_refers_to_is_removed_and_its_number_not_used_again() -> None:
    running, disk = moved()
    for name in ("00000000000000f0.seg", "00000000000000f1.tmp"):
        disk.make_inode(f"/data/segments/{name}")
    again = running.killed()
    assert again.files("segments") == running.files("segments")[:-2]
    assert again.logs.segments.next_number == 0xF2


def test_a_segment_that_is_gone_is_told_and_its_records_are_settled() -> None:
    running, disk = moved()
    (log,) = running.logs.logs.values()
    segment_extent = log.extents.segments[1]
    disk.do_unlink("segment.remove", f"/data/segments/{segment_extent.segment.number:016x}.seg")
    again = running.killed()
    (found,) = again.logs.logs.values()
    kept = set(range(20)) - set(range(int(segment_extent.first), int(segment_extent.last) + 1))
    assert set(again.read(found)) == kept
    assert found.positions.live() == len(kept)
    assert any(
        f"records {segment_extent.first} to {segment_extent.last} of log {log.number} are lost" in each
        for each in again.store.findings
    )
    again.rest()
    assert running.killed().store.findings != []
    assert again.killed().store.findings == []


def test_a_segment_of_another_size_is_put_aside() -> None:
    running, disk = moved()
    name = running.files("segments")[0]
    for content in (disk.inode(f"/data/segments/{name}").cache, disk.inode(f"/data/segments/{name}").durable):
        del content[5000:]
    again = running.killed()
    assert again.store.findings
    assert name.replace(".seg", ".lost") in again.files("segments")


def test_an_error_of_the_disk_is_not_taken_for_a_missing_segment() -> None:
    _, disk = moved()
    state = disk.restarted()
    state.faults.append(Fault("error", "segment.size", arg=errno.EMFILE))
    again = Running(state)
    (log,) = again.logs.logs.values()
    assert len(again.read(log)) == 20
    assert not again.store.findings


def test_the_memory_for_a_backlog_is_a_summary_for_each_segment() -> None:
    running, _ = moved()
    (log,) = running.logs.logs.values()
    again = running.killed()
    (found,) = again.logs.logs.values()
    assert len(found.extents.segments) == len(log.extents.segments)
    assert all(segment_extent.extents is None for segment_extent in found.extents.segments)
    assert len(found.extents.wal) <= 4
