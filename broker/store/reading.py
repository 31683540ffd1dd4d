"""Fetches batches back from the disk for the logs, on a thread of its own. Nothing is believed that its checksum does not vouch for.

Batches hold records of many logs, and what was read last is kept for those that come for the rest (batch_cache.py). Requests go in rounds,
each in the order of the disk: those that need the same batch come one after the other, and queues that go on at the same pace stay close
together. Only a few are on their way at a time, so that a thousand queues do not have a thousand batches in memory.

An error of the disk is not damage: a read that failed is tried again, later, and only what cannot be read after several attempts is given
up. Without descriptors or memory for it (EMFILE, ENOMEM), it is tried until there are some.
"""

import errno
import threading
from collections import deque
from typing import Final

from broker.clock import Clock
from broker.store.batch_cache import CACHE_SIZE, BatchCache, key_of
from broker.store.filesystem import DiskError, File, FileSystem
from broker.store.logs import Logs
from broker.store.moving import Alarm, Sleeper
from broker.store.read_back import BATCHES_SIZE_MAX, COUNT_MAX, LogReader, Read
from broker.store.runner import Job, Runner, tell
from broker.store.segment import read_stored, segment_name
from broker.store.survey import stretches_of
from broker.store.wal_file import file_name

ATTEMPTS_MAX: Final = 3
"""So often a read is tried when the disk says that it cannot."""
RETRY_MS: Final = 100

READS_MAX: Final = 3
"""Reads that are on their way at a time: one that is told, one that is read, and one that is next."""
READ_MEMORY_MAX: Final = CACHE_SIZE + READS_MAX * int(BATCHES_SIZE_MAX)
"""Bytes of batches that are in memory for those who read, about."""

KEPT_OPEN_MAX: Final = 4
"""Files that stay open for the next read."""

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
        self._kept = _Kept(filesystem)
        self._cleaner = _Cleaner(clock, self._cache, self._kept)
        self._retries = _Retries(clock, runner)
        self._row = _Row()
        self._reading = 0
        """Reads that are on their way."""

    def in_use(self, generation: int) -> bool:
        """Whether a read needs this file of the write-ahead log: it must not be used for anything else now."""
        return file_name(generation) in self._in_use

    def segment_in_use(self, number: int) -> bool:
        """Whether a read needs this segment: it must not be removed now."""
        return segment_name(number) in self._in_use

    def page_in_use(self, number: int) -> bool:
        """The same of a page file."""
        return page_name(number) in self._in_use

    def forget_page(self, number: int) -> None:
        """That page file is removed."""
        self._kept.forget(f"{self._page_directory}/{page_name(number)}")

    def _directory(self, read: Read) -> str:
        piece = read.piece
        if piece is None:
            return self._wal_directory
        return self._page_directory if piece.segment.on_pages else self._segment_directory

    def fetch(self, read: Read) -> bool:
        self._cleaner.used()
        if (read.piece is None or read.index is not None) and self._is_cached(read):
            return True
        names = _names(read)
        for name in names:
            self._in_use[name] = self._in_use.get(name, 0) + 1
        self._row.add(_Fetch(self, read, names))
        self._begin()
        return False

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
        batches = read.batches
        is_segment = read.piece is not None
        for place in batches:
            batch = self._cache.get(key_of(is_segment, place))
            if batch is None:
                return False
            batches[place] = batch
        return True

    def fetched(self, job: "_Fetch") -> None:
        """A job is done. Called by it, on the owner's thread."""
        if job.error is not None and job.failures < ATTEMPTS_MAX:
            self._retries.add(job)
            return
        for name in job.names:
            left = self._in_use[name] - 1
            if left:
                self._in_use[name] = left
            else:
                del self._in_use[name]
        job.group.count -= 1
        if job.group.count == 0:
            self._reading -= 1
            self._begin()
        self._logs.fetched(job.read)

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
        if read.piece is None and self._is_cached(read):
            return None
        for name in sorted(_names(read)):
            try:
                file = self._kept.take(f"{self._directory(read)}/{name}")
            except DiskError as unopened:
                error = unopened
                continue
            unread = _fill(read, file, name, self._cache)
            if unread is None:
                self._kept.keep(file)
            else:
                file.close()
                error = unread
        return error

    def close(self) -> None:
        """Nobody reads any more."""
        self._kept.close()


class _Kept:
    """The files that were read last stay open for the next reads, which mostly go on in them: each open and close may have to wait for its
    turn to run Python, as long as the loop is busy. Used by the owner's thread and by the one that reads: who has taken one has it alone.
    """

    def __init__(self, filesystem: FileSystem) -> None:
        self._filesystem = filesystem
        self._files: dict[str, File] = {}  # by path; the one that was read last stands last
        self._lock = threading.Lock()

    def take(self, path: str) -> File:
        """That file, open.

        Raises: DiskError
        """
        with self._lock:
            file = self._files.pop(path, None)
        return self._filesystem.open("log.open", path) if file is None else file

    def keep(self, file: File) -> None:
        """It was read without an error."""
        with self._lock:
            others = [self._files.pop(file.path, None)]
            self._files[file.path] = file
            if len(self._files) > KEPT_OPEN_MAX:
                others.append(self._files.pop(next(iter(self._files))))
        for other in others:
            if other is not None:
                other.close()

    def forget(self, path: str) -> None:
        """That file is removed: it must not take space any longer."""
        with self._lock:
            file = self._files.pop(path, None)
        if file is not None:
            file.close()

    def close(self) -> None:
        """Close what is kept."""
        with self._lock:
            files, self._files = self._files, {}
        for file in files.values():
            file.close()


def _fill(read: Read, file: File, name: str, cache: BatchCache) -> DiskError | None:
    """Read from one of the files."""
    error: DiskError | None = None
    piece = read.piece
    try:
        if piece is not None and read.index is None:
            read.index = stretches_of(file, piece, int(read.log.number))
            read.choose()
    except DiskError as unread:
        return unread
    for place, data in read.batches.items():
        if data is None and (piece is not None or file_name(place.generation) == name):
            key = key_of(piece is not None, place)
            batch = cache.get(key)
            try:
                if batch is None:
                    batch = read_stored(file, place)
                    if batch is not None:
                        cache.put(key, batch)
                read.batches[place] = batch
            except DiskError as unread:
                error = unread
    return error


def _names(read: Read) -> set[str]:
    """The files it needs."""
    piece = read.piece
    if piece is not None:
        segment = piece.segment
        return {page_name(segment.number) if segment.on_pages else segment_name(segment.number)}
    return {file_name(place.generation) for place in read.batches}


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
        return int(COUNT_MAX) if read.piece is not None and read.index is None else int(read.end - read.start)

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
    """Small reads that are one job: to hand something over between threads costs as much as to read some hundred messages."""

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
            self._round.sort(key=_place_of, reverse=True)
            self._waiting = []
        taken: list[_Fetch] = []
        count = 0
        while self._round:
            count += self._round[-1].size()
            if taken and count > COUNT_MAX:
                break
            taken.append(self._round.pop())
        return taken


def _place_of(job: _Fetch) -> tuple[bool, int, int]:
    """Where it begins to read: what is in segments is older than what is in the write-ahead log."""
    read = job.read
    for place in read.batches:
        return read.piece is None, int(place.generation), int(place.offset)
    return read.piece is None, 0 if read.piece is None else int(read.piece.segment.number), 0


class _Cleaner(Sleeper):
    """Empties the cache, and closes the file that is kept open, when nobody reads any more."""

    def __init__(self, clock: Clock, cache: BatchCache, kept: _Kept) -> None:
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
