"""The byte layout of the log: a batch of records under one checksum. Encodes and decodes; knows no files.

Records are gathered into batches by batch_writer.py; batches that reach the disk together are a commit group
(commit_group.py). All numbers are big-endian and not negative.

    batch     0   magic            4   b"LEVB"
              4   format version   2   1
              6   flags            2   1: the group goes on in the next batch
              8   generation       8   of the file: a file that is used again gets a greater one
             16   salt             8   of the file, random: nobody can put a batch into the body of a message
             24   first sequence   8   number of its first record; the others follow
             32   payload size     8   bytes of all records
             40   record count     4   0 in the batch that ends a clean shutdown
             44   group offset     4   records of the group before this batch
             48   checksum         8   XXH3-64 of bytes 0-47 and the payload
             56   payload              the records, without gaps
                  padding              zeros up to a multiple of 4096

    record    0   log id           8
              8   length           4   of the body
             12   kind             1   what the body means to that log
             13   body

Blocks of 4096: a torn write cannot damage the batch before, which was promised; and a partial page of a file that is
used again would have to be read first (measured: 130 us instead of 90 us per batch). A header never crosses a block.
XXH3 instead of CRC-32: 17 us instead of 450 us for a MiB, and 64 bits.
"""

from collections.abc import Iterator, Sequence
from typing import Final, final

import xxhash
from librt.strings import BytesWriter, read_i16_be, read_i32_be, read_i64_be, write_i16_be, write_i64_be

from broker.native import i16, i64

FORMAT: Final[i64] = 1
MORE: Final[i64] = 1
"""Flag: the commit group goes on in the next batch."""
LARGE: Final[i64] = 2 << 20
"""A batch of more bytes is large: it ends with one large record, whose content is not copied out of it when it is
read."""
BLOCK: Final[i64] = 4096
HEADER_SIZE: Final[i64] = 56
SALT_AT: Final[i64] = 16
RECORD_HEADER_SIZE: Final[i64] = 13

_MAGIC: Final = b"LEVB"
_MAGIC_NUMBER: Final[i64] = 0x4C455642
_CHECKSUM_AT: Final[i64] = 48
_RECORD_COUNT_MAX: Final[i64] = (1 << 31) - 1
_SEQUENCE_MAX: Final[i64] = (1 << 62) - 1
_DIGEST_STEP: Final[i64] = 1 << 18
_DIGEST_HELD_MAX: Final[i64] = 4 << 20


@final
class BatchLocation:
    """Where a batch is. Those who remember records of it share one."""

    def __init__(self) -> None:
        self.generation: i64 = -1
        """Of its file; -1 while it is not on the disk."""
        self.offset: i64 = 0
        """In that file."""
        self.size: i64 = 0
        """Of the whole batch, in bytes."""


def location_at(generation: i64, offset: i64 = 0, size: i64 = 0) -> BatchLocation:
    """Where a batch is, or will be, that is none of an open log: in a segment, in its index, or found by recovery."""
    location = BatchLocation()
    location.generation = generation
    location.offset = offset
    location.size = size
    return location


@final
class Batch:
    """A batch on its way to the disk."""

    def __init__(
        self,
        pieces: Sequence[bytes | memoryview],
        first_sequence: i64,
        record_count: i64,
        payload_size: i64,
        location: BatchLocation | None = None,
        group_offset: i64 = 0,
    ) -> None:
        self.pieces = pieces
        self.first_sequence: i64 = first_sequence
        self.record_count: i64 = record_count
        self.payload_size: i64 = payload_size
        self.location = BatchLocation() if location is None else location
        self.group_offset: i64 = group_offset
        """How many records of its commit group stand before it."""
        self.flags: i64 = 0

    def through(self) -> i64:
        """The number of its last record."""
        return self.first_sequence + self.record_count - 1

    def size(self) -> i64:
        """Its bytes on the disk."""
        return whole_size(self.payload_size)

    def seal(self, generation: i64, salt: i64) -> list[bytes | memoryview]:
        """What is written to a file of this generation: header, payload, padding."""
        writer = BytesWriter()
        writer.write(_MAGIC)
        write_i16_be(writer, 1)
        write_i16_be(writer, i16(self.flags))
        write_i64_be(writer, generation)
        write_i64_be(writer, salt)
        write_i64_be(writer, self.first_sequence)
        write_i64_be(writer, self.payload_size)
        write_i64_be(writer, self.record_count << 32 | self.group_offset)
        digest = xxhash.xxh3_64(writer.getvalue())
        for piece in self.pieces:
            add_to_digest(digest, piece, 0, len(piece))
        writer.write(digest.digest())
        return [writer.getvalue(), *self.pieces, bytes(self.size() - HEADER_SIZE - self.payload_size)]


@final
class StoredBatch:
    """A batch as it was read, and is right."""

    def __init__(self, data: bytes, content: bytes | None = None) -> None:
        self.data = data
        """The whole batch, or what stands before ``content``."""
        self.content = content
        """The content of its last record, where that is large."""

    def size(self) -> int:
        """Bytes in memory."""
        return len(self.data) + (0 if self.content is None else len(self.content))


@final
class BatchHeader:
    """The head of a batch as read, plausible but not verified."""

    def __init__(self, generation: i64, salt: i64, first_sequence: i64, payload_size: i64, record_count: i64) -> None:
        self.generation: i64 = generation
        self.salt: i64 = salt
        self.first_sequence: i64 = first_sequence
        self.payload_size: i64 = payload_size
        self.record_count: i64 = record_count
        self.group_offset: i64 = 0
        """How many records of its commit group stand before it."""
        self.more = False
        """Its commit group goes on in the next batch."""

    def group_first(self) -> i64:
        """The number of the first record of its commit group."""
        return self.first_sequence - self.group_offset

    def size(self) -> i64:
        """The batch's bytes on the disk."""
        return whole_size(self.payload_size)


def whole_size(payload_size: i64) -> i64:
    """Bytes on the disk of a batch with this payload."""
    return (HEADER_SIZE + payload_size + BLOCK - 1) // BLOCK * BLOCK


def add_to_digest(digest: xxhash.xxh3_64, data: bytes | memoryview, start: i64, end: i64) -> None:
    """Add ``data[start:end]``.

    From a MiB on, an update lets other threads run and then waits for its turn again, up to a switch interval: much
    longer than the 20 us that a MiB takes (measured). So what takes less than that is added in steps.
    """
    view = memoryview(data)
    if end - start > _DIGEST_HELD_MAX:
        digest.update(view[start:end])
        return
    while end - start > _DIGEST_STEP:
        digest.update(view[start : start + _DIGEST_STEP])
        start += _DIGEST_STEP
    digest.update(view[start:end])


def read_header(data: bytes) -> BatchHeader | None:
    """The header at the start of ``data``; None if it cannot be one. Nothing in it may be believed before
    ``is_whole``."""
    if len(data) < HEADER_SIZE or (i64(read_i32_be(data, 0)) & 0xFFFFFFFF) != _MAGIC_NUMBER:
        return None
    flags = i64(read_i16_be(data, 6))
    if read_i16_be(data, 4) != FORMAT or flags & ~MORE:
        return None
    payload_size = read_i64_be(data, 32)
    packed = read_i64_be(data, 40)
    first_sequence = read_i64_be(data, 24)
    if not 0 <= payload_size <= _SEQUENCE_MAX or not 0 <= first_sequence <= _SEQUENCE_MAX or packed < 0:
        return None
    record_count = packed >> 32
    group_offset = packed & 0xFFFFFFFF
    if (
        record_count > _RECORD_COUNT_MAX
        or record_count * RECORD_HEADER_SIZE > payload_size
        or group_offset > first_sequence
    ):
        return None
    header = BatchHeader(read_i64_be(data, 8), read_i64_be(data, 16), first_sequence, payload_size, record_count)
    header.group_offset = group_offset
    header.more = flags & MORE != 0
    return header


def is_intact(header: BatchHeader, data: bytes, content: bytes = b"") -> bool:
    """Whether ``data``, and what of it stands apart, is the batch of this header, all there and its checksum right.

    For one whose records are known.
    """
    end = HEADER_SIZE + header.payload_size - len(content)
    if len(data) < end:
        return False
    digest = xxhash.xxh3_64(data[:_CHECKSUM_AT])
    add_to_digest(digest, data, HEADER_SIZE, end)
    add_to_digest(digest, content, 0, len(content))
    return bool(digest.digest() == data[_CHECKSUM_AT:HEADER_SIZE])


def is_whole(header: BatchHeader, data: bytes) -> bool:
    """Whether it is, and its records in order."""
    if not is_intact(header, data):
        return False
    end = HEADER_SIZE + header.payload_size
    at = HEADER_SIZE
    for _ in range(header.record_count):
        if at + RECORD_HEADER_SIZE > end:
            return False
        at = record_end(data, at)
        if at > end:
            return False
    return at == end


def record_end(data: bytes, at: i64) -> i64:
    """Where the record ends that begins at ``at``, in a batch or in its payload."""
    return at + RECORD_HEADER_SIZE + (i64(read_i32_be(data, at + 8)) & 0xFFFFFFFF)


def records(header: BatchHeader, data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """The records of a whole batch, one after the other: (sequence, log id, kind, body)."""
    at: i64 = HEADER_SIZE
    sequence: i64 = header.first_sequence
    for _ in range(header.record_count):
        end = record_end(data, at)
        yield sequence, read_i64_be(data, at), data[at + 12], data[at + RECORD_HEADER_SIZE : end]
        at = end
        sequence += 1
