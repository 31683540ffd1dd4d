"""The byte layout of the log: a batch of records under one checksum. Encodes and decodes; knows no files.

What one turn, or the turns during one sync, have appended is one commit group: batches of about a MiB that are covered
by the same sync. A group is whole or it is not there, so what belongs together (the publishes of a tx.commit) is
appended to one group; a batch is what has to be read to get at one of its records. All numbers are big-endian and not
negative.

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
from librt.strings import BytesWriter, read_i16_be, read_i32_be, read_i64_be, write_i16_be, write_i32_be, write_i64_be
from mypy_extensions import mypyc_attr

from broker.clock import NEVER
from broker.faults import FaultOwner
from broker.native import i16, i32, i64
from broker.turn import Syncable, Turn

FORMAT: Final[i64] = 1
MORE: Final[i64] = 1
"""Flag: the commit group goes on in the next batch."""
BATCH_SIZE: Final[i64] = 1 << 20
"""A batch of a group is closed when its records have so many bytes: what is read at a time, and what a checksum
covers."""
LARGE: Final[i64] = 2 << 20
"""A batch of more bytes is large: it ends with one large record, whose content is not copied out of it when it is
read."""
UNDIVIDED: Final[i64] = 1 << 62
"""For a writer whose groups are one batch each, whatever their size."""
BLOCK: Final[i64] = 4096
HEADER_SIZE: Final[i64] = 56
SALT_AT: Final[i64] = 16
RECORD_HEADER_SIZE: Final[i64] = 13
BODY_SIZE_MAX: Final[i64] = (1 << 31) - 1
HOLD_MS: Final[i64] = 100
"""The open group is held for so long before nobody else may begin to hold it: whoever waits for it must not wait
without end."""
PIECE_SIZE_MIN: Final[i64] = 8192
"""Bodies of this size and more are not copied into the batch but written from where they are."""

_MAGIC: Final = b"LEVB"
_MAGIC_NUMBER: Final[i64] = 0x4C455642
_CHECKSUM_AT: Final[i64] = 48
_RECORD_COUNT_MAX: Final[i64] = (1 << 31) - 1
_CHUNK: Final[i64] = 1 << 18
"""The buffer becomes a piece at this size: it stays in the processor's cache and is never copied to grow."""
_SEQUENCE_MAX: Final[i64] = (1 << 62) - 1
_DIGEST_STEP: Final[i64] = 1 << 18
_DIGEST_HELD_MAX: Final[i64] = 4 << 20


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

    def settle(self) -> None:
        """Append them now: somebody waits for them."""
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class BatchHost:
    """The log that a batch belongs to."""

    def sync(self) -> None:
        """Take the open batch, at once or when the one before it is done."""
        raise NotImplementedError


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
class CommitGroup:
    """Batches that go to the disk together, one behind the other, under one sync."""

    def __init__(self, batches: list[Batch], listeners: list[Listener], ordinal: i64) -> None:
        self.batches = batches
        """At least one; the last one may be empty."""
        self.listeners = listeners
        self.ordinal: i64 = ordinal
        """Groups are counted from 1 for as long as the log is open."""

    def first_sequence(self) -> i64:
        """The number of its first record."""
        return self.batches[0].first_sequence

    def through(self) -> i64:
        """The number of its last record."""
        return self.batches[-1].through()

    def size(self) -> i64:
        """Its bytes on the disk."""
        size: i64 = 0
        for batch in self.batches:
            size += batch.size()
        return size


@final
class BatchWriter(Syncable):
    """The open commit group of a log: takes records, numbers them, and starts anew when it is taken. One for the life
    of the log."""

    def __init__(self, next_sequence: i64, host: BatchHost | None = None, batch_size: i64 = BATCH_SIZE) -> None:
        self.next_sequence: i64 = next_sequence
        """The number of the next record."""
        self.record_count: i64 = 0
        """Records in the open group."""
        self.durable_through: i64 = next_sequence - 1
        """Every record up to this number is on the disk."""
        self.turn: Turn | None = None
        """Calls ``sync`` at the end of each turn in which something was appended, if set."""
        self.collector: Collector | None = None
        """Asked before each group is taken, if set."""
        self.location = BatchLocation()
        """Where the open batch, the last one of the open group, will be."""
        self.group: i64 = 1
        """Ordinal of the open group."""
        self.durable_group: i64 = 0
        """Ordinal of the last group that is on the disk."""
        self.holders = 0
        """Who has not yet appended all that belongs into the open group: until then it is not taken."""
        self._held_from_ms: i64 = NEVER
        """When somebody began to hold the open group."""
        self.urgent = False
        """Somebody waits for the open group to be on the disk."""
        self.lingers = False
        """It was not taken at the end of a turn, to be larger: its log is to be asked again when something is added to
        it."""
        self.writer = BytesWriter()
        """For the body of the record that was begun."""
        self._host = host
        self._batch_size: i64 = batch_size
        self._chunk: i64 = batch_size if batch_size < _CHUNK else _CHUNK
        self._pieces: list[bytes] = []
        self._pieces_size: i64 = 0
        self._closed: list[Batch] = []
        self._closed_count: i64 = 0
        self._closed_size: i64 = 0
        self._listeners: list[Listener] = []
        self._outstanding: CommitGroup | None = None
        self._outstanding_size: i64 = 0

    def begin(self, log_id: i64, kind: i64, size: i64) -> i64:
        """The number of a new record. The caller writes its body, ``size`` bytes, to ``writer`` and with ``write``,
        then calls ``end``.

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
        if count == 0 or self.lingers:
            self._mark()
        return sequence

    def _mark(self) -> None:
        self.lingers = False
        turn = self.turn
        if turn is not None:
            turn.schedule_sync(self)

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
        if len(self.writer) >= self._chunk:
            self._cut()
        if self._pieces_size >= self._batch_size:
            self._close_batch()

    def append(self, log_id: i64, kind: i64, head: bytes, body: bytes = b"") -> i64:
        """The number of the new record, whose body is ``head`` and ``body``, one behind the other.

        Raises: ValueError if it is larger than BODY_SIZE_MAX
        """
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

    def _close_batch(self) -> None:
        """What comes belongs to another batch of the group."""
        self._cut()
        count = self.record_count - self._closed_count
        first = self.next_sequence - count
        self._closed.append(Batch(self._pieces, first, count, self._pieces_size, self.location, self._closed_count))
        self._closed_count += count
        self._closed_size += self._pieces_size
        self._pieces = []
        self._pieces_size = 0
        self.location = BatchLocation()

    def listen(self, listener: Listener, group: i64 = 0) -> None:
        """Call ``listener.durable`` when what was appended so far is on the disk, or what was appended up to that
        group; not at once, so ``is_durable`` is asked before."""
        outstanding = self._outstanding
        if outstanding is not None and (self.record_count == 0 or group == outstanding.ordinal):
            outstanding.listeners.append(listener)
        else:
            self._listeners.append(listener)
            self.hurry()

    def hurry(self) -> None:
        """Somebody waits for what was appended so far."""
        self.urgent = True
        if self.lingers:
            self._mark()

    def is_durable(self) -> bool:
        """Whether everything that was appended so far is on the disk."""
        return self.durable_through >= self.next_sequence - 1

    def committed(self) -> None:
        """The group that was taken last is on the disk."""
        outstanding = self._outstanding
        if outstanding is not None:
            self._outstanding = None
            self._outstanding_size = 0
            self.durable_through = outstanding.through()
            self.durable_group = outstanding.ordinal

    def sync(self) -> None:
        # Here and not in the log, which is interpreted: such a class cannot be a compiled trait.
        host = self._host
        if host is not None:
            host.sync()

    def hold_group(self, hold: bool) -> None:
        """What is appended until ``hold_group(False)`` belongs into one group, however many turns it takes."""
        turn = self.turn
        if hold and turn is not None and (self._held_from_ms == NEVER or (self.holders == 0 and self._is_unused())):
            self._held_from_ms = turn.clock.monotonic_ms()
        self.holders += 1 if hold else -1
        if self.holders == 0 and self.record_count:
            self.sync()

    def _is_unused(self) -> bool:
        return self.record_count == 0 and not self._listeners

    def is_held_for_long(self) -> bool:
        """Whether the open group is held, and has to be handed over before somebody else holds it too."""
        turn = self.turn
        return self.holders > 0 and turn is not None and turn.clock.monotonic_ms() - self._held_from_ms >= HOLD_MS

    def size(self) -> i64:
        """Bytes of the records in the open batch."""
        return self._pieces_size + len(self.writer)

    def group_size(self) -> i64:
        """Bytes of the records in the open group."""
        return self._closed_size + self._pieces_size + len(self.writer)

    def group_location(self) -> BatchLocation:
        """Where the first batch of the open group will be; all of them are in one file."""
        return self._closed[0].location if self._closed else self.location

    def unwritten(self) -> i64:
        """Bytes of the records that are not on the disk yet."""
        return self._outstanding_size + self.group_size()

    def take(self) -> CommitGroup:
        """What was appended since the last call, which may be nothing."""
        self._held_from_ms = NEVER
        collector = self.collector
        if collector is not None:
            collector.collect()
        size = self.group_size()
        if size > self._closed_size or not self._closed:
            self._close_batch()
        batches = self._closed
        last: i64 = len(batches) - 1
        at: i64 = 0
        while at < last:
            batches[at].flags = MORE
            at += 1
        group = CommitGroup(batches, self._listeners, self.group)
        self.group += 1
        self._closed = []
        self._closed_count = 0
        self._closed_size = 0
        self._listeners = []
        self.record_count = 0
        self.urgent = False
        self.lingers = False
        self._outstanding = group
        self._outstanding_size = size
        return group

    def take_batch(self) -> Batch:
        """The same for a writer whose groups are never larger than a batch: files that are no write-ahead log."""
        (batch,) = self.take().batches
        return batch


@final
class BatchHeader:
    """The head of a batch as read, plausible but not verified."""

    def __init__(
        self,
        generation: i64,
        salt: i64,
        first_sequence: i64,
        payload_size: i64,
        record_count: i64,
        group_offset: i64 = 0,
        more: bool = False,
    ) -> None:
        self.generation: i64 = generation
        self.salt: i64 = salt
        self.first_sequence: i64 = first_sequence
        self.payload_size: i64 = payload_size
        self.record_count: i64 = record_count
        self.group_offset: i64 = group_offset
        self.more = more
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
    return BatchHeader(
        read_i64_be(data, 8),
        read_i64_be(data, 16),
        first_sequence,
        payload_size,
        record_count,
        group_offset,
        flags & MORE != 0,
    )


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
