"""The byte layout of the log: a batch of records under one checksum. Encodes and decodes; knows no files.

A batch is what one turn, or the turns during one sync, have appended. It is whole or it is not there: what belongs together (the
publishes of a tx.commit) is appended without returning to the event loop. All numbers are big-endian and not negative.

    batch     0   magic            4   b"LEVB"
              4   format version   2   1
              6   reserved         2   0
              8   generation       8   of the file: a file that is used again gets a greater one
             16   salt             8   of the file, random: nobody can put a batch into the body of a message
             24   first sequence   8   number of its first record; the others follow
             32   payload size     8   bytes of all records
             40   record count     4   0 in the batch that ends a clean shutdown
             44   reserved         4   0
             48   checksum         8   XXH3-64 of bytes 0-47 and the payload
             56   payload              the records, without gaps
                  padding              zeros up to a multiple of 4096

    record    0   log id           8
              8   length           4   of the body
             12   kind             1   what the body means to that log
             13   body

Blocks of 4096: a torn write cannot damage the batch before, which was promised; and a partial page of a file that is used again would
have to be read first (measured: 130 us instead of 90 us per batch). A header never crosses a block. XXH3 instead of CRC-32: 17 us
instead of 450 us for a MiB, and 64 bits.
"""

from collections.abc import Iterator
from typing import Final, final

import xxhash
from librt.strings import BytesWriter, read_i16_be, read_i32_be, read_i64_be, write_i16_be, write_i32_be, write_i64_be
from mypy_extensions import mypyc_attr

from broker.faults import FaultOwner
from broker.native import i32, i64
from broker.turn import Syncable, Turn

FORMAT: Final[i64] = 1
BLOCK: Final[i64] = 4096
HEADER_SIZE: Final[i64] = 56
SALT_AT: Final[i64] = 16
RECORD_HEADER_SIZE: Final[i64] = 13
BODY_SIZE_MAX: Final[i64] = (1 << 31) - 1
PIECE_SIZE_MIN: Final[i64] = 8192
"""Bodies of this size and more are not copied into the batch but written from where they are."""

_MAGIC: Final = b"LEVB"
_MAGIC_NUMBER: Final[i64] = 0x4C455642
_CHECKSUM_AT: Final[i64] = 48
_RECORD_COUNT_MAX: Final[i64] = (1 << 31) - 1
_CHUNK: Final[i64] = 1 << 18
"""The buffer becomes a piece at this size: it stays in the processor's cache and is never copied to grow."""
_SEQUENCE_MAX: Final[i64] = (1 << 62) - 1


@mypyc_attr(allow_interpreted_subclasses=True)
class Listener:
    """Whoever made a promise that depends on a batch."""

    def durable(self, through: i64) -> None:
        """Every record up to number ``through`` is on the disk. Called once per registration, on the owner's thread."""
        raise NotImplementedError

    def fault_owner(self) -> FaultOwner | None:
        """Whose work it is, which ends when it fails by a mistake of ours."""
        return None


@mypyc_attr(allow_interpreted_subclasses=True)
class Collector:
    """Whoever has records that may wait until a batch leaves: settlements, which are merged until then."""

    def collect(self) -> None:
        """Append them now; the batch is about to be taken."""
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class BatchHost:
    """The log that a batch belongs to."""

    def sync(self) -> None:
        """Take the open batch, at once or when the one before it is done."""
        raise NotImplementedError


@final
class Place:
    """Where a batch is. Those who remember records of it share one."""

    def __init__(self, ordinal: i64) -> None:
        self.ordinal: i64 = ordinal
        """Batches are counted from 1 for as long as the log is open."""
        self.generation: i64 = -1
        """Of its file; -1 while it is not on the disk."""
        self.offset: i64 = 0
        """In that file."""
        self.size: i64 = 0
        """Of the whole batch, in bytes."""


def place_at(generation: i64, offset: i64 = 0, size: i64 = 0) -> Place:
    """Where a batch is, or will be, that is none of an open log: in a segment, in its index, or found by recovery."""
    place = Place(0)
    place.generation = generation
    place.offset = offset
    place.size = size
    return place


@final
class Batch:
    """A batch on its way to the disk."""

    def __init__(
        self,
        pieces: list[bytes],
        first_sequence: i64,
        record_count: i64,
        payload_size: i64,
        listeners: list[Listener],
        place: Place | None = None,
    ) -> None:
        self.pieces = pieces
        self.first_sequence: i64 = first_sequence
        self.record_count: i64 = record_count
        self.payload_size: i64 = payload_size
        self.listeners = listeners
        self.place = Place(0) if place is None else place

    def through(self) -> i64:
        """The number of its last record."""
        return self.first_sequence + self.record_count - 1

    def size(self) -> i64:
        """Its bytes on the disk."""
        return whole_size(self.payload_size)

    def seal(self, generation: i64, salt: i64) -> list[bytes]:
        """What is written to a file of this generation: header, payload, padding."""
        writer = BytesWriter()
        writer.write(_MAGIC)
        write_i16_be(writer, 1)
        write_i16_be(writer, 0)
        write_i64_be(writer, generation)
        write_i64_be(writer, salt)
        write_i64_be(writer, self.first_sequence)
        write_i64_be(writer, self.payload_size)
        write_i64_be(writer, self.record_count << 32)
        digest = xxhash.xxh3_64(writer.getvalue())
        for piece in self.pieces:
            digest.update(piece)
        writer.write(digest.digest())
        return [writer.getvalue(), *self.pieces, bytes(self.size() - HEADER_SIZE - self.payload_size)]


@final
class BatchWriter(Syncable):
    """The open batch of a log: takes records, numbers them, and starts anew when it is taken. One for the life of the log."""

    def __init__(self, next_sequence: i64, host: BatchHost | None = None) -> None:
        self.next_sequence: i64 = next_sequence
        """The number of the next record."""
        self.record_count: i64 = 0
        self.durable_through: i64 = next_sequence - 1
        """Every record up to this number is on the disk."""
        self.turn: Turn | None = None
        """Calls ``sync`` at the end of each turn in which something was appended, if set."""
        self.collector: Collector | None = None
        """Asked before each batch is taken, if set."""
        self.place = Place(1)
        """Where the open batch will be."""
        self.has_journal = False
        """The open batch holds records of log 0, added by ``append``."""
        self.writer = BytesWriter()
        """For the body of the record that was begun."""
        self._host = host
        self._pieces: list[bytes] = []
        self._pieces_size: i64 = 0
        self._listeners: list[Listener] = []
        self._outstanding: Batch | None = None
        self.durable_batch: i64 = 0
        """Ordinal of the last batch that is on the disk."""

    def begin(self, log_id: i64, kind: i64, size: i64) -> i64:
        """The number of a new record. The caller writes its body, ``size`` bytes, to ``writer`` and with ``write``, then calls ``end``.

        Raises: ValueError if it is larger than BODY_SIZE_MAX
        """
        if size > BODY_SIZE_MAX:
            raise ValueError(f"a record of {size} bytes")
        writer = self.writer
        write_i64_be(writer, log_id)
        write_i32_be(writer, i32(size))
        writer.append(kind)
        count = self.record_count
        self.record_count = count + 1
        sequence = self.next_sequence
        self.next_sequence = sequence + 1
        if count == 0:
            turn = self.turn
            if turn is not None:
                turn.mark_sync(self)
        return sequence

    def write(self, part: bytes) -> None:
        """Add to the body of the record that was begun; a large part is not copied."""
        if len(part) < PIECE_SIZE_MIN:
            self.writer.write(part)
        else:
            self._cut()
            self._pieces.append(part)
            self._pieces_size += len(part)

    def end(self) -> None:
        """The record that was begun is complete."""
        if len(self.writer) >= _CHUNK:
            self._cut()

    def append(self, log_id: i64, kind: i64, head: bytes, body: bytes = b"") -> i64:
        """The number of the new record, whose body is ``head`` and ``body``, one behind the other.

        Raises: ValueError if it is larger than BODY_SIZE_MAX
        """
        if log_id == 0:
            self.has_journal = True
        sequence = self.begin(log_id, kind, len(head) + len(body))
        self.write(head)
        self.write(body)
        self.end()
        return sequence

    def _cut(self) -> None:
        writer = self.writer
        size: i64 = len(writer)
        if size > 0:
            self._pieces.append(writer.getvalue())
            self._pieces_size += size
            writer.truncate(0)

    def listen(self, listener: Listener) -> None:
        """Call ``listener.durable`` when what was appended so far is on the disk; not at once, so ``is_durable`` is asked before."""
        outstanding = self._outstanding
        if self.record_count == 0 and outstanding is not None:
            outstanding.listeners.append(listener)
        else:
            self._listeners.append(listener)

    def is_durable(self) -> bool:
        """Whether everything that was appended so far is on the disk."""
        return self.durable_through >= self.next_sequence - 1

    def committed(self) -> None:
        """The batch that was taken last is on the disk."""
        outstanding = self._outstanding
        if outstanding is not None:
            self._outstanding = None
            self.durable_through = outstanding.through()
            self.durable_batch = outstanding.place.ordinal

    def sync(self) -> None:
        # Here and not in the log, which is interpreted: such a class cannot be a compiled trait.
        host = self._host
        if host is not None:
            host.sync()

    def size(self) -> i64:
        """Bytes of the records that wait."""
        return self._pieces_size + len(self.writer)

    def take(self) -> Batch:
        """What was appended since the last call, which may be nothing."""
        collector = self.collector
        if collector is not None:
            collector.collect()
        self._cut()
        count = self.record_count
        place = self.place
        batch = Batch(self._pieces, self.next_sequence - count, count, self._pieces_size, self._listeners, place)
        self.place = Place(place.ordinal + 1)
        self._pieces = []
        self._pieces_size = 0
        self._listeners = []
        self.record_count = 0
        self.has_journal = False
        self._outstanding = batch
        return batch


@final
class BatchHeader:
    """The head of a batch as read, plausible but not verified."""

    def __init__(self, generation: i64, salt: i64, first_sequence: i64, payload_size: i64, record_count: i64) -> None:
        self.generation: i64 = generation
        self.salt: i64 = salt
        self.first_sequence: i64 = first_sequence
        self.payload_size: i64 = payload_size
        self.record_count: i64 = record_count

    def size(self) -> i64:
        """The batch's bytes on the disk."""
        return whole_size(self.payload_size)


def whole_size(payload_size: i64) -> i64:
    """Bytes on the disk of a batch with this payload."""
    return (HEADER_SIZE + payload_size + BLOCK - 1) // BLOCK * BLOCK


def read_header(data: bytes) -> BatchHeader | None:
    """The header at the start of ``data``; None if it cannot be one. Nothing in it may be believed before ``is_whole``."""
    if len(data) < HEADER_SIZE or (i64(read_i32_be(data, 0)) & 0xFFFFFFFF) != _MAGIC_NUMBER:
        return None
    if read_i16_be(data, 4) != FORMAT or read_i16_be(data, 6) != 0:
        return None
    payload_size = read_i64_be(data, 32)
    packed = read_i64_be(data, 40)
    first_sequence = read_i64_be(data, 24)
    if not 0 <= payload_size <= _SEQUENCE_MAX or not 0 <= first_sequence <= _SEQUENCE_MAX or packed < 0 or packed & 0xFFFFFFFF:
        return None
    record_count = packed >> 32
    if record_count > _RECORD_COUNT_MAX or record_count * RECORD_HEADER_SIZE > payload_size:
        return None
    return BatchHeader(read_i64_be(data, 8), read_i64_be(data, 16), first_sequence, payload_size, record_count)


def is_whole(header: BatchHeader, data: bytes) -> bool:
    """Whether ``data`` is the batch of this header: all there, its checksum right, its records in order."""
    end = HEADER_SIZE + header.payload_size
    if len(data) < end:
        return False
    digest = xxhash.xxh3_64(data[:_CHECKSUM_AT])
    digest.update(memoryview(data)[HEADER_SIZE:end])
    if digest.digest() != data[_CHECKSUM_AT:HEADER_SIZE]:
        return False
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
