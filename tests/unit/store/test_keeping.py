"""broker/store/keeping.py: what is in logs that no queue owns is kept after damage, and only then. docs/durability.md,
"After damage"."""

from __future__ import annotations

import errno

from broker.store.segment import SUFFIX, number_of
from tests.support.faulty_disk import Fault, FaultyDisk
from tests.support.kept import kept
from tests.support.store import Running, options


def with_orphans(damage: bool = True) -> FaultyDisk:
    """Three logs, in segments of their own and shared ones and in the log, two of which nobody declares; a damaged
    batch of a fourth."""
    running = Running(moving=options(own_size=4000)._replace(files_kept=1))
    logs = [running.declare(), *(running.logs.open(running.logs.create()) for _ in range(2))]
    for _ in range(3):
        running.fill(logs[0], 1, 600)
        running.fill(logs[1], 6, 900)
        running.fill(logs[2], 1, 300)
    running.rest()
    for log in logs[1:]:
        running.fill(log, 2, 500)
    other = running.declare()
    running.fill(other, 3, 10)
    disk = running.disk
    assert isinstance(disk, FaultyDisk)
    if damage:
        extent = other.extents.wal[1]
        disk.damage(f"/data/wal/{extent.location.generation:016x}.wal", int(extent.location.offset) + 60, b"\xff\xff")
    return disk


def test_it_is_kept_once_and_not_brought_back() -> None:
    disk = with_orphans()
    written = {number: set(range(20 if number == 2 else 5)) for number in (2, 3)}
    first = Running(disk.restarted())
    assert set(first.logs.logs) == {1, 4}
    found = kept(first)
    assert {number: set(found[number]) for number in (2, 3)} == written
    assert any("belong to no queue (2, 3) are kept in" in text for text in first.store.findings)
    assert len(first.read(first.logs.open(1))) == 3
    second = Running(first.disk.restarted()) if isinstance(first.disk, FaultyDisk) else first
    assert second.store.report.damaged
    assert second.files("segments") == first.files("segments")
    second.rest()
    assert not second.failures
    assert {number: set(kept(second)[number]) for number in (2, 3)} == written


def test_without_damage_what_nobody_owns_was_deleted() -> None:
    again = Running(with_orphans(damage=False).restarted())
    again.rest()
    assert set(again.logs.logs) == {1, 4}
    assert all(name.endswith(SUFFIX) for name in again.files("segments"))


def test_without_space_the_node_starts_and_says_so() -> None:
    disk = with_orphans().restarted()
    disk.faults.append(Fault("error", "segment.create", arg=errno.ENOSPC))
    again = Running(disk)
    assert any("could not be kept" in text for text in again.store.findings)
    assert set(again.logs.logs) == {1, 4}


def test_the_number_of_what_is_kept_is_not_used_again() -> None:
    first = Running(with_orphans().restarted())
    numbers = {number_of(name) for name in first.files("segments") if name.endswith(".lost")}
    assert numbers
    assert isinstance(first.disk, FaultyDisk)
    second = Running(first.disk.restarted())
    assert int(second.logs.segments.next_number) > max(number for number in numbers if number is not None)
