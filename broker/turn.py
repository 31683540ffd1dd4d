"""One turn of the event loop: what reads left behind is done here, in order: work, dispatch, sync, flush.

Reads route and enqueue and only *mark* the queues and connections they touched. Once all reads of the loop's iteration
are taken, ``run`` dispatches the marked queues, hands the log its batch and writes each touched connection once: one
system call per connection and turn instead of one per message (measured: 20 times cheaper at 16 B).

A turn is bounded in time, whatever one client asks for. Each phase has a slice; what does not fit into it waits for the
next turn, in its order. Reads, queues and what else may take long look at ``out_of_time`` every few
operations, and come back for the rest; what belongs to one client's request and takes longer than a slice is
``SlicedWork``, behind which that client's channel waits. Queues with much to drop or to dead-letter share a slice of
their own (``schedule_dispatch_behind``): a hundred of them do not keep others' messages from their consumers.

Whatever raises is told (faults.py), and everything else of the turn is done.
"""

from collections.abc import Sequence
from typing import Final, final

from mypy_extensions import mypyc_attr, trait

from broker.clock import Clock, Waker
from broker.faults import FaultOwner
from broker.native import i64
from broker.stopwatch import SLICE, SLOW_US
from broker.time_slice import READS_US, SLICE_US, TimeSlice

INPUT_BYTES_MAX: Final[i64] = 1 << 20
"""A turn takes at most this much input; what comes later waits, undecoded, for the next turn."""
WORK_UNTIL_US: Final[i64] = SLICE_US + SLICE_US // 2
"""A turn's work may go on for so long after the begin of the turn."""
RESUME_UNTIL_US: Final[i64] = 3 * SLICE_US
"""What was deferred may go on for so long after it."""


@trait
@mypyc_attr(allow_interpreted_subclasses=True)
class Dispatchable:
    """A queue that has work: messages and, perhaps, consumers that may take some."""

    def dispatch(self) -> None:
        """Hand ready messages to consumers until one of both runs out. A delivery that fails is told by the queue
        itself."""
        raise NotImplementedError


@trait
@mypyc_attr(allow_interpreted_subclasses=True)
class Syncable:
    """A log whose batch of this turn must reach the disk."""

    def sync(self) -> None:
        """Hand the batch over; promises that depend on it are kept until it is durable."""
        raise NotImplementedError


@trait
@mypyc_attr(allow_interpreted_subclasses=True)
class Flushable:
    """A connection with bytes for its socket."""

    def flush(self) -> None:
        """Write them, in one system call if possible."""
        raise NotImplementedError

    def fault_owner(self) -> FaultOwner | None:
        """Whose work it is, which ends when it fails by a mistake of ours."""
        return None


@mypyc_attr(allow_interpreted_subclasses=True)
class Deferred:
    """A transport that holds input back, or a reader that was paused, until the next turn."""

    def resume(self) -> None:
        """Take what was held back; read again."""
        raise NotImplementedError

    def fault_owner(self) -> FaultOwner | None:
        """Whose work it is, which ends when it fails by a mistake of ours."""
        return None


@trait
@mypyc_attr(allow_interpreted_subclasses=True)
class SlicedWork:
    """Something that may take longer than a turn."""

    def step(self) -> bool:
        """Do some of it, until it is done or ``Turn.out_of_time``; whether it is done."""
        raise NotImplementedError

    def fault_owner(self) -> FaultOwner | None:
        """Whose work it is, which ends when it fails by a mistake of ours; nothing more of it is done then."""
        return None


@final
class Turn:
    """The work list of the current turn. Whoever marks something wakes the loop at most once."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.faults = clock.faults
        self.waker: Waker | None = None
        self.scheduled = False
        self.input_bytes: i64 = 0
        self.turns = 0
        self.reads: i64 = 0
        """How many reads were admitted."""
        self._stopwatch = clock.stopwatch
        self._from_us: i64 = 0
        """When the turn began; 0 before its first read."""
        self.costly = False
        """Something was done that may take much longer than the rest: time for a look at the clock."""
        self._from_ms: i64 = 0
        """The same on the monotonic clock, or a little earlier."""
        self._slice = TimeSlice()
        self._reader: object = None
        self._work: list[SlicedWork] = []
        self._behind: list[Dispatchable] = []
        self._dispatch: list[Dispatchable] = []
        self._sync: list[Syncable] = []
        self._flush: list[Flushable] = []
        self._deferred: list[Deferred] = []
        self._deferred_again: list[Deferred] = []

    def _wake(self) -> None:
        if not self.scheduled:
            self.scheduled = True
            waker = self.waker
            if waker is not None:
                waker.wake()

    def schedule_dispatch(self, queue: Dispatchable) -> None:
        """Dispatch ``queue`` in this turn. The caller keeps the flag that prevents marking twice."""
        self._dispatch.append(queue)
        self._wake()

    def schedule_dispatch_behind(self, queue: Dispatchable) -> None:
        """Dispatch ``queue`` in the next turn, as far as the slice goes that all such queues share: it has much to do
        before it delivers anything, and others should not have to wait for it. The caller keeps the flag that prevents
        marking twice."""
        self._behind.append(queue)
        self._wake()

    def schedule_sync(self, log: Syncable) -> None:
        """Hand over ``log``'s batch in this turn."""
        self._sync.append(log)
        self._wake()

    def schedule_flush(self, connection: Flushable) -> None:
        """Flush ``connection`` in this turn. The caller keeps the flag that prevents marking twice."""
        self._flush.append(connection)
        self._wake()

    def begin(self, work: SlicedWork) -> None:
        """Do ``work`` from now on, a slice in each turn."""
        self._work.append(work)
        self._wake()

    def start(self, work: SlicedWork) -> None:
        """Do the first slice of ``work`` now, and the rest in the turns that follow."""
        self.costly = True
        if not work.step():
            self.begin(work)

    def out_of_time(self) -> bool:
        """Whether the slice of this phase is over: what is left waits for the next turn. Costs a look at the clock."""
        return self._slice.is_over(self.clock.slice_us())

    def defer(self, transport: Deferred) -> None:
        """Call ``transport.resume`` at the beginning of the next turn."""
        self._deferred.append(transport)
        self._wake()

    def defer_again(self, transport: Deferred) -> None:
        """The same for what had its share of this turn, and goes on: those that had not come first."""
        self._deferred_again.append(transport)
        self._wake()

    def admit(self, size: i64, reader: object = None) -> bool:
        """Whether a read of ``size`` bytes may be decoded in this turn, by ``reader``; counts it when it may."""
        now = self.clock.refresh()
        now_us = self.clock.slice_us()
        if self.input_bytes == 0:
            self._slice.start(now_us)
            self._wake()  # a turn follows, whatever the read leaves behind
        elif not self._slice.has_begun():  # what was deferred has been taken
            self._slice.start(now_us, READS_US)
        elif self.input_bytes >= INPUT_BYTES_MAX or self._slice.ends_by(now_us):
            return False
        self.input_bytes += size
        self.reads += 1
        if self._from_us == 0:
            self._from_us = now_us
            self._from_ms = now
            self._stopwatch.start("read", now_us)
        else:
            self._stopwatch.slice_of(self._reader, now_us)
        self._reader = reader
        return True

    def run(self) -> None:
        """Work, dispatch, sync, flush; then take what earlier reads had to leave, up to the next turn's share of
        input."""
        self.turns += 1
        stopwatch = self._stopwatch
        now_us = self.clock.slice_us()
        if self._from_us == 0:
            self._from_us = now_us
            self._from_ms = self.clock.now_ms
            stopwatch.start("", now_us)
        else:
            stopwatch.slice_of(self._reader, now_us)
        if self._work:
            self._slice.start_short(self.clock.slice_us(), self._from_us + WORK_UNTIL_US)
            self._work_on()
        if self._behind:
            self._slice.start_short(self.clock.slice_us(), self._from_us + WORK_UNTIL_US)
            self._dispatch_behind()
        self._settle()
        # Only now: what is marked meanwhile is done in ``_settle``, or left for the turn that is asked for here.
        self.scheduled = False
        if self._work or self._behind or self._dispatch or self._sync or self._flush:
            self._wake()
        deferred = self._deferred
        self.input_bytes = 0
        self._reader = None
        if deferred or self._deferred_again:
            self._deferred = []
            if self._deferred_again:
                deferred += self._deferred_again
                self._deferred_again = []
            self._resume(deferred)
        now_us = stopwatch.last_us
        took_us = now_us - self._from_us
        stopwatch.turn(took_us if 0 <= took_us <= SLOW_US else self._checked(took_us))
        self._slice.end()
        if self.scheduled:  # by what was resumed or left: the next turn has begun
            self._from_us = now_us
            self._from_ms = self.clock.now_ms
            stopwatch.start("read", now_us)
        else:
            self._from_us = 0

    def _settle(self) -> None:
        """Dispatch, sync and flush until nothing is marked (dispatch may mark: dead letters, freed prefetch) or the
        time is over."""
        from_us = self.clock.slice_us()
        while True:
            self._slice.start(from_us)
            while self._dispatch:
                self._dispatch_all()
                if self._dispatch and self.out_of_time():
                    break
            logs = self._sync
            if logs:
                self._sync = []
                self._sync_all(logs)
            if self._flush:
                self._slice.start(self.clock.slice_us())
                self._flush_all()
            is_over = self.clock.slice_us() >= from_us + SLICE_US
            if is_over or (not self._dispatch and not self._sync and not self._flush):
                return

    def drain(self) -> None:
        """Work, dispatch, sync and flush until nothing is left, however long it takes: for the end of a node."""
        self._slice.set_unlimited(True)
        while self._work or self._behind or self._dispatch or self._sync or self._flush:
            self._work_on()
            self._dispatch_behind()
            self._dispatch_all()
            logs = self._sync
            self._sync = []
            self._sync_all(logs)
            self._flush_all()
        self._slice.set_unlimited(False)

    def _work_on(self) -> None:
        """A slice of what is begun: each gets some time, and the first one of this turn is the last one of the next."""
        self._stopwatch.where = "work"
        todo = self._work
        self._work = []
        index: i64 = 0
        size: i64 = len(todo)
        while index < size:
            work = todo[index]
            index += 1
            try:
                if not work.step():
                    self._work.append(work)
            except Exception as error:
                self.faults.caught("work", work.fault_owner(), error)
            self._look(todo, index - 1, index)
            if index < size and self.out_of_time():
                self._work = todo[index:] + self._work
                return

    def _checked(self, took_us: i64) -> i64:
        """How long the turn took, unless somebody has set the system's clock meanwhile: then 0."""
        at_most_us = (self.clock.monotonic_ms() - self._from_ms + 1) * 1000
        return took_us if 0 <= took_us <= at_most_us else 0

    def _resume(self, deferred: list[Deferred]) -> None:
        self._stopwatch.where = "deferred"
        self._slice.start_short(self.clock.slice_us(), self._from_us + RESUME_UNTIL_US)
        index: i64 = 0
        size: i64 = len(deferred)
        while index < size:
            transport = deferred[index]
            try:
                transport.resume()
            except Exception as error:
                self.faults.caught("deferred", transport.fault_owner(), error)
            index += 1
            if index % SLICE == 0:
                self._look(deferred, index - SLICE, index)
            if index < size and self.out_of_time():
                self._deferred = deferred[index:] + self._deferred  # they come first in the next turn
                self._wake()
                break
        self._look(deferred, index - index % SLICE, index)

    def _look(self, items: Sequence[object], first: i64, end: i64) -> None:
        """So many of a list are done."""
        if first < end:
            self._stopwatch.slice(items, first, end, self.clock.slice_us())

    def _dispatch_all(self) -> None:
        queues = self._dispatch
        self._dispatch = []
        rest = self._dispatch_these(queues, SLICE)
        if rest:
            self._dispatch = rest + self._dispatch

    def _dispatch_behind(self) -> None:
        """A slice of what comes behind: each gets some time, and the first one of this turn is the last one of the
        next."""
        queues = self._behind
        self._behind = []
        rest = self._dispatch_these(queues, 1)
        if rest:
            self._behind = rest + self._behind

    def _dispatch_these(self, queues: list[Dispatchable], per_look: i64) -> list[Dispatchable]:
        """Dispatch them, with a look at the clock every so many; those that are left come first in the next turn."""
        self._stopwatch.where = "dispatch"
        index: i64 = 0
        size: i64 = len(queues)
        while index < size:
            try:
                queues[index].dispatch()
            except Exception as error:
                self.faults.caught("dispatch", None, error)
            index += 1
            if index % per_look == 0:
                self._look(queues, index - per_look, index)
                if index < size and self.out_of_time():
                    return queues[index:]
        self._look(queues, index - index % per_look, index)
        return []

    def _sync_all(self, logs: list[Syncable]) -> None:
        self._stopwatch.where = "sync"
        for log in logs:
            try:
                log.sync()
            except Exception as error:
                self.faults.caught("sync", None, error)
        self._look(logs, 0, len(logs))

    def _flush_all(self) -> None:
        self._stopwatch.where = "flush"
        connections = self._flush
        self._flush = []
        index: i64 = 0
        size: i64 = len(connections)
        while index < size:
            connection = connections[index]
            try:
                connection.flush()
            except Exception as error:
                self.faults.caught("flush", connection.fault_owner(), error)
            index += 1
            if index % SLICE == 0:
                self._look(connections, index - SLICE, index)
                if index < size and self.out_of_time():
                    self._flush = connections[index:] + self._flush
                    break
        self._look(connections, index - index % SLICE, index)
