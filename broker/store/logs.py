"""All logs of a node, and the batch they append to: what goes with a batch, what comes back from the disk, recovery."""

from __future__ import annotations

from typing import Final, final

from librt.strings import read_i64_be

from broker.clock import Clock, Timed, Timer
from broker.discard import discard
from broker.native import i64
from broker.store.batch import HEADER_SIZE, RECORD_HEADER_SIZE, BatchHeader, BatchLocation, location_at, record_end
from broker.store.commit_group import Collector, CommitGroupWriter, Listener
from broker.store.log import Log, LogUser
from broker.store.pages import Pages
from broker.store.read_request import COUNT_MAX, LogReader, Read, index_location
from broker.store.records import BODY_AT, JOURNAL, REFERENCE
from broker.store.segment_extent import Segment
from broker.turn import Deferred

SETTLE_DELAY_MS: Final[i64] = 8
"""Settlements that no other record takes along go by themselves after this time: on the disk within 10 ms."""

UNWRITTEN_MAX: Final[i64] = 16 << 20
"""With more bytes than this on the way to the disk, whoever can should append no more."""
_UNWRITTEN_LOW: Final[i64] = 12 << 20
"""With less than this they may again: the disk then still has some of it to do."""


@final
class _Commits(Listener):
    """Tells the logs of a commit group that it is on the disk."""

    def __init__(self, logs: Logs) -> None:
        self._logs = logs

    def durable(self, through: i64) -> None:
        self._logs.committed()


@final
class Logs(Collector, Timed):
    """All logs of a node, and the batch they append to."""

    def __init__(self, clock: Clock) -> None:
        self.batch = CommitGroupWriter(1)
        """The open batch; of no file before ``attach``."""
        self.logs: dict[int, Log] = {}
        self.next_number: i64 = 1
        self.touched: list[Log] = []
        """Logs with records in the open commit group."""
        self.by_file: dict[int, dict[Log, None]] = {}
        """Generation of a file of the write-ahead log -> the logs that have records in it."""
        self.last_token: object = None
        """Of the record that was appended last, see ``Log.append``."""
        self.last_kind: i64 = 0
        self.last_location: BatchLocation = self.batch.location
        self.last_start: i64 = 0
        self.reader: LogReader | None = None
        self.lost: list[tuple[Log, int, int, BatchLocation]] = []
        """What could not be read back: log, first and last position, where. Whoever reports it takes it out."""
        self.missing: list[tuple[Log, int, int]] = []
        """What recovery has not found though it was promised: log, first and last position. Of logs that belong to
        something after ``recovered``."""
        self.transient: list[tuple[Log, int, int]] = []
        """What was in segments and need not outlive the node: log, first and last position, settled by recovery."""
        self.segments: dict[int, Segment] = {}
        self.pages = Pages()
        self.next_segment: i64 = 1
        self.empty: list[Segment] = []
        """Nothing in them is live. The compactor takes them out."""
        self.dropped: list[int] = []
        """Numbers of logs that the manifest need not know any more. The compactor takes them out."""
        self._clock = clock
        self._commits = _Commits(self)
        self._waiting: list[Log] = []
        self._timer: Timer | None = None
        self._unrelieved: list[Deferred] = []
        self._taken: list[Log] = []
        self._taken_location: BatchLocation = self.batch.location
        self._distrusted = False
        self.pages.relieved = self.relieve

    def attach(self, batch: CommitGroupWriter) -> None:
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

    def create_on_pages(self) -> Log:
        """A new log whose records go to page files."""
        log = self.open(self.create())
        log.on_pages = True
        return log

    def drop(self, log: Log) -> None:
        """Nothing of it is needed any more. The caller has told the disk so (log 0), if it was to outlive the node."""
        log.dropped = True
        log.user = None
        discard(self.batch.turn, [log.extents])
        log.extents = []
        log.head = 0
        for segment_extent in log.segment_extents:
            self.unload(segment_extent.segment, segment_extent.live)
        log.segment_extents = []
        if log.saved:
            self.dropped.append(int(log.number))
        self.logs.pop(log.number, None)

    def unload(self, segment: Segment, count: i64) -> None:
        """So many records of a segment are not live any more."""
        segment.live -= count
        if segment.live == 0 and count > 0:
            if segment.on_pages:
                self.pages.emptied(segment)
            else:
                self.empty.append(segment)

    def wait(self, log: Log) -> None:
        """It has settlements for the next batch."""
        self._waiting.append(log)
        if self._timer is None:
            self._timer = self._clock.call_at(self._clock.now_ms + SETTLE_DELAY_MS, self)

    def on_timer(self, now_ms: i64) -> None:
        self._timer = None
        self.settle()
        if self.batch.record_count > 0:
            self.batch.hurry()

    def settle(self) -> None:
        """Append all settlements that wait."""
        waiting = self._waiting
        if waiting:
            self._waiting = []
            for log in waiting:
                if not log.dropped:
                    try:
                        log.collect()
                    except Exception as error:
                        self._clock.faults.caught("settlements of a log", None, error)

    def collect(self) -> None:
        self.settle()
        timer = self._timer
        if timer is not None:
            timer.cancel()
            self._timer = None
        self.last_token = None
        touched = self.touched
        if self.batch.record_count > 0:
            self.touched = []
            for log in touched:
                log.taken()
            self._taken = touched
            self._taken_location = self.batch.group_location()
            self.batch.listen(self._commits)

    def committed(self) -> None:
        """The commit group that left last is on the disk."""
        taken = self._taken
        self._taken = []
        generation = int(self._taken_location.generation)
        known = self.by_file.setdefault(generation, {})
        for log in taken:
            known[log] = None
            try:
                log.committed()
            except Exception as error:
                self._clock.faults.caught("commit of a log", None, error)
        self.relieve()

    # ---- back-pressure -----------------------------------------------------------------------------------------------

    def is_congested(self) -> bool:
        """Whether the disk is so far behind that publishers should wait (``when_relieved``): what waits for it is in
        memory twice."""
        return self.batch.unwritten() > UNWRITTEN_MAX or self.pages.unwritten > UNWRITTEN_MAX

    def appended(self) -> i64:
        """Grows with whatever is added to what waits for the disk."""
        return self.batch.next_sequence + self.pages.added

    def when_relieved(self, waiter: Deferred) -> None:
        """Call ``waiter.resume`` when the disk has caught up."""
        self._unrelieved.append(waiter)

    def relieve(self) -> None:
        """Something has reached the disk: perhaps that is enough."""
        if self._unrelieved and self.batch.unwritten() < _UNWRITTEN_LOW and self.pages.unwritten < _UNWRITTEN_LOW:
            waiters = self._unrelieved
            self._unrelieved = []
            turn = self.batch.turn
            for waiter in waiters:
                if turn is not None:
                    turn.defer(waiter)  # there may be very many
                else:
                    self._clock.faults.run("end of back-pressure", waiter.fault_owner(), waiter.resume)

    # ---- read back ---------------------------------------------------------------------------------------------------

    def read(
        self, log: Log, start: i64, end: i64, budget: i64, user: LogUser | None = None, count: i64 = COUNT_MAX
    ) -> None:
        """Tell a log's live records from position ``start`` on and below ``end``, soon or at once: ``budget`` bytes of
        them and ``count`` positions, about. The log's own user hears of them, or ``user``.
        """
        reader = self.reader
        assert reader is not None
        read = self._chosen(log, start, end, budget, user, count)
        if reader.fetch(read):
            self.fetched(read)

    def read_now(self, log: Log, start: i64, end: i64, budget: i64, user: LogUser | None = None) -> None:
        """The same before returning."""
        reader = self.reader
        assert reader is not None
        read = self._chosen(log, start, end, budget, user, COUNT_MAX)
        reader.fetch_now(read)
        self.fetched(read)

    def is_large(self, log: Log, start: i64, end: i64) -> bool:
        """Whether to ``read_now`` what comes first there would take long."""
        return self._chosen(log, start, end, 1, None, 1).is_large()

    def _chosen(self, log: Log, start: i64, end: i64, budget: i64, user: LogUser | None, count: i64) -> Read:
        read = Read(log, start, end, budget, user, count)
        segment_extents = log.segment_extents
        if segment_extents and start <= segment_extents[-1].last:
            segment_extent = segment_extents[log.find_segment_extent(start)]
            if segment_extent.first < end:
                read.segment_extent = segment_extent
                read.index = segment_extent.extents
                read.choose()
                return read
        read.add(log.extents, log.find(start))
        return read

    def fetched(self, read: Read) -> None:
        """A read is over."""
        log = read.log
        user = log.user if read.user is None else read.user
        if log.dropped or user is None:
            return
        mistake: Exception | None = None
        positions = log.positions
        segment_extent = read.segment_extent
        if segment_extent is not None:
            segment_extent.extents = read.index
            if read.index is None:
                log.lose(segment_extent.first, segment_extent.last, index_location(segment_extent))
        for extent in read.extents:
            batch = read.batches.get(extent.location)
            if batch is None:
                log.lose(extent.first, extent.first + extent.count - 1, extent.location)
                continue
            data = batch.data
            content = batch.content
            at = HEADER_SIZE + extent.start
            extent_end = HEADER_SIZE + extent.end
            while at < extent_end:
                end = record_end(data, at)
                position = read_i64_be(data, at + RECORD_HEADER_SIZE)
                if position >= read.start and position < read.end and positions.is_live(position):
                    try:
                        if data[at + 12] == REFERENCE:
                            original = HEADER_SIZE + read_i64_be(data, at + BODY_AT)
                            user.record(position, data, original + BODY_AT, record_end(data, original))
                        elif content is not None and end > len(data):
                            user.large_record(position, data[at + BODY_AT :], content)
                        else:
                            user.record(position, data, at + BODY_AT, end)
                    except Exception as error:  # it costs this record, until the next start; the others are told
                        mistake = error
                at = end
        if mistake is not None:
            self._clock.faults.caught(f"reading back log {log.number}", None, mistake)
        user.loaded(read.through())

    # ---- recovery ----------------------------------------------------------------------------------------------------

    def replay(
        self, header: BatchHeader, data: bytes, generation: i64, offset: i64, changes: list[tuple[int, bytes]]
    ) -> None:
        """A batch that recovery has found; what it says of log 0 is added to ``changes``: (kind, body)."""
        location = location_at(generation, offset, header.size())
        at: i64 = HEADER_SIZE
        log: Log | None = None
        number: i64 = -1
        for _ in range(header.record_count):
            end = record_end(data, at)
            found = read_i64_be(data, at)
            kind: i64 = data[at + 12]
            if found == JOURNAL:
                changes.append((int(kind), data[at + RECORD_HEADER_SIZE : end]))
            else:
                if found != number or log is None:
                    log = self.open(found)
                    number = found
                    self.by_file.setdefault(int(generation), {})[log] = None
                log.replay(kind, location, data, at, end)
            at = end

    def distrust(self) -> None:
        """Recovery has found damage: what may have been delivered is not known."""
        self._distrusted = True
        for log in self.logs.values():
            log.distrust()

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
        if self._distrusted:
            for log in self.logs.values():
                if log.mark >= 0:
                    log.write_mark()


@final
class GroupHold:
    """Keeps the open commit group open while one piece of work goes on, however many turns it takes; on a node without
    logs, nothing."""

    def __init__(self, logs: Logs | None) -> None:
        self._logs = logs
        self._holds = False

    def set(self, holds: bool) -> None:
        """Whether the work goes on. What is appended until it does not belongs into one group."""
        logs = self._logs
        if logs is not None and holds != self._holds:
            self._holds = holds
            logs.batch.hold_group(holds)
