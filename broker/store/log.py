"""One log for each backlog of a queue. All logs of a node append to its one write-ahead log; here is what is known of
each.

A log is a run of dense positions, each of which holds one record or, if nothing had to be kept, none. In memory it is a
summary:

    positions    which are live (index.py)
    extents      where their records are (log_extents.py)
    note         a number of the user's (log_note.py)

Kinds and bodies of records stand in records.py; log_writer.py appends those of all logs, logs.py holds the logs
together.

Settlements are collected until a batch leaves (pending_settlements.py).
"""

from __future__ import annotations

from typing import final

from librt.strings import BytesWriter, write_i64_be
from mypy_extensions import mypyc_attr

from broker.native import i64
from broker.store.batch import RECORD_HEADER_SIZE
from broker.store.group_state import GroupState
from broker.store.index import Positions
from broker.store.log_extents import LogExtents
from broker.store.log_note import NOTHING_NOTED, LogNote
from broker.store.log_writer import REFERENCE_SIZE, LogWriter
from broker.store.pending_settlements import PendingSettlements
from broker.store.records import BODY_AT, HARD_STATE, NOTE, NOTE_REPLACED, SETTLED
from broker.store.segment_extent import SegmentExtent
from broker.store.segments import Segments

LogState = tuple[int, int, bytes, bytes]
"""What the manifest knows of a log: number, note, positions, and of one with the entries of a group its state."""


@mypyc_attr(allow_interpreted_subclasses=True)
class LogUser:
    """Whoever a log belongs to: a backlog of a queue."""

    def durable(self) -> None:
        """What was appended below ``Log.durable_next`` is on the disk, and so is ``Log.note.durable``."""
        raise NotImplementedError

    def record(self, position: i64, data: bytes, start: i64, end: i64) -> None:
        """``data[start:end]`` is what the user wrote at ``position``: one live record that was read back. They come in
        order."""
        raise NotImplementedError

    def large_record(self, position: i64, head: bytes, content: bytes) -> None:
        """The same for one with a large content, which stands apart from what comes before it."""
        self.record(position, head + content, 0, len(head) + len(content))

    def loaded(self, through: i64) -> None:
        """A read is over: of the live positions below ``through``, none is left to be told."""
        raise NotImplementedError

    def paged(self, memory_bytes: i64) -> None:
        """Records that cost so much memory were written to a page file, and can be read back: those below
        ``Log.durable_next``."""


@mypyc_attr(allow_interpreted_subclasses=True)
class SettlementTeller:
    """Whoever tells the disk himself what of a log is settled: the entries of a group do."""

    def settled(self, log: Log, first: i64, count: i64, stride: i64) -> None:
        """As ``Log.settle``. Later, when that is certain, ``Log.settle_told`` follows."""
        raise NotImplementedError

    def is_wanted(self, log: Log, first: i64, last: i64) -> bool:
        """Whether any of these positions, of which a start has found nothing, was not settled before the node ended."""
        raise NotImplementedError


@final
class Log:
    """One log. Made by ``Logs``."""

    def __init__(self, number: i64, writer: LogWriter, segments: Segments) -> None:
        self.number: i64 = number
        self.user: LogUser | None = None
        self.positions = Positions()
        self.extents = LogExtents(segments)
        self.note = NOTHING_NOTED
        self.durable_next: i64 = 0
        """The records below this position are on the disk."""
        self.body_bytes: i64 = 0
        """Sum of the sizes of all live bodies, about; known after a recovery."""
        self.flags: i64 = 0
        """The flags of all records found by recovery, one or the other."""
        self.dropped = False
        self.saved = False
        """The manifest knows it."""
        self.on_pages = False
        """Its records are in page files (pages.py), and nothing of it is told to the write-ahead log."""
        self.is_told_elsewhere = False
        """What is settled of it is known from something else: nothing is written about it."""
        self.teller: SettlementTeller | None = None
        """Who does that, and decides when it is certain; nobody: it is at once."""
        self.group: GroupState | None = None
        """Of a log that holds the entries of a Raft group."""
        self._writer = writer
        self._pending: PendingSettlements | None = None
        self._group: i64 = 0  # ordinal of the last commit group it wrote to
        self._taken_next: i64 = 0

    # ---- appended ----------------------------------------------------------------------------------------------------

    def append(self, position: i64, kind: i64, size: i64, token: object) -> bool:
        """Begin a record of ``size`` bytes at ``position``, not before the end. True: the caller writes them to
        ``Logs.batch`` now.

        False if nothing has to be written: the record before, in whatever log, was of the same ``token`` and has the
        same content.
        """
        self.positions.append(position)
        writer = self._writer
        batch = writer.batch
        start = batch.size()
        self._touch()
        last = self.extents.extend(position, batch.location, start)
        if writer.begin(self.number, position, kind, size, token, start):
            last.end = start + BODY_AT + size
            return True
        last.end = start + RECORD_HEADER_SIZE + REFERENCE_SIZE
        return False

    def _touch(self) -> None:
        writer = self._writer
        if self._group != writer.batch.group:
            self._group = writer.batch.group
            writer.touch(self)

    def paged(self, segment_extent: SegmentExtent) -> None:
        """The records of this segment extent, behind all others of the log, are in a page file; those settled meanwhile
        are dead."""
        positions = self.positions
        first = segment_extent.first if segment_extent.first > positions.next else positions.next
        if first > segment_extent.last:
            return
        positions.append_run(first, segment_extent.last)
        self.extents.add_page(segment_extent, segment_extent.last + 1 - first)
        self.durable_next = positions.next

    # ---- noted -------------------------------------------------------------------------------------------------------

    def tell_note(self, value: i64) -> None:
        """The user's number is this from now on, which is more than it was: what is appended behind it is no earlier on
        the disk."""
        self.raise_note(value)
        self.write_note()

    def write_note(self) -> None:
        """Tell the disk the user's number."""
        self._touch()
        self._writer.tell(self.number, NOTE, self.note.value)

    def write_last_note(self, value: i64) -> None:
        """Tell the disk that it was too large; at a clean end, the memory does not matter any more."""
        if value < self.note.value:
            self._writer.tell(self.number, NOTE_REPLACED, value)

    def own_note(self) -> LogNote:
        """Its note, which is about to be changed."""
        note = self.note
        if note is NOTHING_NOTED:
            self.note = note = LogNote()
        return note

    def raise_note(self, value: i64) -> None:
        """The user's number is at least this."""
        if value > self.note.value:
            self.own_note().raise_to(value)

    # ---- settled -----------------------------------------------------------------------------------------------------

    def settle(self, first: i64, count: i64, stride: i64) -> None:
        """``count`` positions from ``first`` on, ``stride`` apart, are not needed any more. Some of them may have been
        settled before."""
        positions = self.positions
        if self.dropped:
            return
        if self.teller is not None:
            self.teller.settled(self, first, count, stride)
            return
        if first + (count - 1) * stride >= positions.next and positions.live() == 0:
            positions.settle(first, first + (count - 1) * stride)
            return
        pending = self._pending
        if pending is None:
            self._pending = pending = PendingSettlements()
        if pending.is_empty():
            self._writer.wait(self)
        if stride == 1:
            pending.add(first, count)
        else:
            index: i64 = 0
            while index < count:
                pending.add(first + index * stride, 1)
                index += 1
        if pending.is_full():
            self.collect()

    def settle_told(self, first: i64, last: i64) -> None:
        """These positions are settled, as its teller has told the disk. Some of them may have been before."""
        positions = self.positions
        if self.dropped or first >= positions.next:
            return
        if last >= positions.next:
            last = positions.next - 1
        self.extents.count_out(first, last, positions)
        positions.settle(first, last)
        self.extents.trim(positions.first, self._writer.batch.turn)

    def collect(self) -> None:
        """Write the settlements that wait, as few ranges as they make."""
        pending = self._pending
        if pending is None:
            return
        ranges = pending.take()
        if not ranges:
            return
        writer = BytesWriter()
        index: i64 = 0
        while index < len(ranges):
            self._settle_range(ranges[index], ranges[index + 1], writer)
            index += 2
        if len(writer) == 0 or self.on_pages:
            return  # nothing of it was ever written there
        if self.is_told_elsewhere:
            self.extents.trim(self.positions.first, self._writer.batch.turn)
            return
        self._touch()
        self._writer.batch.append(self.number, SETTLED, writer.getvalue())
        self.extents.trim(self.positions.first, self._writer.batch.turn)

    def _settle_range(self, start: i64, end: i64, writer: BytesWriter) -> None:
        self.extents.count_out(start, end, self.positions)
        if self.positions.settle(start, end) > 0:
            write_i64_be(writer, start)
            write_i64_be(writer, end)

    def lose(self, first: i64, last: i64) -> bool:
        """The live records from ``first`` to ``last`` cannot be read: they are settled. Whether there were any."""
        if self.positions.live_between(first, last + 1) == 0:
            return False
        self.settle(first, last - first + 1, 1)
        self.collect()
        return True

    def write_hard_state(self, term: i64, vote: i64, commit: i64) -> None:
        """Tell the disk the hard state of the group."""
        group = self.group_state()
        group.tell(term, vote, commit)
        self._touch()
        self._writer.tell(self.number, HARD_STATE, term, vote, commit)

    def group_state(self) -> GroupState:
        """What it keeps beside the entries of its group."""
        group = self.group
        if group is None:
            self.group = group = GroupState()
        return group

    def write_settled(self, first: i64, last: i64) -> None:
        """Tell the disk what recovery has settled."""
        self._touch()
        self._writer.tell(self.number, SETTLED, first, last)

    def drop(self) -> None:
        """Nothing of it is needed any more."""
        self.dropped = True
        self.user = None
        self.extents.clear(self._writer.batch.turn)

    # ---- moved to segments (compactor.py) ----------------------------------------------------------------------------

    def install(self, segment_extent: SegmentExtent, old: SegmentExtent | None) -> None:
        """Its records are in this segment extent from now on; they were in the write-ahead log, or in an ``old``
        segment extent."""
        if not self.dropped:
            self.extents.install(segment_extent, old, self.positions)

    def state(self) -> LogState:
        """What the manifest has to know of it, from now on."""
        self.saved = True
        group = self.group
        return (
            int(self.number),
            int(self.note.value),
            self.positions.encode(),
            b"" if group is None else group.encode(),
        )

    # ---- told by Logs ------------------------------------------------------------------------------------------------

    def taken(self) -> None:
        """The open commit group leaves."""
        self._taken_next = self.positions.next
        self.note.taken()

    def committed(self) -> None:
        """The commit group that left is on the disk."""
        self.durable_next = self._taken_next
        self.note.committed()
        user = self.user
        if user is not None and not self.dropped:
            user.durable()

    # ---- recovery (log_recovery.py) ----------------------------------------------------------------------------------

    def restored(self, note: i64, positions: Positions) -> None:
        """What the manifest says of it; records are replayed on top of that."""
        self.raise_note(note)
        self.positions = positions
        self.saved = True

    def found(self, flags: i64) -> None:
        """Records with these flags were found."""
        self.flags |= flags

    def recovered(self, body_bytes: i64) -> None:
        """Recovery is over: everything found is on the disk, and these are the bytes of all bodies that are live."""
        self.durable_next = self.positions.next
        self.note.recovered()
        self.body_bytes = body_bytes


def states(logs: list[Log], start: i64, end: i64) -> list[LogState]:
    """What the manifest has to know of these logs, from one index up to another."""
    found: list[LogState] = []
    index = start
    while index < end and index < len(logs):
        log = logs[index]
        if not log.dropped:
            found.append(log.state())
        index += 1
    return found
