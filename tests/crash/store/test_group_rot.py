"""Damage at rest to what the store keeps of Raft groups: nothing wrong is taken for right without a word.

An entry is found as it was written, or the damage is told: by the store, by ``repair_to`` of a group that can ask
others, by ``lost_beginning`` of one that cannot. docs/durability-format.md, "Raft groups"; dissertation, section 3.8.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import pytest

from broker.cluster.group_log import GroupLog
from broker.raft.configuration import Configuration
from tests.support.faulty_disk import FaultyDisk
from tests.support.store import Running, options
from tests.support.stored_group import StoredGroup, state_after

SEVERAL, ALONE = 1, 2
"""Logs: of a group of three, and of a group of one."""


class Found(NamedTuple):
    """What a start has found of a group."""

    hard: tuple[int, int, int]
    snapshot: int
    state: bytes
    entries: dict[int, tuple[int, bytes | None]]
    """Term and data by index."""
    order: list[int]
    """The indexes as they are handed out."""
    repair_to: int
    lost_beginning: bool
    last: int


@cache
def at_rest() -> FaultyDisk:
    """Both groups with a snapshot, entries in segments and in the log; the first with some that others have replaced,
    in either place."""
    running = Running(moving=options(garbage_size=12_000))
    several = StoredGroup(running, running.declare())
    alone = StoredGroup(running, running.declare())
    other = running.declare()
    assert (several.log.log.number, alone.log.log.number) == (SEVERAL, ALONE)
    several.vote(1, 2, 0)
    alone.vote(1, 1, 0)
    for number in range(1, 9):
        several.append(1, body(1, number))
        alone.append(1, body(1, number))
    several.vote(2, 3, 5)
    several.append(2, body(2, 7), index=7)
    several.applied, alone.applied = 3, 4
    running.fill(other, 10)
    running.rest()
    several.append(2, None, body(2, 9), body(2, 10))
    several.vote(3, 0, 7)
    several.append(3, body(3, 10), index=10)
    several.vote(3, 1, 8)
    alone.append(1, body(1, 9))
    running.fill(other, 1)
    disk = running.disk
    assert isinstance(disk, FaultyDisk)
    found, told, _ = opened(disk.restarted())
    assert not told
    first, second = found[SEVERAL], found[ALONE]
    assert (first.hard, first.snapshot, list(first.entries)) == ((3, 1, 8), 3, [4, 5, 6, 7, 8, 9, 10])
    assert [first.entries[index][0] for index in (6, 7, 8, 9, 10)] == [1, 2, 2, 2, 3]
    assert (second.hard, second.snapshot, list(second.entries)) == ((1, 1, 0), 4, [5, 6, 7, 8, 9])
    return disk


def body(term: int, index: int) -> bytes:
    return (b"entry %d of term %d " % (index, term)).ljust(500 + 100 * index, b".")


def opened(disk: FaultyDisk) -> tuple[dict[int, Found], bool, bool]:
    """What is found of both groups; whether the store tells of damage, and of writes that nobody has relied on."""
    running = Running(disk)
    found = {}
    for number in (SEVERAL, ALONE):
        if b"%d" % number not in running.declared:
            continue  # nobody knows that there was such a group
        log = running.logs.open(number)
        group = GroupLog(running.logs, log, Configuration([1, 2, 3] if number == SEVERAL else [1]))
        group.recover(number == ALONE)
        hard = log.group_state()
        entries = {
            int(entry.index): (int(entry.term), entry.data)
            for entry in group.recovered
            if entry.data is None or isinstance(entry.data, bytes)
        }
        found[number] = Found(
            (int(hard.term), int(hard.vote), int(hard.commit)),
            int(group.snapshot_index),
            group.state(),
            entries,
            [int(entry.index) for entry in group.recovered],
            int(group.repair_to),
            group.lost_beginning,
            int(group.last_index()),
        )
    store = running.store
    cut = bool(store.manifest_cut or store.report.cut)
    told = bool(store.findings or running.logs.lost or store.report.damaged)
    running.fill(running.declare(), 6)
    running.rest()
    assert not running.failures
    return found, told or cut, cut


def judge(disk: FaultyDisk, what: str, loses_nothing: bool = False) -> bool:
    """Whether something is missing."""
    whole, _, _ = opened(at_rest().restarted())
    found, told, cut = opened(disk)
    assert told or found.keys() == whole.keys(), f"{what}: a group is gone"
    for number, group in found.items():
        right = whole[number]
        said = told or group.repair_to > 0 or group.lost_beginning
        assert group.order == sorted(set(group.order)), f"{what}: group {number} hands out {group.order}"
        if number == SEVERAL:
            behind = list(range(group.snapshot + 1, group.last + 1))
            assert group.order == behind, (
                f"{what}: a group that can ask others has {group.order} behind {group.snapshot}"
            )
        assert group.state == (state_after(group.snapshot) if group.snapshot else b""), what
        needed = right.entries.keys() - set(range(group.snapshot + 1))
        bad = {index for index in needed if group.entries.get(index) != right.entries[index]}
        for index, (_, data) in group.entries.items():
            assert data is None or data.startswith(b"entry %d " % index), f"{what}: entry {index}"
        if bad or (group.hard, group.snapshot) != (right.hard, right.snapshot):
            assert said, f"{what}: group {number} has lost {sorted(bad)}, is {group}, and nothing is told"
            assert not loses_nothing, f"{what}: group {number} has lost something"
        if bad and number == SEVERAL and not cut:
            assert group.repair_to >= max(bad), f"{what}: it may vote, without {sorted(bad)}: {group}"
    return found != whole


def files(directory: str) -> list[str]:
    return [f"/data/{directory}/{name}" for name in sorted(at_rest().directory(f"/data/{directory}").cache)]


@pytest.mark.parametrize(("directory", "step"), [("wal", 61), ("segments", 61), ("manifest", 61)])
def test_a_flipped_bit_is_found_or_does_no_harm(directory: str, step: int) -> None:
    """Of what stands in both files of the manifest nothing is lost."""
    disk = at_rest()
    count = losses = 0
    for path in files(directory):
        content = bytes(disk.content(path))
        for offset in range(0, len(content), step):
            if not content[max(0, offset - 32) : offset + 32].strip(b"\0"):
                continue
            state = disk.restarted()
            state.damage(path, offset, bytes([content[offset] ^ (1 << offset % 8)]))
            losses += judge(state, f"bit {offset % 8} of byte {offset} of {path}", directory == "manifest")
            count += 1
    assert count > 100
    assert (losses > 20) == (directory != "manifest")


@pytest.mark.parametrize("directory", ["wal", "segments", "manifest"])
def test_a_file_cut_off_or_gone_is_survived(directory: str) -> None:
    disk = at_rest()
    for path in files(directory):
        last = directory == "wal" and path == [each for each in files("wal") if each.endswith(".wal")][-1]
        for length in range(0, len(disk.content(path)), 4096):
            state = disk.restarted()
            for content in (state.inode(path).cache, state.inode(path).durable):
                del content[length:]
            if not last:  # the end of the log may be missing without a trace: it looks as if it was never written
                judge(state, f"{path} cut to {length}")
        state = disk.restarted()
        for entries in (state.directory(f"/data/{directory}").cache, state.directory(f"/data/{directory}").durable):
            entries.pop(path.rpartition("/")[2], None)
        if not last:
            judge(state, f"{path} is gone", directory == "manifest")


def test_what_both_files_of_the_manifest_have_lost_is_told() -> None:
    """Each block of it in turn. A snapshot stood there alone."""
    disk = at_rest()
    content = bytes(disk.content(files("manifest")[0]))
    blocks = [at for at in range(2 * 4096, len(content), 4096) if content[at : at + 4] == b"LEVB"]
    assert len(blocks) > 3
    losses = 0
    for at in blocks[:-1]:
        state = disk.restarted()
        for path in files("manifest"):
            state.damage(path, at, bytes(4096))
        losses += judge(state, f"block {at // 4096}")
    assert losses
