"""What one level of a queue tells its log: what comes and must survive, what is settled, and up to where messages may
have been delivered when the node ends."""

from __future__ import annotations

from typing import final

from mypy_extensions import mypyc_attr

from broker.clock import Clock
from broker.message import Message
from broker.native import i64
from broker.queues.redelivery_mark import RedeliveryMark, is_near, redelivered_through
from broker.queues.stored import EXPIRES, stored_size, write_message
from broker.store.log import Log
from broker.store.logs import GroupHold, Logs
from broker.store.records import MESSAGE, TRANSIENT


@mypyc_attr(allow_interpreted_subclasses=True)
class LevelRecorder:
    """Whoever keeps another record of what is in a level, as the ledger of a quorum queue is: nothing is marked then
    that may have been delivered, and everything survives."""

    def accepted(self) -> None:
        """A message was appended."""
        raise NotImplementedError

    def was_delivered(self, position: i64) -> bool:
        """Whether this message, which comes from the disk, was delivered before."""
        raise NotImplementedError


@final
class QueueLog:
    """The log of one level."""

    def __init__(self, logs: Logs, clock: Clock, log: Log | None) -> None:
        self.log = log
        """None until a backlog that need not survive the node has too much in memory; its log is on page files."""
        self.durable = log is not None
        """The queue survives the node."""
        self.has_consumers = False
        """The queue has consumers: what comes is delivered soon."""
        self.redelivered_through: i64 = -1
        """Messages up to this position, which were there when the node started, may have been delivered before."""
        self.recorder: LevelRecorder | None = None
        self._logs = logs
        self._clock = clock
        self._waits_for_mark = False
        self._mark: RedeliveryMark | None = None
        """None before anything is delivered."""

    def recover(self) -> None:
        """The log was found by recovery."""
        log = self.log
        assert log is not None
        self.redelivered_through = redelivered_through(log)

    def may_expire(self) -> bool:
        """Whether recovery has found messages with an expiration of their own."""
        log = self.log
        return log is not None and log.flags & EXPIRES != 0

    def group_hold(self) -> GroupHold:
        """Keeps what is told to the log in one commit group."""
        return GroupHold(self._logs if self.durable else None)

    def store(self, message: Message, position: i64, paging: bool) -> bool:
        """Append it if that is necessary, as it is for a transient message only where its backlog pages; whether a
        promise depends on it."""
        if self.recorder is not None:
            return self._store_recorded(self.recorder, message, position)
        if not self.durable:
            return False
        promised = False
        kind = TRANSIENT
        if message.persistent:
            promised = True
            kind = MESSAGE
        elif not paging:
            return False
        log = self.log
        assert log is not None
        if self.has_consumers and is_near(log, position):
            self._own_mark().cover(log, position)
        if log.append(position, kind, stored_size(message), message):
            write_message(self._logs.batch, message, self._clock.wall_ms)
        return promised

    def _store_recorded(self, recorder: LevelRecorder, message: Message, position: i64) -> bool:
        log = self.log
        assert log is not None
        if log.append(position, MESSAGE, stored_size(message), message):
            write_message(self._logs.batch, message, self._clock.wall_ms)
        recorder.accepted()
        return True

    def was_delivered(self, position: i64) -> bool:
        """Whether a message that was there when the node started was delivered before, or may have been."""
        if self.recorder is not None:
            return self.recorder.was_delivered(position)
        return position <= self.redelivered_through

    def allowed_of(self, position: i64, count: i64) -> i64:
        """How many of the next ``count``, from this position on, may be delivered before a mark that they were is on
        the disk: a crash must not forget that they may have been."""
        log = self.log
        if log is None or not self.durable or self.recorder is not None:
            return count
        near = is_near(log, position)
        allowance = self._own_mark().allowance(log, position)
        if near:
            self._logs.batch.hurry()
        if allowance == 0:
            self._waits_for_mark = True
        return allowance if allowance < count else count

    def _own_mark(self) -> RedeliveryMark:
        mark = self._mark
        if mark is None:
            self._mark = mark = RedeliveryMark()
        return mark

    def mark_has_come(self) -> bool:
        """What was appended is on the disk: whether somebody has waited for the mark."""
        waited = self._waits_for_mark
        self._waits_for_mark = False
        return waited

    def on_shutdown(self, head_position: i64) -> None:
        """Whatever stands before the head was delivered; nothing behind it was, unless it was before this start."""
        log = self.log
        if log is not None and self.durable and self.recorder is None:
            log.write_last_note(max(head_position - 1, self.redelivered_through))

    def close(self) -> None:
        """The queue is gone, and its log with it."""
        log = self.log
        if log is not None:
            self._logs.drop(log)
            self.log = None
