"""The half of the write-ahead log that touches the disk: writes batches, goes from file to file, takes retired ones
out, keeps a spare.

Everything here runs on the thread that writes (wal.py sees to it that one call runs at a time). The first error of any
call is the last one: the owner never calls again. Why each step is synced where it is:

    a file joins the log      space, header, sync; then its name, sync of the directory: whatever is called .wal is
                              complete
    a file leaves the log     its name, sync of the directory, and only then anything is written to it: no half-used
                              file is called .wal
    oldest first, one by one  a sync of the directory after each: a crash cannot leave a hole, which would be damage
"""

import errno
import secrets
from collections.abc import Callable
from typing import Final, NamedTuple

from mypy_extensions import mypyc_attr

from broker.store.batch import BLOCK
from broker.store.batch_writer import BATCH_SIZE
from broker.store.commit_group import CommitGroup
from broker.store.datadir import put_aside
from broker.store.disk_error import DiskError
from broker.store.filesystem import File, FileSystem
from broker.store.wal_file import SPARE_SUFFIX, START, FileHeader, file_name

FILE_SIZE: Final = 32 << 20
FILE_SIZE_MAX: Final = 64 << 20
"""What earlier releases made, which a start may find."""
_BEFORE_ITS_NAME: Final = frozenset(("wal.create", "wal.allocate", "wal.header", "wal.header.sync", "wal.publish"))
"""What is done to a new file before it belongs to the log."""
_WRITE_SIZE: Final = 4 << 20
_STEP: Final = 1 << 20
_ZEROS: Final = bytes(_STEP)


class WalOptions(NamedTuple):
    """How the log uses the disk."""

    file_size: int = FILE_SIZE
    """Bytes of one file. A commit group that does not fit into one gets a file of its own size: no group is ever
    split."""
    spare_count: int = 1
    """Files made ready in advance; one more is kept when files leave the log, so that none has to be made while it only
    turns round.

    With one, the log can go on for a whole file after the disk is full.
    """
    new_salt: Callable[[], int] = lambda: secrets.randbits(63)
    """A number that no client can guess."""
    batch_size: int = BATCH_SIZE
    """A batch is closed when its records have so many bytes."""


class LogFile(NamedTuple):
    """A file of the log."""

    generation: int
    first_sequence: int
    """All records in it have this number or a greater one; it may be one that a later file begins with as well."""
    size: int


class LogEnd(NamedTuple):
    """Where recovery found the end of the log, and what it leaves to the writer."""

    files: list[LogFile]
    """Oldest first."""
    next_generation: int
    next_sequence: int
    continues: FileHeader | None
    """The header of the last file, if batches may be added to it."""
    position: int
    """Where in that file."""
    last_group: CommitGroup | None
    """The last one found, which perhaps no sync has covered; None if there is none or it holds nothing."""
    last_group_at: int
    """Where it stands in the file that ``continues``; 0 if it is in another one."""
    spares: list[str]
    """Names of spare files."""


def is_postponable(error: Exception) -> bool:
    """Whether a commit group has failed for want of space or of a descriptor for a new file: nothing of it was written
    then."""
    return isinstance(error, DiskError) and error.is_full and error.site in _BEFORE_ITS_NAME


class _Spare:
    """A file for later. ``filled`` bytes of it have been written before: overwriting those changes no metadata, which
    halves a sync."""

    def __init__(self, path: str, file: File, filled: int) -> None:
        self.path = path
        self.file = file
        self.filled = filled


@mypyc_attr(allow_interpreted_subclasses=True)
class WalWriter:
    """The files of the log. The last of ``files`` is the one that is written to, except that a new log has none until
    ``start``."""

    def __init__(self, filesystem: FileSystem, directory: str, options: WalOptions, end: LogEnd) -> None:
        if options.file_size % BLOCK or options.file_size <= START:
            raise ValueError(f"a log file of {options.file_size} bytes")
        self.filesystem = filesystem
        self.directory = directory
        self.options = options
        self.files = list(end.files)
        self.position = end.position
        """Where the next batch goes."""
        self.short_of_space = False
        """There was no space for a spare file. Tried again when a file leaves the log."""
        self._next_generation = end.next_generation
        self._header = end.continues
        self._file: File | None = None
        self._filled = end.files[-1].size if end.files else 0
        self._spares: list[_Spare] = []
        self._spare_number = 0

    def start(self, end: LogEnd) -> None:
        """Make everything that recovery has found durable; afterwards it may be promised.

        The last commit group is written again: when its sync failed, the system may show it as written though the disk
        does not have it, and another sync of the same pages would succeed without doing anything.

        Raises: DiskError
        """
        for name in end.spares:
            self._adopt_spare(name)
        if self._header is not None:
            self._file = self.filesystem.open("wal.open", self._path(file_name(self._header.generation)))
        group = end.last_group
        if group is None:
            if self._file is None:
                self._next_file(end.next_sequence, 0)
            return
        if not self._has_room(group):
            # Numbers that are missing behind the last group must go on missing: the new file says so.
            numbers_are_missing = group.through() + 1 != end.next_sequence
            try:
                self._next_file(end.next_sequence if numbers_are_missing else group.first_sequence(), group.size())
            except DiskError as error:
                if not error.is_full or error.site not in ("wal.create", "wal.allocate") or not end.last_group_at:
                    raise
                # The same bytes over themselves: they reach the disk and need no space. Second best, since the place
                # may be a bad one.
                self.position = end.last_group_at
        self._put(group, "wal.rewrite", "wal.rewrite.sync")

    def write(self, group: CommitGroup) -> None:
        """Write the batches of a group and sync them; in a new file if they do not all fit into this one.

        Raises: DiskError: nothing is known about this group, and no other may be written; except if it
        ``is_postponable``
        """
        if not self._has_room(group):
            self._next_file(group.first_sequence(), group.size())
        self._put(group, "wal.write", "wal.sync")

    def _has_room(self, group: CommitGroup) -> bool:
        return self._file is not None and self.position + group.size() <= self.files[-1].size

    def _put(self, group: CommitGroup, write_site: str, sync_site: str) -> None:
        file, header = self._file, self._header
        assert file is not None
        assert header is not None
        position = end = self.position
        pieces: list[bytes | memoryview] = []
        for batch in group.batches:  # a write for several: after each of them this thread waits until it may run again
            pieces += batch.seal(header.generation, header.salt)
            end += batch.size()
            if end - position >= _WRITE_SIZE:
                file.write(write_site, position, pieces)
                pieces = []
                position = end
        if pieces:
            file.write(write_site, position, pieces)
        file.sync(sync_site)
        for batch in group.batches:
            location = batch.location
            location.offset, location.size = self.position, batch.size()
            # last of all: the owner's thread takes it for the sign that the batch can be read.
            location.generation = header.generation
            self.position += batch.size()

    def close(self) -> None:
        """Close all files. What was not synced may be lost."""
        if self._file is not None:
            self._file.close()
            self._file = None
        while self._spares:
            self._spares.pop().file.close()

    # Files that join the log

    def _next_file(self, first_sequence: int, group_size: int) -> None:
        needed = START + group_size
        size = max(needed, self.options.file_size)
        spare = self._spares.pop(0) if self._spares and size == self.options.file_size else self._new_spare(size)
        header = FileHeader(self._next_generation, self.options.new_salt(), first_sequence)
        try:
            spare.file.write("wal.header", 0, [header.encode()])
            spare.file.sync("wal.header.sync")
            self.filesystem.rename("wal.publish", spare.path, self._path(file_name(header.generation)))
        except DiskError as error:
            if error.is_full:
                self._discard(spare.path, spare.file)
            raise
        self.filesystem.sync_directory("wal.publish.directory", self.directory)
        if self._file is not None:
            self._file.close()
        self._file, self._header, self._filled = spare.file, header, spare.filled
        self.position = START
        self.files.append(LogFile(header.generation, first_sequence, size))
        self._next_generation += 1

    def _new_spare(self, size: int) -> _Spare:
        path = self._spare_path()
        file = self.filesystem.create("wal.create", path)
        try:
            file.allocate("wal.allocate", size)
        except DiskError:
            self._discard(path, file)
            raise
        return _Spare(path, file, 0)

    def _discard(self, path: str, file: File) -> None:
        file.close()
        self.filesystem.unlink("wal.discard", path)

    def _adopt_spare(self, name: str) -> None:
        path = self._path(name)
        self._spare_number = max(self._spare_number, int(name.removesuffix(SPARE_SUFFIX)))
        try:
            file = self.filesystem.open("wal.open", path)
        except DiskError as error:
            if error.errno != errno.EISDIR:
                raise
            put_aside(self.filesystem, "wal.discard", path)
            return
        size = self.options.file_size
        if file.size("wal.read") == size and len(self._spares) <= self.options.spare_count:
            # Filled or not: filling it again would cost more at every start than the few slower syncs after a first one
            # cut short.
            self._spares.append(_Spare(path, file, size))
        else:
            self._discard(path, file)

    # Work for when there is time

    def retire(self) -> None:
        """Take the oldest file, which is not the last one, out of the log; keep it as a spare unless there are enough.

        Raises: DiskError
        """
        oldest = self.files[0]
        assert len(self.files) > 1, "the last file of the log stays"
        path = self._path(file_name(oldest.generation))
        spare = self._spare_path()
        kept = (
            self._opened(path)
            if oldest.size == self.options.file_size and len(self._spares) <= self.options.spare_count
            else None
        )
        if kept is not None:
            self.filesystem.rename("wal.recycle", path, spare)
            self.filesystem.sync_directory("wal.retire.directory", self.directory)
            self._spares.append(_Spare(spare, kept, oldest.size))
        else:
            self.filesystem.unlink("wal.remove", path)
            self.filesystem.sync_directory("wal.retire.directory", self.directory)
        del self.files[0]
        self.short_of_space = False

    def _opened(self, path: str) -> File | None:
        """A file that leaves the log, to be used again; None if there is no descriptor for it."""
        try:
            return self.filesystem.open("wal.open", path)
        except DiskError as error:
            if not error.wants_descriptor:
                raise
            return None

    def prepare(self) -> bool:
        """One step, of a few milliseconds, towards files that are ready before they are needed; whether there are more.

        Raises: DiskError, but not because the disk is full
        """
        if self._file is not None and self._filled < self.files[-1].size:
            self._filled = self._fill(self._file, max(self._filled, self.position), self.files[-1].size)
            return True
        if self.short_of_space:
            return False
        try:
            return self._prepare_spare()
        except DiskError as error:
            if not error.is_full:
                raise
            self.short_of_space = True
            return False

    def look_for_space(self) -> None:
        """There may be space for a spare file now: ``prepare`` tries again."""
        self.short_of_space = False

    def _prepare_spare(self) -> bool:
        size = self.options.file_size
        for spare in self._spares:
            if spare.filled < size:
                spare.filled = self._fill(spare.file, spare.filled, size)
                return True
        if len(self._spares) >= self.options.spare_count:
            return False
        self._spares.append(self._new_spare(size))
        return True

    @staticmethod
    def _fill(file: File, start: int, end: int) -> int:
        """Zeros up to at most ``end``; where they end."""
        stop = min(start + _STEP, end)
        if stop > start:
            file.write("wal.fill", start, [_ZEROS[: stop - start]])
            file.sync("wal.fill.sync")
        return stop

    def _spare_path(self) -> str:
        self._spare_number += 1
        return self._path(f"{self._spare_number}{SPARE_SUFFIX}")

    def _path(self, name: str) -> str:
        return f"{self.directory}/{name}"
