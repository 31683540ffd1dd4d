"""Appends the records of all logs to the open commit group, and knows which logs have something in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from librt.strings import write_i64_be

from broker.clock import Clock, Timed, Timer
from broker.native import i64
from broker.store.batch import BatchLocation
from broker.store.commit_group import CommitGroupWriter
from broker.store.records import REFERENCE

if TYPE_CHECKING:
    from broker.store.log import Log

SETTLE_DELAY_MS: Final[i64] = 8
"""Settlements that no other record takes along go by themselves after this time: on the disk within 10 ms."""
REFERENCE_SIZE: Final[i64] = 16


@final
class LogWriter(Timed):
    """One for all logs of a node."""

    def __init__(self, clock: Clock) -> None:
        self.batch = CommitGroupWriter(1)
        """The open commit group; of no file before ``attach``."""
        self._clock = clock
        self._touched: list[Log] = []
        """Logs with records in the open commit group."""
        self._unsettled: list[Log] = []
        """Logs with settlements for the next batch."""
        self._timer: Timer | None = None
        self._last_token: object = None
        """Of the content that was appended last."""
        self._last_kind: i64 = 0
        self._last_location: BatchLocation = self.batch.location
        self._last_start: i64 = 0

    def attach(self, batch: CommitGroupWriter) -> None:
        """Append here from now on."""
        self.batch = batch

    def begin(self, number: i64, position: i64, kind: i64, size: i64, token: object, start: i64) -> bool:
        """Begin a record of ``size`` bytes at that position of a log; it will stand at ``start`` (``batch.size``).
        True: the caller writes them to ``batch`` now.

        False if there is nothing to write: the record before, in whatever log, was of the same ``token`` and has the
        same content, so this one refers to it.
        """
        batch = self.batch
        location = batch.location
        if token is self._last_token and kind == self._last_kind and location is self._last_location:
            batch.begin(number, REFERENCE, REFERENCE_SIZE)
            write_i64_be(batch.writer, position)
            write_i64_be(batch.writer, self._last_start)
            batch.end()
            return False
        self._last_token = token
        self._last_kind = kind
        self._last_location = location
        self._last_start = start
        batch.begin(number, kind, 8 + size)
        write_i64_be(batch.writer, position)
        return True

    def tell(self, number: i64, kind: i64, *positions: int) -> None:
        """Append a record that consists of these positions."""
        batch = self.batch
        batch.begin(number, kind, 8 * len(positions))
        for position in positions:
            write_i64_be(batch.writer, position)
        batch.end()

    def touch(self, log: Log) -> None:
        """It has its first record in the open commit group."""
        self._touched.append(log)

    def wait(self, log: Log) -> None:
        """It has settlements for the next batch."""
        self._unsettled.append(log)
        if self._timer is None:
            self._timer = self._clock.call_at(self._clock.now_ms + SETTLE_DELAY_MS, self)

    def on_timer(self, now_ms: i64) -> None:
        self._timer = None
        self.settle()
        if self.batch.record_count > 0:
            self.batch.hurry()

    def settle(self) -> None:
        """Append all settlements that wait."""
        unsettled = self._unsettled
        if unsettled:
            self._unsettled = []
            for log in unsettled:
                if not log.dropped:
                    try:
                        log.collect()
                    except Exception as error:
                        self._clock.faults.caught("settlements of a log", None, error)

    def end_group(self) -> list[Log]:
        """The open commit group is about to be taken, with all settlements that wait: the logs that have records in
        it."""
        self.settle()
        timer = self._timer
        if timer is not None:
            timer.cancel()
            self._timer = None
        self._last_token = None
        if self.batch.record_count == 0:
            return []
        touched = self._touched
        self._touched = []
        return touched
