"""The operating system's files and directories: the only file that opens, writes, syncs, renames, unlinks, truncates,
lists or locks."""

import errno
import fcntl
import os
import sys
from collections.abc import Sequence
from io import BytesIO
from typing import Final

from broker.buffer import Buffer
from broker.store.filesystem import File, FileSystem

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


def _first_of(pieces: Sequence[bytes | memoryview]) -> Sequence[bytes | memoryview]:
    """What one call writes of the pieces."""
    if pieces and len(pieces[0]) > _WHOLE_MAX:
        return [memoryview(pieces[0])[:_STEP]]
    for count, piece in enumerate(pieces[:_PIECES_MAX]):
        if len(piece) > _WHOLE_MAX:
            return pieces[:count]
    return pieces[:_PIECES_MAX]
