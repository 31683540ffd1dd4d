"""All logs of a node: what becomes of the commit group they append to, and of what is read back for them."""

from __future__ import annotations

from typing import Final, final

from broker.clock import Clock
from broker.native import i64
from broker.store.batch import BatchLocation
from broker.store.commit_group import Collector, CommitGroupWriter, Listener
from broker.store.group_state import GroupOwner
from broker.store.log import Log, LogUser
from broker.store.log_writer import LogWriter
from broker.store.pages import Pages
from broker.store.promises import LogPromises
from broker.store.read_request import COUNT_MAX, LogReader, Read, chosen_read, index_location
from broker.store.segments import Segments
from broker.turn import Deferred

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


Lost = tuple[Log, int, int, BatchLocation]
"""A log, the first and the last position of what cannot be read back, and where it was."""


@final
class Logs(Collector):
    """All logs of a node, and the commit group they append to."""

    def __init__(self, clock: Clock) -> None:
        self.writer = LogWriter(clock)
        self.batch = self.writer.batch
        """The open commit group; of no file before ``attach``."""
        self.promises = LogPromises(self.batch)
        """When what is appended to it is on the disk."""
        self.logs: dict[int, Log] = {}
        self.next_number: i64 = 1
        self.by_file: dict[int, dict[Log, None]] = {}
        """Generation of a file of the write-ahead log -> the logs that have records in it."""
        self.reader: LogReader | None = None
        self.lost: list[Lost] = []
        """What could not be read back."""
        self.lost_records: i64 = 0
        """Records of the write-ahead log that a start has not found, of whatever logs."""
        self.are_moving = False
        """The compactor is at work: an edit of the manifest may be under way that does not know what happens now."""
        self.segments = Segments()
        self.pages = Pages()
        self._dropped: list[int] = []
        self._clock = clock
        self._commits = _Commits(self)
        self._unrelieved: list[Deferred] = []
        self._expected: list[GroupOwner] = []
        self._taken: list[Log] = []
        self._taken_location: BatchLocation = self.batch.location
        self.pages.relieved = self.relieve
        self.segments.on_empty_page_file = self.pages.emptied

    def attach(self, batch: CommitGroupWriter) -> None:
        """Append here from now on."""
        self.batch = batch
        self.promises = LogPromises(batch)
        self.writer.attach(batch)
        batch.collector = self

    def create(self, count: i64 = 1) -> i64:
        """The number of a new log, and of ``count - 1`` more that follow it. Numbers are not used twice."""
        number = self.next_number
        self.next_number = number + count
        return number

    def skip_to(self, number: i64) -> None:
        """New logs have this number, or a greater one."""
        if number > self.next_number:
            self.next_number = number

    def open(self, number: i64) -> Log:
        """The log of this number: a new one, or what recovery has found."""
        found = self.logs.get(number)
        if found is None:
            found = Log(number, self.writer, self.segments)
            self.logs[number] = found
            self.skip_to(number + 1)
        return found

    def create_on_pages(self) -> Log:
        """A new log whose records go to page files."""
        log = self.open(self.create())
        log.on_pages = True
        return log

    def drop(self, log: Log) -> None:
        """Nothing of it is needed any more. The caller has told the disk so (log 0), if it was to survive a restart."""
        log.drop()
        if log.saved:
            self._dropped.append(int(log.number))
        self.logs.pop(log.number, None)

    def take_dropped(self) -> list[int]:
        """Numbers of logs that the manifest need not know any more, since the last call."""
        dropped = self._dropped
        self._dropped = []
        return dropped

    def add_to_file(self, log: Log, generation: i64) -> None:
        """It has records in this file of the write-ahead log."""
        self.by_file.setdefault(int(generation), {})[log] = None

    def forget_file(self, generation: i64) -> None:
        """No log has records in this file of the write-ahead log any more."""
        self.by_file.pop(int(generation), None)

    # ---- commits -----------------------------------------------------------------------------------------------------

    def settle(self) -> None:
        self.writer.settle()

    def expect(self, owner: GroupOwner) -> None:
        """It will have something to append when the open commit group is taken. Once until then."""
        self._expected.append(owner)
        self.batch.expect()

    def collect(self) -> None:
        expected = self._expected
        if expected:
            self._expected = []
            for owner in expected:
                try:
                    owner.gather()
                except Exception as error:
                    self._clock.faults.caught("entry of a group", None, error)
        touched = self.writer.end_group()
        if self.batch.record_count > 0:
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
        read = chosen_read(log, start, end, budget, user, count)
        if reader.fetch(read):
            self.fetched(read)

    def read_now(self, log: Log, start: i64, end: i64, budget: i64, user: LogUser | None = None) -> None:
        """The same before returning."""
        reader = self.reader
        assert reader is not None
        read = chosen_read(log, start, end, budget, user, COUNT_MAX)
        reader.fetch_now(read)
        self.fetched(read)

    def is_large(self, log: Log, start: i64, end: i64) -> bool:
        """Whether to ``read_now`` what comes first there would take long."""
        return chosen_read(log, start, end, 1, None, 1).is_large()

    def fetched(self, read: Read) -> None:
        """A read is over."""
        log = read.log
        user = log.user if read.user is None else read.user
        if log.dropped or user is None:
            return
        mistake: Exception | None = None
        segment_extent = read.segment_extent
        if segment_extent is not None:
            segment_extent.extents = read.index
            if read.index is None:
                self.lose(log, segment_extent.first, segment_extent.last, index_location(segment_extent))
        for extent in read.extents:
            batch = read.batches.get(extent.location)
            if batch is None:
                self.lose(log, extent.first, extent.first + extent.count - 1, extent.location)
            else:
                mistake = read.tell(extent, batch, user) or mistake
        if mistake is not None:
            self._clock.faults.caught(f"reading back log {log.number}", None, mistake)
        user.loaded(read.through())

    def lose(self, log: Log, first: i64, last: i64, location: BatchLocation) -> None:
        """The live records of a log from ``first`` to ``last`` cannot be read."""
        if log.lose(first, last):
            self.lost.append((log, int(first), int(last), location))

    def take_lost(self) -> list[Lost]:
        """What was lost since the last call, for whoever reports it."""
        lost = self.lost
        self.lost = []
        return lost


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
