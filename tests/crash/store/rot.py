"""Damage to the files of a log that was at rest: bits flipped, files cut off or gone. Afterwards the log opens, and
says what it lost."""

from __future__ import annotations

import random

from broker.store.batch import BLOCK
from broker.store.recovery import Report
from broker.store.wal_file import START
from broker.store.wal_writer import WalOptions
from tests.crash.store.histories import Build, Record, made_log, recover
from tests.crash.store.search import Violation
from tests.support.faulty_disk import FaultyDisk
from tests.support.hand_runner import HandRunner, StrictFaults

FILE_SIZE = START + 3 * BLOCK
BATCH_SIZE = 4000
"""Some of the commit groups have two batches."""


def ignore(error: Exception) -> None:
    """The log remembers its failure itself."""


def log_at_rest(build: Build) -> tuple[FaultyDisk, list[Record]]:
    """A disk with a log of three files, two of them used before, that was interrupted after its last sync; and what is
    in it."""
    disk = FaultyDisk()
    disk.do_make_directory("datadir.create", "/data")
    chance = random.Random(7)
    runner = HandRunner(StrictFaults())
    _, data_dir, recovery = recover(build, disk)
    log = made_log(build).open(
        data_dir, recovery, runner, ignore, WalOptions(FILE_SIZE, 2, lambda: chance.getrandbits(63), BATCH_SIZE)
    )
    log.faults = runner.faults
    written: list[Record] = []
    for size in (300, 5000, 200, 700, 3000, 20, 6000, 900, 100, 100, 6000, 800):
        for number in range(2):
            body = chance.randbytes(size)
            written.append((log.batch.append(number, 1, body), number, 1, body))
        log.sync()
        runner.drain()
        while len(log.files) > 3:
            log.retire(log.files[0].generation)
            runner.drain()
    first = log.files[0].first_sequence
    return disk.restarted(), [record for record in written if record[0] >= first]


def judge(build: Build, disk: FaultyDisk, written: list[Record], what: str) -> None:
    """Open, compare, open again.

    Raises: Violation
    """
    try:
        found, data_dir, recovery = recover(build, disk)
        runner = HandRunner(StrictFaults())
        log = made_log(build).open(data_dir, recovery, runner, ignore, WalOptions(FILE_SIZE, 2, lambda: 5))
        log.faults = runner.faults
        log.batch.append(3, 3, b"the log goes on")
        log.sync()
        runner.drain()
        again, _, second = recover(build, disk.restarted())
    except Exception as error:
        raise Violation(f"{what}: {type(error).__name__}: {error}") from error
    if log.failure is not None or [record[3] for record in again] != [
        *(record[3] for record in found),
        b"the log goes on",
    ]:
        raise Violation(f"{what}: opened again, {len(again)} records instead of {len(found) + 1}: {second.report}")
    if not set(found) <= set(written) or found != sorted(found):
        raise Violation(f"{what}: records appear that nobody wrote")
    missing = len(written) - len(found)
    report = recovery.report
    told = sum(finding.lost_count for finding in report.damaged)
    if missing and told < missing and not may_be_cut(report, missing):
        raise Violation(f"{what}: {missing} records are missing and not told: {report}")


def may_be_cut(report: Report, missing: int) -> bool:
    """The last batch of all, of two records, may have been a write that was interrupted: it is told as cut, and its
    bytes are kept."""
    return missing == 2 and bool(report.cut) and bool(report.cut[-1].copy)


def copies(disk: FaultyDisk, build: Build) -> FaultyDisk:
    made = disk.restarted()
    made.forgotten = build.forgotten
    return made


def files_of(disk: FaultyDisk) -> list[str]:
    return [f"/data/wal/{name}" for name in sorted(disk.directory("/data/wal").cache) if name.endswith(".wal")]


def flip_bits(build: Build | None = None) -> int:
    """Flip one bit of every byte of every file. How many."""
    build = build or Build()
    disk, written = log_at_rest(build)
    count = 0
    for path in files_of(disk):
        content = bytes(disk.content(path))
        for offset, byte in enumerate(content):
            if not byte and content[max(0, offset - 64) : offset + 64].count(0) == 128 and offset % 64:
                continue  # long extents of zeros (padding, space ahead) are all alike: one byte in 64
            state = copies(disk, build)
            state.damage(path, offset, bytes([byte ^ (1 << offset % 8)]))
            judge(build, state, written, f"{path}, bit {offset % 8} of byte {offset}")
            count += 1
    return count


def cut_files(build: Build | None = None) -> int:
    """Cut every file off at every 64th byte. How many times."""
    build = build or Build()
    disk, written = log_at_rest(build)
    count = 0
    for path in files_of(disk):
        size = len(disk.content(path))
        for length in range(0, size, 64):
            state = copies(disk, build)
            for content in (state.inode(path).cache, state.inode(path).durable):
                del content[length:]
            judge_cut(build, state, written, f"{path} cut to {length}", path == files_of(disk)[-1])
            count += 1
    return count


def judge_cut(build: Build, disk: FaultyDisk, written: list[Record], what: str, last: bool) -> None:
    if not last:
        judge(build, disk, written, what)
        return
    # The end of the last file may be missing without a trace: such a file looks as if it had not been written yet.
    found, data_dir, recovery = recover(build, disk)
    made_log(build).open(data_dir, recovery, HandRunner(), ignore, WalOptions(FILE_SIZE))
    if found != written[: len(found)]:
        raise Violation(f"{what}: records appear that nobody wrote")


def remove_files() -> None:
    """Take each file of the log away; all but the oldest, whose absence is how a log grows older, and the newest leave
    a hole."""
    build = Build()
    disk, written = log_at_rest(build)
    for path in files_of(disk)[1:-1]:
        state = copies(disk, build)
        names = state.directory("/data/wal")
        for entries in (names.cache, names.durable):
            del entries[path.rpartition("/")[2]]
        judge(build, state, written, f"{path} is gone")
