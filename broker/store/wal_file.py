"""One file of the write-ahead log: its name, its header, and how what is written in it is found again.

    <generation, 16 hex digits>.wal       part of the log: prepared, synced and then given this name
    <number>.spare                        space for a future file; whatever it contains means nothing

    block 0   0   magic            4   b"LEVW"
              4   format version   2   1
              6   reserved         2   0
              8   generation       8   as in the name
             16   salt             8   random, repeated in every batch
             24   first sequence   8   number of the first record that can be in it
             32   checksum         8   XXH3-64 of bytes 0-31
    block 1       the same again: one damaged block does not make a file unreadable
    block 2 ...   batches (batch.py), one behind the other; then zeros or batches of an earlier use

The generations in the log follow each other without a gap, since files leave it oldest first; so do the sequence
numbers of the records. A gap is damage, and nothing else is: bytes that are no batch, with no number missing, are a
write that was never promised.
"""

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

import xxhash

from broker.store.batch import BLOCK, FORMAT, SALT_AT, BatchHeader, is_whole, read_header
from broker.store.disk_error import DiskError
from broker.store.filesystem import File

START: Final = 2 * BLOCK
"""Where the first batch stands."""
SUFFIX: Final = ".wal"
SPARE_SUFFIX: Final = ".spare"

_MAGIC: Final = b"LEVW"
_HEADER: Final = struct.Struct(">4sHHQQQ")
_CHUNK: Final = 1 << 20
_LARGE: Final = 1 << 18
"""With a batch of this size, the head of the next one is read as well: under load, half of the time of a read is
waiting to go on."""


class FileHeader(NamedTuple):
    """What the start of a file says."""

    generation: int
    salt: int
    first_sequence: int

    def encode(self) -> bytes:
        """The blocks before ``START``."""
        head = _HEADER.pack(_MAGIC, FORMAT, 0, *self)
        return (head + xxhash.xxh3_64_digest(head)).ljust(BLOCK, b"\0") * 2


class Found(NamedTuple):
    """A whole batch in a file, verified."""

    offset: int
    header: BatchHeader
    data: bytes


class BadRange(NamedTuple):
    """Bytes that should be a batch and are none; nothing is known about where it ends but what follows it."""

    offset: int
    size: int


def file_name(generation: int) -> str:
    """The name of the file of this generation."""
    return f"{generation:016x}{SUFFIX}"


def generation_of(name: str) -> int | None:
    """The generation in a file's name; None if it is no file of the log."""
    stem = name.removesuffix(SUFFIX)
    if stem == name or len(stem) != 16 or not set(stem) <= set("0123456789abcdef"):
        return None
    return int(stem, 16)


def read_file_header(file: File, generation: int, site: str = "wal.read") -> FileHeader | None:
    """The header of an open file, from whichever block is whole; None if none is, or it is another file's."""
    data = LenientReader(file, site).read(0, START)
    for start in (0, BLOCK):
        block = data[start : start + BLOCK]
        if len(block) < BLOCK:
            break
        head = block[: _HEADER.size]
        magic, version, reserved, found, salt, first_sequence = _HEADER.unpack(head)
        checksum = block[_HEADER.size : _HEADER.size + 8]
        if (magic, version, reserved, found) == (_MAGIC, FORMAT, 0, generation) and checksum == xxhash.xxh3_64_digest(
            head
        ):
            return FileHeader(found, salt, first_sequence)
    return None


class LenientReader:
    """Reads a file in which some blocks cannot be read any more: they read as zeros, and are counted."""

    def __init__(self, file: File, site: str = "wal.read") -> None:
        self._file = file
        self._site = site
        self.unreadable_blocks = 0

    def read(self, offset: int, size: int) -> bytes:
        """``size`` bytes, fewer only where the file ends."""
        try:
            return self._file.read(self._site, offset, size)
        except DiskError:
            return b"".join(
                self._read_block(at, min(BLOCK, offset + size - at)) for at in range(offset, offset + size, BLOCK)
            )

    def _read_block(self, offset: int, size: int) -> bytes:
        try:
            return self._file.read(self._site, offset, size)
        except DiskError:
            self.unreadable_blocks += 1
            return bytes(size)


class Scan:
    """Everything in a file that its header vouches for, in order. After the iteration ``end`` is where the next batch
    goes."""

    def __init__(self, file: File, header: FileHeader, site: str = "wal.read") -> None:
        self._reader = LenientReader(file, site)
        self._size = file.size(site) // BLOCK * BLOCK
        self._header = header
        self._salt = header.salt.to_bytes(8, "big")
        self.end = START
        self._ahead = b""
        self._ahead_at = -1
        """Where that block stands, which came with the batch before it."""

    @property
    def unreadable_blocks(self) -> int:
        """How many blocks could not be read so far."""
        return self._reader.unreadable_blocks

    def __iter__(self) -> Iterator[Found | BadRange]:
        at = START
        while at < self._size:
            found = self._batch_at(at)
            if found is None:
                found = self._next_batch(at + BLOCK)
                suspect = self._suspect_size(at)
                if found is not None:
                    yield BadRange(at, found.offset - at)
                elif suspect:
                    yield BadRange(at, suspect)
                if found is None:
                    return
            yield found
            at = self.end = found.offset + found.header.size()

    def _batch_at(self, at: int) -> Found | None:
        block = self._ahead if at == self._ahead_at else self._reader.read(at, BLOCK)
        header = self._own_header(block)
        if header is None or at + header.size() > self._size:
            return None
        data = block
        if header.size() > BLOCK:
            end = header.size()
            ahead = BLOCK if end >= _LARGE else 0
            # The head once more: cheaper than to put them together.
            data = self._reader.read(at, min(end + ahead, self._size - at))
            if ahead:
                self._ahead_at, self._ahead = at + end, data[end:]
        return Found(at, header, data) if is_whole(header, data) else None

    def _own_header(self, block: bytes) -> BatchHeader | None:
        header = read_header(block)
        if header is None or (header.generation, header.salt) != (self._header.generation, self._header.salt):
            return None
        return header

    def _next_batch(self, start: int) -> Found | None:
        """The first whole batch at or behind ``start``. The salt finds it: no other bytes can contain that."""
        for chunk_at in range(start, self._size, _CHUNK):
            chunk = self._reader.read(chunk_at, min(_CHUNK, self._size - chunk_at))
            at = chunk.find(self._salt)
            while at >= 0:
                if at % BLOCK == SALT_AT:
                    found = self._batch_at(chunk_at + at - SALT_AT)
                    if found is not None:
                        return found
                at = chunk.find(self._salt, at + 1)
        return None

    def _suspect_size(self, at: int) -> int:
        """How many bytes at the end of the batches look as if one of this file had been begun there; 0 if none do.

        Any one field of the head may be damaged. Zeros and an earlier use of the file do not look like it: their salt
        is another one.
        """
        block = self._reader.read(at, BLOCK)
        header = self._own_header(block)
        if header is not None:
            return min(header.size(), self._size - at)
        own = self._header.generation.to_bytes(8, "big")
        if block[SALT_AT : SALT_AT + 8] == self._salt or (block[:4] == b"LEVB" and block[8:16] == own):
            return self._size - at
        return 0
