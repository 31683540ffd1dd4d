"""What a manifest says, as records: the state of everything that the write-ahead log no longer tells, and the edits
that change it.

    kind              log id            body
    16 PUT            0                 as in the write-ahead log: what is declared. The last one of a key counts
    17 DELETE         0                 the same
    48 SEGMENT        of the segment    its size (8); then for each part: log, first and last position, records,
                                        messages among them, their body bytes and flags, offset and size of its batch of
                                        the index (8 each)
    49 DROP_SEGMENT   of the segment    nothing
    50 STATE          of the log        note (8), live positions (index.py). The last one of a log counts
    51 DROP_LOG       of the log        nothing
    54 GROUP          of the log        the state of a Raft group whose entries it holds (group_state.py). The last one
                                        of a log counts
    52 COVERS         0                 S (8), number of the next log (8), of the next segment (8), D (8). Ends every
                                        edit. In format 1 there is no D: it is S
    53 FRAGMENT       as the record     kind (1) and size (4) of a record that is too large for one batch of the state,
                                        offset (4), a part of its body; the fragments of a record follow each other

Every record of the write-ahead log up to number S is represented, and of log 0, which is what is declared, every one up
to number D.
"""

import struct
from collections.abc import Collection, Iterator, Sequence
from typing import Final, NamedTuple

from broker.store import segment_builder
from broker.store.batch import HEADER_SIZE, RECORD_HEADER_SIZE
from broker.store.log import LogState
from broker.store.records import DELETE, JOURNAL, PUT, key_of

SEGMENT: Final = 48
DROP_SEGMENT: Final = 49
STATE: Final = 50
DROP_LOG: Final = 51
COVERS: Final = 52
FRAGMENT: Final = 53
GROUP: Final = 54

STATE_BATCH_SIZE: Final = 1 << 14
"""Bytes under one checksum in the state at the head of a file: so much is lost at most with one damaged place in both
copies."""

_PAYLOAD_MAX: Final = STATE_BATCH_SIZE - HEADER_SIZE
_U64: Final = struct.Struct(">Q")
_PART: Final = struct.Struct(">9Q")
_COVERS: Final = struct.Struct(">4Q")
_COVERS_OF_FORMAT_1: Final = struct.Struct(">3Q")
_FRAGMENT: Final = struct.Struct(">BII")

Record = tuple[int, int, bytes]
"""Log id, kind, body."""
SegmentPart = tuple[int, int, int, int, int, int, int, int, int]
"""Log, first and last position, records, messages, body bytes, flags, offset and size in the index."""


class Edit(NamedTuple):
    """What changes at once."""

    added: Sequence[tuple[segment_builder.SegmentBuilder, int]] = ()
    """New segments, with their sizes."""
    dropped: Sequence[int] = ()
    """Segments that are gone."""
    states: Sequence[LogState] = ()
    dropped_logs: Sequence[int] = ()
    journal: Collection[tuple[int, bytes]] = ()
    """Kind and body of records of log 0."""
    covers: int = 0
    """Every record of the write-ahead log up to this number is represented."""
    next_log: int = 1
    next_segment: int = 1
    declared: int = 0
    """Every record of log 0 up to this number is represented; never less than ``covers``."""


class ManifestState:
    """Everything a manifest says. Bodies stay as they are until they are needed."""

    def __init__(self) -> None:
        self.segments: dict[int, bytes] = {}
        self.logs: dict[int, bytes] = {}
        self.groups: dict[int, bytes] = {}
        self.journal: dict[bytes, bytes] = {}
        self.covers = 0
        self.declared = 0
        self.next_log = 1
        self.next_segment = 1
        self._fragments = b""

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
            self.groups.pop(number, None)
        elif kind == GROUP:
            self.groups[number] = body
        elif kind == PUT:
            self.journal[key_of(kind, body)] = body
        elif kind == DELETE:
            self.journal.pop(key_of(kind, body), None)
        elif kind == COVERS:
            self._cover(body)
        elif kind == FRAGMENT:
            self._apply_fragment(number, body)

    def _cover(self, body: bytes) -> None:
        if len(body) == _COVERS_OF_FORMAT_1.size:
            covers, next_log, next_segment = _COVERS_OF_FORMAT_1.unpack(body)
            declared = covers
        else:
            covers, next_log, next_segment, declared = _COVERS.unpack(body)
        self.covers = max(self.covers, covers)
        self.next_log = max(self.next_log, next_log)
        self.next_segment = max(self.next_segment, next_segment)
        self.declared = max(self.declared, declared)

    def _apply_fragment(self, number: int, body: bytes) -> None:
        """Where one of them is missing, the whole record is."""
        kind, size, offset = _FRAGMENT.unpack_from(body)
        if offset != len(self._fragments):
            if offset:
                return
            self._fragments = b""
        self._fragments += body[_FRAGMENT.size :]
        if len(self._fragments) == size:
            whole, self._fragments = self._fragments, b""
            self.apply(number, kind, whole)

    def records(self) -> Iterator[Record]:
        """The fewest records that say the same."""
        yield from ((JOURNAL, PUT, body) for body in self.journal.values())
        yield from ((number, SEGMENT, body) for number, body in self.segments.items())
        yield from ((number, STATE, body) for number, body in self.logs.items())
        yield from ((number, GROUP, body) for number, body in self.groups.items())
        yield 0, COVERS, _COVERS.pack(self.covers, self.next_log, self.next_segment, self.declared)

    def batches(self) -> Iterator[list[Record]]:
        """The same in groups, each of which fits into a batch of ``STATE_BATCH_SIZE`` bytes."""
        group: list[Record] = []
        size = 0
        for whole in self.records():
            for record in _fragments_of(whole):
                needed = RECORD_HEADER_SIZE + len(record[2])
                if size + needed > _PAYLOAD_MAX:
                    yield group
                    group, size = [], 0
                group.append(record)
                size += needed
        yield group

    def size(self) -> int:
        """Bytes that they need, about and at least."""
        return sum(len(body) + 64 for _, _, body in self.records())

    def let_go(self) -> None:
        """Nobody needs it any more. Other threads may run meanwhile, which they could not if 100,000 records went at
        once."""
        for known in (self.journal, self.segments, self.logs, self.groups):
            while known:
                known.popitem()

    def changes(self) -> list[tuple[int, bytes]]:
        """What is declared, as records of log 0."""
        return [(PUT, body) for body in self.journal.values()]


def _fragments_of(record: Record) -> Iterator[Record]:
    number, kind, body = record
    if RECORD_HEADER_SIZE + len(body) <= _PAYLOAD_MAX:
        yield record
        return
    step = _PAYLOAD_MAX - RECORD_HEADER_SIZE - _FRAGMENT.size
    for offset in range(0, len(body), step):
        yield number, FRAGMENT, _FRAGMENT.pack(kind, len(body), offset) + body[offset : offset + step]


def segment_size(body: bytes) -> int:
    """The size of the segment, from the body of its record."""
    return int(_U64.unpack_from(body)[0])


def segment_parts(body: bytes) -> Iterator[SegmentPart]:
    """Its parts."""
    return _PART.iter_unpack(body[8:])


def segment_body(size: int, parts: Sequence[SegmentPart]) -> bytes:
    """The body of a SEGMENT record."""
    return _U64.pack(size) + b"".join(_PART.pack(*part) for part in parts)


def _part_of(part: segment_builder.SegmentPart) -> SegmentPart:
    span = (part.log.number, part.first(), part.last(), part.count, part.messages, part.body_bytes, part.flags)
    return (*span, part.index_offset, part.index_size)


def state_of(body: bytes) -> tuple[int, bytes]:
    """Mark and positions of a log, from the body of its record."""
    return int.from_bytes(body[:8], "big", signed=True), body[8:]


def state_body(note: int, positions: bytes) -> bytes:
    """The body of a STATE record."""
    return note.to_bytes(8, "big", signed=True) + positions


def edit_records(edit: Edit) -> Iterator[Record]:
    """The records of an edit."""
    for builder, size in edit.added:
        yield builder.number, SEGMENT, segment_body(size, [_part_of(part) for part in builder.parts])
    yield from ((number, DROP_SEGMENT, b"") for number in edit.dropped)
    yield from ((number, STATE, state_body(note, positions)) for number, note, positions, _ in edit.states)
    yield from ((number, GROUP, group) for number, _, _, group in edit.states if group)
    yield from ((number, DROP_LOG, b"") for number in edit.dropped_logs)
    yield from ((JOURNAL, kind, body) for kind, body in edit.journal)
    declared = max(edit.covers, edit.declared)
    yield 0, COVERS, _COVERS.pack(edit.covers, edit.next_log, edit.next_segment, declared)
