"""Boot: reads the write-ahead log, says what was lost and why, and prepares it for going on. The node always starts.

    recovery = Recovery(data_dir)
    for generation, found in recovery.batches(): ...    # every batch of a whole commit group, in order, each once
    end = recovery.finish()                             # copies to the quarantine, cuts the torn tail
    writer = WalWriter(..., end); writer.start(end)     # only now may what was read be promised

Three things can stand where a batch should (wal_file.py says how they are told apart):
- Zeros, or an earlier use of the file: the end.
- A batch begun and not whole, and nothing follows it but batches of its own commit group: a write that no sync has
  covered. The group is cut, as one that has no end. Its bytes are kept, because the very last group may also be a
  promised one that the disk has damaged, which looks the same.
- Anything, and a number is missing behind it: damage. The range is copied, reported, and left as it is; the log goes on
  with the next whole batch.
"""

import errno
from collections.abc import Iterator
from typing import NamedTuple

from broker.store.batch import BLOCK, HEADER_SIZE, MORE, RECORD_HEADER_SIZE, Batch, BatchHeader, records
from broker.store.commit_group import CommitGroup
from broker.store.datadir import DataDir, put_aside
from broker.store.disk_error import DiskError
from broker.store.filesystem import File
from broker.store.quarantine import keep_copy
from broker.store.wal_file import (
    SPARE_SUFFIX,
    BadRange,
    FileHeader,
    Found,
    LenientReader,
    Scan,
    file_name,
    generation_of,
    read_file_header,
)
from broker.store.wal_writer import FILE_SIZE_MAX, LogEnd, LogFile

Record = tuple[int, int, int, bytes]
"""Sequence number, log id, kind, body."""


class Finding(NamedTuple):
    """A range of a file that is no batch, or a place behind which numbers are missing."""

    generation: int
    """Of the file."""
    offset: int
    size: int
    """Bytes; 0 if nothing stands there."""
    first_lost: int = 0
    """Number of the first record that is missing."""
    lost_count: int = 0
    """How many are missing; where nobody knows, how many there can have been at most."""
    is_guess: bool = False
    """It is such a guess: the file has no readable header, and no other file tells."""
    copy: str = ""
    """Where the bytes were copied to; "" if they could not be."""

    def __str__(self) -> str:
        last_lost = self.first_lost + self.lost_count - 1
        lost = f"records {self.first_lost} to {last_lost} are lost" if self.lost_count else "nothing promised is lost"
        if self.is_guess:
            lost += ", if there were so many"
        kept = f"; the bytes are in {self.copy}" if self.copy else ""
        return f"{file_name(self.generation)}: {self.size} bytes at {self.offset} are no batch: {lost}{kept}"


class Report(NamedTuple):
    """What recovery found."""

    file_count: int
    batch_count: int
    record_count: int
    next_sequence: int
    clean: bool
    """The log was closed, not interrupted."""
    cut: tuple[Finding, ...]
    """Writes that were never promised, as far as anyone can tell."""
    damaged: tuple[Finding, ...]
    """Where records that were promised are missing."""


def _records_max(size: int) -> int:
    """How many records a file of this size can have held, also if it was longer once."""
    return max(size, FILE_SIZE_MAX) // RECORD_HEADER_SIZE


def _again(batches: list[Found]) -> CommitGroup | None:
    """A group that was found, to be written again; None if there is none or it holds nothing."""
    made: list[Batch] = []
    for found in batches:
        header = found.header
        payload = found.data[HEADER_SIZE : HEADER_SIZE + header.payload_size]
        batch = Batch(
            [payload], header.first_sequence, header.record_count, header.payload_size, None, header.group_offset
        )
        batch.flags = MORE if header.more else 0
        made.append(batch)
    return CommitGroup(made, [], 0) if made and made[0].record_count else None


class Recovery:
    """One pass over the log: ``batches`` (or ``records``) to its end, then ``finish``, then ``report``.

    The manifest represents all records up to number ``covered``: they are passed over, and nobody minds if they are
    missing. None: there is no manifest, and the oldest file tells where the log begins. All records before
    ``resume_at`` were on the disk once: where they end earlier, the end of the log is lost.
    """

    def __init__(self, data_dir: DataDir, covered: int | None = None, resume_at: int = 0) -> None:
        self._filesystem = data_dir.filesystem
        self._directory = data_dir.wal
        self._quarantine = data_dir.quarantine
        self._files: list[LogFile] = []
        self._spares: list[str] = []
        self._expected = 0 if covered is None else covered + 1
        """The number the next record must have; 0 as long as no file has told one."""
        self._resume_at = resume_at
        self._batch_count = 0
        self._record_count = 0
        self._last: list[Found] = []
        """The last commit group that was whole, or the copy of it that was found last."""
        self._last_generation = 0
        self._copy: list[Found] = []
        """What was found of such a copy."""
        self._open: list[Found] = []
        """What was found of a commit group that has no end yet, or lacks batches."""
        self._open_generation = 0
        self._open_whole = True
        """Nothing of its file is damaged before it."""
        self._lacks_batches = False
        """The open group is not whole: it was promised if something follows it, and was never finished otherwise."""
        self._ranges: list[Finding] = []
        """Of which it is not known yet whether a number is missing behind them."""
        self._cut: list[Finding] = []
        self._damaged: list[Finding] = []
        self._continues: FileHeader | None = None
        self._position = 0
        self._torn = False
        """The last file ends in a batch that was begun and is not whole."""
        self._unreadable = False
        """The last file has no header."""
        self.report = Report(0, 0, 0, 1, False, (), ())

    def records(self) -> Iterator[Record]:
        """Every record of the log, in the order of their numbers: ``batches`` taken apart.

        Raises: as ``batches``
        """
        for _, found in self.batches():
            yield from records(found.header, found.data)

    def batches(self) -> Iterator[tuple[int, Found]]:
        """Every batch of the log that holds records, in the order of their numbers, with the generation of its file.

        Raises: DiskError if the directory or a file cannot even be opened
        """
        names = self._filesystem.names("wal.list", self._directory)
        self._spares = [
            name for name in names if name.endswith(SPARE_SUFFIX) and name.removesuffix(SPARE_SUFFIX).isdecimal()
        ]
        for generation in sorted(generation for generation in map(generation_of, names) if generation is not None):
            file = self._open_file(self._path(generation))
            try:
                yield from self._read_file(file, generation)
            finally:
                file.close()
        if self._open and self._open[0].header.group_first() < self._resume_at:
            yield from self._close_group(True)  # the manifest has seen what comes behind it
        if self._open:
            self._cut_open_group()
        if self._unreadable:
            # Nothing of the last file can be read. Its numbers may have been promised: they are not given away again.
            self._ranges = [found._replace(is_guess=True) for found in self._ranges]
            self._miss(self._expected + _records_max(self._ranges[-1].size))
        if self._expected < self._resume_at:
            self._lose_the_end()
        self._settle()
        self._expected = max(self._expected, 1)

    def _lose_the_end(self) -> None:
        """What looks like the end of the log is none. Another file goes on behind the numbers that are missing, and
        says so."""
        if not self._ranges:
            self._ranges.append(Finding(self._files[-1].generation + 1 if self._files else 1, 0, 0))
        self._expected = max(self._expected, 1)
        if self._expected < self._resume_at:
            self._miss(self._resume_at)
        self._continues = None

    def _open_file(self, path: str) -> File:
        """The file at that path; an empty one if something else has its name."""
        try:
            return self._filesystem.open("wal.open", path)
        except DiskError as error:
            if error.errno != errno.EISDIR:
                raise
            put_aside(self._filesystem, "wal.discard", path)
            return self._filesystem.create("wal.create", path)

    def _read_file(self, file: File, generation: int) -> Iterator[tuple[int, Found]]:
        size = file.size("wal.read")
        header = read_file_header(file, generation)
        self._continues = None
        self._torn = False
        self._unreadable = header is None
        if header is None:
            yield from self._close_group(True)
            self._files.append(LogFile(generation, self._expected, size))
            self._ranges.append(Finding(generation, 0, size))
            return
        # Files are begun behind a sync: a group that is not whole was promised, unless an earlier start has cut it.
        yield from self._close_group(bool(self._open) and header.first_sequence > self._open[0].header.group_first())
        self._files.append(LogFile(generation, header.first_sequence, size))
        self._meet(generation, 0, header.first_sequence)
        scan = Scan(file, header)
        whole = True
        for found in scan:
            if isinstance(found, BadRange):
                self._ranges.append(Finding(generation, found.offset, found.size))
                self._torn = True
                continue
            yield from self._take(generation, found, whole)
            whole = whole and not self._torn
            self._torn = False
        self._position = scan.end
        if self._open:
            whole = self._open_whole  # what of it is damaged will be cut
        if whole and scan.unreadable_blocks == 0:
            self._continues = header

    # Commit groups

    def _take(self, generation: int, found: Found, whole: bool) -> Iterator[tuple[int, Found]]:
        """A batch; nothing of its file was damaged before the last bad range if ``whole``."""
        header = found.header
        first = header.group_first()
        if self._open and not self._belongs_to_open_group(header):
            if first < self._open[0].header.group_first():
                return  # says nothing about what comes behind it
            yield from self._close_group(first > self._open[0].header.group_first())
        if not self._open:
            if first < self._expected:
                self._take_copy(generation, found)
                return
            if header.group_offset == 0 or first > self._expected:
                self._meet(generation, found.offset, first)
            self._open_generation, self._open_whole = generation, whole
        following = self._following()
        if header.first_sequence < following:
            return  # nothing writes batches that overlap in part, so there are none under a right checksum
        self._lacks_batches = self._lacks_batches or header.first_sequence > following
        self._open.append(found)
        if not header.more and not self._lacks_batches:
            yield from self._accept_open_group()

    def _belongs_to_open_group(self, header: BatchHeader) -> bool:
        return header.group_offset > 0 and header.group_first() == self._open[0].header.group_first()

    def _following(self) -> int:
        """The number of the record behind those of the open group."""
        if not self._open:
            return self._expected
        header = self._open[-1].header
        return int(header.first_sequence + header.record_count)

    def _accept_open_group(self) -> Iterator[tuple[int, Found]]:
        """The open group counts. What it lacks is damage."""
        accepted, self._open = self._open, []
        self._lacks_batches = False
        self._last, self._last_generation = accepted, self._open_generation
        self._copy = []
        for found in accepted:
            first, count = found.header.first_sequence, found.header.record_count
            if first > self._expected:
                self._find_damage(self._open_generation, found.offset, first)
            self._expected = first + count
            self._batch_count += 1
            self._record_count += count
            if count > 0:
                yield self._open_generation, found

    def _close_group(self, promised: bool) -> Iterator[tuple[int, Found]]:
        """Nothing more will be found of the open group, if there is one."""
        if promised and self._open:
            yield from self._accept_open_group()
        self._open = []
        self._lacks_batches = False

    def _take_copy(self, generation: int, found: Found) -> None:
        """A batch of a group that was found before: ``WalWriter.start`` has written the last one again."""
        first = found.header.first_sequence
        if not self._last or first == self._last[0].header.first_sequence:
            self._copy = []
        if not self._last or first != self._last[len(self._copy)].header.first_sequence:
            self._copy = []
            return
        self._copy.append(found)
        if len(self._copy) == len(self._last):
            self._settle()
            self._last, self._last_generation = self._copy, generation
            self._copy = []

    def _cut_open_group(self) -> None:
        """The log ends in a group that is not whole: it was never promised."""
        last = self._open[-1]
        end = last.offset + last.header.size()
        offsets = [found.offset for found in self._ranges if found.generation == self._open_generation]
        self._position = min([self._open[0].offset, *offsets])
        end = max(
            [end, *(found.offset + found.size for found in self._ranges if found.generation == self._open_generation)]
        )
        self._ranges = [found for found in self._ranges if found.generation != self._open_generation]
        self._ranges.append(Finding(self._open_generation, self._position, end - self._position))
        self._torn = True

    # Numbers

    def _meet(self, generation: int, offset: int, first_sequence: int) -> None:
        """Something whole that begins with this number: what came before can be judged."""
        if first_sequence <= self._expected:
            self._settle()
            return
        if self._expected == 0 and not self._ranges:
            self._expected = first_sequence  # the oldest file
            return
        self._find_damage(generation, offset, first_sequence)
        self._settle()

    def _find_damage(self, generation: int, offset: int, following: int) -> None:
        """The records up to the one before ``following``, which stands there, are missing."""
        if not self._ranges:
            self._ranges.append(Finding(generation, offset, 0))
        self._miss(following)

    def _miss(self, following: int) -> None:
        """The records from the expected one up to the one before ``following`` are missing, and so the first open range
        is damage."""
        damaged = self._ranges.pop(0)
        if self._expected == 0:  # the oldest file is unreadable: nobody knows its first number
            self._expected = max(1, following - _records_max(damaged.size))
            damaged = damaged._replace(is_guess=True)
        self._damaged.append(damaged._replace(first_lost=self._expected, lost_count=following - self._expected))
        self._expected = following

    def _settle(self) -> None:
        """No number is missing behind the open ranges."""
        self._cut += self._ranges
        self._ranges = []

    def finish(self) -> LogEnd:
        """Keep copies of what was found bad and cut the torn tail; everything else stays as it is. Sets ``report``.

        Raises: DiskError
        """
        # Names that an interrupted run has made or taken away may be visible and yet not durable.
        self._filesystem.sync_directory("wal.start.directory", self._directory)
        self._cut = [self._keep(found) for found in self._cut]
        self._damaged = [self._keep(found) for found in self._damaged]
        if self._torn and self._continues is not None:
            file = self._filesystem.open("wal.open", self._path(self._continues.generation))
            try:
                # What follows the heads can never be read as a batch: it does not contain the file's salt.
                for offset in {self._position, *(found.offset for found in self._open)}:
                    file.write("wal.cut", offset, [bytes(BLOCK)])
                file.sync("wal.cut.sync")
            finally:
                file.close()
        group = _again(self._last)
        self.report = Report(
            len(self._files),
            self._batch_count,
            self._record_count,
            self._expected,
            bool(self._last) and group is None and not self._torn,
            tuple(self._cut),
            tuple(self._damaged),
        )
        group_at = 0
        if group is not None and self._continues is not None and self._last_generation == self._continues.generation:
            group_at = self._last[0].offset
        generation = self._files[-1].generation if self._files else 0
        return LogEnd(
            self._files, generation + 1, self._expected, self._continues, self._position, group, group_at, self._spares
        )

    def _keep(self, found: Finding) -> Finding:
        """The finding with the place of its copy. Only for people: it never keeps the node from starting."""
        if not found.size:
            return found
        try:
            file = self._filesystem.open("quarantine.open", self._path(found.generation))
        except DiskError:
            return found
        try:
            data = LenientReader(file).read(found.offset, found.size)
        finally:
            file.close()
        return found._replace(
            copy=keep_copy(self._filesystem, self._quarantine, f"{found.generation:016x}-{found.offset:x}", data)
        )

    def _path(self, generation: int) -> str:
        return f"{self._directory}/{file_name(generation)}"
