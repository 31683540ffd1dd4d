"""One turn of the event loop: what reads left behind is done here, in order: dispatch, sync, flush.

Reads route and enqueue and only *mark* the queues and connections they touched. Once all reads of the loop's iteration are
taken, ``run`` dispatches the marked queues, hands the log its batch and writes each touched connection once: one system call
per connection and turn instead of one per message (measured: 20 times cheaper at 16 B).

Whatever raises is told (faults.py), and everything else of the turn is done.
"""

from collections.abc import Sequence
from typing import Final, final

from mypy_extensions import mypyc_attr, trait

from broker.clock import Clock, Waker
from broker.faults import FaultOwner
from broker.native import i64
from broker.stopwatch import SLICE, SLOW_US

INPUT_BYTES_MAX: Final[i64] = 1 << 20
"""A turn takes at most this much input; what comes later waits, undecoded, for the next turn."""
INPUT_MS_MAX: Final[i64] = 5
"""Nor does it begin with another read when it has decoded for so long."""


@trait
@mypyc_attr(allow_interpreted_subclasses=True)
class Dispatchable:
    """A queue that has work: messages and, perhaps, consumers with room."""

    def dispatch(self) -> None:
        """Hand ready messages to consumers until one of both runs out. A delivery that fails is told by the queue itself."""
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


@final
class Turn:
    """The work list of the current turn. Whoever marks something wakes the loop at most once."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.faults = clock.faults
        self.waker: Waker | None = None
        self.scheduled = False
        self.input_bytes: i64 = 0
        self._input_from_ms: i64 = 0
        self.turns = 0
        self.reads: i64 = 0
        """How many reads were admitted."""
        self._stopwatch = clock.stopwatch
        self._from_us: i64 = 0
        """When the turn began; 0 before its first read."""
        self._from_ms: i64 = 0
        """The same on the monotonic clock, or a little earlier."""
        self._reader: object = None
        self._dispatch: list[Dispatchable] = []
        self._sync: list[Syncable] = []
        self._flush: list[Flushable] = []
        self._deferred: list[Deferred] = []

    def _wake(self) -> None:
        if not self.scheduled:
            self.scheduled = True
            waker = self.waker
            if waker is not None:
                waker.wake()

    def mark_dispatch(self, queue: Dispatchable) -> None:
        """Dispatch ``queue`` in this turn. The caller keeps the flag that prevents marking twice."""
        self._dispatch.append(queue)
        self._wake()

    def mark_sync(self, log: Syncable) -> None:
        """Hand over ``log``'s batch in this turn."""
        self._sync.append(log)
        self._wake()

    def mark_flush(self, connection: Flushable) -> None:
        """Flush ``connection`` in this turn. The caller keeps the flag that prevents marking twice."""
        self._flush.append(connection)
        self._wake()

    def defer(self, transport: Deferred) -> None:
        """Call ``transport.resume`` at the beginning of the next turn."""
        self._deferred.append(transport)
        self._wake()

    def admit(self, size: i64, reader: object = None) -> bool:
        """Whether a read of ``size`` bytes may be decoded in this turn, by ``reader``; counts it when it may."""
        now = self.clock.refresh()
        if self.input_bytes == 0:
            self._input_from_ms = now
            self._wake()  # a turn follows, whatever the read leaves behind
        elif self.input_bytes >= INPUT_BYTES_MAX or now - self._input_from_ms >= INPUT_MS_MAX:
            return False
        self.input_bytes += size
        self.reads += 1
        now_us = self.clock.slice_us()
        if self._from_us == 0:
            self._from_us = now_us
            self._from_ms = now
            self._stopwatch.start("read", now_us)
        else:
            self._stopwatch.slice_of(self._reader, now_us)
        self._reader = reader
        return True

    def run(self) -> None:
        """Dispatch, sync, flush; then take what earlier reads had to leave, up to the next turn's share of input."""
        self.turns += 1
        stopwatch = self._stopwatch
        now_us = self.clock.slice_us()
        if self._from_us == 0:
            self._from_us = now_us
            self._from_ms = self.clock.now_ms
            stopwatch.start("", now_us)
        else:
            stopwatch.slice_of(self._reader, now_us)
        self.drain()
        self.scheduled = False  # only now: what is marked meanwhile is done in ``drain``, and needs no turn of its own
        deferred = self._deferred
        self.input_bytes = 0
        self._reader = None
        if deferred:
            self._deferred = []
            self._resume(deferred)
        now_us = stopwatch.last_us
        took_us = now_us - self._from_us
        stopwatch.turn(took_us if 0 <= took_us <= SLOW_US else self._checked(took_us))
        if self.scheduled:  # by what was resumed: the next turn has begun
            self._from_us = now_us
            self._from_ms = self.clock.now_ms
            stopwatch.start("read", now_us)
        else:
            self._from_us = 0

    def _checked(self, took_us: i64) -> i64:
        """How long the turn took, unless somebody has set the system's clock meanwhile: then 0."""
        at_most_us = (self.clock.monotonic_ms() - self._from_ms + 1) * 1000
        return took_us if 0 <= took_us <= at_most_us else 0

    def _resume(self, deferred: list[Deferred]) -> None:
        self._stopwatch.where = "deferred"
        index: i64 = 0
        for transport in deferred:
            try:
                transport.resume()
            except Exception as error:
                self.faults.caught("deferred", transport.fault_owner(), error)
            index += 1
            if index % SLICE == 0:
                self._look(deferred, index - SLICE, index)
        self._look(deferred, index - index % SLICE, index)

    def _look(self, items: Sequence[object], first: i64, end: i64) -> None:
        """So many of a list are done."""
        if first < end:
            self._stopwatch.slice(items, first, end, self.clock.slice_us())

    def drain(self) -> None:
        """Dispatch, sync and flush until nothing is marked (dispatch may mark: dead letters, freed prefetch)."""
        while True:
            queues = self._dispatch
            if queues:
                self._dispatch = []
                self._dispatch_all(queues)
                continue
            logs = self._sync
            if logs:
                self._sync = []
                self._sync_all(logs)
            connections = self._flush
            if connections:
                self._flush = []
                self._flush_all(connections)
            if not self._dispatch and not self._sync and not self._flush:
                return

    def _dispatch_all(self, queues: list[Dispatchable]) -> None:
        self._stopwatch.where = "dispatch"
        index: i64 = 0
        for queue in queues:
            try:
                queue.dispatch()
            except Exception as error:
                self.faults.caught("dispatch", None, error)
            index += 1
            if index % SLICE == 0:
                self._look(queues, index - SLICE, index)
        self._look(queues, index - index % SLICE, index)

    def _sync_all(self, logs: list[Syncable]) -> None:
        self._stopwatch.where = "sync"
        for log in logs:
            try:
                log.sync()
            except Exception as error:
                self.faults.caught("sync", None, error)
        self._look(logs, 0, len(logs))

    def _flush_all(self, connections: list[Flushable]) -> None:
        self._stopwatch.where = "flush"
        index: i64 = 0
        for connection in connections:
            try:
                connection.flush()
            except Exception as error:
                self.faults.caught("flush", connection.fault_owner(), error)
            index += 1
            if index % SLICE == 0:
                self._look(connections, index - SLICE, index)
        self._look(connections, index - index % SLICE, index)
