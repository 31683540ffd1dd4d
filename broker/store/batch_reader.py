"""Fetches batches back from the disk for the logs, on a thread of its own if that may take long. Nothing is believed
that its checksum does not vouch for.

Batches hold records of many logs, and what was read last is kept for those that come for the rest (batch_cache.py).
Requests go in rounds, each in the order of the disk: those that need the same batch come one after the other, and
queues that go on at the same pace stay close together. Only a few are on their way at a time, so that a thousand queues
do not have a thousand batches in memory.

An error of the disk is not damage: a read that failed is tried again, later, and only what cannot be read after several
attempts is given up. Without descriptors or memory for it (EMFILE, ENOMEM), it is tried until there are some.
"""

import errno
from collections import deque
from typing import Final

from broker.clock import Clock
from broker.store.batch import BLOCK, HEADER_SIZE, BatchLocation, StoredBatch
from broker.store.batch_cache import CACHE_SIZE, BatchCache, key_of
from broker.store.compaction import Alarm, Sleeper
from broker.store.disk_error import DiskError
from broker.store.filesystem import File, FileSystem
from broker.store.kept_files import KeptFiles
from broker.store.logs import Logs
from broker.store.read_request import BATCHES_SIZE_MAX, COUNT_MAX, LogReader, Read
from broker.store.runner import Job, Runner, tell
from broker.store.segment import read_cached, read_stored, segment_name
from broker.store.segment_extent import Segment
from broker.store.survey import extents_of
from broker.store.wal_file import file_name
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

IDLE_MS: Final = 2000
"""After so long without a read nothing is kept any more."""

_FINAL_ERRORS: Final = (errno.EIO, errno.ENOENT)


def page_name(number: int) -> str:
    """The name of a page file (page_files.py)."""
    return f"{number:016x}.page"


class Fetcher(LogReader):
    """The files of one data directory, read."""

    def __init__(
        self,
        filesystem: FileSystem,
        wal_directory: str,
        segment_directory: str,
        page_directory: str,
        logs: Logs,
        runner: Runner,
        clock: Clock,
    ) -> None:
        self._wal_directory = wal_directory
        self._segment_directory = segment_directory
        self._page_directory = page_directory
        self._logs = logs
        self._runner = runner
        self.faults = clock.faults
        self._in_use: dict[str, int] = {}
        self._cache = BatchCache()
        self._kept = KeptFiles(filesystem)
        self._cleaner = _Cleaner(clock, self._cache, self._kept)
        self._retries = _Retries(clock, runner)
        self._row = _Row()
        self._postponed: list[_Fetch] = []
        """Small reads for which there was no time in this turn."""
        self._reading = 0
        """Reads that are on their way."""

    def in_use(self, generation: int) -> bool:
        """Whether a read needs this file of the write-ahead log: it must not be used for anything else now."""
        return file_name(generation) in self._in_use

    def segment_in_use(self, number: int) -> bool:
        """Whether a read needs this segment: it must not be removed now."""
        return segment_name(number) in self._in_use

    def page_in_use(self, file: Segment) -> bool:
        """The same of a page file."""
        return _name_of(file) in self._in_use

    def forget_page(self, file: Segment) -> None:
        """That page file is removed."""
        self._kept.forget(self.path_of(file))

    def path_of(self, segment: Segment) -> str:
        """The file of a segment, or of a page file."""
        return f"{self._page_directory if segment.on_pages else self._segment_directory}/{_name_of(segment)}"

    def _path(self, read: Read, name: str) -> str:
        return (
            f"{self._wal_directory}/{name}"
            if read.segment_extent is None
            else self.path_of(read.segment_extent.segment)
        )

    def fetch(self, read: Read) -> bool:
        self._cleaner.used()
        is_known = read.segment_extent is None or read.index is not None
        if is_known and self._is_cached(read):
            return True
        turn = self._logs.batch.turn if is_known and _is_small(read) else None
        is_late = turn is not None and turn.out_of_time()
        if turn is not None and not is_late and self._is_quick(read):
            return True
        names = _names(read)
        for name in names:
            self._in_use[name] = self._in_use.get(name, 0) + 1
        job = _Fetch(self, read, names)
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
                self._release(job)
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
            self._runner.submit(jobs[0] if len(jobs) == 1 else _Together(jobs))

    def _is_cached(self, read: Read) -> bool:
        """Fill in what is in the cache; whether it is all."""
        used_up = _used_up(read)
        for location, batch in read.batches.items():
            if batch is None:
                self._take_cached(read, location, used_up)
        return None not in read.batches.values()

    def _take_cached(self, read: Read, location: BatchLocation, used_up: list[BatchLocation]) -> bool:
        """Fill in that batch if it is in the cache, where it does not stay if nobody else needs it; whether it is."""
        key = key_of(read.segment_extent is not None, location)
        batch = self._cache.get(key)
        if batch is None:
            return False
        read.batches[location] = batch
        if location in used_up:
            self._cache.drop(key)
        return True

    def _is_quick(self, read: Read) -> bool:
        """Fill in what the system has in its memory; whether it was all. Another thread would cost more: each would
        wait for the other."""
        turn = self._logs.batch.turn
        if turn is not None:
            turn.costly = True
        used_up = _used_up(read)
        try:
            for name in _names(read):
                file = self._kept.take(self._path(read, name))
                for location in _missing(read, name):
                    batch = read_cached(file, location)
                    if batch is None:
                        break
                    self._fill_in(read, location, batch, used_up)
                self._kept.keep(file)
        except DiskError:  # the other thread will see it, and try again
            return False
        return None not in read.batches.values()

    def fetched(self, job: "_Fetch") -> None:
        """A job is done. Called by it, on the owner's thread."""
        if job.error is not None and job.failures < ATTEMPTS_MAX:
            self._retries.add(job)
            return
        self._release(job)
        job.group.count -= 1
        if job.group.count == 0:
            self._reading -= 1
            self._begin()
        self._logs.fetched(job.read)

    def _release(self, job: "_Fetch") -> None:
        for name in job.names:
            left = self._in_use[name] - 1
            if left:
                self._in_use[name] = left
            else:
                del self._in_use[name]

    def fetch_now(self, read: Read) -> None:
        error: DiskError | None = None
        for _ in range(ATTEMPTS_MAX):
            error = self.load(read)
            if error is None:
                return
        if error is not None and error.wants_descriptor:
            raise error  # it must not be taken for lost

    def load(self, read: Read) -> DiskError | None:
        """Fill in what is not there yet; the last error, if there was one."""
        error: DiskError | None = None
        if read.segment_extent is None and self._is_cached(read):
            return None
        for name in sorted(_names(read)):
            try:
                file = self._kept.take(self._path(read, name))
            except DiskError as unopened:
                error = unopened
                continue
            unread = self._fill(read, file, name)
            if unread is None:
                self._kept.keep(file)
            else:
                file.close()
                error = unread
        return error

    def _fill(self, read: Read, file: File, name: str) -> DiskError | None:
        """Read from one of the files."""
        error: DiskError | None = None
        segment_extent = read.segment_extent
        try:
            if segment_extent is not None and read.index is None:
                read.index = extents_of(file, segment_extent, int(read.log.number))
                read.choose()
        except DiskError as unread:
            return unread
        used_up = _used_up(read)
        for location in _missing(read, name):
            try:
                if not self._take_cached(read, location, used_up):
                    self._fill_in(read, location, read_stored(file, location), used_up)
            except DiskError as unread:
                error = unread
        return error

    def _fill_in(
        self, read: Read, location: BatchLocation, batch: StoredBatch | None, used_up: list[BatchLocation]
    ) -> None:
        """This was read, None if it is damaged: kept for those who come for the rest."""
        read.batches[location] = batch
        if batch is not None and location not in used_up:
            self._cache.put(key_of(read.segment_extent is not None, location), batch)

    def cached_size(self) -> int:
        """Bytes of batches that are kept for those who come for the rest."""
        return self._cache.size

    def close(self) -> None:
        """Nobody reads any more."""
        self._kept.close()


def _name_of(segment: Segment) -> str:
    return page_name(segment.number) if segment.on_pages else segment_name(segment.number)


def _is_small(read: Read) -> bool:
    """Whether the owner's thread may read it, if it need not wait for it."""
    return len(read.batches) <= QUICK_COUNT and sum(int(location.size) for location in read.batches) <= QUICK_SIZE


def _missing(read: Read, name: str) -> list[BatchLocation]:
    """The batches of that file that are not filled in."""
    return [
        location
        for location, batch in read.batches.items()
        if batch is None and (read.segment_extent is not None or file_name(location.generation) == name)
    ]


def _used_up(read: Read) -> list[BatchLocation]:
    """The batches that nobody else needs: all of each is this log's, and the read goes on to its end."""
    sizes: dict[BatchLocation, int] = {}
    through: dict[BatchLocation, int] = {}
    for extent in read.extents:
        location = extent.location
        sizes[location] = sizes.get(location, 0) + int(extent.end - extent.start)
        through[location] = int(extent.first + extent.count)
    whole = [location for location, size in sizes.items() if size > int(location.size) - HEADER_SIZE - BLOCK]
    return [location for location in whole if int(read.end) >= through[location]]


def _names(read: Read) -> set[str]:
    """The files it needs."""
    if read.segment_extent is not None:
        return {_name_of(read.segment_extent.segment)}
    return {file_name(location.generation) for location in read.batches}


class _NextTurn(Deferred):
    def __init__(self, fetcher: Fetcher) -> None:
        self._fetcher = fetcher

    def resume(self) -> None:
        self._fetcher.go_on()


class _Fetch(Job):
    def __init__(self, fetcher: Fetcher, read: Read, names: set[str]) -> None:
        self.read = read
        self.names = names
        self.failures = 0
        """How often the disk has said that it cannot."""
        self.error: DiskError | None = None
        self.group = _Group()
        self.faults = fetcher.faults
        self._fetcher = fetcher

    def run(self) -> None:
        self.error = self._fetcher.load(self.read)
        if self.error is not None and self.error.errno in _FINAL_ERRORS:
            self.failures += 1

    def finished(self) -> None:
        self._fetcher.fetched(self)

    def size(self) -> int:
        """How many positions it will tell, at the most."""
        read = self.read
        return int(COUNT_MAX) if read.segment_extent is not None and read.index is None else int(read.end - read.start)

    def crashed(self, error: Exception) -> None:
        """Tried again like one that the disk has refused; for want of memory, until there is some."""
        if not isinstance(error, MemoryError):
            self.failures += 1
        self.error = DiskError(errno.EIO, repr(error), ", ".join(self.names), "log.read")
        self._fetcher.fetched(self)


class _Group:
    """Reads that were begun together."""

    def __init__(self) -> None:
        self.count = 1
        """How many of them are not over."""


class _Together(Job):
    """Small reads that are one job: to hand something over between threads costs as much as to read some hundred
    messages."""

    def __init__(self, jobs: list[_Fetch]) -> None:
        self._jobs = jobs
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
            tell(job, self._crashed.get(job), self._jobs[0].faults)


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


class _Cleaner(Sleeper):
    """Empties the cache, and closes the file that is kept open, when nobody reads any more."""

    def __init__(self, clock: Clock, cache: BatchCache, kept: KeptFiles) -> None:
        self._alarm = Alarm(clock, self)
        self._cache = cache
        self._kept = kept
        self._used = False
        self._waits = False

    def used(self) -> None:
        """Somebody reads."""
        self._used = True
        if not self._waits:
            self._waits = True
            self._alarm.set(IDLE_MS)

    def wake(self) -> None:
        self._waits = self._used
        if self._used:
            self._used = False
            self._alarm.set(IDLE_MS)
        else:
            self._cache.clear()
            self._kept.close()


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
