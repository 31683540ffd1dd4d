"""What is declared, on its way from the write-ahead log to the manifest: there it stands a second time soon after, in
two files.

Nobody waits for it: a promise is given when the log has it. What is here when the node ends is found in the log by the
next start, which begins with it here. On the thread that owns the logs.
"""

from collections.abc import Callable
from typing import Final

from broker.clock import Clock
from broker.store.alarm import Alarm, Sleeper
from broker.store.batch import RECORD_HEADER_SIZE
from broker.store.records import DELETE, PUT, key_of

DELAY_MS: Final = 100
"""So long records wait for others; they cost an edit of the manifest together."""
RETRY_MS: Final = 1000
"""Without space for it."""


class Declarations(Sleeper):
    """Records of log 0 that the manifest does not have yet."""

    def __init__(self, clock: Clock, wanted: Callable[[], None]) -> None:
        """``wanted`` is called when ``due`` becomes true."""
        self.due = False
        """They have waited long enough."""
        self._wanted = wanted
        self._alarm = Alarm(clock, self)
        self._waiting: dict[bytes, tuple[int, bytes]] = {}
        """The last one of each key: found here, one by one, and not for a hundred thousand of them when they are
        taken."""
        self._size = 0

    def add(self, kind: int, body: bytes) -> None:
        """Such a record was appended to the log, or found there."""
        if kind not in (PUT, DELETE):
            return
        if not self._waiting:
            self._alarm.set(DELAY_MS)
        self._waiting[key_of(kind, body)] = (kind, body)
        self._size += len(body) + int(RECORD_HEADER_SIZE)

    def size(self) -> int:
        """Bytes that they need in an edit, at most."""
        return self._size

    def postpone(self) -> None:
        """There is no space for them now."""
        self.due = False
        self._alarm.set(RETRY_MS)

    def wake(self) -> None:
        self.due = True
        self._wanted()

    def take(self) -> dict[bytes, tuple[int, bytes]]:
        """Kind and body of the last one of each key: with them the manifest has every record of log 0 that was appended
        so far.

        Whoever takes them lets go of them a slice at a time.
        """
        waiting, self._waiting = self._waiting, {}
        self._size = 0
        self.due = False
        self._alarm.cancel()
        return waiting  # a DELETE counts as well: the manifest may know an older PUT
