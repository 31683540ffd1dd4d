"""Disk files of every released format, kept byte for byte: this release reads them all, and still writes the newest the
same.

    python -m tests.unit.store.test_golden --rewrite

writes tests/transcripts/disk/format-3 anew. A difference means that older data directories are read differently or
newer ones cannot be read by older releases: then it is a new format, with a migration in store/datadir.py and a folder
of its own.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from broker.store.batch import BLOCK
from broker.store.datadir import DataDir
from broker.store.filesystem import FileSystem
from broker.store.recovery import Recovery
from broker.store.wal import WriteAheadLog
from broker.store.wal_file import START
from broker.store.wal_writer import WalOptions
from tests.support.faulty_disk import FaultyDisk
from tests.support.hand_runner import HandRunner

GOLDEN = Path(__file__).resolve().parents[2] / "transcripts" / "disk"
NEWEST = "format-3"


def fail(error: Exception) -> None:
    raise error


def write_log() -> FaultyDisk:
    """Two sessions: small and large records, groups of several batches, a file used before, one at rest, a restart, a
    clean end."""
    disk = FaultyDisk()
    salts = iter(range(0x5EED_0000_0000_0001, 0x5EED_0000_0000_0009))
    for session in range(2):
        data_dir = DataDir.open(disk, "/data")
        recovery = Recovery(data_dir)
        list(recovery.records())
        runner = HandRunner()
        options = WalOptions(START + 4 * BLOCK, 0, lambda: next(salts), 1500)
        log = WriteAheadLog.open(data_dir, recovery, runner, fail, options)
        for turn in range(6 - 2 * session):
            for number in range(turn):
                log.batch.append(
                    (session + 1) << 33, 0xF0 + number, b"record %d of turn %d" % (number, turn), b"." * (3 * turn**4)
                )
            log.batch.append(1, 0, b"")
            log.sync()
            runner.drain()
            while session == 0 and log.files[0].generation < 2 <= log.files[-1].generation:
                log.retire(log.files[0].generation)
                runner.drain()
        if session:
            log.close()
        data_dir.close()
        disk = disk.restarted()
    return disk


def recovered(filesystem: FileSystem) -> dict[str, object]:
    recovery = Recovery(DataDir.open(filesystem, "/data"))
    records = [[sequence, log_id, kind, body.decode("ascii")] for sequence, log_id, kind, body in recovery.records()]
    recovery.finish()
    report = recovery.report
    return {
        "next_sequence": report.next_sequence,
        "clean": report.clean,
        "files": report.file_count,
        "records": records,
    }


def load(folder: Path) -> FaultyDisk:
    """The files of a folder, on a simulated disk."""
    disk = FaultyDisk()
    for name in ("/data", "/data/wal"):
        disk.make_directory("datadir.create", name)
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".json"):
        file = disk.create("wal.create", f"/data/{path.relative_to(folder).as_posix()}")
        file.write("wal.write", 0, [path.read_bytes()])
    return disk.restarted()


def files_of(disk: FaultyDisk) -> dict[str, bytes]:
    names = ["FORMAT", *(f"wal/{name}" for name in disk.names("wal.list", "/data/wal"))]
    return {name: bytes(disk.content(f"/data/{name}")) for name in names}


def rewrite() -> None:
    disk = write_log()
    folder = GOLDEN / NEWEST
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "wal").mkdir(parents=True)
    for name, content in files_of(disk).items():
        (folder / name).write_bytes(content)
    (folder / "recovered.json").write_text(json.dumps(recovered(disk), indent=1) + "\n")


def test_this_release_writes_the_newest_format_byte_for_byte() -> None:
    folder = GOLDEN / NEWEST
    kept = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    del kept["recovered.json"]
    assert files_of(write_log()) == kept


@pytest.mark.parametrize("folder", sorted(path.name for path in GOLDEN.glob("format-*")))
def test_every_format_is_read(folder: str) -> None:
    found = recovered(load(GOLDEN / folder))
    assert found == json.loads((GOLDEN / folder / "recovered.json").read_text())


if __name__ == "__main__":
    if sys.argv[1:] != ["--rewrite"]:
        sys.exit("usage: python -m tests.unit.store.test_golden --rewrite")
    rewrite()
