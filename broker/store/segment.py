"""One segment: an immutable file of records that were still live when a file of the write-ahead log was full.

    <number, 16 hex digits>.seg     complete, synced, and then given this name; the manifest says which ones count
    <number, 16 hex digits>.tmp     one that was never finished

    block 0, 1     header as in wal_file.py, with the number of the segment in place of the generation
    then           blocks of up to 256 KiB, each a batch (batch.py) of MESSAGE and TRANSIENT records (records.py), of
                   any logs
    then           the index: batches of up to 64 KiB, with a record for each part: the records of one log that came
                   from one place
    last block     a batch with one record (log id 0, kind 33): offset of the first batch of the index (8), offset
                   behind its last one (8)

    INDEX     0   log id, length, 32     as every record
             13   first position    8
             21   extents              each of 36 bytes:
                    first position  8    of records with consecutive positions, one behind the other in one batch
                    count           4
                    kind            4    of all of them: 1 MESSAGE, 2 TRANSIENT
                    batch           8    its offset in the file
                    size            4    of the batch on the disk
                    start           4    of the first record in the payload
                    end             4    of the last one

Nothing in it is believed that its checksum does not vouch for. It is removed as a whole when nothing in it is live.
"""

import contextlib
import struct
from collections.abc import Callable
from typing import Final

from broker.store.batch import (
    BLOCK,
    HEADER_SIZE,
    LARGE,
    Batch,
    BatchHeader,
    BatchLocation,
    StoredBatch,
    is_intact,
    location_at,
    read_header,
    record_end,
    records,
)
from broker.store.batch_writer import BATCH_SIZE, UNDIVIDED, BatchWriter
from broker.store.datadir import KEPT
from broker.store.disk_error import DiskError
from broker.store.filesystem import File, FileSystem
from broker.store.records import BODY_AT, HEAD_SIZE, TRANSIENT, content_at
from broker.store.segment_builder import SegmentBuilder, SegmentPart
from broker.store.segment_extent import Extent
from broker.store.wal_file import FileHeader

SUFFIX: Final = ".seg"
UNFINISHED: Final = ".tmp"
INDEX: Final = 32
TRAILER: Final = 33

_INDEX_SIZE: Final = 1 << 16
_BEFORE_SIZE: Final = int(BATCH_SIZE) + (1 << 16)
"""What stands before the content of the last record of a large batch is mostly not more than this."""
_SYNC_SIZE: Final = 4 << 20
"""So much is written between two syncs: what has piled up at the end must not hold up those of the write-ahead log."""
_STRETCH: Final = struct.Struct(">QIIQIII")
_U64: Final = struct.Struct(">Q")
_TRAILER: Final = struct.Struct(">QQ")


def segment_name(number: int, suffix: str = SUFFIX) -> str:
    """The name of a segment's file."""
    return f"{number:016x}{suffix}"


def number_of(name: str) -> int | None:
    """The number in the name of a file of this directory; None if it is none."""
    stem, dot, suffix = name.partition(".")
    if (
        f"{dot}{suffix}" not in (SUFFIX, UNFINISHED, KEPT)
        or len(stem) != 16
        or not set(stem) <= set("0123456789abcdef")
    ):
        return None
    return int(stem, 16)


class SegmentFile:
    """A segment that is being written. On the thread of the compactor."""

    def __init__(
        self, filesystem: FileSystem, directory: str, builder: SegmentBuilder, new_salt: Callable[[], int]
    ) -> None:
        """Creates the file.

        Raises: DiskError
        """
        self.builder = builder
        self._filesystem = filesystem
        self._path = f"{directory}/{segment_name(builder.number, UNFINISHED)}"
        self._directory = directory
        self._salt = new_salt()
        self._unsynced = 0
        self._file = filesystem.create("segment.create", self._path)
        try:
            self._file.write("segment.write", 0, [FileHeader(builder.number, self._salt, 1).encode()])
        except DiskError:
            self.discard()
            raise

    def write(self, blocks: list[Batch]) -> None:
        """Write blocks, one behind the other, where the output has placed them.

        Raises: DiskError
        """
        pieces: list[bytes | memoryview] = []
        for batch in blocks:
            pieces += batch.seal(self.builder.number, self._salt)
            self._unsynced += batch.location.size
        if pieces:
            self._file.write("segment.write", blocks[0].location.offset, pieces)
        if self._unsynced >= _SYNC_SIZE:
            self._unsynced = 0
            self._file.sync("segment.sync")

    def seal(self, suffix: str = SUFFIX) -> int:
        """Write the index, sync, and give it its name, which is durable after a sync of the directory. Bytes of the
        file.

        Raises: DiskError
        """
        builder = self.builder
        at = builder.size
        writer = BatchWriter(builder.count + 1, UNDIVIDED)
        waiting: list[SegmentPart] = []
        for part in builder.parts:
            writer.append(part.log.number, INDEX, encode_extents(part.extents))
            waiting.append(part)
            if writer.size() >= _INDEX_SIZE:
                at = self._put_index(writer, waiting, at)
                waiting = []
        if waiting:
            at = self._put_index(writer, waiting, at)
        writer.append(0, TRAILER, _TRAILER.pack(builder.size, at))
        self._file.write("segment.write", at, writer.take_batch().seal(builder.number, self._salt))
        self._file.sync("segment.sync")
        self._file.close()
        name = f"{self._directory}/{segment_name(builder.number, suffix)}"
        self._filesystem.rename("segment.publish", self._path, name)
        self._path = name
        return at + BLOCK

    def _put_index(self, writer: BatchWriter, parts: list[SegmentPart], at: int) -> int:
        batch = writer.take_batch()
        self._file.write("segment.write", at, batch.seal(self.builder.number, self._salt))
        for part in parts:
            part.index_offset = at
            part.index_size = batch.size()
        return at + batch.size()

    def discard(self) -> None:
        """It is not wanted any more; what is left of it goes at the next start at the latest."""
        self._file.close()
        with contextlib.suppress(DiskError):
            self._filesystem.unlink("segment.discard", self._path)


def encode_extents(extents: list[Extent]) -> bytes:
    """The body of an INDEX record."""
    parts = [_U64.pack(extents[0].first)]
    for each in extents:
        location = each.location
        parts.append(
            _STRETCH.pack(each.first, each.count, each.kind, location.offset, location.size, each.start, each.end)
        )
    return b"".join(parts)


def decode_extents(number: int, data: bytes) -> list[Extent]:
    """The extents in that body, in the segment of this number."""
    locations: dict[int, BatchLocation] = {}
    found = []
    for first, count, kind, offset, size, start, end in _STRETCH.iter_unpack(data[8:]):
        location = locations.get(offset)
        if location is None:
            location = locations[offset] = location_at(number, offset, size)
        extent = Extent(first, location, start)
        extent.count, extent.kind, extent.end = count, kind, end
        found.append(extent)
    return found


def read_cached(file: File, location: BatchLocation) -> StoredBatch | None:
    """A batch of that file if the system has it in its memory and it is what was written.

    Raises: DiskError
    """
    data = file.read_cached("log.read", location.offset, location.size)
    return StoredBatch(data) if data is not None and _is_right(data, location) else None


def read_batch(file: File, location: BatchLocation) -> bytes | None:
    """A whole batch of that file; None if it is not what was written.

    Raises: DiskError
    """
    data = file.read("log.read", location.offset, location.size)
    return data if _is_right(data, location) else None


def _is_right(data: bytes, location: BatchLocation) -> bool:
    header = read_header(data)
    return header is not None and header.generation == location.generation and is_intact(header, data)


def read_stored(file: File, location: BatchLocation) -> StoredBatch | None:
    """The same for those who want its records. A large content is read to where it stays: to copy 32 MiB takes 20 ms,
    and the interpreter.

    Raises: DiskError
    """
    if location.size <= LARGE:
        data = read_batch(file, location)
        return None if data is None else StoredBatch(data)
    data = file.read("log.read", location.offset, min(location.size, _BEFORE_SIZE))
    header = read_header(data)
    if header is None or header.generation != location.generation or header.size() != location.size:
        return None
    at = _large_content(header, data)
    if at is None:
        data = read_batch(file, location)
        return None if data is None else StoredBatch(data)
    data = data[:at]
    content = file.read("log.read", location.offset + at, int(HEADER_SIZE + header.payload_size) - at)
    return StoredBatch(data, content) if is_intact(header, data, content) else None


def _large_content(header: BatchHeader, data: bytes) -> int | None:
    """Where the content of the last record begins, if that is large and begins in ``data``. Nothing there is verified
    yet."""
    end = int(HEADER_SIZE + header.payload_size)
    at = int(HEADER_SIZE)
    for left in range(header.record_count, 0, -1):
        if at + BODY_AT + HEAD_SIZE > len(data):
            return None
        following = record_end(data, at)
        if following > len(data):
            start = content_at(data, at + BODY_AT)
            is_last = left == 1 and following == end and data[at + 12] <= TRANSIENT
            return start if is_last and start <= len(data) and end - start > LARGE // 2 else None
        at = following
    return None


def read_extents(file: File, location: BatchLocation, log_number: int, first: int) -> list[Extent] | None:
    """The extents of the part of a log that begins at position ``first``, from the batch of the index at ``location``;
    None if it is bad.

    Raises: DiskError
    """
    data = read_batch(file, location)
    if data is None:
        return None
    header = read_header(data)
    assert header is not None
    for _, number, kind, body in records(header, data):
        if number == log_number and kind == INDEX and _U64.unpack_from(body)[0] == first:
            return decode_extents(location.generation, body)
    return None
