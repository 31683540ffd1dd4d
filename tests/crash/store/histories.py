"""Random lives of a log on a disk that fails, and what must hold at every moment of them.

A history is a chain of sessions on one disk: open, append, sync, retire, some error perhaps, then a clean end, a kill
or a power failure. Before and after every operation that changes the disk, disks are derived as a crash at that moment
may leave them; on each the log is opened, compared with what was promised, crashed again and opened again.

docs/durability-format.md, "Promises": a promise leaves only after the sync that covers it; a torn last batch is cut;
the node starts.
"""

from __future__ import annotations

import errno
import itertools
import random
from collections.abc import Sequence

from broker.store.batch import BLOCK
from broker.store.commit_group import Listener
from broker.store.datadir import DataDir
from broker.store.disk_error import DiskError
from broker.store.recovery import Recovery
from broker.store.wal import WriteAheadLog
from broker.store.wal_file import START
from broker.store.wal_writer import LogEnd, WalOptions, WalWriter
from tests.crash.store.search import Search, Violation, new_disk
from tests.support.faulty_disk import Fault, FaultyDisk, PowerLoss
from tests.support.hand_runner import HandRunner, StrictFaults

Record = tuple[int, int, int, bytes]

FILE_SIZE = START + 6 * BLOCK
BATCH_SIZE = 2500
WRITE_SITES = ("wal.write", "wal.write", "wal.rewrite", "wal.header")
FAULT_SITES = (
    *(
        "",
        "",
        "wal.write",
        "wal.write",
        "wal.sync",
        "wal.sync",
        "wal.sync",
        "wal.sync",
        "wal.rewrite",
        "wal.rewrite.sync",
    ),
    *("wal.header.sync", "wal.publish.directory", "wal.retire.directory", "wal.fill.sync"),
)
BUSY_SITES = frozenset(
    (
        "wal.write",
        "wal.sync",
        "wal.rewrite",
        "wal.rewrite.sync",
        "wal.header",
        "wal.publish",
        "wal.recycle",
        "wal.remove",
        "wal.cut",
    )
)
"""Where most can go wrong."""


class Expected:
    """What may be found on the disk now."""

    def __init__(self) -> None:
        self.promised: list[Record] = []
        self.in_flight: list[Record] = []
        """Handed to the writer and not promised: all of it or nothing."""
        self.gone_before = 0
        """Records with smaller numbers are in files that have left the log for good."""
        self.needed_from = 0
        """Records with smaller numbers are in files that are allowed to leave it."""

    def check(self, found: Sequence[Record]) -> None:
        numbers = [record[0] for record in found]
        if numbers and numbers != list(range(numbers[0], numbers[0] + len(numbers))):
            raise Violation(f"numbers out of order: {numbers}")
        promised = {record[0]: record for record in self.promised}
        through = self.promised[-1][0] if self.promised else 0
        known = [record for record in found if record[0] <= through]
        for record in known:
            if record[0] < self.gone_before:
                raise Violation(f"record {record[0]} is from a file that was retired")
            if promised.get(record[0]) != record:
                raise Violation(f"record {record[0]} is not the one that was promised")
        missing = [number for number in promised if number >= self.needed_from and number not in set(numbers)]
        if missing:
            raise Violation(f"promised records are lost: {missing}")
        behind = [record for record in found if record[0] > through]
        if behind not in ([], self.in_flight):
            raise Violation(
                f"records {[record[0] for record in behind]} were never appended, or are part of a commit group"
            )

    def copied(self) -> Expected:
        made = Expected()
        made.promised, made.in_flight = list(self.promised), list(self.in_flight)
        made.gone_before, made.needed_from = self.gone_before, self.needed_from
        return made

    def adopt(self, found: list[Record]) -> None:
        """The log was opened: all that was found is promised."""
        start = found[0][0] if found else 1 << 62
        self.promised = [record for record in self.promised if record[0] < start] + found
        self.in_flight = []
        if found:
            self.needed_from = start
            self.gone_before = min(self.gone_before, start)


class Promise(Listener):
    """Checks that listeners are called once, in order, and with the right number."""

    def __init__(self, session: Session, records: list[Record]) -> None:
        self.session = session
        self.records = records

    def durable(self, through: int) -> None:
        expected = self.session.expected
        if self.records != self.session.unpromised[: len(self.records)] or through < self.records[-1][0]:
            raise Violation(f"promised out of order, through {through}")
        del self.session.unpromised[: len(self.records)]
        expected.promised += self.records
        expected.in_flight = expected.in_flight[len(self.records) :]


class Build:
    """The program under test; planted bugs replace parts of it."""

    log: type[WriteAheadLog] = WriteAheadLog
    writer: type[WalWriter] = WalWriter
    recovery: type[Recovery] = Recovery
    forgotten: frozenset[str] = frozenset()
    runner: type[HandRunner] = HandRunner


class Session:
    """One run of the program on a disk."""

    def __init__(
        self, build: Build, disk: FaultyDisk, expected: Expected, chance: random.Random, spare_count: int | None = None
    ) -> None:
        self.disk = disk
        self.expected = expected
        self.chance = chance
        self.unpromised: list[Record] = []
        self.failures: list[Exception] = []
        self.runner = build.runner(StrictFaults())
        self.found, self.data_dir, recovery = recover(build, disk)
        expected.check(self.found)
        spares = chance.randrange(3) if spare_count is None else spare_count
        options = WalOptions(FILE_SIZE, spares, lambda: chance.getrandbits(63), BATCH_SIZE)
        self.log = made_log(build).open(self.data_dir, recovery, self.runner, self.failures.append, options)
        self.log.faults = self.runner.faults
        self.report = recovery.report
        expected.adopt(self.found)

    def append(self) -> None:
        """One turn's records, at least one of which is promised to somebody."""
        made: list[Record] = []
        for _ in range(self.chance.choice((1, 1, 2, 5))):
            size = self.chance.choice((0, 10, 600, 2000, 6000, 9000) if self.chance.random() < 0.97 else (40_000,))
            body = self.chance.randbytes(8) + bytes([self.chance.randrange(256)]) * size
            log_id, kind = self.chance.randrange(1 << 40), self.chance.randrange(256)
            number = self.log.batch.append(log_id, kind, body[:5], body[5:])
            made.append((number, log_id, kind, body))
        self.unpromised += made
        self.log.batch.listen(Promise(self, made))

    def sync(self) -> None:
        self.log.sync()
        self.note_in_flight()

    def step(self) -> None:
        """Let the writer do one job."""
        if self.runner.jobs:
            self.runner.step()
            self.note_files()
            self.note_in_flight()

    def retire(self, count: int = 1) -> None:
        """Let the oldest files go; the last one stays."""
        files = self.log.files
        for file, following in list(itertools.pairwise(files))[:count]:
            self.expected.needed_from = max(self.expected.needed_from, following.first_sequence)
            self.log.retire(file.generation)

    def close(self) -> None:
        for _ in range(20):
            # Not left to the log's own close: observers must know what is in flight.
            if self.unpromised and not self.failures:
                self.sync()
                self.step()
        if self.unpromised and not self.failures:
            raise Violation("records were appended and synced, and nobody heard of them")
        if not self.failures:
            self.log.close()
        self.data_dir.close()

    def note_in_flight(self) -> None:
        if not self.expected.in_flight and self.runner.jobs:
            waiting = int(self.log.batch.record_count)
            self.expected.in_flight = self.unpromised[: len(self.unpromised) - waiting]

    def note_files(self) -> None:
        # A later file may begin with a copy of the last batch before it, so it is not always the oldest one that tells.
        self.expected.gone_before = max(self.expected.gone_before, min(file.first_sequence for file in self.log.files))


def made_log(build: Build) -> type[WriteAheadLog]:
    """The log with the writer of this build."""

    class Log(build.log):  # type: ignore[misc,name-defined]  # the base is the build's
        @staticmethod
        def make_writer(data_dir: DataDir, options: WalOptions, end: LogEnd) -> WalWriter:
            return build.writer(data_dir.filesystem, data_dir.wal, options, end)

    return Log


def recover(build: Build, disk: FaultyDisk) -> tuple[list[Record], DataDir, Recovery]:
    """What the log on this disk holds."""
    data_dir = DataDir.open(disk, "/data")
    recovery = build.recovery(data_dir)
    return list(recovery.records()), data_dir, recovery


class Histories(Search):
    """Runs histories until a number of states was looked at."""

    def __init__(self, budget: int, build: Build | None = None, seed: int = 0, per_operation: int = 4) -> None:
        super().__init__(budget, seed)
        self.build = build or Build()
        self.per_operation = per_operation
        self.sessions = 0

    def history(self, chance: random.Random) -> None:
        disk = new_disk(self.build.forgotten)
        expected = Expected()
        for _ in range(chance.choice((2, 3, 5))):
            self.sessions += 1
            broken = self.session(disk, expected, chance)
            ending = chance.choice(("kill", "kill", "power", "power"))
            if broken:
                self.failures += 1
            disk = disk.restarted() if ending == "kill" else next(disk.crash_states(chance.getrandbits(32), 1))

    def session(self, disk: FaultyDisk, expected: Expected, chance: random.Random) -> bool:
        """Whether it ended with an error of the disk."""
        if chance.random() < 0.8:
            disk.faults.append(random_fault(chance))
        disk.observer = lambda where, site: self.look(where, site, expected, chance)
        try:
            return self.run_session(disk, expected, chance)
        except PowerLoss:
            return False
        except DiskError:
            if any(fault.seen for fault in disk.faults):
                return True
            raise
        finally:
            disk.observer = None

    def run_session(self, disk: FaultyDisk, expected: Expected, chance: random.Random) -> bool:
        running = Session(self.build, disk, expected, chance)
        if running.report.damaged:
            raise Violation(f"damage was reported where there is none: {running.report.damaged[0]}")
        for _ in range(chance.randrange(60)):
            if running.failures:
                break
            action = chance.choice(
                (running.append, running.append, running.sync, running.step, running.step, running.step, running.retire)
            )
            action()
            if chance.random() < 0.2:
                running.log.idle()
        if not running.failures and chance.random() < 0.3:
            running.close()
            if not running.failures and chance.random() < 0.5:
                self.check_clean_end(disk, expected)
        if running.failures:
            for _ in range(self.per_operation):
                self.check_state(disk.restarted(), expected, chance.getrandbits(48))
        if len(running.failures) > 1:
            raise Violation("the failure was told more than once")
        if running.failures and chance.random() < 0.5:
            running.sync()
            running.runner.drain()  # nothing more may be promised or written
        return bool(running.failures)

    def check_clean_end(self, disk: FaultyDisk, expected: Expected) -> None:
        found, _, recovery = recover(self.build, disk.restarted())
        recovery.finish()
        expected.check(found)
        if not recovery.report.clean or recovery.report.cut or recovery.report.damaged:
            raise Violation(f"a log that was closed is not clean: {recovery.report}")

    def look(self, disk: FaultyDisk, site: str, expected: Expected, chance: random.Random) -> None:
        """The states that a crash at this moment can leave."""
        if site in BUSY_SITES:
            count = self.per_operation
        else:
            count = 1 if chance.random() < 0.3 else 0
        for state in disk.crash_states(chance.getrandbits(48), count):
            self.check_state(state, expected, chance.getrandbits(48))
        if chance.random() < 0.2:
            self.check_state(disk.restarted(), expected, chance.getrandbits(48))

    def check_state(self, state: FaultyDisk, expected: Expected, seed: int) -> None:
        """Open the log as it is found, promise what is there, lose power, and open it again: the same must be there."""
        before = state.restarted()
        first = Session(self.build, state, expected.copied(), random.Random(seed))
        self.count(first, expected)
        after = next(state.crash_states(seed, 1))
        again, _, recovery = recover(self.build, after)
        recovery.finish()
        self.count_state()
        if again != first.found:
            raise Violation(f"recovered twice, differently: {len(first.found)} records, then {len(again)}")
        for report in (first.report, recovery.report):
            if report.damaged:
                raise Violation(f"damage was reported where there is none: {report.damaged[0]}")
        if seed % (12 if first.report.cut else 32) == 0:
            self.check_opening(before, expected.copied(), seed)

    def check_opening(self, state: FaultyDisk, expected: Expected, seed: int) -> None:
        """The second crash comes while the log is opened after the first one."""
        chance = random.Random(seed)
        state.observer = lambda disk, site: self.check_again(disk, expected, chance)
        Session(self.build, state, expected, random.Random(seed))

    def check_again(self, disk: FaultyDisk, expected: Expected, chance: random.Random) -> None:
        for state in disk.crash_states(chance.getrandbits(48), 1):
            self.met["crashes during recovery"] += 1
            Session(self.build, state, expected.copied(), chance)
            self.count_state()

    def count(self, session: Session, expected: Expected) -> None:
        report = session.report
        self.met["records"] += bool(report.record_count)
        self.met["a cut"] += bool(report.cut)
        self.met["several files"] += report.file_count > 1
        self.met["the batch in flight"] += report.next_sequence > (
            expected.promised[-1][0] + 1 if expected.promised else 1
        )
        self.met["a clean end"] += report.clean
        self.met["several batches cut"] += any(finding.size > 2 * BLOCK for finding in report.cut)
        self.count_state()


def random_fault(chance: random.Random) -> Fault:
    kind = chance.choice(("error", "error", "short", "interrupted", "crash", "crash", "crash after"))
    site = chance.choice(WRITE_SITES if kind == "short" else FAULT_SITES)
    skip = chance.randrange(3) if site else chance.randrange(80)
    arg = (
        chance.choice((1, 511, 4096, 5000)) if kind == "short" else chance.choice((errno.EIO, errno.EIO, errno.ENOSPC))
    )
    return Fault(kind, site, skip, arg)
