"""What a segment says of itself, for when nobody else says it, or its index is damaged: everything in it is read and
checked.

The index (segment.py) says which records form a part. Where it is damaged, each run of consecutive positions is a part
of its own: between two runs there may be a part that is in another segment.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from broker.store.batch import BLOCK, HEADER_SIZE, location_at, read_header, record_end, records
from broker.store.filesystem import File
from broker.store.read_request import index_location
from broker.store.records import BODY_BYTES_MASK, FLAGS_SHIFT, MESSAGE, TRANSIENT
from broker.store.segment import INDEX, decode_extents, read_extents
from broker.store.segment_extent import Extent, SegmentExtent
from broker.store.wal_file import FileHeader, Found, LenientReader, Scan, read_file_header

_HEAD: Final = struct.Struct(">QIBQQ")
"""Log id, length, kind, position, and flags and body bytes of a record."""


class Run(NamedTuple):
    """Records of one kind and one log, with consecutive positions, one behind the other in one batch."""

    first: int
    records: int
    kind: int
    body_bytes: int
    flags: int
    offset: int
    """Of the batch."""
    size: int
    start: int
    end: int

    @property
    def last(self) -> int:
        """The position of its last record."""
        return self.first + self.records - 1


class FoundPart(NamedTuple):
    """A part of a segment: records of one log that came from one place."""

    log: int
    first: int
    last: int
    records: int
    messages: int
    body_bytes: int
    flags: int
    index_offset: int
    index_size: int
    """0: its batch of the index is damaged."""
    runs: list[Run]
    """What of it can be read."""


class Survey(NamedTuple):
    """All of a segment."""

    size: int
    """Bytes of the file."""
    parts: list[FoundPart]


def survey(file: File, number: int) -> Survey | None:
    """What is in the segment of this number; None if nothing can be found in it.

    Raises: DiskError; not because of single blocks
    """
    size = file.size("segment.read")
    header = _header(file, number, size)
    if header is None:
        return None
    parts: list[FoundPart] = []
    for found in Scan(file, header, "segment.read"):
        if isinstance(found, Found):
            parts += _indexed(found, number)
    begins = {(part.log, part.first) for part in parts}
    runs: dict[int, list[Run]] = {}
    for found in Scan(file, header, "segment.read"):
        if isinstance(found, Found):
            _take(found, runs, begins)
    made = [_filled(part, runs.get(part.log, [])) for part in parts]
    for log, rest in runs.items():
        made += _without_index(log, rest)
    return Survey(size, sorted(made, key=lambda part: (part.log, part.first)))


def extents_of(file: File, segment_extent: SegmentExtent, log: int) -> list[Extent] | None:
    """The extents of a segment extent of a log: from the index, or from what can be read where that is damaged; None if
    that is nothing.

    Raises: DiskError
    """
    if segment_extent.index_size:
        told = read_extents(file, index_location(segment_extent), log, int(segment_extent.first))
        if told is not None:
            return told
    number = int(segment_extent.segment.number)
    found = survey(file, number)
    extents: list[Extent] = []
    for part in found.parts if found is not None else ():
        if part.log == log:
            extents += [
                _extent(number, run)
                for run in part.runs
                if segment_extent.first <= run.first and run.last <= segment_extent.last
            ]
    return extents or None


def _extent(number: int, run: Run) -> Extent:
    made = Extent(run.first, location_at(number, run.offset, run.size), run.start)
    made.count, made.end, made.kind = run.records, run.end, run.kind
    return made


def _header(file: File, number: int, size: int) -> FileHeader | None:
    """The header, from the batch at the end where the one at the beginning is damaged."""
    header = read_file_header(file, number, "segment.read")
    if header is not None:
        return header
    last = read_header(LenientReader(file, "segment.read").read(size - BLOCK, BLOCK)) if size >= BLOCK else None
    return FileHeader(number, last.salt, 1) if last is not None and last.generation == number else None


def _indexed(found: Found, number: int) -> list[FoundPart]:
    """The parts of which a batch of the index tells."""
    parts: list[FoundPart] = []
    for _, log, kind, body in records(found.header, found.data):
        if kind != INDEX:
            break  # a batch holds nothing else beside them
        extents = decode_extents(number, body)
        count = sum(int(each.count) for each in extents)
        messages = sum(int(each.count) for each in extents if each.kind == MESSAGE)
        last = int(extents[-1].first + extents[-1].count - 1)
        parts.append(
            FoundPart(log, int(extents[0].first), last, count, messages, 0, 0, found.offset, found.header.size(), [])
        )
    return parts


def _take(found: Found, runs: dict[int, list[Run]], begins: set[tuple[int, int]]) -> None:
    """The records of one batch."""
    data = found.data
    at = int(HEADER_SIZE)
    for _ in range(found.header.record_count):
        end = record_end(data, at)
        if data[at + 12] in (MESSAGE, TRANSIENT) and end - at >= _HEAD.size:
            log, _, kind, position, body_bytes = _HEAD.unpack_from(data, at)
            size, flags = (body_bytes & BODY_BYTES_MASK, body_bytes >> FLAGS_SHIFT) if kind == MESSAGE else (0, 0)
            start, stop = at - HEADER_SIZE, end - HEADER_SIZE
            run = Run(position, 1, kind, size, flags, found.offset, found.header.size(), start, stop)
            _extend(runs.setdefault(log, []), run, (log, position) in begins)
        at = end


def _extend(runs: list[Run], more: Run, begins: bool) -> None:
    if runs and not begins:
        last = runs[-1]
        if (last.offset, last.end, last.last + 1, last.kind) == (more.offset, more.start, more.first, more.kind):
            body_bytes, flags = last.body_bytes + more.body_bytes, last.flags | more.flags
            runs[-1] = last._replace(records=last.records + 1, body_bytes=body_bytes, flags=flags, end=more.end)
            return
    runs.append(more)


def _filled(part: FoundPart, runs: list[Run]) -> FoundPart:
    """The part with what can be read of it, which is taken out of the runs."""
    own = [run for run in runs if part.first <= run.first <= part.last]
    runs[:] = [run for run in runs if not part.first <= run.first <= part.last]
    flags = 0
    for run in own:
        flags |= run.flags
    return part._replace(runs=own, body_bytes=sum(run.body_bytes for run in own), flags=flags)


def _without_index(log: int, runs: list[Run]) -> list[FoundPart]:
    """Parts of what no index speaks of."""
    made: list[FoundPart] = []
    for run in sorted(runs):
        messages = run.records if run.kind == MESSAGE else 0
        last = made[-1] if made else None
        if last is not None and last.last + 1 == run.first:
            made[-1] = last._replace(
                last=run.last,
                records=last.records + run.records,
                messages=last.messages + messages,
                body_bytes=last.body_bytes + run.body_bytes,
                flags=last.flags | run.flags,
                runs=[*last.runs, run],
            )
        elif last is None or run.first > last.last:
            made.append(
                FoundPart(log, run.first, run.last, run.records, messages, run.body_bytes, run.flags, 0, 0, [run])
            )
    return made
