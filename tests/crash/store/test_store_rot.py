"""Damage to segments and manifest at rest: the store opens, nothing wrong is read, and what is missing is told.

docs/durability-format.md, "What outlives the write-ahead log".
"""

from __future__ import annotations

from functools import cache

import pytest

from broker.store.records import TRANSIENT
from tests.support.faulty_disk import FaultyDisk
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
    assert len(opened.logs.segments) > 1
    assert sum(map(len, live.values())) > 15
    return disk, live, written


def judge(disk: FaultyDisk, what: str) -> None:
    """Open and read everything."""
    _, live, written = at_rest()
    running = Running(disk)
    found = {number: running.read(running.logs.logs[number]) for number in live if number in running.logs.logs}
    told = running.store.findings or running.logs.lost or running.store.report.damaged or running.store.manifest_cut
    for number, records in found.items():
        for position, body in records.items():
            assert written[number].get(position) == body, f"{what}: log {number} reads what nobody wrote at {position}"
    if found != live:
        assert told, f"{what}: something is missing or came back, and is not told"
    running.fill(running.declare(), 12)
    running.rest()
    assert not running.failures, what
    again = Running(running.disk.restarted()) if isinstance(running.disk, FaultyDisk) else running
    for number, records in found.items():
        assert again.read(again.logs.logs[number]) == records, f"{what}: the next start differs"


def places(directory: str, step: int) -> list[tuple[str, int]]:
    """Bytes to be damaged: all in one of ``step``, and of long stretches of zeros one in 256."""
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


@pytest.mark.parametrize(("directory", "step"), [("manifest", 11), ("segments", 29)])
def test_a_flipped_bit_is_found_or_does_no_harm(directory: str, step: int) -> None:
    disk, _, _ = at_rest()
    flips = places(directory, step)
    for path, offset in flips:
        state = disk.restarted()
        state.damage(path, offset, bytes([state.content(path)[offset] ^ (1 << offset % 8)]))
        judge(state, f"bit {offset % 8} of byte {offset} of {path}")
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
        if directory == "segments":
            judge(state, f"{path} is gone")
        else:
            running = Running(state)
            assert running.store.findings
            assert any(each.endswith(".lost") for each in running.files("segments"))
