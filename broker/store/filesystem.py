"""The file system as the broker sees it: interface of files and directories, the same over the real disk
(real_filesystem.py) and the simulated one of the tests.

Every operation names its *site*, a key of ``SITES`` (disk_error.py): what it is for. Errors carry it, and the tests
crash or fail at each one.

    FileSystem, File          what callers use: whole writes, interrupted calls repeated, errors told as ``DiskError``
        do_*                  the primitives below, one system call each

What callers must know about disks (POSIX; the fsync errors that PostgreSQL met in 2018):
- A write is durable after a ``sync`` that succeeded, a new, renamed or removed name after ``sync_directory``; in any
  order until then.
- After a ``sync`` that failed nothing is known about what was written since the last good one, whatever later calls
  answer. The caller gives the file up; it never tries the same file again.
"""

import errno
from collections.abc import Callable, Sequence
from typing import ParamSpec, TypeVar

from broker.store.disk_error import DiskError

P = ParamSpec("P")
T = TypeVar("T")


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
