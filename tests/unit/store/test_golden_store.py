"""Disk files of a whole store, kept byte for byte: this release reads those of every format, and still writes the
newest the same.

    python -m tests.unit.store.test_golden_store --rewrite

writes tests/transcripts/disk/store-format-3 anew. What a difference means stands in test_golden.py.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from broker.queues.redelivery_mark import RedeliveryMark
from broker.store.records import TRANSIENT
from tests.support.faulty_disk import FaultyDisk
from tests.support.kept import kept
from tests.support.store import Running, options
from tests.support.stored_group import StoredGroup
from tests.unit.store.test_golden import GOLDEN

FOLDER = GOLDEN / "store-format-3"
DIRECTORIES = ("wal", "segments", "manifest")


def write_store() -> FaultyDisk:
    """Two runs: records of both kinds, segments, one of them rewritten, a manifest with edits, a log that is gone; a
    Raft group with entries in segments and in the log, some of them replaced, and a snapshot."""
    running = Running(moving=options(own_size=2500, garbage_size=9000))
    first, second, gone = (running.declare() for _ in range(3))
    group = StoredGroup(running, running.declare())
    group.vote(1, 2, 0)
    group.append(1, None, b"entry  2", b"entry  3", b"entry  4", b"entry  5")
    group.vote(2, 0, 3)
    group.append(2, b"other  4".ljust(700, b"."), b"other  5", index=4)
    group.applied = 3
    for number in range(9):
        for log in (first, second, gone):
            running.fill(log, 1, 200 * number, TRANSIENT if number == 4 else 1)
    running.rest()
    for number in range(0, 9, 2):
        running.settle(first, number, number)
    running.drop(gone)
    RedeliveryMark().allowance(first, 3)
    running.rest()
    again = running.killed(options())
    group = StoredGroup(again, again.logs.open(group.log.log.number))
    group.found()
    group.vote(3, 1, 4)
    again.fill(again.logs.open(second.number), 9, 900)
    again.rest()
    group.append(3, None, b"entry  7")
    again.store.close()
    assert isinstance(again.disk, FaultyDisk)
    return again.disk.restarted()


def files_of(disk: FaultyDisk) -> dict[str, bytes]:
    names = [
        f"{directory}/{name}"
        for directory in DIRECTORIES
        for name in sorted(disk.directory(f"/data/{directory}").cache)
    ]
    return {name: bytes(disk.content(f"/data/{name}")) for name in ["FORMAT", *names]}


def load(folder: Path) -> FaultyDisk:
    disk = FaultyDisk()
    for name in ("/data", *(f"/data/{directory}" for directory in DIRECTORIES)):
        disk.make_directory("datadir.create", name)
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".json"):
        file = disk.create("wal.create", f"/data/{path.relative_to(folder).as_posix()}")
        file.write("wal.write", 0, [path.read_bytes()])
    return disk.restarted()


def recovered(disk: FaultyDisk) -> dict[str, object]:
    running = Running(disk)
    assert running.store.findings == []
    groups = [log for log in running.logs.logs.values() if log.group is not None]
    logs = {
        str(number): {
            "next": int(log.positions.next),
            "mark": int(log.note.value),
            "records": {
                str(position): body[8:28].decode() + f" ({len(body)})" for position, body in running.read(log).items()
            },
        }
        for number, log in sorted(running.logs.logs.items())
        if log not in groups
    }
    found: dict[str, object] = {"declared": sorted(key.decode() for key in running.declared), "logs": logs}
    if groups:  # since format 3
        found["groups"] = {str(log.number): StoredGroup(running, log).found() for log in groups}
    return found


def test_this_release_writes_the_store_byte_for_byte() -> None:
    kept = {path.relative_to(FOLDER).as_posix(): path.read_bytes() for path in FOLDER.rglob("*") if path.is_file()}
    del kept["recovered.json"]
    assert files_of(write_store()) == kept


@pytest.mark.parametrize("folder", sorted(path.name for path in GOLDEN.glob("store-format-*")))
def test_the_store_is_read(folder: str) -> None:
    """And again by the next start, which finds a manifest of this release."""
    disk = load(GOLDEN / folder)
    for _ in range(2):
        assert recovered(disk) == json.loads((GOLDEN / folder / "recovered.json").read_text())
        disk = disk.restarted()


def test_a_damaged_manifest_of_format_1_costs_no_message() -> None:
    """It is the only one there; what it has lost is put together from segments and log, or kept for people."""
    name = "/data/manifest/0000000000000001.manifest"
    whole = Running(load(GOLDEN / "store-format-1"))
    live = {number: whole.read(log) for number, log in whole.logs.logs.items()}
    content = bytes(load(GOLDEN / "store-format-1").content(name))
    blocks = [at for at in range(2 * 4096, len(content), 4096) if content[at : at + 4] == b"LEVB"]
    told = 0
    for at in blocks[:-1]:
        disk = load(GOLDEN / "store-format-1")
        disk.damage(name, at, bytes(4096))
        again = Running(disk)
        told += bool(again.store.findings)
        for number, records in live.items():
            log = again.logs.logs.get(number)
            found = kept(again)[number] if log is None else again.read(log)
            assert records.items() <= found.items(), f"block {at // 4096}, log {number}"
    assert told > 2  # the last edit is there twice


def rewrite() -> None:
    disk = write_store()
    shutil.rmtree(FOLDER, ignore_errors=True)
    for name, content in files_of(disk).items():
        (FOLDER / name).parent.mkdir(parents=True, exist_ok=True)
        (FOLDER / name).write_bytes(content)
    (FOLDER / "recovered.json").write_text(json.dumps(recovered(disk), indent=1) + "\n")


if __name__ == "__main__":
    if sys.argv[1:] != ["--rewrite"]:
        sys.exit("usage: python -m tests.unit.store.test_golden_store --rewrite")
    rewrite()
