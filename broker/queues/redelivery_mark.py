"""Which messages of a classic queue may have been delivered before a crash: all up to the mark of their log.

The mark is moved ahead of what is delivered, by thousands of positions, so that it is seldom written: it is the note of
the log (store/log_note.py). A message may be delivered when the mark that covers it is on the disk, or when its record
was written behind that mark: a crash that forgets the mark forgets the record as well.
"""

from __future__ import annotations

from typing import Final, final

from broker.native import i64
from broker.store.log import Log

MARK_AHEAD: Final[i64] = 10_000


def is_near(log: Log, position: i64) -> bool:
    """Whether the mark is to be moved before the message at ``position`` is delivered."""
    return position + MARK_AHEAD // 2 > log.note.value


@final
class RedeliveryMark:
    """The mark of one log, for whoever moves it."""

    def __init__(self) -> None:
        self._written_before: i64 = 0
        """Records from this position on are written behind the mark."""

    def cover(self, log: Log, position: i64) -> None:
        """The message at ``position`` may be delivered soon. Called before it is appended, the mark is no later on the
        disk than its record."""
        if is_near(log, position):
            self._move(log, position)

    def _move(self, log: Log, position: i64) -> None:
        """Move it ahead of ``position``; what is appended from now on is written behind it. One at a time: what was
        written behind an older mark counts on that one."""
        note = log.note
        if note.value > note.durable and position <= note.value:
            return
        self._written_before = log.positions.next
        log.tell_note(position + MARK_AHEAD)

    def allowance(self, log: Log, position: i64) -> i64:
        """How many messages may be delivered from this position on: a crash will know of it. Moves the mark ahead when
        it comes near."""
        self.cover(log, position)
        note = log.note
        if position <= note.durable:
            return note.durable - position + 1
        if position >= self._written_before and position <= note.value:
            return note.value - position + 1
        return 0


def redelivered_through(log: Log) -> i64:
    """Up to where messages that a start has found may have been delivered before; -1 for none."""
    last = log.positions.next - 1
    return log.note.value if log.note.value < last else last
