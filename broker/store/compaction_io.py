"""The files of a task of the compactor (compactor.py): the one it reads, the ones it makes. It runs on the thread that
moves."""

import errno
from collections.abc import Callable, Iterator
from typing import NamedTuple

from broker.store.batch import Batch
from broker.store.datadir import DataDir
from broker.store.disk_error import DiskError
from broker.store.filesystem import FileSystem
from broker.store.segment import SegmentFile
from broker.store.segment_builder import SegmentBuilder
from broker.store.wal_file import BadRange, Found, Scan, read_file_header


def unlink_all(filesystem: FileSystem, paths: list[str]) -> None:
    """Remove segments; some of them may be gone already.

    Raises: DiskError
    """
    for path in paths:
        try:
            filesystem.unlink("segment.remove", path)
        except DiskError as error:
            if error.errno != errno.ENOENT:
                raise


class Chunk(NamedTuple):
    """Whole batches of a file, and what lies between them and should not."""

    found: list[Found]
    bad: list[BadRange]
    size: int
    is_last: bool


class Source:
    """A file whose live records move, read from front to end."""

    def __init__(self, filesystem: FileSystem, path: str, number: int, chunk_size: int) -> None:
        self._filesystem = filesystem
        self._path = path
        self._number = number
        self._chunk_size = chunk_size
        self._scan: Iterator[Found | BadRange] | None = None
        self._unreadable: Callable[[], int] = lambda: 0
        self._close: Callable[[], None] = lambda: None

    def read(self, strict: bool) -> Chunk:
        """The next batches.

        Raises: DiskError; not if the file is gone, and not because of single blocks unless ``strict``
        """
        if self._scan is None:
            try:
                file = self._filesystem.open("move.open", self._path)
            except DiskError as error:
                if error.errno != errno.ENOENT:
                    raise
                return Chunk([], [BadRange(0, 1 << 62)], 0, True)
            self._close = file.close
            header = read_file_header(file, self._number, "move.read")
            if header is None:
                file.close()
                return self._without_header(strict)
            scan = Scan(file, header, "move.read")
            self._unreadable = lambda: scan.unreadable_blocks
            self._scan = iter(scan)
        found: list[Found] = []
        bad: list[BadRange] = []
        size = 0
        is_last = True
        assert self._scan is not None
        for each in self._scan:
            if isinstance(each, BadRange):
                bad.append(each)
                continue
            found.append(each)
            size += len(each.data)
            if size >= self._chunk_size:
                is_last = False
                break
        if is_last or (strict and self._unreadable()):
            self._close()
        if strict and self._unreadable():
            raise DiskError(errno.EIO, "some blocks cannot be read", self._path, "move.read")
        return Chunk(found, bad, size, is_last)

    def _without_header(self, strict: bool) -> Chunk:
        if strict:
            raise DiskError(errno.EIO, "it has no header", self._path, "move.read")
        return Chunk([], [BadRange(0, 1 << 62)], 0, True)


class SegmentBuilders:
    """The new segments of a task."""

    def __init__(self, data_dir: DataDir, new_salt: Callable[[], int]) -> None:
        self._filesystem = data_dir.filesystem
        self._directory = data_dir.segments
        self._new_salt = new_salt
        self._files: dict[int, SegmentFile] = {}

    def write(self, blocks: list[tuple[SegmentBuilder, list[Batch]]]) -> None:
        """Write full blocks; a segment begins with its first one.

        Raises: DiskError
        """
        for builder, batches in blocks:
            number = int(builder.number)
            if number not in self._files:
                self._files[number] = SegmentFile(self._filesystem, self._directory, builder, self._new_salt)
            self._files[number].write(batches)

    def seal(self, added: list[tuple[SegmentBuilder, int]]) -> None:
        """Finish all of them; adds them, with their sizes, to ``added``.

        Raises: DiskError
        """
        added.extend((file.builder, file.seal()) for file in self._files.values())
        self._filesystem.sync_directory("segment.publish.directory", self._directory)

    def discard(self) -> None:
        """None of them is wanted."""
        for file in self._files.values():
            file.discard()
