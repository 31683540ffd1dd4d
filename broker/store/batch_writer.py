"""Gathers records into batches (batch.py). Knows no files.

A batch is what has to be read to get at one of its records, so it is closed at about a MiB, and the batches of one
group follow each other. Large bodies are not copied: they are written from where they are.
"""

from typing import Final

from librt.strings import BytesWriter, write_i32_be, write_i64_be

from broker.native import i32, i64, u8
from broker.store.batch import MORE, Batch, BatchLocation

BATCH_SIZE: Final[i64] = 1 << 20
"""A batch of a group is closed when its records have so many bytes: what is read at a time, and what a checksum
covers."""
UNDIVIDED: Final[i64] = 1 << 62
"""For a writer whose groups are one batch each, whatever their size."""
BODY_SIZE_MAX: Final[i64] = (1 << 31) - 1
PIECE_SIZE_MIN: Final[i64] = 8192
"""Bodies of this size and more are not copied into the batch but written from where they are."""

_CHUNK: Final[i64] = 1 << 18
"""The buffer becomes a piece at this size: it stays in the processor's cache and is never copied to grow."""


class BatchWriter:
    """The batches that are not written yet: takes records, numbers them, and starts anew when they are taken."""

    def __init__(self, next_sequence: i64, batch_size: i64 = BATCH_SIZE) -> None:
        self.next_sequence: i64 = next_sequence
        """The number of the next record."""
        self.record_count: i64 = 0
        """Records that are not taken yet."""
        self.location = BatchLocation()
        """Where the open batch, the last one, will be."""
        self.writer = BytesWriter()
        """For the body of the record that was begun."""
        self.awaits_record = False
        """``record_added`` is called for the next record."""
        self._batch_size: i64 = batch_size
        self._chunk: i64 = batch_size if batch_size < _CHUNK else _CHUNK
        self._pieces: list[bytes] = []
        self._pieces_size: i64 = 0
        self._closed: list[Batch] = []
        self._closed_count: i64 = 0
        self._closed_size: i64 = 0

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
        writer.append(u8(kind))
        self.record_count += 1
        sequence = self.next_sequence
        self.next_sequence = sequence + 1
        if self.awaits_record:
            self.record_added()
        return sequence

    def record_added(self) -> None:
        """A record was added that was awaited: for whoever has to do something about the first one."""
        self.awaits_record = False

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
        """What comes belongs to another batch."""
        self._cut()
        count = self.record_count - self._closed_count
        first = self.next_sequence - count
        self._closed.append(Batch(self._pieces, first, count, self._pieces_size, self.location, self._closed_count))
        self._closed_count += count
        self._closed_size += self._pieces_size
        self._pieces = []
        self._pieces_size = 0
        self.location = BatchLocation()

    def size(self) -> i64:
        """Bytes of the records in the open batch."""
        return self._pieces_size + len(self.writer)

    def group_size(self) -> i64:
        """Bytes of all records that are not taken yet."""
        return self._closed_size + self._pieces_size + len(self.writer)

    def group_location(self) -> BatchLocation:
        """Where the first batch will be; all that are taken together are in one file."""
        return self._closed[0].location if self._closed else self.location

    def take_batches(self) -> list[Batch]:
        """The batches of everything that was appended since the last call, which go to the disk as one group: at least
        one, which may be empty."""
        if self.group_size() > self._closed_size or not self._closed:
            self._close_batch()
        batches = self._closed
        last: i64 = len(batches) - 1
        at: i64 = 0
        while at < last:
            batches[at].flags = MORE
            at += 1
        self._closed = []
        self._closed_count = 0
        self._closed_size = 0
        self.record_count = 0
        return batches

    def take_batch(self) -> Batch:
        """The same where that is never more than one batch: in files that are no write-ahead log."""
        (batch,) = self.take_batches()
        return batch
