"""The data directory: its layout, its lock, its format version. No name in it is ever derived from a name a user chose.

    LOCK                     held while a node runs; the process id, for people
    FORMAT, FORMAT.copy      the format version, three times in each, so that no damaged line nor file does harm
    DAMAGE                   what was lost and not confirmed (damage.py)
    wal/                     the write-ahead log (wal_file.py)
    segments/                what was live when a file of it was full (segment.py)
    manifest/                what these segments are, and what else the log no longer tells (manifest.py)
    pages/                   messages that need not survive a restart and are too many for the memory (page_files.py);
                             emptied at each start
    quarantine/              copies of what recovery cut or could not read; nobody but people reads it

``FORMAT`` is the first thing made in a new directory, and replaced as a whole: written beside, synced, renamed,
directory synced. Its copy follows it. Where both are gone, the headers of the log tell whether it is one that this
release reads.
"""

import contextlib
import errno
import os
import zlib
from collections.abc import Callable
from typing import Final

from broker.store.disk_error import DiskError
from broker.store.filesystem import File, FileSystem

FORMAT: Final = 3
"""The version this release writes; it reads all from 1 on. Format 2: commit groups of several batches (batch.py).
Format 3: the logs of Raft groups (group_state.py), whose entries an older release would take for messages."""

_LOCK: Final = "LOCK"
_FORMAT: Final = "FORMAT"
_FORMAT_NEW: Final = "FORMAT.new"
_FORMAT_COPY: Final = "FORMAT.copy"
FORMAT_FILES: Final = (_FORMAT, _FORMAT_COPY)
"""Each tells the version."""
_FORMAT_MIN: Final = 1
_WAL: Final = "wal"
_SEGMENTS: Final = "segments"
_MANIFEST: Final = "manifest"
_QUARANTINE: Final = "quarantine"
_PAGES: Final = "pages"

Migration = Callable[[FileSystem, str], None]


def _nothing(filesystem: FileSystem, path: str) -> None:
    """What stands in the directory is the same in both formats; only what comes is new."""


MIGRATIONS: Final[dict[int, Migration]] = {1: _nothing, 2: _nothing}
"""By version: what makes the next one of a directory of that version. It may be interrupted anywhere and is then called
again."""


KEPT: Final = ".lost"
"""Behind the name of what is kept for people because it is not what it should be."""


def put_aside(filesystem: FileSystem, site: str, path: str) -> None:
    """Give what stands where a file should be a name that means nothing. An error is left to whoever makes that
    file."""
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
        self.pages = f"{path}/{_PAGES}"
        self.repaired: list[str] = []
        """What was damaged and has lost nothing, for people."""
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
            for directory in (made.segments, made.manifest, made.quarantine, made.pages):
                filesystem.make_directory("datadir.create", directory)
            # Also when nothing was made: an earlier run may have made it and died before this line.
            filesystem.sync_directory("datadir.create.directory", path)
            for directory in (made.wal, made.segments, made.manifest):
                filesystem.keep_open("datadir.keep", directory)
        except BaseException:
            filesystem.close()
            lock.close()
            raise
        return made

    def close(self) -> None:
        """Let another node have it."""
        self.filesystem.close()
        self._lock.close()

    def _settle_format(self) -> None:
        names = self.filesystem.names("datadir.list", self.path)
        if not {_FORMAT, _FORMAT_COPY, _WAL} & set(names):
            # Where this file is, its directory is durable; where it is not, that is not known.
            self.filesystem.sync_directory("datadir.create.directory", os.path.dirname(self.path))
            self._write_format(FORMAT)
            self._write_copy(FORMAT)
            return
        found = self._read_format(_FORMAT)
        copy = self._read_format(_FORMAT_COPY)
        version = found or copy or self._guess_format()
        if version > FORMAT:
            raise DataDirError(
                f"{self.path} was written by a newer release (format {version}, this one knows {FORMAT}): use that one"
            )
        if not found:
            self.repaired.append(f"{self.path}/{_FORMAT} cannot be read: it is written anew, for format {version}")
            with contextlib.suppress(DiskError):  # its copy is there, or the next start guesses again
                self._write_format(version)
        while version < FORMAT:
            MIGRATIONS[version](self.filesystem, self.path)
            version += 1
            self._write_format(version)
        if copy != version:
            if copy == 0 and _FORMAT_COPY in names:
                self.repaired.append(f"{self.path}/{_FORMAT_COPY} cannot be read: it is written anew")
            with contextlib.suppress(DiskError):
                self._write_copy(version)

    def _read_format(self, name: str) -> int:
        """The version in that file; 0 if it does not tell, or is not there. Something else in its place is put
        aside."""
        path = f"{self.path}/{name}"
        try:
            return read_format(self.filesystem, path)[0]
        except DiskError as error:
            if error.errno == errno.EISDIR:
                put_aside(self.filesystem, "datadir.format.clean", path)
            elif error.errno not in (errno.ENOENT, errno.EIO):
                raise
            return 0

    def _guess_format(self) -> int:
        """The oldest version, from which migrations can do no harm, unless a file of the log is of a version that
        nobody knows here."""
        with contextlib.suppress(DiskError):
            for name in self.filesystem.names("datadir.list", f"{self.path}/{_WAL}"):
                with contextlib.suppress(DiskError):
                    file = self.filesystem.open("datadir.format.read", f"{self.path}/{_WAL}/{name}")
                    try:
                        head = file.read("datadir.format.read", 0, 6)
                    finally:
                        file.close()
                    if head[:4] == b"LEVW" and int.from_bytes(head[4:6], "big") > FORMAT:
                        return int.from_bytes(head[4:6], "big")
        return _FORMAT_MIN

    def _write_format(self, version: int) -> None:
        self._write(_FORMAT, version)

    def _write_copy(self, version: int) -> None:
        self._write(_FORMAT_COPY, version)

    def _write(self, name: str, version: int) -> None:
        filesystem = self.filesystem
        fresh = f"{self.path}/{_FORMAT_NEW}"
        if _FORMAT_NEW in filesystem.names("datadir.list", self.path):
            filesystem.unlink("datadir.format.clean", fresh)
        file = filesystem.create("datadir.format.create", fresh)
        try:
            file.write("datadir.format.write", 0, [_format_text(version)])
            file.sync("datadir.format.sync")
        finally:
            file.close()
        filesystem.rename("datadir.format.rename", fresh, f"{self.path}/{name}")
        filesystem.sync_directory("datadir.format.directory", self.path)


def read_format(filesystem: FileSystem, path: str) -> tuple[int, int]:
    """The version that the file at ``path`` tells, 0 if it tells none, and how many of its lines do.

    Raises: DiskError
    """
    file = filesystem.open("datadir.format.read", path)
    try:
        data = file.read("datadir.format.read", 0, 4096)
    finally:
        file.close()
    found: list[int] = []
    for line in data.split(b"\n"):
        text, _, checksum = line.rpartition(b" ")
        name, _, version = text.rpartition(b" ")
        if name == b"leveret data format" and checksum == b"%08x" % zlib.crc32(text) and version.isdigit():
            found.append(int(version))
    return (found[0], len(found)) if found else (0, 0)


def _format_text(version: int) -> bytes:
    text = b"leveret data format %d" % version
    return (b"%s %08x\n" % (text, zlib.crc32(text))) * 3


def _lock(filesystem: FileSystem, path: str) -> File:
    name = f"{path}/{_LOCK}"
    try:
        lock = filesystem.try_lock("datadir.lock", name)
    except DiskError as error:
        if error.errno != errno.EISDIR:
            raise
        put_aside(filesystem, "datadir.format.clean", name)
        lock = filesystem.try_lock("datadir.lock", name)
    if lock is None:
        holder = filesystem.open("datadir.lock.read", name)
        try:
            text = holder.read("datadir.lock.read", 0, 32)
        finally:
            holder.close()
        number = text.partition(b"\n")[0].decode("ascii", "replace")
        raise DataDirError(
            f"{path} is in use by another node (process {number}): stop that one, or use another directory"
        )
    with contextlib.suppress(DiskError):  # the id is for people; a full disk must not keep the node from starting
        lock.write("datadir.lock.write", 0, [b"%d\n%s" % (os.getpid(), b" " * 16)])
    return lock
