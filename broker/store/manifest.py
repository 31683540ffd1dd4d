"""What the write-ahead log no longer tells: which segments there are, what is live in them, what is declared. A log of edits.

    <number, 16 hex digits>.manifest    complete up to its last edit; the one with the greatest number counts
    <number, 16 hex digits>.tmp         one that was never finished

A file is the header of wal_file.py, with the number in place of the generation, and then batches (batch.py). The first ones are the
whole state when the file was made; each that follows is an edit, which counts as a whole or not at all. Its records:

    kind              log id            body
    16 PUT            0                 as in the write-ahead log: what is declared. The last one of a key counts
    17 DELETE         0                 the same
    48 SEGMENT        of the segment    its size (8); then for each part: log, first and last position, records, messages among them, their
                                        weight and flags, offset and size of its batch of the index (8 each)
    49 DROP_SEGMENT   of the segment    nothing
    50 STATE          of the log        mark (8), live positions (index.py). The last one of a log counts
    51 DROP_LOG       of the log        nothing
    52 COVERS         0                 S (8), number of the next log (8), of the next segment (8). Ends every edit

The state of the node is the manifest, then all records of the write-ahead log behind number S. What the state of a log says may be newer
than S: the records in between are replayed again, which changes nothing. An edit is written when everything it says is durable elsewhere,
so one that is torn was never relied on.

Only the last edit may be one that no sync has covered. It is written again at the start, behind itself, and counts once. After an error
nothing is added to a file; the next edit makes a new one, and so does one that finds the file too large. The space for edits is taken
ahead: what needs no new space on the disk, such as giving back files of the write-ahead log, works when the disk is full.
"""

import contextlib
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

from broker.store.batch import UNDIVIDED, Batch, BatchWriter, records
from broker.store.datadir import DataDir
from broker.store.filesystem import DiskError, File
from broker.store.moving import Output
from broker.store.quarantine import keep_copy
from broker.store.records import DELETE, JOURNAL, PUT, key_of
from broker.store.wal_file import START, BadRange, FileHeader, Found, LenientReader, Scan, read_file_header

SEGMENT: Final = 48
DROP_SEGMENT: Final = 49
STATE: Final = 50
DROP_LOG: Final = 51
COVERS: Final = 52

SUFFIX: Final = ".manifest"
UNFINISHED: Final = ".tmp"
SIZE_MIN: Final = 4 << 20
"""A manifest is not replaced before it has this size, and twice that of a new one."""

_BATCH_SIZE: Final = 1 << 18
_U64: Final = struct.Struct(">Q")
_PART: Final = struct.Struct(">9Q")
_COVERS: Final = struct.Struct(">3Q")

Part = tuple[int, int, int, int, int, int, int, int, int]
"""Log, first and last position, records, messages, weight, flags, offset and size in the index."""


class Edit(NamedTuple):
    """What changes at once."""

    added: Sequence[tuple[Output, int]] = ()
    """New segments, with their sizes."""
    dropped: Sequence[int] = ()
    """Segments that are gone."""
    states: Sequence[tuple[int, int, bytes]] = ()
    """Logs: number, mark, positions."""
    dropped_logs: Sequence[int] = ()
    journal: Sequence[tuple[int, bytes]] = ()
    """Kind and body of records of log 0."""
    covers: int = 0
    """Every record of the write-ahead log up to this number is represented."""
    next_log: int = 1
    next_segment: int = 1


class ManifestState:
    """Everything a manifest says. Bodies stay as they are until they are needed."""

    def __init__(self) -> None:
        self.segments: dict[int, bytes] = {}
        self.logs: dict[int, bytes] = {}
        self.journal: dict[bytes, bytes] = {}
        self.covers = 0
        self.next_log = 1
        self.next_segment = 1

    def apply(self, number: int, kind: int, body: bytes) -> None:
        """One record."""
        if kind == STATE:
            self.logs[number] = body
        elif kind == SEGMENT:
            self.segments[number] = body
        elif kind == DROP_SEGMENT:
            self.segments.pop(number, None)
        elif kind == DROP_LOG:
            self.logs.pop(number, None)
        elif kind == PUT:
            self.journal[key_of(kind, body)] = body
        elif kind == DELETE:
            self.journal.pop(key_of(kind, body), None)
        elif kind == COVERS:
            covers, next_log, next_segment = _COVERS.unpack(body)
            self.covers = max(self.covers, covers)
            self.next_log = max(self.next_log, next_log)
            self.next_segment = max(self.next_segment, next_segment)

    def records(self) -> Iterator[tuple[int, int, bytes]]:
        """The fewest records that say the same."""
        yield from ((JOURNAL, PUT, body) for body in self.journal.values())
        yield from ((number, SEGMENT, body) for number, body in self.segments.items())
        yield from ((number, STATE, body) for number, body in self.logs.items())
        yield 0, COVERS, _COVERS.pack(self.covers, self.next_log, self.next_segment)

    def size(self) -> int:
        """Bytes that they need, about and at least."""
        return sum(len(body) + 64 for _, _, body in self.records())

    def changes(self) -> list[tuple[int, bytes]]:
        """What is declared, as records of log 0."""
        return [(PUT, body) for body in self.journal.values()]


def segment_size(body: bytes) -> int:
    """The size of the segment, from the body of its record."""
    return int(_U64.unpack_from(body)[0])


def segment_parts(body: bytes) -> Iterator[Part]:
    """Its parts."""
    return _PART.iter_unpack(body[8:])


def state_of(body: bytes) -> tuple[int, bytes]:
    """Mark and positions of a log, from the body of its record."""
    return int.from_bytes(body[:8], "big", signed=True), body[8:]


def edit_records(edit: Edit) -> Iterator[tuple[int, int, bytes]]:
    """The records of an edit: (log id, kind, body)."""
    for output, size in edit.added:
        body = [_U64.pack(size)]
        for part in output.parts:
            span = (part.log.number, part.first(), part.last(), part.count, part.messages, part.weight, part.flags)
            body.append(_PART.pack(*span, part.index_offset, part.index_size))
        yield output.number, SEGMENT, b"".join(body)
    yield from ((number, DROP_SEGMENT, b"") for number in edit.dropped)
    yield from ((number, STATE, mark.to_bytes(8, "big", signed=True) + positions) for number, mark, positions in edit.states)
    yield from ((number, DROP_LOG, b"") for number in edit.dropped_logs)
    yield from ((JOURNAL, kind, body) for kind, body in edit.journal)
    yield 0, COVERS, _COVERS.pack(edit.covers, edit.next_log, edit.next_segment)


class Manifest:
    """The manifest of a data directory. ``recover`` at the start, then ``append``, one call at a time."""

    def __init__(self, data_dir: DataDir, new_salt: Callable[[], int], size_min: int = SIZE_MIN) -> None:
        self.exists = False
        """Its name is on the disk. So it is before the first segment, and before the first file leaves the write-ahead log."""
        self.findings: list[str] = []
        """What recovery has found wrong, for people."""
        self.cut: list[str] = []
        """Edits that nobody has relied on, as far as anyone can tell; for people."""
        self.damaged = False
        """Edits are missing: segments that nothing refers to may hold something."""
        self._filesystem = data_dir.filesystem
        self._directory = data_dir.manifest
        self._quarantine = data_dir.quarantine
        self._new_salt = new_salt
        self._size_min = size_min
        self._room = size_min // 4
        """Space taken ahead."""
        self._number = 0
        """Of the newest file, or of one that was begun."""
        self._current = 0
        """Of the one that counts; 0 if there is none."""
        self._file: File | None = None
        self._header: FileHeader | None = None
        self._position = START
        self._allocated = 0
        self._next_sequence = 1
        self._fresh_size = 0
        self._usable = False
        """Edits may be added to the file."""

    # The start

    def recover(self) -> ManifestState:
        """What the manifest says; durable from now on.

        Raises: DiskError
        """
        names = self._filesystem.names("manifest.list", self._directory)
        numbers = sorted(number for number in map(_number_of, names) if number is not None)
        self._number = max([_number_of(name.replace(UNFINISHED, SUFFIX)) or 0 for name in names], default=0)
        self._filesystem.sync_directory("manifest.start.directory", self._directory)
        state = ManifestState()
        while numbers:
            number = numbers.pop()
            if self._open(number):
                state = self._read(True)
                break
        for name in names:
            if name != _name(self._current):
                with contextlib.suppress(DiskError):
                    self._filesystem.unlink("manifest.discard", f"{self._directory}/{name}")
        return state

    def _open(self, number: int) -> bool:
        file = self._filesystem.open("manifest.open", self._path(number))
        header = read_file_header(file, number, "manifest.read")
        if header is None:
            self._found_damage(file, number, 0, file.size("manifest.read"))
            file.close()
            return False
        self._file, self._header, self._current = file, header, number
        self.exists = True
        return True

    def _read(self, starting: bool) -> ManifestState:
        """Fold the file that counts. When starting, note where it ends, what is wrong, and make its last edit durable."""
        file, header = self._file, self._header
        assert file is not None
        assert header is not None
        state = ManifestState()
        scan = Scan(file, header, "manifest.read")
        bad: list[BadRange] = []
        last: Found | None = None
        expected = 1
        usable = True
        edits = 0
        for found in scan:
            if isinstance(found, BadRange):
                bad.append(found)
                continue
            if last is not None and found.header.first_sequence == last.header.first_sequence:
                last = found  # written again at a start
                bad = []
                continue
            if found.header.first_sequence != expected:
                usable = False
                if starting:
                    self._miss(file, bad, found)
            bad = []
            expected = found.header.first_sequence + found.header.record_count
            last = found
            for _, number, kind, body in records(found.header, found.data):
                state.apply(number, kind, body)
                edits += kind == COVERS
        if starting:
            self._usable = usable and edits > 0 and scan.unreadable_blocks == 0
            self._position = scan.end
            self._next_sequence = expected
            self._allocated = file.size("manifest.read")
            self._fresh_size = state.size()
            if edits == 0:
                # The state at the beginning was written as a whole before the file got its name.
                self._found_damage(file, self._current, scan.end, self._allocated - scan.end)
            for each in bad:
                self.cut.append(f"{file.path}: {each.size} bytes at {each.offset} are an edit that was never finished")
                self._keep(file, header.generation, each)
            if last is not None and edits > 1:
                self._write_again(file, last)
        return state

    def _write_again(self, file: File, last: Found) -> None:
        """Make the last edit durable. Another sync would say nothing: after an error the system shows pages that the disk does not have."""
        offset = self._position
        try:
            self._reserve(file, offset + len(last.data), 0)
            self._position += len(last.data)
        except DiskError as error:
            if not error.is_full:
                raise
            # Over itself: that takes no space. Second best, since the place may be a bad one.
            offset = last.offset
        file.write("manifest.rewrite", offset, [last.data])
        file.sync("manifest.rewrite.sync")

    def _miss(self, file: File, bad: list[BadRange], found: Found) -> None:
        first = bad[0].offset if bad else found.offset
        self._found_damage(file, self._current, first, found.offset - first)

    def _found_damage(self, file: File, number: int, offset: int, size: int) -> None:
        self.damaged = True
        self.findings.append(f"{file.path}: {size} bytes at {offset} are damaged: edits of the manifest are lost")
        self._keep(file, number, BadRange(offset, size))

    def _keep(self, file: File, number: int, bad: BadRange) -> None:
        if bad.size:
            data = LenientReader(file, "manifest.read").read(bad.offset, bad.size)
            keep_copy(self._filesystem, self._quarantine, f"manifest-{number:x}-{bad.offset:x}", data)

    # Edits

    def append(self, edit: Edit) -> None:
        """Make an edit durable. After an error it is not known whether it is: the caller tries the same again, later.

        Raises: DiskError
        """
        if self._usable and self._position <= max(self._size_min, 2 * self._fresh_size):
            self._add(edit)
            return
        try:
            self._replace(edit)
        except DiskError as error:
            if not self._usable or not error.is_full:
                raise
            self._add(edit)

    def _add(self, edit: Edit) -> None:
        file, header = self._file, self._header
        assert file is not None
        assert header is not None
        writer = BatchWriter(self._next_sequence, None, UNDIVIDED)
        for number, kind, body in edit_records(edit):
            writer.append(number, kind, body)
        batch = writer.take_batch()
        self._reserve(file, self._position + batch.size(), 0)
        self._usable = False
        file.write("manifest.write", self._position, batch.seal(header.generation, header.salt))
        file.sync("manifest.sync")
        self._usable = True
        self._position += batch.size()
        self._next_sequence = batch.through() + 1
        with contextlib.suppress(DiskError):
            self._reserve(file, self._position, self._room)

    def _reserve(self, file: File, end: int, room: int) -> None:
        """Take space up to ``end`` and some more; ahead of time only if it has become little."""
        if end + room // 2 <= self._allocated:
            return
        size = end + max(room, self._room)
        try:
            file.allocate("manifest.allocate", size)
        except DiskError as error:
            if not error.is_full or room:
                raise
            size = end
            file.allocate("manifest.allocate", size)
        self._allocated = size

    def _replace(self, edit: Edit) -> None:
        """A new file, with what the old one says and the edit; then the old one goes."""
        state = ManifestState() if self._file is None else self._read(False)
        for number, kind, body in edit_records(edit):
            state.apply(number, kind, body)
        self._number += 1
        path = f"{self._directory}/{_name(self._number).replace(SUFFIX, UNFINISHED)}"
        header = FileHeader(self._number, self._new_salt(), 1)
        file = self._filesystem.create("manifest.create", path)
        try:
            allocated, position, sequence = self._write_state(file, header, state)
        except DiskError:
            file.close()
            with contextlib.suppress(DiskError):
                self._filesystem.unlink("manifest.discard", path)
            raise
        # From here on either file may be the one that the next start finds, and both say the same of the past: no edit goes to the old one.
        old, old_number = self._file, self._current
        self._usable = False
        self._filesystem.rename("manifest.publish", path, self._path(self._number))
        self._file, self._header, self._current = file, header, self._number
        self._position, self._next_sequence, self._fresh_size = position, sequence, position
        self._allocated = allocated
        if old is not None:
            old.close()
        self._filesystem.sync_directory("manifest.publish.directory", self._directory)
        self._usable = self.exists = True
        if old_number:
            with contextlib.suppress(DiskError):
                self._filesystem.unlink("manifest.remove", self._path(old_number))

    def _write_state(self, file: File, header: FileHeader, state: ManifestState) -> tuple[int, int, int]:
        """Write and sync everything; the space taken, where it ends, and the number of the record that comes next."""
        allocated = START + state.size() + self._room
        file.allocate("manifest.allocate", allocated)
        file.write("manifest.write", 0, [header.encode()])
        position = START
        writer = BatchWriter(1, None, UNDIVIDED)
        for number, kind, body in state.records():
            writer.append(number, kind, body)
            if writer.size() >= _BATCH_SIZE:
                position = _put(file, header, writer.take_batch(), position)
        if writer.record_count:
            position = _put(file, header, writer.take_batch(), position)
        file.sync("manifest.sync")
        return max(allocated, position), position, int(writer.next_sequence)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None
            self._usable = False

    def _path(self, number: int) -> str:
        return f"{self._directory}/{_name(number)}"


def _put(file: File, header: FileHeader, batch: Batch, position: int) -> int:
    file.write("manifest.write", position, batch.seal(header.generation, header.salt))
    return position + batch.size()


def _name(number: int) -> str:
    return f"{number:016x}{SUFFIX}"


def _number_of(name: str) -> int | None:
    stem = name.removesuffix(SUFFIX)
    if stem == name or len(stem) != 16 or not set(stem) <= set("0123456789abcdef"):
        return None
    return int(stem, 16)
