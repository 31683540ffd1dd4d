"""Fetches batches back from the disk for the logs, on a thread of its own if that may take long: which reads go when.
What one does is in batch_loader.py.

Requests go in rounds, each in the order of the disk: those that need the same batch come one after the other, and
queues that go on at the same pace stay close together. Only a few are on their way at a time, so that a thousand queues
do not have a thousand batches in memory.

An error of the disk is not damage: a read that failed is tried again, later, and only what cannot be read after several
attempts is given up. Without descriptors or memory for it (EMFILE, ENOMEM), it is tried until there are some.
"""

import errno
from collections import deque
from collections.abc import Callable
from typing import Final

from broker.clock import Clock
from broker.faults import Faults
from broker.store.alarm import Alarm, Sleeper
from broker.store.batch_cache import CACHE_SIZE
from broker.store.batch_loader import BatchLoader, names_of
from broker.store.data_files import DataFiles
from broker.store.disk_error import DiskError
from broker.store.logs import Logs
from broker.store.read_request import BATCHES_SIZE_MAX, COUNT_MAX, LogReader, Read
from broker.store.runner import Job, Runner, tell
from broker.turn import Deferred

ATTEMPTS_MAX: Final = 3
"""So often a read is tried when the disk says that it cannot."""
RETRY_MS: Final = 100

READS_MAX: Final = 3
"""Reads that are on their way at a time: one that is told, one that is read, and one that is next."""
READ_MEMORY_MAX: Final = CACHE_SIZE + READS_MAX * int(BATCHES_SIZE_MAX)
"""Bytes of batches that are in memory for those who read, about."""

QUICK_SIZE: Final = 5 << 18
"""Batches of so many bytes, at the most, are read by the owner's thread if they are in the system's memory: to copy and
to verify a MiB takes a quarter of a millisecond, and to have another thread do so as much again, since they wait for
each other."""

QUICK_COUNT: Final = 16
"""And so many of them: each costs some microseconds, whatever its size."""

_FINAL_ERRORS: Final = (errno.EIO, errno.ENOENT)


class Fetcher(LogReader):
    """The reads of one data directory."""

    def __init__(self, files: DataFiles, logs: Logs, runner: Runner, clock: Clock) -> None:
        self.loader = BatchLoader(files, clock)
        self._files = files
        self._logs = logs
        self._runner = runner
        self._faults = clock.faults
        self._retries = _Retries(clock, runner)
        self._row = _Row()
        self._postponed: list[_Fetch] = []
        """Small reads for which there was no time in this turn."""
        self._reading = 0
        """Reads that are on their way."""

    def fetch(self, read: Read) -> bool:
        self.loader.used()
        is_known = read.segment_extent is None or read.index is not None
        if is_known and self.loader.take_cached(read):
            return True
        turn = self._logs.batch.turn if is_known and _is_small(read) else None
        is_late = turn is not None and turn.out_of_time()
        if turn is not None and not is_late and self._is_quick(read):
            return True
        job = _Fetch(self.loader, read, self._fetched)
        self._files.use(job.names)
        if turn is not None and is_late:
            if not self._postponed:
                turn.defer(_NextTurn(self))
            self._postponed.append(job)
        else:
            self._row.add(job)
            self._begin()
        return False

    def go_on(self) -> None:
        """A new turn: read what there was no time for in the last one."""
        jobs, self._postponed = self._postponed, []
        turn = self._logs.batch.turn
        assert turn is not None
        while jobs:
            job = jobs.pop(0)
            if self._is_quick(job.read):
                self._files.release(job.names)
                self._logs.fetched(job.read)
            else:
                self._row.add(job)
                self._begin()
            if jobs and turn.out_of_time():
                self._postponed = jobs + self._postponed
                turn.defer(_NextTurn(self))
                return

    def _begin(self) -> None:
        """Begin as many of those that wait as may be on their way."""
        while self._reading < READS_MAX:
            jobs = self._row.take()
            if not jobs:
                return
            self._reading += 1
            self._runner.submit(jobs[0] if len(jobs) == 1 else _Together(jobs, self._faults))

    def _is_quick(self, read: Read) -> bool:
        """Whether the system had all of it in its memory. Another thread would cost more: each would wait for the
        other."""
        turn = self._logs.batch.turn
        if turn is not None:
            turn.costly = True
        return self.loader.take_quick(read)

    def _fetched(self, job: "_Fetch") -> None:
        """A job is done. On the owner's thread."""
        if job.error is not None and job.failures < ATTEMPTS_MAX:
            self._retries.add(job)
            return
        self._files.release(job.names)
        job.group.count -= 1
        if job.group.count == 0:
            self._reading -= 1
            self._begin()
        self._logs.fetched(job.read)

    def fetch_now(self, read: Read) -> None:
        error: DiskError | None = None
        for _ in range(ATTEMPTS_MAX):
            error = self.loader.load(read)
            if error is None:
                return
        if error is not None and error.wants_descriptor:
            raise error  # it must not be taken for lost


def _is_small(read: Read) -> bool:
    """Whether the owner's thread may read it, if it need not wait for it."""
    return len(read.batches) <= QUICK_COUNT and sum(int(location.size) for location in read.batches) <= QUICK_SIZE


class _NextTurn(Deferred):
    def __init__(self, fetcher: Fetcher) -> None:
        self._fetcher = fetcher

    def resume(self) -> None:
        self._fetcher.go_on()


class _Fetch(Job):
    """One read."""

    def __init__(self, loader: BatchLoader, read: Read, done: Callable[["_Fetch"], None]) -> None:
        self.read = read
        self.names = names_of(read)
        """The files it needs."""
        self.failures = 0
        """How often the disk has said that it cannot."""
        self.error: DiskError | None = None
        self.group = _Group()
        self._loader = loader
        self._done = done

    def run(self) -> None:
        self.error = self._loader.load(self.read)
        if self.error is not None and self.error.errno in _FINAL_ERRORS:
            self.failures += 1

    def finished(self) -> None:
        self._done(self)

    def size(self) -> int:
        """How many positions it will tell, at the most."""
        read = self.read
        return int(COUNT_MAX) if read.segment_extent is not None and read.index is None else int(read.end - read.start)

    def crashed(self, error: Exception) -> None:
        """Tried again like one that the disk has refused; for want of memory, until there is some."""
        if not isinstance(error, MemoryError):
            self.failures += 1
        self.error = DiskError(errno.EIO, repr(error), ", ".join(self.names), "log.read")
        self._done(self)


class _Group:
    """Reads that were begun together."""

    def __init__(self) -> None:
        self.count = 1
        """How many of them are not over."""


class _Together(Job):
    """Small reads that are one job: to hand something over between threads costs as much as to read some hundred
    messages."""

    def __init__(self, jobs: list[_Fetch], faults: Faults) -> None:
        self._jobs = jobs
        self._faults = faults
        self._crashed: dict[_Fetch, Exception] = {}
        group = _Group()
        group.count = len(jobs)
        for job in jobs:
            job.group = group

    def run(self) -> None:
        for job in self._jobs:
            try:
                job.run()
            except Exception as error:
                self._crashed[job] = error

    def finished(self) -> None:
        for job in self._jobs:
            tell(job, self._crashed.get(job), self._faults)


class _Row:
    """Reads that wait. They go in rounds, each in the order of the disk; who comes meanwhile is in the next one."""

    def __init__(self) -> None:
        self._round: list[_Fetch] = []
        """What is left of it, the next one last."""
        self._waiting: list[_Fetch] = []

    def add(self, job: _Fetch) -> None:
        """One more."""
        self._waiting.append(job)

    def take(self) -> list[_Fetch]:
        """The next ones, which together tell no more than one may; none if nobody waits."""
        if not self._round:
            self._round = self._waiting
            self._round.reverse()  # those of the same place go in the order in which they came
            self._round.sort(key=_location_of, reverse=True)
            self._waiting = []
        taken: list[_Fetch] = []
        count = 0
        while self._round:
            count += self._round[-1].size()
            if taken and count > COUNT_MAX:
                break
            taken.append(self._round.pop())
        return taken


def _location_of(job: _Fetch) -> tuple[bool, int, int]:
    """Where it begins to read: what is in segments is older than what is in the write-ahead log."""
    read = job.read
    for location in read.batches:
        return read.segment_extent is None, int(location.generation), int(location.offset)
    return read.segment_extent is None, 0 if read.segment_extent is None else int(read.segment_extent.segment.number), 0


class _Retries(Sleeper):
    """Reads that failed, until they are tried again."""

    def __init__(self, clock: Clock, runner: Runner) -> None:
        self._alarm = Alarm(clock, self)
        self._runner = runner
        self._waiting: deque[_Fetch] = deque()

    def add(self, job: _Fetch) -> None:
        if not self._waiting:
            self._alarm.set(RETRY_MS)
        self._waiting.append(job)

    def wake(self) -> None:
        while self._waiting:
            self._runner.submit(self._waiting.popleft())
