"""One of the two files of a manifest (manifest.py): opened, read, added to, made. Knows no other file.

A file is the header of wal_file.py, with the number of the manifest in place of the generation, and then batches
(batch.py): the state when the file was made, in as many batches as it takes, and a batch for each edit.
"""

from collections.abc import Iterable
from typing import Final

from broker.store.batch import Batch
from broker.store.batch_writer import UNDIVIDED, BatchWriter
from broker.store.disk_error import DiskError
from broker.store.filesystem import File, FileSystem
from broker.store.manifest_records import Record
from broker.store.wal_file import START, BadRange, FileHeader, Found, LenientReader, Scan, read_file_header

COPIES: Final = ("a", "b")
SUFFIX: Final = ".manifest"
UNFINISHED: Final = ".tmp"

_WRITE_SIZE: Final = 1 << 18


def manifest_name(number: int, copy: str, suffix: str = SUFFIX) -> str:
    """The name of a file; ``copy`` is "" for the only file of a manifest of format 1."""
    return f"{number:016x}.{copy}{suffix}" if copy else f"{number:016x}{suffix}"


def parse_name(name: str) -> tuple[int, str, str] | None:
    """Number, copy and suffix in the name of a file; None if it is none of a manifest."""
    stem, dot, rest = name.partition(".")
    copy, dot_again, suffix = rest.partition(".")
    if not dot_again:
        copy, suffix = "", rest
    if f"{dot}{suffix}" not in (SUFFIX, UNFINISHED) or copy not in ("", *COPIES):
        return None
    if len(stem) != 16 or not set(stem) <= set("0123456789abcdef"):
        return None
    return int(stem, 16), copy, f"{dot}{suffix}"


class ManifestFile:
    """An open file of a manifest."""

    def __init__(self, path: str, copy: str, file: File, header: FileHeader) -> None:
        self.path = path
        self.copy = copy
        self.file = file
        self.header = header
        self.end = START
        """Where the next batch goes."""
        self.allocated = 0
        """Bytes for which space was taken."""
        self.batches: dict[int, Found] = {}
        """What ``read`` has found, by the number of the first record."""
        self.bad: list[BadRange] = []
        """Bytes that should be a batch and are none."""
        self.unfinished: list[BadRange] = []
        """Those of them behind the last batch."""
        self.unreadable = False
        """Some blocks cannot be read."""

    def read(self) -> None:
        """Find everything in it.

        Raises: DiskError; not because of single blocks
        """
        scan = Scan(self.file, self.header, "manifest.read")
        self.batches, self.bad, self.unfinished = {}, [], []
        for found in scan:
            if isinstance(found, BadRange):
                self.bad.append(found)
                self.unfinished.append(found)
                continue
            self.unfinished = []
            self.batches[found.header.first_sequence] = found  # the last edit stands there twice after a start
        self.unreadable = scan.unreadable_blocks > 0
        self.end = scan.end
        self.allocated = self.file.size("manifest.read")

    def bytes_at(self, bad: BadRange) -> bytes:
        """What stands there, as far as it can be read."""
        return LenientReader(self.file, "manifest.read").read(bad.offset, bad.size)

    def reserve(self, size: int, room: int, ahead: int) -> None:
        """Take space for ``size`` bytes more and for ``ahead`` behind them; with ``room``, only when less than half of
        that is left.

        Raises: DiskError, ``is_full`` if there is no space even for the bytes themselves
        """
        end = self.end + size
        if end + room // 2 <= self.allocated:
            return
        try:
            self.file.allocate("manifest.allocate", end + ahead)
            self.allocated = end + ahead
        except DiskError as error:
            if not error.is_full or room:
                raise
            self.file.allocate("manifest.allocate", end)
            self.allocated = end

    def add(self, batch: Batch) -> None:
        """Write and sync an edit, for which space was taken.

        Raises: DiskError, after which nothing may be added any more
        """
        self.file.write("manifest.write", self.end, batch.seal(self.header.generation, self.header.salt))
        self.file.sync("manifest.sync")
        self.end += batch.size()

    def write_again(self, batch: Batch, ahead: int) -> None:
        """Make the last edit durable, behind the end. Where there is no space for that: over itself, which takes none.

        Raises: DiskError
        """
        last = self.batches.get(int(batch.first_sequence))
        offset, end = self.end, self.end + int(batch.size())
        try:
            self.reserve(int(batch.size()), 0, ahead)
        except DiskError as error:
            if not error.is_full or last is None:
                raise
            offset, end = last.offset, self.end  # second best, since the place may be a bad one
        self.file.write("manifest.rewrite", offset, batch.seal(self.header.generation, self.header.salt))
        self.file.sync("manifest.rewrite.sync")
        self.end = end

    def close(self) -> None:
        """Close the file."""
        self.file.close()


def open_file(filesystem: FileSystem, path: str, number: int, copy: str) -> ManifestFile | None:
    """The file at that path, read; None if it has no header that says this number.

    Raises: DiskError if it cannot be opened
    """
    file = filesystem.open("manifest.open", path)
    try:
        header = read_file_header(file, number, "manifest.read")
        if header is not None:
            made = ManifestFile(path, copy, file, header)
            made.read()
            return made
    except DiskError:
        file.close()
        raise
    file.close()
    return None


def make_file(
    filesystem: FileSystem, path: str, copy: str, header: FileHeader, size: int, groups: Iterable[list[Record]]
) -> tuple[ManifestFile, int]:
    """A new file with these groups of records, each in a batch, synced; and the number of the record that comes next.

    ``size`` bytes are taken for it in advance.

    Raises: DiskError, with the file left as it is
    """
    file = filesystem.create("manifest.create", path)
    made = ManifestFile(path, copy, file, header)
    try:
        file.allocate("manifest.allocate", size)
        pieces: list[bytes | memoryview] = [header.encode()]
        offset, written = 0, START
        writer = BatchWriter(1, UNDIVIDED)
        for group in groups:
            for number, kind, body in group:
                writer.append(number, kind, body)
            batch = writer.take_batch()
            pieces += batch.seal(header.generation, header.salt)
            written += int(batch.size())
            if written - offset >= _WRITE_SIZE:
                file.write("manifest.write", offset, pieces)
                pieces, offset = [], written
        if pieces:
            file.write("manifest.write", offset, pieces)
        file.sync("manifest.sync")
    except DiskError:
        file.close()
        raise
    made.end = written
    made.allocated = max(size, written)
    return made, int(writer.next_sequence)
