"""Fetches batches back from the disk for the logs, on a thread of its own. Nothing is believed that its checksum does not vouch for.

Batches hold records of many logs, and what was read last is kept for those that come for the rest (payload_cache.py): requests wait in one
row, so one that needs what another has asked for finds it there.

An error of the disk is not damage: a read that failed is tried again, later, and only what cannot be read after several attempts is given
up. Without descriptors or memory for it (EMFILE, ENOMEM), it is tried until there are some.
"""

import errno
from collections import deque
from typing import Final

from broker.clock import Clock
from broker.store.filesystem import DiskError, File, FileSystem
from broker.store.logs import Logs
from broker.store.moving import Alarm, Sleeper
from broker.store.payload_cache import PayloadCache, key_of
from broker.store.read_back import LogReader, Read
from broker.store.runner import Job, Runner
from broker.store.segment import payload_of, read_batch, segment_name
from broker.store.survey import stretches_of
from broker.store.wal_file import file_name

ATTEMPTS_MAX: Final = 3
"""So often a read is tried when the disk says that it cannot."""
RETRY_MS: Final = 100

IDLE_MS: Final = 2000
"""After so long without a read nothing is kept any more."""

_FINAL_ERRORS: Final = (errno.EIO, errno.ENOENT)


class Fetcher(LogReader):
    """The files of one data directory, read."""

    def __init__(
        self, filesystem: FileSystem, wal_directory: str, segment_directory: str, logs: Logs, runner: Runner, clock: Clock
    ) -> None:
        self._filesystem = filesystem
        self._wal_directory = wal_directory
        self._segment_directory = segment_directory
        self._logs = logs
        self._runner = runner
        self._in_use: dict[str, int] = {}
        self._cache = PayloadCache()
        self._cleaner = _Cleaner(clock, self._cache)
        self._retries = _Retries(clock, runner)

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
        self._runner.submit(_Fetch(self, read, names))
        return False

    def _is_cached(self, read: Read) -> bool:
        """Fill in what is in the cache; whether it is all."""
        payloads = read.payloads
        is_segment = read.piece is not None
        for place in payloads:
            payload = self._cache.get(key_of(is_segment, place))
            if payload is None:
                return False
            payloads[place] = payload
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
                file = self._filesystem.open("log.open", f"{directory}/{name}")
            except DiskError as unopened:
                error = unopened
                continue
            try:
                error = _fill(read, file, name, self._cache) or error
            finally:
                file.close()
        return error


def _fill(read: Read, file: File, name: str, cache: PayloadCache) -> DiskError | None:
    """Read from one of the files."""
    error: DiskError | None = None
    piece = read.piece
    try:
        if piece is not None and read.index is None:
            read.index = stretches_of(file, piece, int(read.log.number))
            read.choose()
    except DiskError as unread:
        return unread
    for place, data in read.payloads.items():
        if data is None and (piece is not None or file_name(place.generation) == name):
            key = key_of(piece is not None, place)
            payload = cache.get(key)
            try:
                if payload is None:
                    batch = read_batch(file, place)
                    if batch is not None:
                        payload = payload_of(batch)
                        cache.put(key, payload)
                read.payloads[place] = payload
            except DiskError as unread:
                error = unread
    return error


def _names(read: Read) -> set[str]:
    """The files it needs."""
    piece = read.piece
    if piece is not None:
        return {segment_name(piece.segment.number)}
    return {file_name(place.generation) for place in read.payloads}


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


class _Cleaner(Sleeper):
    """Empties the cache when nobody reads any more."""

    def __init__(self, clock: Clock, cache: PayloadCache) -> None:
        self._alarm = Alarm(clock, self)
        self._cache = cache
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
