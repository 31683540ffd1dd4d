"""A data directory as a node would see it, of which nothing is changed: what is written stays in memory. So reading one
off line is what a start does, and no rule of it stands here a second time.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Sequence

from broker.store.filesystem import File, FileSystem

_BLOCK = 4096


class Content:
    """A file: what was written over what is on the disk."""

    def __init__(self, base: str | None) -> None:
        self.base = base
        """The path of the file below; None for a new one."""
        self.size = os.stat(base).st_size if base is not None else 0
        self.blocks: dict[int, bytearray] = {}

    def block(self, index: int) -> bytes | bytearray:
        """One block, as it is now; shorter only in length of what the disk holds."""
        found = self.blocks.get(index)
        if found is not None:
            return found
        if self.base is None:
            return bytes(_BLOCK)
        descriptor = os.open(self.base, os.O_RDONLY)
        try:
            return os.pread(descriptor, _BLOCK, index * _BLOCK).ljust(_BLOCK, b"\0")
        finally:
            os.close(descriptor)


class OverlayFile(File):
    """An open file."""

    def __init__(self, path: str, content: Content) -> None:
        super().__init__(path)
        self._content = content

    def close(self) -> None:
        """Nothing is open."""

    def do_read(self, site: str, offset: int, size: int) -> bytes:
        content = self._content
        size = max(0, min(size, content.size - offset))
        if content.base is not None and not content.blocks:
            descriptor = os.open(content.base, os.O_RDONLY)
            try:
                return os.pread(descriptor, size, offset).ljust(size, b"\0")
            finally:
                os.close(descriptor)
        first, last = offset // _BLOCK, (offset + size + _BLOCK - 1) // _BLOCK
        data = b"".join(content.block(index) for index in range(first, last))
        return data[offset - first * _BLOCK :][:size]

    def do_write(self, site: str, offset: int, pieces: Sequence[bytes | memoryview]) -> int:
        data = b"".join(pieces)
        at = 0
        while at < len(data):
            index, start = divmod(offset + at, _BLOCK)
            block = self._content.blocks[index] = bytearray(self._content.block(index))
            part = data[at : at + _BLOCK - start]
            block[start : start + len(part)] = part
            at += len(part)
        self._content.size = max(self._content.size, offset + len(data))
        return len(data)

    def do_sync(self, site: str) -> None:
        """Nothing is to survive."""

    def do_allocate(self, site: str, size: int) -> None:
        self._content.size = max(self._content.size, size)

    def do_truncate(self, site: str, size: int) -> None:
        self._content.size = size

    def do_size(self, site: str) -> int:
        return self._content.size


class Overlay(FileSystem):
    """The file system. Names that come and go are remembered, too."""

    def __init__(self) -> None:
        self._names: dict[str, dict[str, Content | None]] = {}  # directory -> name -> a file, or None for a directory

    def _entries(self, directory: str) -> dict[str, Content | None]:
        found = self._names.get(directory)
        if found is None:
            found = {}
            with os.scandir(directory) as entries:
                for entry in entries:
                    found[entry.name] = None if entry.is_dir() else Content(entry.path)
            self._names[directory] = found
        return found

    def _content(self, path: str) -> Content:
        directory, _, name = path.rpartition("/")
        entries = self._entries(directory)
        if name not in entries:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        content = entries[name]
        if content is None:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        return content

    def do_open(self, site: str, path: str) -> File:
        return OverlayFile(path, self._content(path))

    def do_create(self, site: str, path: str) -> File:
        directory, _, name = path.rpartition("/")
        entries = self._entries(directory)
        if name in entries:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        made = entries[name] = Content(None)
        return OverlayFile(path, made)

    def do_try_lock(self, site: str, path: str) -> File | None:
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except (FileNotFoundError, IsADirectoryError):
            return OverlayFile(path, Content(None))  # no node has it
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return _Lock(path, descriptor)

    def do_make_directory(self, site: str, path: str) -> None:
        if os.path.isdir(path) or path in self._names:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        directory, _, name = path.rpartition("/")
        self._entries(directory)[name] = None
        self._names[path] = {}

    def do_rename(self, site: str, old: str, new: str) -> None:
        directory, _, name = old.rpartition("/")
        entries = self._entries(directory)
        if name not in entries:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), old)
        entries[new.rpartition("/")[2]] = entries.pop(name)

    def do_unlink(self, site: str, path: str) -> None:
        self._content(path)
        directory, _, name = path.rpartition("/")
        del self._entries(directory)[name]

    def do_sync_directory(self, site: str, path: str) -> None:
        """Nothing is to survive."""

    def do_names(self, site: str, path: str) -> list[str]:
        return list(self._entries(path))

    def do_free_bytes(self, site: str, path: str) -> int:
        return 1 << 40


class _Lock(OverlayFile):
    """The lock of the directory, so that no node starts meanwhile."""

    def __init__(self, path: str, descriptor: int) -> None:
        super().__init__(path, Content(None))
        self._descriptor = descriptor

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
