"""One log for each line of messages. All logs of a node append to its one write-ahead log; here is what is known of
each.

A log is a run of dense positions, each of which holds one record or, if nothing had to be kept, none. In memory it is a
summary:

    positions      which are live (index.py)
    segment extents         where the older ones are: a summary for each segment that holds some of them
                            (segment_extent.py)
    extents      where the newer ones are, in the write-ahead log: consecutive records that stand behind each other in
                   one batch; a extent per turn, not per record

Kinds and bodies of records stand in records.py; logs.py holds the logs together.

Settlements are collected until a batch leaves and merged: what a thousand acks in a row say is one range.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from librt.strings import BytesWriter, read_i64_be, write_i64_be
from mypy_extensions import mypyc_attr

from broker.discard import discard
from broker.native import i64
from broker.store.batch import HEADER_SIZE, RECORD_HEADER_SIZE, BatchLocation
from broker.store.index import Positions
from broker.store.records import (
    BODY_AT,
    FLAGS_SHIFT,
    MESSAGE,
    REDELIVERY_MARK,
    REDELIVERY_MARK_RESET,
    REFERENCE,
    SETTLED,
    TRANSIENT,
    WEIGHT_MASK,
)
from broker.store.segment_extent import Extent, SegmentExtent, reaching

if TYPE_CHECKING:
    from broker.store.logs import Logs

MARK_AHEAD: Final[i64] = 10_000

_COUNT_BITS: Final[i64] = 22
_COUNT_MAX: Final[i64] = (1 << 22) - 1
_TRIM_AT: Final[i64] = 64
_PENDING_MAX: Final[i64] = 4096
"""More ranges than these do not wait: to write one takes a microsecond, and whoever settles them looks at the clock,
the batch does not."""


@mypyc_attr(allow_interpreted_subclasses=True)
class LogUser:
    """Whoever a log belongs to: a line of a queue."""

    def durable(self) -> None:
        """What was appended below ``Log.durable_next`` is on the disk, and so is ``Log.mark_durable``."""
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


@final
class Log:
    """One log. Made by ``Logs``."""

    def __init__(self, number: i64, logs: Logs) -> None:
        self.number: i64 = number
        self.user: LogUser | None = None
        self.positions = Positions()
        self.segment_extents: list[SegmentExtent] = []
        """What is in segments, in order; everything in them is before all extents."""
        self.extents: list[Extent] = []
        """What is in the write-ahead log, in order; those before ``head`` are settled."""
        self.head: i64 = 0
        self.durable_next: i64 = 0
        """The records below this position are on the disk."""
        self.mark: i64 = -1
        """Up to and including it, positions may have been delivered; told to the disk, see ``allowance``."""
        self.mark_durable: i64 = -1
        self.body_bytes: i64 = 0
        """Sum of the weights of all live records, about; set by recovery."""
        self.flags: i64 = 0
        """The flags of all records found by recovery, one or the other."""
        self.dropped = False
        self.saved = False
        """The manifest knows it."""
        self.on_pages = False
        """Its records are in page files (pages.py), and nothing of it is told to the write-ahead log."""
        self._logs = logs
        self._mark_from: i64 = 0
        self._pending: list[int] = []  # first position, and how many more, in one number each
        self._group: i64 = 0  # ordinal of the last commit group it wrote to
        self._taken_next: i64 = 0
        self._taken_mark: i64 = -1

    # ---- in ----------------------------------------------------------------------------------------------------------

    def append(self, position: i64, kind: i64, size: i64, token: object) -> bool:
        """Begin a record of ``size`` bytes at ``position``, not before the end. True: the caller writes them to
        ``Logs.batch`` now.

        False if nothing has to be written: the record before, in whatever log, was of the same ``token`` and has the
        same content.
        """
        self.positions.append(position)
        logs = self._logs
        batch = logs.batch
        location = batch.location
        start = batch.size()
        self._touch()
        last = self._extend(position, location, start)
        if token is logs.last_token and kind == logs.last_kind and location is logs.last_location:
            batch.begin(self.number, REFERENCE, 16)
            write_i64_be(batch.writer, position)
            write_i64_be(batch.writer, logs.last_start)
            batch.end()
            last.end = start + RECORD_HEADER_SIZE + 16
            return False
        logs.last_token = token
        logs.last_kind = kind
        logs.last_location = location
        logs.last_start = start
        last.end = start + BODY_AT + size
        batch.begin(self.number, kind, 8 + size)
        write_i64_be(batch.writer, position)
        return True

    def _touch(self) -> None:
        logs = self._logs
        if self._group != logs.batch.group:
            self._group = logs.batch.group
            logs.touched.append(self)

    def _extend(self, position: i64, location: BatchLocation, start: i64) -> Extent:
        """The extent of the record that begins there: the last one, if it goes on where that ends, or a new one."""
        extents = self.extents
        if extents:
            last = extents[-1]
            if last.end == start and last.location is location and last.first + last.count == position:
                last.count += 1
                return last
        made = Extent(position, location, start)
        extents.append(made)
        return made

    def _tell(self, kind: i64, *positions: int) -> None:
        """Append a record that consists of these positions."""
        batch = self._logs.batch
        batch.begin(self.number, kind, 8 * len(positions))
        for position in positions:
            write_i64_be(batch.writer, position)
        batch.end()

    # ---- delivered ---------------------------------------------------------------------------------------------------

    def cover(self, position: i64) -> None:
        """A record at ``position`` may be delivered soon. Called before ``append``, the mark is no later on the disk
        than the record."""
        if position + MARK_AHEAD // 2 > self.mark:
            self._move_mark(position)

    def allowance(self, position: i64) -> i64:
        """How many positions may be delivered from this one on: a crash will know of it. Moves the mark ahead when it
        comes near.

        Either the mark is on the disk, or the records were written behind it and a crash that forgets it forgets them
        as well.
        """
        if position + MARK_AHEAD // 2 > self.mark:
            self._move_mark(position)
            self._logs.batch.hurry()
        if position <= self.mark_durable:
            return self.mark_durable - position + 1
        if position >= self._mark_from and position <= self.mark:
            return self.mark - position + 1
        return 0

    def _move_mark(self, position: i64) -> None:
        if self.mark > self.mark_durable and position <= self.mark:
            return  # one at a time: what was written behind an older mark counts on that one
        self.mark = position + MARK_AHEAD
        self._mark_from = self.positions.next
        self._touch()
        self._tell(REDELIVERY_MARK, self.mark)

    # ---- settled -----------------------------------------------------------------------------------------------------

    def settle(self, first: i64, count: i64, stride: i64) -> None:
        """``count`` positions from ``first`` on, ``stride`` apart, are not needed any more. Some of them may have been
        settled before."""
        positions = self.positions
        if self.dropped:
            return
        if first + (count - 1) * stride >= positions.next and positions.live() == 0:
            positions.settle(first, first + (count - 1) * stride)
            return
        if stride == 1:
            self._settle_run(first, count)
        else:
            index: i64 = 0
            while index < count:
                self._settle_run(first + index * stride, 1)
                index += 1
        if len(self._pending) >= _PENDING_MAX:
            self.collect()

    def _settle_run(self, first: i64, count: i64) -> None:
        pending = self._pending
        if pending:
            last: i64 = pending[-1]
            more = last & _COUNT_MAX
            if (last >> _COUNT_BITS) + more + 1 == first and more + count <= _COUNT_MAX:
                pending[-1] = int(last + count)
                return
        else:
            self._logs.wait(self)
        while count > _COUNT_MAX:
            pending.append(int((first << _COUNT_BITS) | _COUNT_MAX))
            first += _COUNT_MAX + 1
            count -= _COUNT_MAX + 1
        if count > 0:
            pending.append(int((first << _COUNT_BITS) | (count - 1)))

    def collect(self) -> None:
        """Write the settlements that wait, as few ranges as they make."""
        pending = self._pending
        if not pending:
            return
        self._pending = []
        if len(pending) > 1:
            pending.sort()
        writer = BytesWriter()
        start: i64 = -1
        end: i64 = -2
        for packed in pending:
            first: i64 = packed >> 22
            last: i64 = first + (packed & 0x3FFFFF)
            if first <= end + 1:
                if last > end:
                    end = last
                continue
            if start >= 0:
                self._bury(start, end, writer)
            start = first
            end = last
        self._bury(start, end, writer)
        if len(writer) == 0 or self.on_pages:
            return  # nothing of it was ever written there
        self._touch()
        self._logs.batch.append(self.number, SETTLED, writer.getvalue())
        self._trim()

    def _bury(self, start: i64, end: i64, writer: BytesWriter) -> None:
        segment_extents = self.segment_extents
        if segment_extents and start <= segment_extents[-1].last:
            self._bury_in_segment_extents(start, end)
        if self.positions.settle(start, end) > 0:
            write_i64_be(writer, start)
            write_i64_be(writer, end)

    def _bury_in_segment_extents(self, start: i64, end: i64) -> None:
        """Count what is settled now out of the segment extents it is in."""
        segment_extents = self.segment_extents
        index = self.find_segment_extent(start)
        while index < len(segment_extents):
            segment_extent = segment_extents[index]
            if segment_extent.first > end:
                return
            low = start if start > segment_extent.first else segment_extent.first
            high = end if end < segment_extent.last else segment_extent.last
            count = self.positions.live_between(low, high + 1)
            if count > 0:
                segment_extent.live -= count
                self._logs.unload(segment_extent.segment, count)
            if segment_extent.live == 0:
                del segment_extents[index]
            else:
                index += 1

    def _trim(self) -> None:
        """Forget the extents at the front of which nothing is live."""
        extents = self.extents
        size: i64 = len(extents)
        head = self.find(self.positions.first)
        if head == size:
            discard(self._logs.batch.turn, [extents])
            self.extents = []
            head = 0
        elif head >= _TRIM_AT and head * 2 >= size:
            discard(self._logs.batch.turn, [extents[:head]])
            del extents[:head]
            head = 0
        self.head = head

    def find(self, position: i64) -> i64:
        """Index of the first extent that reaches up to ``position`` or behind it."""
        return reaching(self.extents, self.head, position)

    def find_segment_extent(self, position: i64) -> i64:
        """Index of the first segment extent that reaches up to ``position`` or behind it."""
        segment_extents = self.segment_extents
        low: i64 = 0
        high: i64 = len(segment_extents)
        while low < high:
            middle = (low + high) // 2
            if segment_extents[middle].last < position:
                low = middle + 1
            else:
                high = middle
        return low

    # ---- moved to segments (compactor.py) ----------------------------------------------------------------------------

    def live_size(self, generation: i64) -> i64:
        """Bytes of its live records in this file of the write-ahead log, the oldest one, about."""
        extents = self.extents
        index = self.head
        end: i64 = len(extents)
        size: i64 = 0
        while index < end:
            extent = extents[index]
            if extent.location.generation != generation:
                break
            live = self.positions.live_between(extent.first, extent.first + extent.count)
            size += (extent.end - extent.start) * live // extent.count
            index += 1
        return size

    def moved_through(self) -> i64:
        """Everything live up to and including this position is in segment extents."""
        segment_extents = self.segment_extents
        return segment_extents[-1].last if segment_extents else -1

    def install(self, segment_extent: SegmentExtent, old: SegmentExtent | None) -> None:
        """Its records are in this segment extent from now on; they were in the write-ahead log, or in an ``old``
        segment extent."""
        if self.dropped:
            return
        segment_extents = self.segment_extents
        index: i64 = len(segment_extents)
        if old is not None:
            index = self.find_segment_extent(old.first)
            if index == len(segment_extents) or segment_extents[index] is not old:
                return  # settled meanwhile
            del segment_extents[index]
            old.segment.live -= old.live
        segment_extent.live = self.positions.live_between(segment_extent.first, segment_extent.last + 1)
        if segment_extent.live > 0:
            segment_extents.insert(index, segment_extent)
            segment_extent.segment.live += segment_extent.live

    def paged(self, segment_extent: SegmentExtent) -> None:
        """The records of this segment extent, behind all others of the log, are in a page file; those settled meanwhile
        are dead."""
        positions = self.positions
        first = segment_extent.first if segment_extent.first > positions.next else positions.next
        if first > segment_extent.last:
            return
        positions.append_run(first, segment_extent.last)
        segment_extent.live = segment_extent.last + 1 - first
        segment_extent.segment.live += segment_extent.live
        self.segment_extents.append(segment_extent)
        self.durable_next = positions.next

    def forget(self, generation: i64) -> None:
        """What is live in this file of the write-ahead log, the oldest one, was installed."""
        extents = self.extents
        index = self.head
        end: i64 = len(extents)
        while index < end and extents[index].location.generation == generation:
            index += 1
        if index > self.head:
            del extents[:index]
            self.head = 0

    def lose(self, first: i64, last: i64, location: BatchLocation) -> i64:
        """The live records from ``first`` to ``last`` cannot be read: they are settled, and told. How many there
        were."""
        count = self.positions.live_between(first, last + 1)
        if count > 0:
            self._logs.lost.append((self, int(first), int(last), location))
            self.settle(first, last - first + 1, 1)
            self.collect()
        return count

    # ---- told by Logs ------------------------------------------------------------------------------------------------

    def taken(self) -> None:
        """The open commit group leaves."""
        self._taken_next = self.positions.next
        self._taken_mark = self.mark

    def committed(self) -> None:
        """The commit group that left is on the disk."""
        self.durable_next = self._taken_next
        self.mark_durable = self._taken_mark
        user = self.user
        if user is not None and not self.dropped:
            user.durable()

    # ---- recovery ----------------------------------------------------------------------------------------------------

    def replay(self, kind: i64, location: BatchLocation, data: bytes, at: i64, end: i64) -> None:
        """One record of this log, found by recovery: its body is ``data[at + RECORD_HEADER_SIZE:end]``, offsets as in a
        batch."""
        body = at + RECORD_HEADER_SIZE
        positions = self.positions
        if kind in (MESSAGE, REFERENCE):
            position = read_i64_be(data, body)
            if position <= self.moved_through():
                return
            if kind == REFERENCE and data[HEADER_SIZE + read_i64_be(data, body + 8) + 12] != MESSAGE:
                positions.settle(position, position)
                return
            if position >= positions.next:
                positions.append(position)
            elif not positions.is_live(position):
                return
            body_bytes = read_i64_be(data, body + 8)
            if kind == REFERENCE:
                body_bytes = read_i64_be(data, HEADER_SIZE + body_bytes + BODY_AT)
            self.flags |= body_bytes >> FLAGS_SHIFT
            last = self._extend(position, location, at - HEADER_SIZE)
            last.body_bytes += body_bytes & WEIGHT_MASK
            last.end = end - HEADER_SIZE
        elif kind == TRANSIENT:
            position = read_i64_be(data, body)
            if position > self.moved_through():
                positions.settle(position, position)  # its position is never used again
        elif kind == SETTLED:
            while body + 16 <= end:
                positions.settle(read_i64_be(data, body), read_i64_be(data, body + 8))
                body += 16
        elif kind == REDELIVERY_MARK:
            position = read_i64_be(data, body)
            if position > self.mark:
                self.mark = position
        elif kind == REDELIVERY_MARK_RESET:
            self.mark = read_i64_be(data, body)

    def restored(self, mark: i64, positions: Positions) -> None:
        """What the manifest says of it; records are replayed on top of that."""
        self.mark = mark
        self.positions = positions
        self.saved = True

    def recovered(self) -> None:
        """Recovery is over: everything found is on the disk."""
        self.durable_next = self.positions.next
        self.mark_durable = self.mark
        self._trim()
        reached = self._recover_segment_extents()
        index = self.head
        while index < len(self.extents):
            extent = self.extents[index]
            self._miss(reached, extent.first)
            reached = extent.first + extent.count
            live = self.positions.live_between(extent.first, reached)
            self.body_bytes += extent.body_bytes * live // extent.count
            index += 1
        self._miss(reached, self.positions.next)

    def _recover_segment_extents(self) -> i64:
        """Count what is live in the segment extents; where they end."""
        positions = self.positions
        reached = positions.first
        kept: list[SegmentExtent] = []
        for segment_extent in self.segment_extents:
            self._miss(reached, segment_extent.first)
            reached = segment_extent.last + 1
            segment_extent.live = positions.live_between(segment_extent.first, reached)
            if segment_extent.live > 0:
                kept.append(segment_extent)
                segment_extent.segment.live += segment_extent.live
                if segment_extent.messages > 0:
                    self.body_bytes += segment_extent.body_bytes * segment_extent.live // segment_extent.messages
        self.segment_extents = kept
        return reached

    def _miss(self, start: i64, end: i64) -> None:
        """Nothing was found of the positions from ``start`` up to but not including ``end``."""
        if self.positions.live_between(start, end) > 0:
            self._logs.missing.append((self, int(start), int(end - 1)))
            self.positions.settle(start, end - 1)

    def distrust(self) -> None:
        """Something that was told of it is lost: everything in it may have been delivered. After ``replay``, before
        ``recovered``."""
        if self.mark < self.positions.next - 1:
            self.mark = self.positions.next - 1

    def write_mark(self) -> None:
        """Tell the disk what ``distrust`` has done."""
        self._touch()
        self._tell(REDELIVERY_MARK, self.mark)

    def write_settled(self, first: i64, last: i64) -> None:
        """Tell the disk what recovery has settled."""
        self._touch()
        self._tell(SETTLED, first, last)

    def write_exact_mark(self, position: i64) -> None:
        """Nothing behind ``position`` was ever delivered; for a clean end."""
        if position < self.mark:
            self._tell(REDELIVERY_MARK_RESET, position)
