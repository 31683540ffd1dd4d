"""Fetches batches back from the disk for the logs, on a thread of its own. Nothing is believed that its checksum does not vouch for.

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
from broker.store.read_back import LogReader, Read
from broker.store.runner import Job, Runner
from broker.store.segment import payload_of, read_batch, segment_name
from broker.store.survey import stretches_of
from broker.store.wal_file import file_name

ATTEMPTS_MAX: Final = 3
"""So often a read is tried when the disk says that it cannot."""
RETRY_MS: Final = 100

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
        self._retries = _Retries(clock, runner)

    def in_use(self, generation: int) -> bool:
        """Whether a read needs this file of the write-ahead log: it must not be used for anything else now."""
        return file_name(generation) in self._in_use

    def segment_in_use(self, number: int) -> bool:
        """Whether a read needs this segment: it must not be removed now."""
        return segment_name(number) in self._in_use

    def fetch(self, read: Read) -> None:
        names = _names(read)
        for name in names:
            self._in_use[name] = self._in_use.get(name, 0) + 1
        self._runner.submit(_Fetch(self, read, names))

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
        for _ in range(ATTEMPTS_MAX):
            if self.load(read) is None:
                return

    def load(self, read: Read) -> DiskError | None:
        """Fill in what is not there yet; the last error, if there was one."""
        error: DiskError | None = None
        for name in sorted(_names(read)):
            directory = self._wal_directory if read.piece is None else self._segment_directory
            try:
                file = self._filesystem.open("log.open", f"{directory}/{name}")
            except DiskError as unopened:
                error = unopened
                continue
            try:
                error = _fill(read, file, name) or error
            finally:
                file.close()
        return error


def _fill(read: Read, file: File, name: str) -> DiskError | None:
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
            try:
                batch = read_batch(file, place)
                read.payloads[place] = None if batch is None else payload_of(batch)
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
