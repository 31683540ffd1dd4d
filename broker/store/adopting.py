"""Segments of which no manifest tells, after damage to it: what is in them belongs to the logs again, if the logs still
need it.

Any of these may stand in the directory then: a segment that a lost edit has added; one that a lost edit has dropped,
because what is live in it was rewritten to another one; one of a task that was never finished, whose records are in the
write-ahead log or in the segment they came from. Records at the same position of a log are the same wherever they
stand, so it does not matter which of them is taken, but each position may be in one segment extent only:

1. What the manifest still names goes first.
2. Of the others, older ones first: what is rewritten is within what it came from.
3. What is in the write-ahead log is left there: all of a log from its first position in the log on.

Which positions are live is what the manifest says of a log, and the settlements in the write-ahead log. What is beyond
that, or of a log of which the manifest says nothing, counts as live: these messages come again.
"""

from typing import NamedTuple

from broker.native import i64
from broker.store.batch import HEADER_SIZE, RECORD_HEADER_SIZE, record_end
from broker.store.datadir import DataDir
from broker.store.logs import Logs
from broker.store.records import JOURNAL, REFERENCE
from broker.store.recovery import Recovery
from broker.store.segment_extent import Segment, SegmentExtent
from broker.store.survey import FoundPart, Run, Survey
from broker.store.wal_file import generation_of, read_file_header


class LogContents(NamedTuple):
    """What the write-ahead log holds, whatever a damaged manifest says of it."""

    covered: int | None
    """Every record in it has a greater number; None if its oldest file does not tell."""
    first: int
    """The smallest number that was found in it; 0 if there is nothing in it."""
    last: int
    """The greatest number in it."""
    first_positions: dict[int, int]
    """Log -> its first position there."""


def look_through(data_dir: DataDir) -> LogContents:
    """Read the write-ahead log once, before it is replayed.

    Raises: DiskError
    """
    first_positions: dict[int, int] = {}
    first, last = 0, 0
    for _, found in Recovery(data_dir).batches():
        header, data = found.header, found.data
        first = first or int(header.first_sequence)
        last = int(header.first_sequence + header.record_count) - 1
        at: i64 = HEADER_SIZE
        for _ in range(header.record_count):
            end = record_end(data, at)
            number = int.from_bytes(data[at : at + 8], "big")
            if number != JOURNAL and data[at + 12] <= REFERENCE and number not in first_positions:
                first_positions[number] = int.from_bytes(
                    data[at + RECORD_HEADER_SIZE : at + RECORD_HEADER_SIZE + 8], "big"
                )
            at = end
    return LogContents(_before_oldest(data_dir), first, last, first_positions)


def _before_oldest(data_dir: DataDir) -> int | None:
    names = data_dir.filesystem.names("wal.list", data_dir.wal)
    generations = sorted((generation, name) for name in names if (generation := generation_of(name)) is not None)
    if not generations:
        return None
    generation, name = generations[0]
    file = data_dir.filesystem.open("wal.open", f"{data_dir.wal}/{name}")
    try:
        header = read_file_header(file, generation)
    finally:
        file.close()
    return None if header is None else header.first_sequence - 1


class Adoption:
    """Segment extents made of surveys; what the manifest says of the logs they belong to is known already."""

    def __init__(self, logs: Logs, known: set[int], contents: LogContents) -> None:
        """``known`` are the logs of which the manifest says what is live."""
        self._logs = logs
        self._known = known
        self._contents = contents
        self._runs: dict[int, list[Run]] = {}

    def adopt(self, number: int, found: Survey) -> tuple[bool, list[FoundPart]]:
        """Take what is needed of the segment of this number, and not in a segment extent yet: whether there is
        anything; and what nobody can take.

        That is what is partly in another segment extent: of two tasks one of which was never finished.
        """
        segment = Segment(number, found.size)
        refused: list[FoundPart] = []
        for part in found.parts:
            first_in_log = self._contents.first_positions.get(part.log)
            if first_in_log is not None and part.first >= first_in_log:
                continue
            others = self._overlapping(part)
            if not others:
                add_part(self._logs, segment, part)
                self.see(part)
            elif not any(other.first <= part.first and part.last <= other.last for other in others):
                refused.append(part)
        if segment.count:
            self._logs.segments.add(segment)
        return segment.count > 0, refused

    def see(self, part: FoundPart) -> None:
        """A log has a segment extent of this part."""
        self._runs.setdefault(part.log, []).extend(part.runs)

    def _overlapping(self, part: FoundPart) -> list[SegmentExtent]:
        log = self._logs.logs.get(part.log)
        return (
            [
                segment_extent
                for segment_extent in log.extents.segments
                if segment_extent.first <= part.last and part.first <= segment_extent.last
            ]
            if log is not None
            else []
        )

    def finish(self) -> list[str]:
        """What was seen of records of which the manifest does not know whether they are live: they are. Which these
        are, for people."""
        findings: list[str] = []
        for number, runs in sorted(self._runs.items()):
            positions = self._logs.open(number).positions
            start = int(positions.next) if number in self._known else 0
            behind = sorted(run for run in runs if run.last >= start)
            for run in behind:
                if run.last >= positions.next:
                    positions.append(max(int(positions.next), start, run.first))
                    positions.next = run.last + 1
            if behind:
                first, last = max(start, behind[0].first), behind[-1].last
                findings.append(
                    f"log {number}: what was settled from {first} to {last} is not known; it comes again, as "
                    "redelivered"
                )
        return findings


def add_part(logs: Logs, segment: Segment, part: FoundPart) -> None:
    """A segment extent of a log, made of a part of a segment."""
    log = logs.open(part.log)
    segment_extent = SegmentExtent(segment, part.first, part.last, part.records)
    segment_extent.messages, segment_extent.body_bytes = part.messages, part.body_bytes
    segment_extent.index_offset, segment_extent.index_size = part.index_offset, part.index_size
    log.found(part.flags)
    log.extents.add_segment(segment_extent)
    segment.count += part.records
