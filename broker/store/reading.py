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
from broker.store.read_back import BATCHES_SIZE_MAX, LogReader, Read
from broker.store.runner import Job, Runner
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

IDLE_MS: Final = 2000
"""After so long without a read nothing is kept any more."""

_FINAL_ERRORS: Final = (errno.EIO, errno.ENOENT)


class Fetcher(LogReader):
    """The files of one data directory, read."""

    def __init__(
        self, filesystem: FileSystem, wal_directory: str, segment_directory: str, logs: Logs, runner: Runner, clock: Clock
    ) -> None:
        self._wal_directory = wal_directory
        self._segment_directory = segment_directory
        self._logs = logs
        self._runner = runner
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
            job = self._row.take()
            if job is None:
                return
            self._reading += 1
            self._runner.submit(job)

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
            directory = self._wal_directory if read.piece is None else self._segment_directory
            try:
                file = self._kept.take(f"{directory}/{name}")
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
    """The file that was read last stays open for the next read, which mostly goes on in it. Used by the owner's thread and by the one that
    reads: who has taken it has it alone.
    """

    def __init__(self, filesystem: FileSystem) -> None:
        self._filesystem = filesystem
        self._file: File | None = None
        self._lock = threading.Lock()

    def take(self, path: str) -> File:
        """That file, open.

        Raises: DiskError
        """
        with self._lock:
            file = self._file
            if file is not None and file.path == path:
                self._file = None
                return file
        return self._filesystem.open("log.open", path)

    def keep(self, file: File) -> None:
        """It was read without an error."""
        with self._lock:
            other, self._file = self._file, file
        if other is not None:
            other.close()

    def close(self) -> None:
        """Close what is kept."""
        with self._lock:
            file, self._file = self._file, None
        if file is not None:
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
        return {segment_name(piece.segment.number)}
    return {file_name(place.generation) for place in read.batches}


class _Fetch(Job):
    def __init__(self, fetcher: Fetcher, read: Read, names: set[str]) -> None:
        self.read = read
        self.names = names
        self.failures = 0
        """How often the disk has said that it cannot."""
        self.error: DiskError | None = None
        self._fetcher = fetcher

    def run(self) -> None:
        self.error = self._fetcher.load(self.read)
        if self.error is not None and self.error.errno in _FINAL_ERRORS:
            self.failures += 1

    def finished(self) -> None:
        self._fetcher.fetched(self)

    def crashed(self, error: Exception) -> None:
        """Tried again like one that the disk has refused; for want of memory, until there is some."""
        if not isinstance(error, MemoryError):
            self.failures += 1
        self.error = DiskError(errno.EIO, repr(error), ", ".join(self.names), "log.read")
        self._fetcher.fetched(self)


class _Row:
    """Reads that wait. They go in rounds, each in the order of the disk; who comes meanwhile is in the next one."""

    def __init__(self) -> None:
        self._round: list[_Fetch] = []
        """What is left of it, the next one last."""
        self._waiting: list[_Fetch] = []

    def add(self, job: _Fetch) -> None:
        """One more."""
        self._waiting.append(job)

    def take(self) -> _Fetch | None:
        """The next one; None if nobody waits."""
        if not self._round:
            self._round = self._waiting
            self._round.reverse()  # those of the same place go in the order in which they came
            self._round.sort(key=_place_of, reverse=True)
            self._waiting = []
        return self._round.pop() if self._round else None


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
