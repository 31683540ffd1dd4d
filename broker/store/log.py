"""The logs of a node: one for each line of messages. All of them append to the one write-ahead log; here is what is known of each.

A log is a run of dense positions, each of which holds one record or, if nothing had to be kept, none. In memory it is a summary:

    positions      which are live (index.py)
    pieces         where the older ones are: a summary for each segment that holds some of them (piece.py)
    stretches      where the newer ones are, in the write-ahead log: consecutive records that stand behind each other in one batch; a
                   stretch per turn, not per record

    kind           body                                        means
    1 MESSAGE      position (8), flags (2), weight (6), rest   a record; promised with the batch. All behind the position is the user's
    2 TRANSIENT    the same                                    a record that need not outlive the node: only its body was in the way
    3 REFERENCE    position (8), offset in the payload (8)     the record at that offset of the same batch once more, for another log
    4 SETTLED      first (8) and last (8) position, repeated   these are not needed any more
    5 MARK         position (8)                                up to and including it, anything may have been delivered
    6 EXACT        position (8)                                the same, replacing any larger mark; at a clean end
    16 PUT         size of the key (4), key, value             log 0 only: what is declared (metadata/journal.py)
    17 DELETE      key                                         log 0 only

Settlements are collected until a batch leaves and merged: what a thousand acks in a row say is one range.
"""

from __future__ import annotations

from typing import Final, final

from librt.strings import BytesWriter, read_i32_be, read_i64_be, write_i64_be
from mypy_extensions import mypyc_attr

from broker.clock import Clock, Timed, Timer
from broker.native import i64
from broker.store.batch import HEADER_SIZE, RECORD_HEADER_SIZE, BatchHeader, BatchWriter, Collector, Listener, Place
from broker.store.index import Positions
from broker.store.piece import Piece, Segment, Stretch, reaching

JOURNAL: Final[i64] = 0
"""The log id of what is declared."""
MESSAGE: Final[i64] = 1
TRANSIENT: Final[i64] = 2
REFERENCE: Final[i64] = 3
SETTLED: Final[i64] = 4
MARK: Final[i64] = 5
EXACT: Final[i64] = 6
PUT: Final[i64] = 16
DELETE: Final[i64] = 17

BODY_AT: Final[i64] = RECORD_HEADER_SIZE + 8
"""Where the user's part of a MESSAGE begins in its record."""
MARK_AHEAD: Final[i64] = 10_000
SETTLE_DELAY_MS: Final[i64] = 8
"""Settlements that no other record takes along go by themselves after this time: on the disk within 10 ms."""

_COUNT_BITS: Final[i64] = 22
_COUNT_MAX: Final[i64] = (1 << 22) - 1
_TRIM_AT: Final[i64] = 64
_WEIGHT_MASK: Final[i64] = (1 << 48) - 1


@mypyc_attr(allow_interpreted_subclasses=True)
class LogUser:
    """Whoever a log belongs to: a line of a queue."""

    def durable(self) -> None:
        """What was appended below ``Log.durable_next`` is on the disk, and so is ``Log.mark_durable``."""
        raise NotImplementedError

    def record(self, position: i64, data: bytes, start: i64, end: i64) -> None:
        """``data[start:end]`` is what the user wrote at ``position``: one live record that was read back. They come in order."""
        raise NotImplementedError

    def loaded(self, through: i64) -> None:
        """A read is over: of the live positions below ``through``, none is left to be told."""
        raise NotImplementedError


@final
class Log:
    """One log. Made by ``Logs``."""

    def __init__(self, number: i64, logs: Logs) -> None:
        self.number: i64 = number
        self.user: LogUser | None = None
        self.positions = Positions()
        self.pieces: list[Piece] = []
        """What is in segments, in order; everything in them is before all stretches."""
        self.stretches: list[Stretch] = []
        """What is in the write-ahead log, in order; those before ``head`` are settled."""
        self.head: i64 = 0
        self.durable_next: i64 = 0
        """The records below this position are on the disk."""
        self.mark: i64 = -1
        """Up to and including it, positions may have been delivered; told to the disk, see ``allowance``."""
        self.mark_durable: i64 = -1
        self.weight: i64 = 0
        """Sum of the weights of all live records, about; set by recovery."""
        self.flags: i64 = 0
        """The flags of all records found by recovery, one or the other."""
        self.dropped = False
        self.saved = False
        """The manifest knows it."""
        self._logs = logs
        self._mark_from: i64 = 0
        self._pending: list[int] = []  # first position, and how many more, in one number each
        self._batch: i64 = 0  # ordinal of the last batch it wrote to
        self._taken_next: i64 = 0
        self._taken_mark: i64 = -1

    # ---- in -----------------------------------------------------------------------------------------------------------

    def append(self, position: i64, kind: i64, size: i64, token: object) -> bool:
        """Begin a record of ``size`` bytes at ``position``, not before the end. True: the caller writes them to ``Logs.batch`` now.

        False if nothing has to be written: the record before, in whatever log, was of the same ``token`` and has the same content.
        """
        self.positions.append(position)
        logs = self._logs
        batch = logs.batch
        place = batch.place
        start = batch.size()
        stretches = self.stretches
        if stretches and self._batch == place.ordinal:
            last = stretches[-1]
            if last.end == start and last.place is place and last.first + last.count == position:
                last.count += 1
            else:
                last = Stretch(position, place, start)
                stretches.append(last)
        else:
            self._touch(place)
            last = Stretch(position, place, start)
            stretches.append(last)
        if token is logs.last_token and kind == logs.last_kind:
            batch.begin(self.number, REFERENCE, 16)
            write_i64_be(batch.writer, position)
            write_i64_be(batch.writer, logs.last_start)
            batch.end()
            last.end = start + RECORD_HEADER_SIZE + 16
            return False
        logs.last_token = token
        logs.last_kind = kind
        logs.last_start = start
        last.end = start + BODY_AT + size
        batch.begin(self.number, kind, 8 + size)
        write_i64_be(batch.writer, position)
        return True

    def _touch(self, place: Place) -> None:
        if self._batch != place.ordinal:
            self._batch = place.ordinal
            self._logs.touched.append(self)

    # ---- delivered ----------------------------------------------------------------------------------------------------

    def cover(self, position: i64) -> None:
        """A record at ``position`` may be delivered soon. Called before ``append``, the mark is no later on the disk than the record."""
        if position + MARK_AHEAD // 2 > self.mark:
            self._move_mark(position)

    def allowance(self, position: i64) -> i64:
        """How many positions may be delivered from this one on: a crash will know of it. Moves the mark ahead when it comes near.

        Either the mark is on the disk, or the records were written behind it and a crash that forgets it forgets them as well.
        """
        if position + MARK_AHEAD // 2 > self.mark:
            self._move_mark(position)
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
        writer = BytesWriter()
        write_i64_be(writer, self.mark)
        self._touch(self._logs.batch.place)
        self._logs.batch.append(self.number, MARK, writer.getvalue())

    # ---- settled ------------------------------------------------------------------------------------------------------

    def settle(self, first: i64, count: i64, stride: i64) -> None:
        """``count`` positions from ``first`` on, ``stride`` apart, are not needed any more. Some of them may have been settled before."""
        positions = self.positions
        if self.dropped:
            return
        if first + (count - 1) * stride >= positions.next and positions.live() == 0:
            positions.settle(first, first + (count - 1) * stride)
            return
        if stride == 1:
            self._settle_run(first, count)
            return
        index: i64 = 0
        while index < count:
            self._settle_run(first + index * stride, 1)
            index += 1

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
        if len(writer) == 0:
            return  # nothing of it was ever written
        self._touch(self._logs.batch.place)
        self._logs.batch.append(self.number, SETTLED, writer.getvalue())
        self._trim()

    def _bury(self, start: i64, end: i64, writer: BytesWriter) -> None:
        pieces = self.pieces
        if pieces and start <= pieces[-1].last:
            self._bury_in_pieces(start, end)
        if self.positions.settle(start, end) > 0:
            write_i64_be(writer, start)
            write_i64_be(writer, end)

    def _bury_in_pieces(self, start: i64, end: i64) -> None:
        """Count what is settled now out of the pieces it is in."""
        pieces = self.pieces
        index = self.find_piece(start)
        while index < len(pieces):
            piece = pieces[index]
            if piece.first > end:
                return
            low = start if start > piece.first else piece.first
            high = end if end < piece.last else piece.last
            count = self.positions.live_between(low, high + 1)
            if count > 0:
                piece.live -= count
                self._logs.unload(piece.segment, count)
            if piece.live == 0:
                del pieces[index]
            else:
                index += 1

    def _trim(self) -> None:
        """Forget the stretches at the front of which nothing is live."""
        stretches = self.stretches
        first = self.positions.first
        size: i64 = len(stretches)
        head = self.head
        while head < size:
            stretch = stretches[head]
            if stretch.first + stretch.count > first:
                break
            head += 1
        if head == size:
            self.stretches = []
            head = 0
        elif head >= _TRIM_AT and head * 2 >= size:
            del stretches[:head]
            head = 0
        self.head = head

    def find(self, position: i64) -> i64:
        """Index of the first stretch that reaches up to ``position`` or behind it."""
        return reaching(self.stretches, self.head, position)

    def find_piece(self, position: i64) -> i64:
        """Index of the first piece that reaches up to ``position`` or behind it."""
        pieces = self.pieces
        low: i64 = 0
        high: i64 = len(pieces)
        while low < high:
            middle = (low + high) // 2
            if pieces[middle].last < position:
                low = middle + 1
            else:
                high = middle
        return low

    # ---- moved to segments (mover.py) ---------------------------------------------------------------------------------

    def live_size(self, generation: i64) -> i64:
        """Bytes of its live records in this file of the write-ahead log, the oldest one, about."""
        stretches = self.stretches
        index = self.head
        end: i64 = len(stretches)
        size: i64 = 0
        while index < end:
            stretch = stretches[index]
            if stretch.place.generation != generation:
                break
            live = self.positions.live_between(stretch.first, stretch.first + stretch.count)
            size += (stretch.end - stretch.start) * live // stretch.count
            index += 1
        return size

    def moved_through(self) -> i64:
        """Everything live up to and including this position is in pieces."""
        pieces = self.pieces
        return pieces[-1].last if pieces else -1

    def install(self, piece: Piece, old: Piece | None) -> None:
        """Its records are in this piece from now on; they were in the write-ahead log, or in an ``old`` piece."""
        if self.dropped:
            return
        pieces = self.pieces
        index: i64 = len(pieces)
        if old is not None:
            index = self.find_piece(old.first)
            if index == len(pieces) or pieces[index] is not old:
                return  # settled meanwhile
            del pieces[index]
            old.segment.live -= old.live
        piece.live = self.positions.live_between(piece.first, piece.last + 1)
        if piece.live > 0:
            pieces.insert(index, piece)
            piece.segment.live += piece.live

    def forget(self, generation: i64) -> None:
        """What is live in this file of the write-ahead log, the oldest one, was installed."""
        stretches = self.stretches
        index = self.head
        end: i64 = len(stretches)
        while index < end and stretches[index].place.generation == generation:
            index += 1
        if index > self.head:
            del stretches[:index]
            self.head = 0

    def lose(self, first: i64, last: i64, place: Place) -> i64:
        """The live records from ``first`` to ``last`` cannot be read: they are settled, and told. How many there were."""
        count = self.positions.live_between(first, last + 1)
        if count > 0:
            self._logs.lost.append((self, int(first), int(last), place))
            self.settle(first, last - first + 1, 1)
            self.collect()
        return count

    # ---- told by Logs -------------------------------------------------------------------------------------------------

    def taken(self) -> None:
        """The open batch leaves."""
        self._taken_next = self.positions.next
        self._taken_mark = self.mark

    def committed(self) -> None:
        """The batch that left is on the disk."""
        self.durable_next = self._taken_next
        self.mark_durable = self._taken_mark
        user = self.user
        if user is not None and not self.dropped:
            user.durable()

    # ---- recovery -----------------------------------------------------------------------------------------------------

    def replay(self, kind: i64, place: Place, data: bytes, at: i64, end: i64) -> None:
        """One record of this log, found by recovery: its body is ``data[at + RECORD_HEADER_SIZE:end]``, offsets as in a batch."""
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
            weight = read_i64_be(data, body + 8)
            if kind == REFERENCE:
                weight = read_i64_be(data, HEADER_SIZE + weight + BODY_AT)
            self.flags |= weight >> 48
            stretches = self.stretches
            start = at - HEADER_SIZE
            last = stretches[-1] if stretches else None
            if last is None or last.place is not place or last.end != start or last.first + last.count != position:
                last = Stretch(position, place, start)
                last.count = 0
                stretches.append(last)
            last.count += 1
            last.weight += weight & _WEIGHT_MASK
            last.end = end - HEADER_SIZE
        elif kind == TRANSIENT:
            position = read_i64_be(data, body)
            if position > self.moved_through():
                positions.settle(position, position)  # its position is never used again
        elif kind == SETTLED:
            while body + 16 <= end:
                positions.settle(read_i64_be(data, body), read_i64_be(data, body + 8))
                body += 16
        elif kind == MARK:
            position = read_i64_be(data, body)
            if position > self.mark:
                self.mark = position
        elif kind == EXACT:
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
        reached = self._recover_pieces()
        index = self.head
        while index < len(self.stretches):
            stretch = self.stretches[index]
            self._miss(reached, stretch.first)
            reached = stretch.first + stretch.count
            live = self.positions.live_between(stretch.first, reached)
            self.weight += stretch.weight * live // stretch.count
            index += 1
        self._miss(reached, self.positions.next)

    def _recover_pieces(self) -> i64:
        """Count what is live in the pieces; where they end."""
        positions = self.positions
        reached = positions.first
        kept: list[Piece] = []
        for piece in self.pieces:
            self._miss(reached, piece.first)
            reached = piece.last + 1
            piece.live = positions.live_between(piece.first, reached)
            if piece.live > 0:
                kept.append(piece)
                piece.segment.live += piece.live
                if piece.messages > 0:
                    self.weight += piece.weight * piece.live // piece.messages
        self.pieces = kept
        return reached

    def _miss(self, start: i64, end: i64) -> None:
        """Nothing was found of the positions from ``start`` up to but not including ``end``."""
        if self.positions.live_between(start, end) > 0:
            self._logs.missing.append((self, int(start), int(end - 1)))
            self.positions.settle(start, end - 1)

    def write_settled(self, first: i64, last: i64) -> None:
        """Tell the disk what recovery has settled."""
        writer = BytesWriter()
        write_i64_be(writer, first)
        write_i64_be(writer, last)
        self._touch(self._logs.batch.place)
        self._logs.batch.append(self.number, SETTLED, writer.getvalue())

    def write_exact_mark(self, position: i64) -> None:
        """Nothing behind ``position`` was ever delivered; for a clean end."""
        if position < self.mark:
            writer = BytesWriter()
            write_i64_be(writer, position)
            self._logs.batch.append(self.number, EXACT, writer.getvalue())


def index_place(piece: Piece) -> Place:
    """Where its stretches are told."""
    place = Place(0)
    place.generation = piece.segment.number
    place.offset = piece.index_offset
    place.size = piece.index_size
    return place


@final
class Read:
    """Records of one log on their way back from the disk."""

    def __init__(self, log: Log, start: i64, end: i64, budget: i64) -> None:
        self.log = log
        self.start: i64 = start
        """The first position that is wanted."""
        self.end: i64 = end
        """Behind the last one that is wanted."""
        self.budget: i64 = budget
        """Bytes to read, about."""
        self.stretches: list[Stretch] = []
        self.payloads: dict[Place, bytes | None] = {}
        """The payloads of their batches; None for one that is damaged."""
        self.piece: Piece | None = None
        """Where they are, if they are not in the write-ahead log."""
        self.index: list[Stretch] | None = None
        """All stretches of that piece; None if they could not be read."""

    def add(self, stretches: list[Stretch], index: i64) -> None:
        """Choose what to read, from the stretch of this index on."""
        size: i64 = 0
        while index < len(stretches):
            stretch = stretches[index]
            place = stretch.place
            if stretch.first >= self.end or place.generation < 0 or size >= self.budget:
                return
            self.stretches.append(stretch)
            if place not in self.payloads:
                self.payloads[place] = None
                size += place.size
            index += 1

    def choose(self) -> None:
        """Choose from the stretches of the piece, which are known now."""
        index = self.index
        if index is not None:
            self.add(index, reaching(index, 0, self.start))

    def through(self) -> i64:
        """Behind the last position that it reads."""
        end = self.end
        piece = self.piece
        if piece is not None and piece.last < end:
            end = piece.last + 1
        if self.stretches:
            last = self.stretches[-1]
            index = self.index
            if (index is None or index[-1] is not last) and last.first + last.count < end:
                end = last.first + last.count
        return end


@mypyc_attr(allow_interpreted_subclasses=True)
class LogReader:
    """Fetches batches from files."""

    def fetch(self, read: Read) -> None:
        """Fill in ``payloads``, later; then call ``Logs.fetched``."""
        raise NotImplementedError

    def fetch_now(self, read: Read) -> None:
        """Fill in ``payloads`` before returning."""
        raise NotImplementedError


@final
class _Commits(Listener):
    """Tells the logs of a batch that it is on the disk."""

    def __init__(self, logs: Logs) -> None:
        self._logs = logs

    def durable(self, through: i64) -> None:
        self._logs.committed()


@final
class Logs(Collector, Timed):
    """All logs of a node, and the batch they append to."""

    def __init__(self, clock: Clock) -> None:
        self.batch = BatchWriter(1)
        """The open batch; of no file before ``attach``."""
        self.logs: dict[int, Log] = {}
        self.next_number: i64 = 1
        self.touched: list[Log] = []
        """Logs with records in the open batch."""
        self.by_file: dict[int, dict[Log, None]] = {}
        """Generation of a file of the write-ahead log -> the logs that have records in it."""
        self.last_token: object = None
        """Of the record that was appended last to the open batch, see ``Log.append``."""
        self.last_kind: i64 = 0
        self.last_start: i64 = 0
        self.reader: LogReader | None = None
        self.lost: list[tuple[Log, int, int, Place]] = []
        """What could not be read back: log, first and last position, where. Whoever reports it takes it out."""
        self.missing: list[tuple[Log, int, int]] = []
        """What recovery has not found though it was promised: log, first and last position. Of logs that belong to something after
        ``recovered``."""
        self.transient: list[tuple[Log, int, int]] = []
        """What was in segments and need not outlive the node: log, first and last position, settled by recovery."""
        self.segments: dict[int, Segment] = {}
        self.next_segment: i64 = 1
        self.empty: list[Segment] = []
        """Nothing in them is live. The mover takes them out."""
        self.dropped: list[int] = []
        """Numbers of logs that the manifest need not know any more. The mover takes them out."""
        self.journal_files: set[int] = set()
        """Generations of the files of the write-ahead log that hold records of log 0."""
        self._clock = clock
        self._commits = _Commits(self)
        self._waiting: list[Log] = []
        self._timer: Timer | None = None
        self._taken: list[Log] = []
        self._taken_place: Place = self.batch.place
        self._taken_journal = False

    def attach(self, batch: BatchWriter) -> None:
        """Append here from now on."""
        self.batch = batch
        batch.collector = self

    def create(self, count: i64 = 1) -> i64:
        """The number of a new log, and of ``count - 1`` more that follow it. Numbers are not used twice."""
        number = self.next_number
        self.next_number = number + count
        return number

    def open(self, number: i64) -> Log:
        """The log of this number: a new one, or what recovery has found."""
        found = self.logs.get(number)
        if found is None:
            found = Log(number, self)
            self.logs[number] = found
            if number >= self.next_number:
                self.next_number = number + 1
        return found

    def drop(self, log: Log) -> None:
        """Nothing of it is needed any more. The caller has told the disk so (log 0), if it was to outlive the node."""
        log.dropped = True
        log.user = None
        log.stretches = []
        log.head = 0
        for piece in log.pieces:
            self.unload(piece.segment, piece.live)
        log.pieces = []
        if log.saved:
            self.dropped.append(int(log.number))
        self.logs.pop(log.number, None)

    def unload(self, segment: Segment, count: i64) -> None:
        """So many records of a segment are not live any more."""
        segment.live -= count
        if segment.live == 0 and count > 0:
            self.empty.append(segment)

    def wait(self, log: Log) -> None:
        """It has settlements for the next batch."""
        self._waiting.append(log)
        if self._timer is None:
            self._timer = self._clock.call_at(self._clock.now_ms + SETTLE_DELAY_MS, self)

    def on_timer(self, now_ms: i64) -> None:
        self._timer = None
        self.settle()

    def settle(self) -> None:
        """Append all settlements that wait."""
        waiting = self._waiting
        if waiting:
            self._waiting = []
            for log in waiting:
                if not log.dropped:
                    log.collect()

    def collect(self) -> None:
        self.settle()
        timer = self._timer
        if timer is not None:
            timer.cancel()
            self._timer = None
        self.last_token = None
        touched = self.touched
        if touched or self.batch.has_journal:
            self.touched = []
            for log in touched:
                log.taken()
            self._taken = touched
            self._taken_place = self.batch.place
            self._taken_journal = self.batch.has_journal
            self.batch.listen(self._commits)

    def committed(self) -> None:
        """The batch that left last is on the disk."""
        taken = self._taken
        self._taken = []
        generation = int(self._taken_place.generation)
        if self._taken_journal:
            self.journal_files.add(generation)
        known = self.by_file.get(generation)
        if known is None:
            known = {}
            self.by_file[generation] = known
        for log in taken:
            known[log] = None
            log.committed()

    # ---- read back ----------------------------------------------------------------------------------------------------

    def read(self, log: Log, start: i64, end: i64, budget: i64) -> None:
        """Tell the log's user its live records from position ``start`` on and below ``end``, soon: as many as ``budget`` bytes hold."""
        reader = self.reader
        assert reader is not None
        reader.fetch(self._chosen(log, start, end, budget))

    def read_now(self, log: Log, start: i64, end: i64, budget: i64) -> None:
        """The same before returning."""
        reader = self.reader
        assert reader is not None
        read = self._chosen(log, start, end, budget)
        reader.fetch_now(read)
        self.fetched(read)

    def _chosen(self, log: Log, start: i64, end: i64, budget: i64) -> Read:
        read = Read(log, start, end, budget)
        pieces = log.pieces
        if pieces and start <= pieces[-1].last:
            piece = pieces[log.find_piece(start)]
            if piece.first < end:
                read.piece = piece
                read.index = piece.stretches
                read.choose()
                return read
        read.add(log.stretches, log.find(start))
        return read

    def fetched(self, read: Read) -> None:
        """A read is over."""
        log = read.log
        user = log.user
        if log.dropped or user is None:
            return
        positions = log.positions
        piece = read.piece
        if piece is not None:
            piece.stretches = read.index
            if read.index is None:
                log.lose(piece.first, piece.last, index_place(piece))
        for stretch in read.stretches:
            data = read.payloads.get(stretch.place)
            if data is None:
                log.lose(stretch.first, stretch.first + stretch.count - 1, stretch.place)
                continue
            at = stretch.start
            while at < stretch.end:
                end = at + RECORD_HEADER_SIZE + (i64(read_i32_be(data, at + 8)) & 0xFFFFFFFF)
                position = read_i64_be(data, at + RECORD_HEADER_SIZE)
                if position >= read.start and position < read.end and positions.is_live(position):
                    if data[at + 12] == REFERENCE:
                        original = read_i64_be(data, at + BODY_AT)
                        size = i64(read_i32_be(data, original + 8)) & 0xFFFFFFFF
                        user.record(position, data, original + BODY_AT, original + RECORD_HEADER_SIZE + size)
                    else:
                        user.record(position, data, at + BODY_AT, end)
                at = end
        user.loaded(read.through())

    # ---- recovery -----------------------------------------------------------------------------------------------------

    def replay(self, header: BatchHeader, data: bytes, generation: i64, offset: i64, changes: list[tuple[int, bytes]]) -> None:
        """A batch that recovery has found; what it says of log 0 is added to ``changes``: (kind, body)."""
        place = Place(0)
        place.generation = generation
        place.offset = offset
        place.size = header.size()
        at: i64 = HEADER_SIZE
        log: Log | None = None
        number: i64 = -1
        for _ in range(header.record_count):
            end = at + RECORD_HEADER_SIZE + (i64(read_i32_be(data, at + 8)) & 0xFFFFFFFF)
            found = read_i64_be(data, at)
            kind: i64 = data[at + 12]
            if found == JOURNAL:
                changes.append((int(kind), data[at + RECORD_HEADER_SIZE : end]))
                self.journal_files.add(int(generation))
            else:
                if found != number or log is None:
                    log = self.open(found)
                    number = found
                    known = self.by_file.get(int(generation))
                    if known is None:
                        known = {}
                        self.by_file[int(generation)] = known
                    known[log] = None
                log.replay(kind, place, data, at, end)
            at = end

    def settled_by_recovery(self) -> None:
        """All batches were replayed, and are on the disk."""
        for log in self.logs.values():
            log.recovered()
        for segment in self.segments.values():
            if segment.live == 0:
                self.empty.append(segment)

    def recovered(self, known: set[int]) -> None:
        """Whoever has a log has opened it. Logs that are not ``known`` belonged to something that is gone."""
        for log in list(self.logs.values()):
            if int(log.number) not in known:
                self.drop(log)
        self.missing = [lost for lost in self.missing if not lost[0].dropped]
        for log, first, last in self.missing + self.transient:
            if not log.dropped:
                log.write_settled(first, last)
        self.transient = []
