"""How long a commit group that nobody waits for stays open under load: a few large groups cost less than many small
ones (measured: each takes half a dozen changes of threads)."""

from collections.abc import Callable
from typing import Final, final

from broker.clock import Clock
from broker.native import i64
from broker.store.alarm import Alarm, Sleeper
from broker.store.commit_group import CommitGroupWriter

LINGER_MS: Final[i64] = 5
"""A group stays open for no longer than this."""
LINGER_SIZE_MAX: Final[i64] = 1 << 20
"""A group of so many bytes is large enough."""
LINGER_BUSY_SIZE: Final[i64] = 65536
"""There is load if the group before had so many bytes."""


@final
class Lingering(Sleeper):
    """The open group of one log."""

    def __init__(self, overdue: Callable[[], None]) -> None:
        """``overdue`` is called when the open group has been open for long enough."""
        self._overdue = overdue
        self._alarm: Alarm | None = None
        self._is_over = False
        self._last_size: i64 = 0

    def begin(self, last_size: i64) -> None:
        """Another group is open from now on; the one before it had so many bytes."""
        self._last_size = last_size
        self._is_over = False
        if self._alarm is not None:
            self._alarm.cancel()

    def goes_on(self, batch: CommitGroupWriter) -> bool:
        """Whether the open group may stay open for a moment, to be larger."""
        if batch.urgent or self._last_size < LINGER_BUSY_SIZE or batch.group_size() >= LINGER_SIZE_MAX:
            return False
        turn = batch.turn
        return turn is not None and batch.record_count > 0 and self._has_time(turn.clock)

    def _has_time(self, clock: Clock) -> bool:
        if self._is_over:
            return False
        if self._alarm is None:
            self._alarm = Alarm(clock, self)
        if not self._alarm.is_set():
            self._alarm.set(LINGER_MS)
        return True

    def wake(self) -> None:
        self._is_over = True
        self._overdue()
