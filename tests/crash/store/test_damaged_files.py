"""Every file of a data directory at rest, damaged in every way: the node starts, says so, loses only what was in it,
and goes on.

docs/durability-format.md, "Promises". Where two files say the same nothing is lost at all. Of the end of the log one
thing cannot be seen: that it was there, if nothing else tells (a last batch that is gone without a trace).
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import pytest

from broker.store import manifest as manifest_module
from broker.store.datadir import DataDir
from broker.store.logs import Logs
from broker.store.manifest import Manifest, unite
from broker.store.manifest_records import Edit
from broker.store.records import DELETE, PUT, TRANSIENT, put_body
from broker.store.segment import segment_name
from broker.store.segment_builder import SegmentBuilder, SegmentPart
from broker.store.segment_extent import Extent, SegmentExtent
from broker.store.survey import extents_of
from broker.store.wal_file import START, file_name
from tests.support.fake_clock import FakeClock
from tests.support.faulty_disk import Directory, FaultyDisk, Inode
from tests.support.store import Running, options

BLOCK = 4096
World = dict[int, dict[int, bytes]]


class BatchLocation(NamedTuple):
    """Where a record is."""

    path: str
    offset: int
    size: int
    log: int
    position: int


class Rest(NamedTuple):
    """A disk at rest."""

    disk: FaultyDisk
    live: World
    written: World
    locations: list[BatchLocation]


@cache
def at_rest() -> Rest:
    """Files of the log, segments of one log and of several, a manifest with edits."""
    moving = options(own_size=6000)._replace(files_kept=2)
    running = Running(moving=moving)
    logs = [running.declare() for _ in range(3)]
    written: World = {int(log.number): {} for log in logs}
    for index in range(9):
        for log in logs[: 3 if index % 3 else 1]:
            running.fill(log, 2, 300 + 300 * (index % 3), TRANSIENT if index == 4 else 1)
            written[int(log.number)] |= running.read(log)
        if index == 5:
            running.settle(logs[0], 1, 5)
            running.rest()
    running.settle(logs[1], 0, 0)
    running.put(b"%d" % logs[2].number, b"again")
    running.fill(logs[2], 1)
    for log in logs:
        written[int(log.number)] |= running.read(log)
    running.rest()
    disk = running.disk
    assert isinstance(disk, FaultyDisk)
    opened = Running(disk.restarted(), moving)
    live = {int(log.number): opened.read(opened.logs.open(log.number)) for log in logs}
    locations = [location for log in logs for location in locations_of(opened, int(log.number))]
    assert {(location.log, location.position) for location in locations} >= {
        (log, position) for log in live for position in live[log]
    }
    assert len(opened.logs.segments.by_number) >= 2
    assert len(opened.store.wal.files) >= 3
    assert any(len(log.extents.segments) and len(log.extents.wal) for log in opened.logs.logs.values())
    return Rest(disk, live, written, locations)


def locations_of(running: Running, number: int) -> list[BatchLocation]:
    log = running.logs.logs[number]
    found: list[tuple[str, Extent]] = []
    for segment_extent in log.extents.segments:
        name = f"/data/segments/{segment_name(int(segment_extent.segment.number))}"
        found += [(name, extent) for extent in extents_in(running, segment_extent, number, name)]
    found += [(f"/data/wal/{file_name(int(extent.location.generation))}", extent) for extent in log.extents.wal]
    return [
        BatchLocation(name, int(extent.location.offset), int(extent.location.size), number, position)
        for name, extent in found
        for position in range(extent.first, extent.first + extent.count)
    ]


def extents_in(running: Running, segment_extent: SegmentExtent, number: int, name: str) -> list[Extent]:
    return extents_of(running.disk.open("segment.read", name), segment_extent, number) or []


def files(kinds: tuple[str, ...]) -> list[str]:
    disk = at_rest().disk
    found = [
        f"/data/{name}"
        for name, node in sorted(disk.directory("/data").cache.items())
        if isinstance(node, Inode) and "" in kinds
    ]
    for directory in kinds:
        if directory:
            found += [f"/data/{directory}/{name}" for name in sorted(disk.directory(f"/data/{directory}").cache)]
    return found


def judge(state: FaultyDisk, what: str, path: str, start: int = 0, end: int = 1 << 62) -> None:
    """Open, read everything, work, open again. The bytes from ``start`` to ``end`` of ``path`` were damaged."""
    rest = at_rest()
    running = Running(state)
    assert {int(key) for key in running.declared} == rest.live.keys(), f"{what}: a declaration is lost"
    found = {number: running.read(running.logs.logs[number]) for number in rest.live}
    inside = {
        (location.log, location.position)
        for location in rest.locations
        if location.path == path and location.offset < end and start < location.offset + location.size
    }
    lost = {(log, position) for log in rest.live for position in rest.live[log].keys() - found[log].keys()}
    assert lost <= inside, f"{what}: what was elsewhere is lost: {sorted(lost - inside)}"
    for number, records in found.items():
        assert records.items() <= rest.written[number].items(), f"{what}: log {number} reads what nobody wrote"
        back = records.keys() - rest.live[number].keys()
        assert max(back, default=-1) <= running.logs.logs[number].note.value, (
            f"{what}: what came back is not redelivered"
        )
        if back:
            assert path.startswith("/data/wal/"), f"{what}: log {number} has settled {back}"
    store = running.store
    if lost:
        told = bool(store.findings or store.report.damaged or running.logs.lost)
        assert told or store.report.cut or path == files(("wal",))[-2], what
        assert not told or running.logs.lost or store.damage.unconfirmed(), what
    log = running.declare()
    running.fill(log, 12)
    running.rest()
    assert not running.failures, what
    assert running.compactor.trouble is None, what
    assert isinstance(running.disk, FaultyDisk)
    again = Running(running.disk.restarted())
    assert len(again.read(again.logs.logs[int(log.number)])) == 12, what
    for number in found:
        assert again.read(again.logs.logs[number]).keys() == found[number].keys(), f"{what}: the next start differs"


def changed(path: str, node: Inode | Directory | None) -> FaultyDisk:
    """The disk with something else at that path."""
    state = at_rest().disk.restarted()
    above, name = state.split(path)
    for entries in (above.cache, above.durable):
        entries.pop(name, None)
        if node is not None:
            entries[name] = node
    return state


KINDS = ("wal", "segments", "manifest", "")


@pytest.mark.parametrize("kind", KINDS)
def test_every_block_zeroed(kind: str) -> None:
    count = 0
    for path in files((kind,)):
        size = len(at_rest().disk.content(path))
        for offset in range(0, size, BLOCK):
            if not any(at_rest().disk.content(path)[offset : offset + BLOCK]):
                continue  # nothing changes
            state = at_rest().disk.restarted()
            state.damage(path, offset, bytes(min(BLOCK, size - offset)))
            judge(state, f"{path}, block {offset // BLOCK} zeroed", path, offset, offset + BLOCK)
            count += 1
    assert count >= 2


@pytest.mark.parametrize("kind", KINDS)
def test_every_file_gone(kind: str) -> None:
    for path in files((kind,)):
        judge(changed(path, None), f"{path} is gone", path)


@pytest.mark.parametrize("kind", KINDS)
def test_every_file_a_directory(kind: str) -> None:
    for path in files((kind,)):
        judge(changed(path, Directory()), f"{path} is a directory", path)


@pytest.mark.parametrize("kind", KINDS)
def test_every_file_cut_off(kind: str) -> None:
    for path in files((kind,)):
        size = len(at_rest().disk.content(path))
        for length in sorted({0, 1, size // 2, size - 1, *range(0, size, BLOCK)}):
            state = at_rest().disk.restarted()
            for content in (state.inode(path).cache, state.inode(path).durable):
                del content[length:]
            judge(state, f"{path} cut to {length}", path, length)


def small_manifest(edit_count: int) -> FaultyDisk:
    """The state, and edits of every kind behind it; little space ahead."""
    disk = FaultyDisk()
    manifest = Manifest(DataDir.open(disk, "/data"), lambda: 0x5EED, START + BLOCK)
    builder = moved_builder()
    edits = [
        Edit(
            states=[(1, 5, b"positions", b"a group"), (2, -1, b"", b"")],
            journal=[(PUT, put_body(b"q", b"1")), (PUT, put_body(b"x", b""))],
            covers=9,
        ),
        Edit([(builder, 12345)], states=[(1, 7, b"more", b"")], covers=20, next_log=3, next_segment=4, declared=22),
        Edit(dropped=[3], dropped_logs=[2], journal=[(DELETE, b"x")], declared=30),
    ]
    for edit in edits[:edit_count]:
        manifest.append(edit)
    manifest.close()
    disk.locks.clear()
    return disk


def moved_builder() -> SegmentBuilder:
    """A new segment with one part."""
    builder = SegmentBuilder(3, 1000)
    part = SegmentPart(Logs(FakeClock()).open(1), builder, None, -1)
    part.add(4, 1, 10, 0, 50)
    builder.parts.append(part)
    return builder


@pytest.mark.parametrize("edit_count", [1, 3])
def test_every_bit_of_a_small_manifest(edit_count: int) -> None:
    """In each of its two files: nothing is lost, whichever it is, and what matters is told. Of long zeros, one byte
    in 64."""
    disk = small_manifest(edit_count)
    expected, told = state_at_the_start(disk.restarted())
    assert not told
    flips = repaired = 0
    for path in [f"/data/manifest/{name}" for name in sorted(disk.directory("/data/manifest").cache)]:
        content = bytes(disk.content(path))
        for offset, byte in enumerate(content):
            if not any(content[max(0, offset - 16) : offset + 16]) and offset % 64:
                continue
            for bit in range(8):
                state = disk.restarted()
                state.damage(path, offset, bytes([byte ^ 1 << bit]))
                found, told = state_at_the_start(state)
                assert found == expected, f"{path}, bit {bit} of byte {offset}"
                flips += 1
                repaired += bool(told)
    assert flips > 3000
    assert repaired > flips // 3


def state_at_the_start(disk: FaultyDisk) -> tuple[list[object], list[str]]:
    """What a start finds in the manifest, and what it has repaired; nothing may be lost."""
    manifest = Manifest(DataDir.open(disk, "/data"), lambda: 0x5EED, START + BLOCK)
    state = manifest.recover()
    manifest.close()
    assert not manifest.findings
    assert not manifest.damaged
    assert not manifest.cut
    return [state.segments, state.logs, state.journal, state.covers, state.declared, state.next_log], manifest.repaired


def test_a_planted_mistake_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only one of the two files is read: the flips find it."""
    monkeypatch.setattr(manifest_module, "unite", lambda files: unite(files[:1]))
    with pytest.raises(AssertionError):
        test_every_bit_of_a_small_manifest(1)
