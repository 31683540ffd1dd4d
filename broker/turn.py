"""One turn of the event loop: what reads left behind is done here, in order: dispatch, sync, flush.

Reads route and enqueue and only *mark* the queues and connections they touched. Once all reads of the loop's iteration are
taken, ``run`` dispatches the marked queues, hands the log its batch and writes each touched connection once: one system call
per connection and turn instead of one per message (measured: 20 times cheaper at 16 B).

Whatever raises is told (faults.py), and everything else of the turn is done.
"""

from typing import Final, final

from mypy_extensions import mypyc_attr, trait

from broker.clock import Clock, Waker
from broker.faults import FaultOwner
from broker.native import i64

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

    def admit(self, size: i64) -> bool:
        """Whether a read of ``size`` bytes may be decoded in this turn; counts it when it may."""
        now = self.clock.refresh()
        if self.input_bytes == 0:
            self._input_from_ms = now
        elif self.input_bytes >= INPUT_BYTES_MAX or now - self._input_from_ms >= INPUT_MS_MAX:
            return False
        self.input_bytes += size
        self.reads += 1
        return True

    def run(self) -> None:
        """Dispatch, sync, flush; then take what earlier reads had to leave, up to the next turn's share of input."""
        self.turns += 1
        self.drain()
        self.scheduled = False  # only now: what is marked meanwhile is done in ``drain``, and needs no turn of its own
        deferred = self._deferred
        self.input_bytes = 0
        if deferred:
            self._deferred = []
            for transport in deferred:
                try:
                    transport.resume()
                except Exception as error:
                    self.faults.caught("deferred", transport.fault_owner(), error)

    def drain(self) -> None:
        """Dispatch, sync and flush until nothing is marked (dispatch may mark: dead letters, freed prefetch)."""
        while True:
            queues = self._dispatch
            if queues:
                self._dispatch = []
                for queue in queues:
                    try:
                        queue.dispatch()
                    except Exception as error:
                        self.faults.caught("dispatch", None, error)
                continue
            logs = self._sync
            if logs:
                self._sync = []
                for log in logs:
                    try:
                        log.sync()
                    except Exception as error:
                        self.faults.caught("sync", None, error)
            connections = self._flush
            if connections:
                self._flush = []
                for connection in connections:
                    try:
                        connection.flush()
                    except Exception as error:
                        self.faults.caught("flush", connection.fault_owner(), error)
            if not self._dispatch and not self._sync and not self._flush:
                return
