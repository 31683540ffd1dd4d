"""What a new leader does with what is out and nobody claims: it waits again, and its delivery has failed."""

from __future__ import annotations

from typing import final

from broker.native import i64
from broker.queues.quorum.commands import LEVELS, EntryWriter
from broker.queues.quorum.delivery_limit import is_over
from broker.queues.quorum.ledger import Ledger
from broker.queues.quorum.level import LedgerLevel
from broker.queues.quorum.values import OUT, UNCLAIMED, state_of
from broker.store.ranges import Ranges
from broker.store.run_map import RunCursor


@final
class Unclaimed:
    """Returns them level by level, in steps, each for an entry of its own.

    ``claimed`` has, by level, the positions that sessions have claimed; whoever delivers between two steps adds what he
    delivers. A stretch of which the rest is gone is one command.
    """

    def __init__(self, ledger: Ledger, claimed: dict[int, Ranges], delivery_limit: i64) -> None:
        self.over: list[int] = []
        """Level, first and last position of each range that has failed too often: the caller, who takes them out after
        every step, drops them or makes them dead letters."""
        self._ledger = ledger
        self._claimed = claimed
        self._limit: i64 = delivery_limit
        self._level: i64 = 0
        self._position: i64 = 0
        self._first: i64 = -1
        """Where the stretch begins that is not written yet; -1 if there is none."""
        self._last: i64 = -1
        self._left: i64 = 0
        """Runs that this step may still look at."""

    def step(self, writer: EntryWriter, most: i64) -> bool:
        """Look at no more than ``most`` runs, about; False when all is done."""
        self._left = most
        while self._level < LEVELS:
            level = self._ledger.levels[self._level]
            if level is not None and not self._go_on(level, writer):
                return True
            self._level += 1
            self._position = 0
        return False

    def _go_on(self, level: LedgerLevel, writer: EntryWriter) -> bool:
        """Some of a level; whether that was all of it."""
        claimed = self._claimed.get(int(level.number))
        last = level.runs.last()
        cursor = RunCursor(level.runs)
        cursor.seek(self._position)
        while self._left > 0 and self._position <= last and cursor.step():
            while self._position <= cursor.end and self._left > 0:
                self._position = self._look(level, cursor, claimed, writer)
                self._left -= 1
        self._write(level, writer)
        return self._position > last

    def _look(self, level: LedgerLevel, run: RunCursor, claimed: Ranges | None, writer: EntryWriter) -> i64:
        """The part of a run from this position on that is claimed, or not; the position behind it."""
        first = self._position
        last = run.end
        if state_of(run.value) != OUT:
            if run.value != 0:
                self._write(level, writer)  # it may be out before the command is applied
            return last + 1
        if claimed is not None:
            end = claimed.end_of(first)
            if end >= 0:
                self._write(level, writer)
                return end + 1
            next_claimed = claimed.next_from(first)
            if 0 <= next_claimed <= last:
                last = next_claimed - 1
        if is_over(run.value, UNCLAIMED, self._limit):
            self._write(level, writer)
            self.over.append(int(level.number))
            self.over.append(int(first))
            self.over.append(int(last))
        else:
            if self._first < 0:
                self._first = first
            self._last = last
        return last + 1

    def _write(self, level: LedgerLevel, writer: EntryWriter) -> None:
        """The stretch ends."""
        if self._first >= 0:
            writer.requeue(level.number, self._first, self._last - self._first + 1, 1, UNCLAIMED)
            self._first = -1
