"""broker/store/batch_reader.py: which of the reads that wait goes next, and how many are on their way."""

from __future__ import annotations

import pytest

from broker.store.batch import location_at
from broker.store.batch_loader import IDLE_MS
from broker.store.batch_reader import READS_MAX, Fetcher
from broker.store.data_files import DataFiles
from broker.store.log import Log
from broker.store.logs import Logs
from broker.store.read_request import COUNT_MAX, Read
from broker.store.runner import Job, Runner
from broker.store.wal_file import file_name
from tests.support.fake_clock import FakeClock
from tests.support.faulty_disk import Fault, FaultyDisk
from tests.support.store import Collected, Running, weighed

MIB = 1 << 20


class Later(Runner):
    """Keeps what it is given until the test runs it."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []

    def submit(self, job: Job) -> None:
        self.jobs.append(job)

    def finish(self) -> None:
        job = self.jobs.pop(0)
        job.run()
        job.finished()


class Reader:
    """A fetcher whose files do not exist, and the reads that it has done, by their generations and offsets in MiB."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.logs = Logs(self.clock)
        self.runner = Later()
        self.files = DataFiles(FaultyDisk(), "/wal", "/segments", "/pages")
        self.fetcher = Fetcher(self.files, self.logs, self.runner, self.clock)

    def ask(self, generation: int, at: int, count: int = COUNT_MAX) -> None:
        """A read of one batch, which may tell so many positions."""
        read = Read(self.logs.open(1), 0, count, 1, None)
        read.batches[location_at(generation, at * MIB, 4096)] = None
        assert not self.fetcher.fetch(read)

    def under_way(self) -> list[tuple[int, int]]:
        found: list[tuple[int, int]] = []
        for job in self.runner.jobs:
            (location,) = job.read.batches  # type: ignore[attr-defined]
            found.append((int(location.generation), int(location.offset) // MIB))
        return found

    def finish(self) -> tuple[int, int]:
        """One more is read to its end; which."""
        first = self.under_way()[0]
        job = self.runner.jobs[0]
        job.run()
        job.failures = 99  # type: ignore[attr-defined] # the file is not there, and is not tried again
        self.runner.jobs.pop(0).finished()
        return first


def test_only_a_few_are_on_their_way() -> None:
    """A thousand queues would otherwise have a thousand batches in memory that nobody has looked at."""
    reader = Reader()
    for at in range(100):
        reader.ask(1, at)
    assert len(reader.runner.jobs) == READS_MAX
    reader.finish()
    assert len(reader.runner.jobs) == READS_MAX
    while reader.runner.jobs:
        reader.finish()
    assert not reader.files.in_use(file_name(1))


def test_small_ones_are_read_together() -> None:
    """To hand one over to the thread costs as much as to read some hundred messages."""
    reader = Reader()
    for _ in range(READS_MAX):
        reader.ask(1, 0)
    for at in range(10):
        reader.ask(2, at, COUNT_MAX // 4)
    for _ in range(READS_MAX):
        job = reader.runner.jobs.pop(0)
        job.run()
        job.failures = 99  # type: ignore[attr-defined]
        job.finished()
    found: list[list[int]] = []
    while reader.runner.jobs:
        together = reader.runner.jobs.pop(0)
        together.run()
        found.append([int(next(iter(each.read.batches)).offset) // MIB for each in together._jobs])  # type: ignore[attr-defined]
        for each in together._jobs:  # type: ignore[attr-defined]
            each.failures = 99
        together.finished()
    assert found == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert not reader.files.in_use(file_name(2))
    reader.ask(3, 0)
    assert len(reader.runner.jobs) == 1, "there is room for the next ones"


def test_they_go_in_the_order_of_the_disk() -> None:
    """Queues that share batches come for them one after the other, while these are still in memory."""
    reader = Reader()
    for _ in range(READS_MAX):
        reader.ask(1, 0)
    for at in (7, 3, 5, 3):
        reader.ask(2, at)
    reader.ask(1, 9)
    done = [reader.finish() for _ in range(READS_MAX + 5)]
    assert done[READS_MAX:] == [(1, 9), (2, 3), (2, 3), (2, 5), (2, 7)]


def test_who_comes_later_is_in_the_next_round() -> None:
    """A queue that is ahead, and always wants what comes next, does not leave behind those that are not."""
    reader = Reader()
    for _ in range(READS_MAX):
        reader.ask(1, 0)
    reader.ask(1, 20)
    reader.ask(1, 10)
    done = [reader.finish()]
    for at in (5, 11, 30):
        reader.ask(1, at)
    done += [reader.finish() for _ in range(READS_MAX + 4)]
    assert [at for _, at in done[READS_MAX:]] == [10, 20, 5, 11, 30]


@pytest.mark.parametrize("count", [1, READS_MAX + 3])
def test_a_read_that_fails_gives_its_turn_to_the_next(count: int) -> None:
    reader = Reader()
    for at in range(count):
        reader.ask(1, at)
    for _ in range(count):
        reader.finish()
    assert not reader.runner.jobs
    reader.ask(1, 0)
    assert reader.under_way() == [(1, 0)]


def opens(running: Running) -> int:
    disk = running.disk
    assert isinstance(disk, FaultyDisk)
    return disk.sites.count("log.open")


def read(running: Running, log: Log) -> None:
    """Every record, each in a read of its own."""
    log.user = user = Collected()
    for position in range(int(log.positions.next)):
        running.logs.read(log, position, position + 1, 100)
        running.turn.run()  # where the time was over, it is read in the next one
        running.read_thread.drain()
    assert len(user.records) == log.positions.live()


def test_a_file_stays_open_until_nobody_reads_any_more() -> None:
    running = Running()
    log = running.declare()
    running.fill(log, 4)
    read(running, log)
    assert opens(running) == 1
    running.clock.advance(3 * IDLE_MS)
    read(running, log)
    assert opens(running) == 2


def test_a_file_that_could_not_be_read_is_opened_again() -> None:
    running = Running()
    log = running.declare()
    running.fill(log, 4)
    disk = running.disk
    assert isinstance(disk, FaultyDisk)
    disk.faults.append(Fault("error", "log.read"))
    log.user = user = Collected()
    running.logs.read(log, 0, 1, 100)
    for _ in range(3):
        running.read_thread.drain()
        running.clock.advance(1000)
    assert 0 in user.records
    assert opens(running) == 2


@pytest.mark.parametrize("has_all_in_memory", [False, True])
def test_no_batch_is_kept_that_nobody_will_ask_for(has_all_in_memory: bool) -> None:
    """One log whose reads end within batches: each finds the rest of the last one in the cache, where it does not
    stay."""
    running = Running()
    disk, reader = running.disk, running.logs.reader
    assert isinstance(disk, FaultyDisk)
    assert isinstance(reader, Fetcher)
    disk.has_all_in_memory = has_all_in_memory
    log = running.declare()
    for position in range(30):
        running.append(log, weighed(b"%d" % position, 1000))
        if position % 5 == 4:
            running.sync()
    log.user = user = Collected()
    kept = []
    for position in range(0, 30, 4):
        running.logs.read(log, position, 30, 1 << 20, count=4)
        running.turn.run()
        running.read_thread.drain()
        kept.append(reader.loader.cache.size // 8192)
    assert len(user.records) == 30
    assert kept == [1, 1, 1, 1, 0, 1, 1, 0], "batches of five records"
