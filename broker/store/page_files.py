"""Writes and removes page files (pages.py), on a thread of its own.

Nothing here is ever synced: a page file means nothing to the next start, which removes it. An error of the disk costs
nothing either: what was to be written stays in memory, and is tried again. A file that is not needed any more is used
again: to write what is in the system's memory already costs a third of writing what is not.
"""

import contextlib
import errno
import secrets
from collections.abc import Callable
from functools import partial
from typing import Final

from broker.clock import Clock
from broker.store.alarm import Alarm, Sleeper
from broker.store.data_files import name_of, page_name
from broker.store.disk_error import DiskError
from broker.store.filesystem import File, FileSystem
from broker.store.pages import PageBlock, PageWriter
from broker.store.runner import Job, Runner
from broker.store.segment_extent import Segment
from broker.store.store_parts import StoreParts
from broker.store.wal_file import FileHeader

RETRY_MS: Final = 1000
"""After an error."""
IDLE_MS: Final = 5000
"""After so long without a write no file is kept for another use."""
_SPARES_MAX: Final = 2
"""Files that are."""
_SPARE: Final = "spare"
_IN_USE_MS: Final = 100
"""A file that is still read is looked at again after this time."""


class PageFiles(PageWriter):
    """The page files of one data directory."""

    def __init__(self, parts: StoreParts, runner: Runner) -> None:
        self.trouble: DiskError | None = None
        """The last error of a write, until one succeeds again."""
        self._disk = _Disk(parts.data_dir.filesystem, parts.data_dir.pages)
        self._pages = parts.logs.pages
        self._files = parts.files
        self._runner = runner
        self._retry: _Write | None = None
        self._retrying = _Later(parts.clock, self._try_again)
        self._unused: list[Segment] = []
        """To be removed when nobody reads them."""
        self._removing = _Later(parts.clock, self.remove_unused)
        self._resting = _Later(parts.clock, self._rest)
        self._wrote = False

    def begin(self) -> None:
        """Remove what an earlier run has left, before anything is written."""
        self._runner.submit(_Chore(self._disk.clean))

    def write(self, file: Segment, blocks: list[PageBlock]) -> None:
        self._runner.submit(_Write(self, self._disk, file, blocks))

    def remove(self, file: Segment) -> None:
        self._unused.append(file)
        self.remove_unused()

    def remove_unused(self) -> None:
        """Remove what nobody needs nor reads."""
        unused, self._unused = self._unused, []
        for file in unused:
            if self._files.in_use(name_of(file)):
                self._unused.append(file)
                continue
            self._files.kept.forget(self._files.path_of(file))
            self._runner.submit(_Chore(partial(self._disk.remove, int(file.number))))
            self._resting.set(IDLE_MS)
        if self._unused:
            self._removing.set(_IN_USE_MS)

    def wrote(self, job: "_Write") -> None:
        """A job is done. Called by it, on the owner's thread."""
        if job.error is not None:
            self.trouble = job.error
            self._retry = job
            self._retrying.set(RETRY_MS)
            return
        self.trouble = None
        self._wrote = True
        self._pages.written(job.file, job.blocks)

    def _rest(self) -> None:
        if self._wrote:
            self._wrote = False
            self._resting.set(IDLE_MS)
        else:
            self._runner.submit(_Chore(self._disk.rest))

    def _try_again(self) -> None:
        job, self._retry = self._retry, None
        if job is not None:
            self._runner.submit(job)

    def close(self) -> None:
        """Remove all of them: the node ends, and its thread has."""
        self._disk.clean()


class _Later(Sleeper):
    """Calls something after a time."""

    def __init__(self, clock: Clock, call: Callable[[], None]) -> None:
        self._call = call
        self._alarm = Alarm(clock, self)

    def set(self, delay_ms: int) -> None:
        if not self._alarm.is_set():
            self._alarm.set(delay_ms)

    def wake(self) -> None:
        self._call()


class _Disk:
    """The directory. On the thread that writes."""

    def __init__(self, filesystem: FileSystem, directory: str) -> None:
        self._filesystem = filesystem
        self._directory = directory
        self._file: File | None = None
        self._number = -1
        self._salt = 0
        self._spares: list[str] = []
        self._spare_number = 0

    def path(self, number: int) -> str:
        return f"{self._directory}/{page_name(number)}"

    def write(self, file: Segment, blocks: list[PageBlock]) -> None:
        """Write blocks, one behind the other, where they are placed.

        Raises: DiskError
        """
        number = int(file.number)
        if self._file is None or self._number != number:
            self._begin(number)
        assert self._file is not None
        pieces: list[bytes | memoryview] = []
        for block in blocks:
            pieces += block.batch.seal(number, self._salt)
        self._file.write("page.write", int(blocks[0].batch.location.offset), pieces)

    def _begin(self, number: int) -> None:
        self._end()
        created = self._create(self.path(number))
        salt = secrets.randbits(63)
        try:
            created.write("page.write", 0, [FileHeader(number, salt, 1).encode()])
        except DiskError:
            created.close()
            raise
        self._file, self._number, self._salt = created, number, salt

    def _create(self, path: str) -> File:
        while self._spares:
            spare = self._spares.pop()
            with contextlib.suppress(DiskError):
                self._filesystem.rename("page.reuse", spare, path)
                return self._filesystem.open("page.create", path)
        with contextlib.suppress(DiskError):  # one that was begun, and whose header could not be written
            self._filesystem.unlink("page.remove", path)
        return self._filesystem.create("page.create", path)

    def _end(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def remove(self, number: int) -> None:
        """That file is not needed any more. What cannot be removed goes at the next start."""
        if number == self._number:
            self._end()
        if len(self._spares) < _SPARES_MAX:
            self._spare_number += 1
            spare = f"{self._directory}/{self._spare_number}.{_SPARE}"
            with contextlib.suppress(DiskError):
                self._filesystem.rename("page.reuse", self.path(number), spare)
                self._spares.append(spare)
                return
        self._unlink(self.path(number))

    def rest(self) -> None:
        """Nobody writes: remove what is kept for another use."""
        while self._spares:
            self._unlink(self._spares.pop())

    def _unlink(self, path: str) -> None:
        with contextlib.suppress(DiskError):
            self._filesystem.unlink("page.remove", path)

    def clean(self) -> None:
        """Remove all there are."""
        self._end()
        self._spares = []
        with contextlib.suppress(DiskError):
            for name in self._filesystem.names("page.list", self._directory):
                self._unlink(f"{self._directory}/{name}")


class _Write(Job):
    def __init__(self, files: PageFiles, disk: _Disk, file: Segment, blocks: list[PageBlock]) -> None:
        self.file = file
        self.blocks = blocks
        self.error: DiskError | None = None
        self._files = files
        self._disk = disk

    def run(self) -> None:
        self.error = None
        try:
            self._disk.write(self.file, self.blocks)
        except DiskError as error:
            self.error = error

    def finished(self) -> None:
        self._files.wrote(self)

    def crashed(self, error: Exception) -> None:
        """Tried again like one that the disk has refused."""
        self.error = DiskError(errno.EIO, repr(error), self._disk.path(int(self.file.number)), "page.write")
        self._files.wrote(self)


class _Chore(Job):
    """Nobody waits for it."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._call = call

    def run(self) -> None:
        self._call()

    def finished(self) -> None:
        """Nothing follows."""
