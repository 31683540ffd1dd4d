"""The file system as the broker sees it: the only file that opens, writes, syncs, renames, unlinks, truncates, lists or
locks.

Every operation names its *site*, a key of ``SITES``: what it is for. Errors carry it, and the tests crash or fail at
each one.

    FileSystem, File          what callers use: whole writes, interrupted calls repeated, errors told as ``DiskError``
        do_*                  the primitives below, one system call each: the real ones here, simulated ones in the
                              tests

What callers must know about disks (POSIX; the fsync errors that PostgreSQL met in 2018):
- A write is durable after a ``sync`` that succeeded, a new, renamed or removed name after ``sync_directory``; in any
  order until then.
- After a ``sync`` that failed nothing is known about what was written since the last good one, whatever later calls
  answer. The caller gives the file up; it never tries the same file again.
"""

import errno
import fcntl
import os
import sys
from collections.abc import Callable, Sequence
from io import BytesIO
from typing import Final, ParamSpec, TypeVar

from broker.buffer import Buffer

P = ParamSpec("P")
T = TypeVar("T")

SITES: Final[dict[str, str]] = {
    "datadir.create": "make a directory of the layout",
    "datadir.create.directory": "sync the directory above it",
    "datadir.keep": "open a directory in which names will be made durable",
    "datadir.lock": "take the lock of the data directory",
    "datadir.lock.write": "leave the process id in it",
    "datadir.lock.read": "read whose it is",
    "datadir.list": "look what the data directory holds",
    "datadir.format.read": "read the format version",
    "datadir.format.clean": "remove what an interrupted replacement left",
    "datadir.format.create": "create its replacement",
    "datadir.format.write": "write it",
    "datadir.format.sync": "sync it",
    "datadir.format.rename": "put it in place",
    "datadir.format.directory": "sync the directory that names it",
    "damage.read": "read what was lost before",
    "damage.clean": "remove what an interrupted replacement left, or what is no such file",
    "damage.create": "create the file that says what was lost",
    "damage.write": "write it",
    "damage.sync": "sync it",
    "damage.rename": "put it in place",
    "damage.directory": "sync the directory that names it",
    "quarantine.open": "open a file that holds a range that is cut or damaged",
    "quarantine.list": "look what is kept already",
    "quarantine.clean": "remove a copy that was never finished",
    "quarantine.create": "create the copy of such a range",
    "quarantine.write": "write it",
    "quarantine.sync": "sync it",
    "quarantine.rename": "give it its name",
    "quarantine.directory": "sync the directory that names it",
    "wal.list": "find the files of the log",
    "wal.open": "open a file of the log",
    "wal.read": "read it",
    "wal.start.directory": "sync the directory that names the files found",
    "wal.cut": "overwrite the head of a torn batch",
    "wal.cut.sync": "sync that",
    "wal.rewrite": "write the last batch again, which no sync may have covered",
    "wal.rewrite.sync": "sync that",
    "wal.create": "create a file",
    "wal.allocate": "take its space",
    "wal.fill": "fill it with zeros",
    "wal.fill.sync": "sync that",
    "wal.header": "write its header",
    "wal.header.sync": "sync that",
    "wal.publish": "give it its name",
    "wal.publish.directory": "sync the directory that names it",
    "wal.write": "write a batch",
    "wal.sync": "sync it",
    "wal.recycle": "take a file out of the log, for another use",
    "wal.remove": "take a file out of the log",
    "wal.retire.directory": "sync the directory that named it",
    "wal.discard": "remove a spare file that is not whole or not wanted",
    "log.open": "open a file to read a backlog",
    "log.read": "read it",
    "move.open": "open a file whose live records move",
    "move.read": "read it",
    "segment.list": "find the segments",
    "segment.size": "see whether a segment is all there",
    "segment.read": "read a segment of which the manifest or its index does not tell",
    "segment.create": "create a segment",
    "segment.write": "write it",
    "segment.sync": "sync it",
    "segment.publish": "give it its name",
    "segment.publish.directory": "sync the directory that names it",
    "segment.discard": "remove a segment that was never finished or that nothing refers to",
    "segment.keep": "put aside a segment that a damaged manifest does not name",
    "segment.remove": "remove a segment in which nothing is live",
    "manifest.list": "find the manifest",
    "manifest.open": "open it",
    "manifest.read": "read it",
    "manifest.start.directory": "sync the directory that names it",
    "manifest.rewrite": "write its last edit again, which no sync may have covered",
    "manifest.rewrite.sync": "sync that",
    "manifest.create": "create a new manifest",
    "manifest.allocate": "take space for it",
    "manifest.write": "write an edit",
    "manifest.sync": "sync it",
    "manifest.publish": "give it its name",
    "manifest.publish.directory": "sync the directory that names it",
    "manifest.remove": "remove the manifest before it",
    "manifest.discard": "remove one that was never finished",
    "page.list": "look which page files there are",
    "page.create": "create a page file",
    "page.write": "write messages to it that are too many for the memory",
    "page.reuse": "give it another name, for another use",
    "page.remove": "remove a page file in which nothing is live, or that an earlier run has left",
}
"""Every place that touches the disk, and why. A test compares it with the calls."""


class DiskError(OSError):
    """An operation failed. ``errno`` as the system gave it, ``filename`` the file, ``site`` a key of ``SITES``."""

    def __init__(self, number: int, reason: str, path: str, site: str) -> None:
        super().__init__(number, reason, path)
        self.site = site

    def __str__(self) -> str:
        return f"cannot {SITES.get(self.site, self.site)}: {self.filename}: {self.strerror}"

    @property
    def is_full(self) -> bool:
        """Whether there is no space left, or no descriptor, which somebody can make, as against a broken disk: to be
        tried again."""
        return self.errno in (errno.ENOSPC, errno.EDQUOT) or self.wants_descriptor

    @property
    def wants_descriptor(self) -> bool:
        """Whether there was no descriptor for it: nothing was begun, so nothing is in doubt."""
        return self.errno in (errno.EMFILE, errno.ENFILE)


def _checked(site: str, path: str, primitive: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    while True:
        try:
            return primitive(*args, **kwargs)
        except InterruptedError:
            continue
        except DiskError:
            raise
        except OSError as error:
            raise DiskError(error.errno or errno.EIO, error.strerror or str(error), path, site) from error


class File:
    """An open file. Offsets are the caller's business; there is no position."""

    def __init__(self, path: str) -> None:
        self.path = path

    def read(self, site: str, offset: int, size: int) -> bytes:
        """``size`` bytes at ``offset``; fewer only where the file ends.

        Raises: DiskError
        """
        data = _checked(site, self.path, self.do_read, site, offset, size)
        while 0 < len(data) < size:
            more = _checked(site, self.path, self.do_read, site, offset + len(data), size - len(data))
            if not more:
                break
            data += more
        return data

    def read_cached(self, site: str, offset: int, size: int) -> bytes | None:
        """The same if the system has them in its memory, which takes no longer than to copy them; None if not, or if it
        cannot say.

        Raises: DiskError
        """
        return _checked(site, self.path, self.do_read_cached, site, offset, size)

    def write(self, site: str, offset: int, pieces: Sequence[bytes | memoryview]) -> None:
        """Write all pieces, one behind the other; they are durable after the next ``sync``.

        Raises: DiskError, with any part of it written
        """
        rest = pieces
        size = sum(map(len, pieces))
        while True:
            written = _checked(site, self.path, self.do_write, site, offset, rest)
            offset += written
            size -= written
            if size <= 0:
                return
            if written <= 0:
                raise DiskError(errno.EIO, "the system writes nothing", self.path, site)
            rest = _behind(rest, written)

    def sync(self, site: str) -> None:
        """Make durable what was written, with what is needed to read it back (fdatasync).

        Raises: DiskError, after which this file may not be used any more
        """
        _checked(site, self.path, self.do_sync, site)

    def allocate(self, site: str, size: int) -> None:
        """Make the file ``size`` bytes long and take the space for them; what was not written reads as zeros.

        Raises: DiskError, ``is_full`` if the space is not there
        """
        _checked(site, self.path, self.do_allocate, site, size)

    def truncate(self, site: str, size: int) -> None:
        """Make the file ``size`` bytes long.

        Raises: DiskError
        """
        _checked(site, self.path, self.do_truncate, site, size)

    def size(self, site: str) -> int:
        """Its length in bytes.

        Raises: DiskError
        """
        return _checked(site, self.path, self.do_size, site)

    def close(self) -> None:
        """Close it, and release its lock. Says nothing about durability; may be called twice."""
        raise NotImplementedError

    def do_read(self, site: str, offset: int, size: int) -> bytes:
        """One pread."""
        raise NotImplementedError

    def do_read_cached(self, site: str, offset: int, size: int) -> bytes | None:
        """One preadv that does not wait; None where there is none."""
        return None

    def do_write(self, site: str, offset: int, pieces: Sequence[bytes | memoryview]) -> int:
        """One pwritev: the bytes written, perhaps not all."""
        raise NotImplementedError

    def do_sync(self, site: str) -> None:
        """One fdatasync."""
        raise NotImplementedError

    def do_allocate(self, site: str, size: int) -> None:
        """One posix_fallocate."""
        raise NotImplementedError

    def do_truncate(self, site: str, size: int) -> None:
        """One ftruncate."""
        raise NotImplementedError

    def do_size(self, site: str) -> int:
        """One fstat."""
        raise NotImplementedError


def _behind(pieces: Sequence[bytes | memoryview], size: int) -> list[bytes | memoryview]:
    """What follows the first ``size`` bytes of the pieces."""
    rest: list[bytes | memoryview] = []
    for piece in pieces:
        if size >= len(piece):
            size -= len(piece)
        else:
            rest.append(memoryview(piece)[size:])
            size = 0
    return rest


def _first_of(pieces: Sequence[bytes | memoryview]) -> Sequence[bytes | memoryview]:
    """What one call writes of the pieces."""
    if pieces and len(pieces[0]) > _WHOLE_MAX:
        return [memoryview(pieces[0])[:_STEP]]
    for count, piece in enumerate(pieces[:_PIECES_MAX]):
        if len(piece) > _WHOLE_MAX:
            return pieces[:count]
    return pieces[:_PIECES_MAX]


class FileSystem:
    """Names and directories. Paths are absolute; parts are joined by "/"."""

    def open(self, site: str, path: str) -> File:
        """An existing file, for reading and writing.

        Raises: DiskError
        """
        return _checked(site, path, self.do_open, site, path)

    def create(self, site: str, path: str) -> File:
        """A new, empty file; its name is durable after ``sync_directory``.

        Raises: DiskError, also if the name is taken
        """
        return _checked(site, path, self.do_create, site, path)

    def try_lock(self, site: str, path: str) -> File | None:
        """The file, made if need be, locked until it is closed or the process ends; None while another process holds
        it.

        Raises: DiskError
        """
        return _checked(site, path, self.do_try_lock, site, path)

    def make_directory(self, site: str, path: str) -> bool:
        """Whether the directory had to be made. Its name is durable after ``sync_directory`` of the one above.

        Raises: DiskError
        """
        try:
            _checked(site, path, self.do_make_directory, site, path)
        except DiskError as error:
            if error.errno != errno.EEXIST:
                raise
            return False
        return True

    def rename(self, site: str, old: str, new: str) -> None:
        """Let ``new`` name what ``old`` named; what ``new`` named before is gone. Durable after ``sync_directory``.

        Raises: DiskError
        """
        _checked(site, old, self.do_rename, site, old, new)

    def unlink(self, site: str, path: str) -> None:
        """Remove a file. Durable after ``sync_directory``.

        Raises: DiskError
        """
        _checked(site, path, self.do_unlink, site, path)

    def sync_directory(self, site: str, path: str) -> None:
        """Make names that were created, renamed and removed in this directory durable (fsync).

        Raises: DiskError
        """
        _checked(site, path, self.do_sync_directory, site, path)

    def keep_open(self, site: str, path: str) -> None:
        """Keep a descriptor of this directory, so that ``sync_directory`` needs none when there is none left.

        Raises: DiskError
        """
        _checked(site, path, self.do_keep_open, site, path)

    def do_keep_open(self, site: str, path: str) -> None:
        """One open of a directory; nothing where none is needed."""

    def close(self) -> None:
        """Close what ``keep_open`` keeps."""

    def names(self, site: str, path: str) -> list[str]:
        """The names in a directory, sorted.

        Raises: DiskError
        """
        return sorted(_checked(site, path, self.do_names, site, path))

    def free_bytes(self, site: str, path: str) -> int:
        """What this process may still write to the file system that holds ``path``.

        Raises: DiskError
        """
        return _checked(site, path, self.do_free_bytes, site, path)

    def do_open(self, site: str, path: str) -> File:
        """One open."""
        raise NotImplementedError

    def do_create(self, site: str, path: str) -> File:
        """One open that fails if the name is taken."""
        raise NotImplementedError

    def do_try_lock(self, site: str, path: str) -> File | None:
        """One open and one flock."""
        raise NotImplementedError

    def do_make_directory(self, site: str, path: str) -> None:
        """One mkdir."""
        raise NotImplementedError

    def do_rename(self, site: str, old: str, new: str) -> None:
        """One rename."""
        raise NotImplementedError

    def do_unlink(self, site: str, path: str) -> None:
        """One unlink."""
        raise NotImplementedError

    def do_sync_directory(self, site: str, path: str) -> None:
        """One fsync of a directory."""
        raise NotImplementedError

    def do_names(self, site: str, path: str) -> list[str]:
        """One readdir."""
        raise NotImplementedError

    def do_free_bytes(self, site: str, path: str) -> int:
        """One statvfs."""
        raise NotImplementedError


_PIECES_MAX: Final = 1000
"""Of one pwritev; the system's limit is 1024."""
_WHOLE_MAX: Final = 2 << 20
"""More bytes than these that go to one place are read and written in several calls: within one the system may let
nobody else have the processor (15 ms with 32 MiB, measured)."""
_STEP: Final = 1 << 20
"""Bytes of each of them."""
_ZEROS: Final = bytes(1 << 20)


class RealFile(File):
    """A file descriptor."""

    def __init__(self, path: str, descriptor: int) -> None:
        super().__init__(path)
        self._descriptor = descriptor

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def do_read(self, site: str, offset: int, size: int) -> bytes:
        if size <= _WHOLE_MAX:
            return os.pread(self._descriptor, size, offset)
        buffer = Buffer(size)
        buffer.fill(size, _STEP, lambda part, at: os.preadv(self._descriptor, [part], offset + at))
        return buffer.take()

    if sys.platform == "linux":

        def do_read_cached(self, site: str, offset: int, size: int) -> bytes | None:
            into = BytesIO(bytes(size))  # what was read becomes bytes without a copy
            try:
                with into.getbuffer() as buffer:
                    count = os.preadv(self._descriptor, [buffer], offset, os.RWF_NOWAIT)
            except OSError as error:
                if error.errno not in (errno.EAGAIN, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                    raise
                return None
            return into.getvalue() if count == size else None

    def do_write(self, site: str, offset: int, pieces: Sequence[bytes | memoryview]) -> int:
        return os.pwritev(self._descriptor, _first_of(pieces), offset)

    def do_sync(self, site: str) -> None:
        if sys.platform == "darwin":
            fcntl.fcntl(self._descriptor, fcntl.F_FULLFSYNC)  # its fsync leaves the data in the drive's cache
        else:
            os.fdatasync(self._descriptor)

    def do_allocate(self, site: str, size: int) -> None:
        if sys.platform != "darwin":
            try:
                os.posix_fallocate(self._descriptor, 0, size)
                return
            except OSError as error:
                if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                    raise
        # A file system (or C library) without it: zeros take the space.
        offset = os.fstat(self._descriptor).st_size
        while offset < size:
            offset += os.pwritev(self._descriptor, [memoryview(_ZEROS)[: size - offset]], offset)

    def do_truncate(self, site: str, size: int) -> None:
        os.ftruncate(self._descriptor, size)

    def do_size(self, site: str) -> int:
        return os.fstat(self._descriptor).st_size


class RealFileSystem(FileSystem):
    """The operating system's."""

    def __init__(self) -> None:
        self._directories: dict[str, int] = {}

    def do_keep_open(self, site: str, path: str) -> None:
        if path not in self._directories:
            self._directories[path] = os.open(path, os.O_RDONLY | os.O_DIRECTORY)

    def close(self) -> None:
        while self._directories:
            os.close(self._directories.popitem()[1])

    def do_open(self, site: str, path: str) -> File:
        return RealFile(path, os.open(path, os.O_RDWR))

    def do_create(self, site: str, path: str) -> File:
        return RealFile(path, os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o640))

    def do_try_lock(self, site: str, path: str) -> File | None:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o640)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except OSError:
            os.close(descriptor)
            raise
        return RealFile(path, descriptor)

    def do_make_directory(self, site: str, path: str) -> None:
        os.mkdir(path, 0o750)

    def do_rename(self, site: str, old: str, new: str) -> None:
        os.rename(old, new)

    def do_unlink(self, site: str, path: str) -> None:
        os.unlink(path)

    def do_sync_directory(self, site: str, path: str) -> None:
        kept = self._directories.get(path)
        if kept is not None:
            os.fsync(kept)
            return
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def do_names(self, site: str, path: str) -> list[str]:
        return os.listdir(path)

    def do_free_bytes(self, site: str, path: str) -> int:
        found = os.statvfs(path)
        return found.f_bavail * found.f_frsize
