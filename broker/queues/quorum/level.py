"""One priority level of a ledger: the states and counts of its messages as runs, and the totals of its states."""

from __future__ import annotations

from typing import Final, final

from broker.native import i64
from broker.queues.quorum.commands import DEFAULT_LEVEL, LEVELS
from broker.queues.quorum.values import (
    DEAD,
    DELAYED,
    GONE,
    OUT,
    WAITING,
    came_back,
    died,
    moved,
    state_of,
)
from broker.queues.quorum.weaving import STRIDE_MAX
from broker.store.run_map import RunEdit, RunMap


def level_of(priority: i64) -> i64:
    """The level of a message: its priority, 31 for a higher one, and 4 for none (-1)."""
    if priority < 0:
        return DEFAULT_LEVEL
    return priority if priority < LEVELS else LEVELS - 1


@final
class Totals:
    """How many messages are in each state."""

    def __init__(self) -> None:
        self.ready: i64 = 0
        self.out: i64 = 0
        self.delayed: i64 = 0
        self.dead: i64 = 0

    def add(self, state: i64, count: i64) -> None:
        """So many more in this state, or fewer."""
        if state == WAITING:
            self.ready += count
        elif state == OUT:
            self.out += count
        elif state == DELAYED:
            self.delayed += count
        elif state == DEAD:
            self.dead += count

    def all(self) -> i64:
        """Messages in all."""
        return self.ready + self.out + self.delayed + self.dead


@final
class Change:
    """What a command does to each message that is in one of some states."""

    def __init__(self) -> None:
        self.sources: i64 = 0
        """Those states, as bits (1 << state)."""
        self.state: i64 = GONE
        """The state they come into."""
        self.cause: i64 = -1
        """Why they come back; -1 if they do not, and no count is raised."""
        self.reason: i64 = 0
        """Why they are dead."""
        self.time_ms: i64 = 0
        """Until when they are delayed, or since when they are dead."""

    def set(self, sources: i64, state: i64, cause: i64 = -1, reason: i64 = 0, time_ms: i64 = 0) -> None:
        """All of it at once."""
        self.sources = sources
        self.state = state
        self.cause = cause
        self.reason = reason
        self.time_ms = time_ms

    def of(self, value: i64) -> i64:
        """What becomes of a value."""
        if self.state == GONE:
            return 0
        if self.state == DEAD:
            return died(value, self.reason)
        if self.cause >= 0:
            return came_back(value, self.cause, self.state)
        return moved(value, self.state)


_NO_RUNS: Final = RunMap()
_EDIT: Final = RunEdit(_NO_RUNS)
"""Of whatever level is being changed: there is one at a time, and each would cost half a kilobyte."""


@final
class LedgerLevel:
    """Positions are dense and ascend; one that is not in ``runs`` is gone, or at ``next`` or behind it."""

    def __init__(self, number: i64, totals: Totals, gone: list[int]) -> None:
        self.number: i64 = number
        self.next: i64 = 0
        """The position of the next message."""
        self.runs = RunMap()
        """The value (values.py) of every message that is not gone."""
        self.times = RunMap()
        """Of what is delayed: until when; of what is dead: since when. Wall time in milliseconds."""
        self.totals = Totals()
        self._all_totals = totals
        self._gone = gone
        """Whoever settles contents takes from it what is gone: level, first and last position of each range."""

    def set_runs(self, runs: RunMap, times: RunMap) -> None:
        """Begin with these; ``next`` and the totals are the caller's to set."""
        self.runs = runs
        self.times = times

    def append(self, count: i64) -> None:
        """The next ``count`` positions are messages, which wait."""
        edit = _EDIT
        edit.turn_to(self.runs)
        edit.open(self.next, self.next + count - 1)
        while edit.step():
            edit.put(edit.end, WAITING)
        edit.close()
        edit.turn_to(_NO_RUNS)
        self.next += count
        self.totals.ready += count
        self._all_totals.ready += count

    def skip(self, count: i64) -> None:
        """The next ``count`` positions are no messages."""
        self._note_gone(self.next, self.next + count - 1)
        self.next += count

    def change(self, first: i64, count: i64, stride: i64, change: Change) -> i64:
        """Do it to ``count`` positions from ``first`` on, ``stride`` apart, as far as they are in one of the states;
        returns how many were."""
        last = first + (count - 1) * stride
        lowest = self.runs.first()
        if lowest < 0:
            return 0
        highest = self.runs.last()
        if first < lowest:
            first += (lowest - first + stride - 1) // stride * stride
        if last > highest:
            last = highest
        if first > last:
            return 0
        if stride == 1:
            return self._change_all(first, last, change)
        if stride <= STRIDE_MAX:
            return self._change_some(first, last, stride, change)
        changed: i64 = 0
        while first <= last:
            changed += self._change_all(first, first, change)
            first += stride
        return changed

    def _change_all(self, first: i64, last: i64, change: Change) -> i64:
        edit = _EDIT
        edit.turn_to(self.runs)
        changed: i64 = 0
        # what is gone now, with what lies in between and was gone before
        gone_first: i64 = -1
        gone_last: i64 = -1
        edit.open(first, last)
        while edit.step():
            value = edit.value
            start = edit.start
            end = edit.end
            if (change.sources >> state_of(value)) & 1 == 0:
                edit.put(end, value)
                if value != 0 and gone_first >= 0:
                    self._note_gone(gone_first, gone_last)
                    gone_first = -1
                continue
            edit.put(end, change.of(value))
            self._count(value, start, end, change)
            changed += end - start + 1
            if change.state == GONE:
                if gone_first < 0:
                    gone_first = start
                gone_last = end
        edit.close()
        edit.turn_to(_NO_RUNS)
        if gone_first >= 0:
            self._note_gone(gone_first, gone_last)
        return changed

    def _change_some(self, first: i64, last: i64, stride: i64, change: Change) -> i64:
        edit = _EDIT
        edit.turn_to(self.runs)
        changed: i64 = 0
        edit.open(first, last)
        while edit.step():
            value = edit.value
            end = edit.end
            if (change.sources >> state_of(value)) & 1 == 0:
                edit.put(end, value)
                continue
            becomes = change.of(value)
            while first < edit.start:
                first += stride
            while first <= end:
                if first > edit.start:
                    edit.put(first - 1, value)
                edit.put(first, becomes)
                self._count(value, first, first, change)
                changed += 1
                if change.state == GONE:
                    self._note_gone(first, first)
                first += stride
            if edit.start <= end:
                edit.put(end, value)
        edit.close()
        edit.turn_to(_NO_RUNS)
        return changed

    def _count(self, value: i64, first: i64, last: i64, change: Change) -> None:
        """Messages that had this value were changed."""
        count = last - first + 1
        old = state_of(value)
        new = change.state
        self.totals.add(old, -count)
        self.totals.add(new, count)
        self._all_totals.add(old, -count)
        self._all_totals.add(new, count)
        if new >= DELAYED:
            self.times.assign(first, last, change.time_ms)
        elif old >= DELAYED:
            self.times.remove(first, last)

    def _note_gone(self, first: i64, last: i64) -> None:
        gone = self._gone
        size = len(gone)
        if size > 0 and gone[size - 1] == first - 1 and gone[size - 3] == self.number:
            gone[size - 1] = int(last)
            return
        gone.append(int(self.number))
        gone.append(int(first))
        gone.append(int(last))
