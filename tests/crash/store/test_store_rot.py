"""Damage to segments and manifest at rest: the store opens, nothing wrong is read, and what is missing is told.

docs/durability-format.md, "What outlives the write-ahead log".
"""

from __future__ import annotations

from functools import cache

import pytest

from broker.store.records import TRANSIENT
from tests.support.faulty_disk import FaultyDisk
from tests.support.kept import kept
from tests.support.store import Running, options

World = dict[int, dict[int, bytes]]


@cache
def at_rest() -> tuple[FaultyDisk, World, World]:
    """A disk with several segments and edits; what is live in each log, and what was ever written to it."""
    running = Running(moving=options(garbage_size=12_000))
    logs = [running.declare() for _ in range(3)]
    written: World = {int(log.number): {} for log in logs}
    for index in range(12):
        for log in logs:
            running.fill(log, 1, 300 + 200 * (index % 3), TRANSIENT if index % 5 == 1 else 1)
            written[int(log.number)] |= running.read(log)
    for position in (0, 1, 2, 6, 7):
        running.settle(logs[0], position, position)
    running.rest()
    running.settle(logs[1], 0, 8)
    running.rest()
    running.put(b"%d" % logs[2].number, b"again")
    running.fill(logs[0], 6)
    running.rest()
    for log in logs:
        written[int(log.number)] |= running.read(log)
    running.sync()
    disk = running.disk
    assert isinstance(disk, FaultyDisk)
    opened = Running(disk.restarted())
    live = {int(log.number): opened.read(opened.logs.open(log.number)) for log in logs}
    assert len(opened.logs.segments.by_number) > 1
    assert sum(map(len, live.values())) > 15
    return disk, live, written


def judge(disk: FaultyDisk, what: str, loses_nothing: bool = False) -> None:
    """Open and read everything."""
    _, live, written = at_rest()
    running = Running(disk)
    found = {number: running.read(running.logs.logs[number]) for number in live if number in running.logs.logs}
    told = running.store.findings or running.logs.lost or running.store.report.damaged or running.store.manifest_cut
    for number, records in found.items():
        for position, body in records.items():
            assert written[number].get(position) == body, f"{what}: log {number} reads what nobody wrote at {position}"
    if found != live:
        assert not loses_nothing, f"{what}: something is missing or came back"
        assert told, f"{what}: something is missing or came back, and is not told"
    running.fill(running.declare(), 12)
    running.rest()
    assert not running.failures, what
    again = Running(running.disk.restarted()) if isinstance(running.disk, FaultyDisk) else running
    for number, records in found.items():
        assert again.read(again.logs.logs[number]) == records, f"{what}: the next start differs"


def places(directory: str, step: int) -> list[tuple[str, int]]:
    """Bytes to be damaged: all in one of ``step``, and of long extents of zeros one in 256."""
    disk, _, _ = at_rest()
    found = []
    for name in sorted(disk.directory(f"/data/{directory}").cache):
        path = f"/data/{directory}/{name}"
        content = bytes(disk.content(path))
        found += [
            (path, offset)
            for offset in range(0, len(content), step)
            if content[max(0, offset - 32) : offset + 32].strip(b"\0") or offset % 256 == 0
        ]
    return found


@pytest.mark.parametrize(("directory", "step"), [("manifest", 29), ("segments", 29)])
def test_a_flipped_bit_is_found_or_does_no_harm(directory: str, step: int) -> None:
    disk, _, _ = at_rest()
    flips = places(directory, step)
    for path, offset in flips:
        state = disk.restarted()
        state.damage(path, offset, bytes([state.content(path)[offset] ^ (1 << offset % 8)]))
        judge(state, f"bit {offset % 8} of byte {offset} of {path}", directory == "manifest")
    assert len(flips) > 200


@pytest.mark.parametrize("directory", ["manifest", "segments"])
def test_a_file_cut_off_or_gone_is_survived(directory: str) -> None:
    disk, _, _ = at_rest()
    for name in sorted(disk.directory(f"/data/{directory}").cache):
        path = f"/data/{directory}/{name}"
        for length in range(0, len(disk.content(path)), 1024):
            state = disk.restarted()
            for content in (state.inode(path).cache, state.inode(path).durable):
                del content[length:]
            judge(state, f"{path} cut to {length}")
        state = disk.restarted()
        for entries in (state.directory(f"/data/{directory}").cache, state.directory(f"/data/{directory}").durable):
            entries.pop(name, None)
        judge(state, f"{path} is gone", directory == "manifest")


def judge_together(disk: FaultyDisk, what: str) -> Running:
    """What no manifest knows any more is put together: nothing is missing, what comes back is flagged, and so it
    stays."""
    _, live, written = at_rest()
    running = Running(disk)
    assert running.store.findings, what
    found = {number: running.read(log) for number, log in running.logs.logs.items()}
    for_people = kept(running)
    for number, expected in live.items():
        if b"%d" % number not in running.declared:
            assert number not in found, what
            assert expected.items() <= for_people[number].items(), f"{what}: log {number} is not kept"
            continue
        assert expected.items() <= found[number].items() <= written[number].items(), f"{what}: log {number}"
        assert max(expected) <= running.logs.logs[number].note.value, f"{what}: log {number} is not redelivered"
    assert not running.logs.lost, what
    return running


def in_both(disk: FaultyDisk, block: int) -> FaultyDisk:
    """A block of zeros at the same place in both files of the manifest."""
    state = disk.restarted()
    for name in sorted(state.directory("/data/manifest").cache):
        state.damage(f"/data/manifest/{name}", block * 4096, bytes(4096))
    return state


def manifest_blocks() -> list[int]:
    """The blocks of the manifest that hold anything, without the header and the last edit, whose end looks torn."""
    disk, _, _ = at_rest()
    content = bytes(disk.content(f"/data/manifest/{min(disk.directory('/data/manifest').cache)}"))
    return [block for block in range(2, len(content) // 4096) if content[block * 4096 : block * 4096 + 4] == b"LEVB"][
        :-1
    ]


def test_what_both_files_of_the_manifest_have_lost_is_put_together_from_the_segments() -> None:
    """Each batch in turn; and the next start finds a whole manifest, which says the same."""
    disk, _, _ = at_rest()
    assert len(manifest_blocks()) > 3
    for block in manifest_blocks():
        running = judge_together(in_both(disk, block), f"block {block}")
        found = {number: running.read(log) for number, log in running.logs.logs.items()}
        running.rest()
        assert isinstance(running.disk, FaultyDisk)
        again = Running(running.disk.restarted())
        assert not again.store.findings, f"block {block}"
        assert {number: again.read(log) for number, log in again.logs.logs.items()} == found, f"block {block}"


def test_a_crash_while_it_is_put_together_loses_nothing() -> None:
    disk, live, _ = at_rest()
    for block in manifest_blocks():
        states: list[FaultyDisk] = []
        damaged = in_both(disk, block)
        damaged.observer = lambda now, site, states=states: states.append(next(now.crash_states(len(states), 1)))
        running = Running(damaged)
        running.rest()
        damaged.observer = None
        assert len(states) > 10
        for state in states[:: len(states) // 10]:
            again = Running(state)
            for_people = kept(again)
            for number, expected in live.items():
                log = again.logs.logs.get(number)
                found = for_people.get(number, {}) if log is None else again.read(log)
                assert expected.items() <= found.items(), f"block {block}: log {number}"


def test_without_any_manifest_everything_is_kept_for_people() -> None:
    """What is declared stood there alone: nobody knows whether these queues were deleted."""
    disk, live, _ = at_rest()
    state = disk.restarted()
    for entries in (state.directory("/data/manifest").cache, state.directory("/data/manifest").durable):
        entries.clear()
    running = judge_together(state, "no manifest")
    assert not running.logs.logs
    assert kept(running).keys() == live.keys()
    running.rest()
    assert not Running(state.restarted()).store.findings
