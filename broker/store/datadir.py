"""The data directory: its layout, its lock, its format version. No name in it is ever derived from a name a user chose.

    LOCK                     held while a node runs; the process id, for people
    FORMAT                   the format version, three times, so that one damaged line does no harm
    wal/                     the write-ahead log (wal_file.py)
    segments/                what was live when a file of it was full (segment.py)
    manifest/                what these segments are, and what else the log no longer tells (manifest.py)
    quarantine/              copies of what recovery cut or could not read; nobody but people reads it

``FORMAT`` is the first thing made in a new directory, and replaced as a whole: written beside, synced, renamed, directory synced.
"""

import contextlib
import os
import zlib
from collections.abc import Callable
from typing import Final

from broker.store.filesystem import DiskError, File, FileSystem

FORMAT: Final = 1
"""The version this release writes; it reads all from 1 on."""

_LOCK: Final = "LOCK"
_FORMAT: Final = "FORMAT"
_FORMAT_NEW: Final = "FORMAT.new"
_WAL: Final = "wal"
_SEGMENTS: Final = "segments"
_MANIFEST: Final = "manifest"
_QUARANTINE: Final = "quarantine"

Migration = Callable[[FileSystem, str], None]
MIGRATIONS: Final[dict[int, Migration]] = {}
"""By version: what makes the next one of a directory of that version. It may be interrupted anywhere and is then called again."""


KEPT: Final = ".lost"
"""Behind the name of what is kept for people because it is not what it should be."""


def put_aside(filesystem: FileSystem, site: str, path: str) -> None:
    """Give what stands where a file should be a name that means nothing. An error is left to whoever makes that file."""
    directory, _, name = path.rpartition("/")
    with contextlib.suppress(DiskError):
        names = filesystem.names("datadir.list", directory)
        kept = [f"{name}{KEPT}", *(f"{name}-{number}{KEPT}" for number in range(2, 100))]
        filesystem.rename(site, path, f"{directory}/{next(each for each in kept if each not in names)}")


class DataDirError(Exception):
    """The directory cannot be used; the text says why and what to do."""


class DataDir:
    """The directory of a running node, locked. Lives as long as the node."""

    def __init__(self, filesystem: FileSystem, path: str, lock: File) -> None:
        self.filesystem = filesystem
        self.path = path
        self.wal = f"{path}/{_WAL}"
        self.segments = f"{path}/{_SEGMENTS}"
        self.manifest = f"{path}/{_MANIFEST}"
        self.quarantine = f"{path}/{_QUARANTINE}"
        self._lock = lock

    @classmethod
    def open(cls, filesystem: FileSystem, path: str) -> "DataDir":
        """The locked directory at this absolute path, made if need be, in the current format.

        Raises: DataDirError if another node uses it or its format is unknown; DiskError
        """
        path = path.rstrip("/") or "/"
        filesystem.make_directory("datadir.create", path)
        lock = _lock(filesystem, path)
        try:
            made = cls(filesystem, path, lock)
            made._settle_format()
            if _WAL not in filesystem.names("datadir.list", path):
                # An earlier run may have died before FORMAT was durable, and a log without one is refused.
                filesystem.sync_directory("datadir.format.directory", path)
            filesystem.make_directory("datadir.create", made.wal)
            for directory in (made.segments, made.manifest, made.quarantine):
                filesystem.make_directory("datadir.create", directory)
            # Also when nothing was made: an earlier run may have made it and died before this line.
            filesystem.sync_directory("datadir.create.directory", path)
        except BaseException:
            lock.close()
            raise
        return made

    def close(self) -> None:
        """Let another node have it."""
        self._lock.close()

    def _settle_format(self) -> None:
        names = self.filesystem.names("datadir.list", self.path)
        if _FORMAT not in names:
            if _WAL in names:
                raise DataDirError(f"{self.path} holds a log but no file {_FORMAT}: restore it from a backup, or use another directory")
            # Where this file is, its directory is durable; where it is not, that is not known.
            self.filesystem.sync_directory("datadir.create.directory", os.path.dirname(self.path))
            self._write_format(FORMAT)
            return
        version = self._read_format()
        if version > FORMAT:
            raise DataDirError(f"{self.path} was written by a newer release (format {version}, this one knows {FORMAT}): use that one")
        while version < FORMAT:
            MIGRATIONS[version](self.filesystem, self.path)
            version += 1
            self._write_format(version)

    def _read_format(self) -> int:
        path = f"{self.path}/{_FORMAT}"
        file = self.filesystem.open("datadir.format.read", path)
        try:
            data = file.read("datadir.format.read", 0, 4096)
        finally:
            file.close()
        for line in data.split(b"\n"):
            text, _, checksum = line.rpartition(b" ")
            name, _, version = text.rpartition(b" ")
            if name == b"leveret data format" and checksum == b"%08x" % zlib.crc32(text) and version.isdigit():
                return int(version)
        raise DataDirError(f"{path} is damaged: restore it from a backup, or write it anew with these bytes: {_format_text(FORMAT)!r}")

    def _write_format(self, version: int) -> None:
        filesystem = self.filesystem
        path = f"{self.path}/{_FORMAT}"
        fresh = f"{self.path}/{_FORMAT_NEW}"
        if _FORMAT_NEW in filesystem.names("datadir.list", self.path):
            filesystem.unlink("datadir.format.clean", fresh)
        file = filesystem.create("datadir.format.create", fresh)
        try:
            file.write("datadir.format.write", 0, [_format_text(version)])
            file.sync("datadir.format.sync")
        finally:
            file.close()
        filesystem.rename("datadir.format.rename", fresh, path)
        filesystem.sync_directory("datadir.format.directory", self.path)


def _format_text(version: int) -> bytes:
    text = b"leveret data format %d" % version
    return (b"%s %08x\n" % (text, zlib.crc32(text))) * 3


def _lock(filesystem: FileSystem, path: str) -> File:
    name = f"{path}/{_LOCK}"
    lock = filesystem.try_lock("datadir.lock", name)
    if lock is None:
        holder = filesystem.open("datadir.lock.read", name)
        try:
            text = holder.read("datadir.lock.read", 0, 32)
        finally:
            holder.close()
        number = text.partition(b"\n")[0].decode("ascii", "replace")
        raise DataDirError(f"{path} is in use by another node (process {number}): stop that one, or use another directory")
    with contextlib.suppress(DiskError):  # the id is for people; a full disk must not keep the node from starting
        lock.write("datadir.lock.write", 0, [b"%d\n%s" % (os.getpid(), b" " * 16)])
    return lock
