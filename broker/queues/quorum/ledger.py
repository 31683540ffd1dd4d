"""The ledger of a quorum queue: which messages there are, in which state, how often they came back. Every member has
the same, because each applies the same entries (commands.py) in the same order and nothing else changes it.

The leader decides who gets what, what expires and what is too much; an entry says what it decided. A command about
positions that are gone, never existed or are in another state changes nothing (the leader did not know yet, or it comes
a second time) and is counted. Contents are not here: they stand in the queue's logs at (level, position). A repeated
ACCEPT takes positions like any other, since the leader has written contents there, but they are gone at once.
"""

from __future__ import annotations

from typing import Final, final

from broker.native import i64
from broker.queues.quorum.commands import (
    ACCEPT,
    ACTIVATE,
    ATTACH,
    DEAD_CONFIRMED,
    DEAD_LETTER,
    DELAY,
    DELIVER,
    DETACH,
    DROP,
    DUE,
    EXPIRE_SESSION,
    LEVELS,
    NO_SESSION,
    RETURN,
    SETTINGS,
    SETTLE,
)
from broker.queues.quorum.entry_reader import EntryReader, check_entry
from broker.queues.quorum.level import Change, LedgerLevel, Totals
from broker.queues.quorum.sessions import Sessions
from broker.queues.quorum.values import DEAD, DELAYED, GONE, OUT, PURGED, UNCLAIMED, WAITING, sources_of
from broker.store.run_map import POSITION_MAX
from broker.store.varint import VARINT_MAX

_OUT: Final[i64] = 1 << OUT
_WAITING: Final[i64] = 1 << WAITING
_DELAYED: Final[i64] = 1 << DELAYED
_DEAD: Final[i64] = 1 << DEAD


_SMALL_BYTES: Final[i64] = 512
_NOBODY: Final[dict[int, int]] = {}
_NOTHING: Final[list[int]] = []
"""Shared by all ledgers, and never changed."""
_CHANGE: Final = Change()
"""Of the command that is being applied, whosever it is."""


@final
class Ledger:
    """The state of a quorum queue."""

    def __init__(self) -> None:
        self.time_ms: i64 = 0
        """The wall time of the last entry in milliseconds; it never goes back."""
        self.levels: list[LedgerLevel | None] = [None] * LEVELS
        """By priority; None until the first message."""
        self.totals = Totals()
        """Over all levels."""
        self.sessions = Sessions()
        self.consumers = _NOBODY
        """The priority of each consumer by its id, in the order in which they came."""
        self.active: i64 = 0
        """The single active consumer; 0 if there is none."""
        self.settings = _NOBODY
        self.ignored: i64 = 0
        """Positions and other commands that changed nothing; repeated messages too."""
        # what the last entry did:
        self.accepted = _NOTHING
        """Level, first position and count of what was accepted, in that order."""
        self.repeated = _NOTHING
        """The same of what had been accepted before."""
        self.gone: list[int] = []
        """Level, first and last position of what is gone now, perhaps with some in between that were gone before."""

    def is_empty(self) -> bool:
        """Whether there are no messages, and nobody is remembered."""
        return self.totals.all() == 0 and self.sessions.count() == 0 and not self.consumers

    def is_small(self) -> bool:
        """Whether it is a few runs, so that a snapshot costs next to nothing."""
        size: i64 = 0
        for level in self.levels:
            if level is not None:
                size += level.runs.memory_bytes() + level.times.memory_bytes()
        return size <= _SMALL_BYTES and self.sessions.count() == 0 and not self.consumers

    # ---- what there is -----------------------------------------------------------------------------------------------

    def value_at(self, level: i64, position: i64) -> i64:
        """The value (values.py) of a message; 0 if it is gone or there is none yet."""
        found = self.levels[level]
        return 0 if found is None else found.runs.value_at(position)

    def next_position(self, level: i64) -> i64:
        """The position of the level's next message."""
        found = self.levels[level]
        return 0 if found is None else found.next

    def make_level(self, number: i64) -> LedgerLevel:
        """A level, which is made if need be."""
        found = self.levels[number]
        if found is None:
            found = LedgerLevel(number, self.totals, self.gone)
            self.levels[number] = found
        return found

    # ---- entries -----------------------------------------------------------------------------------------------------

    def apply(self, data: bytes) -> None:
        """Do what an entry says.

        Raises: ValueError if it is no entry of a known version; nothing is changed then
        """
        check_entry(data)
        self.accepted = _NOTHING
        self.repeated = _NOTHING
        self.gone.clear()
        reader = EntryReader(data)
        if reader.time_ms > self.time_ms:
            self.time_ms = reader.time_ms
        while reader.next():
            kind = reader.kind
            if kind == ACCEPT:
                self._accept(reader)
            elif kind <= DEAD_CONFIRMED:
                self._set_change(_CHANGE, reader)
                self._apply_range(_CHANGE, reader)
            else:
                self._apply_other(reader)

    def _accept(self, reader: EntryReader) -> None:
        count = reader.count
        level = self.make_level(reader.level)
        if count > POSITION_MAX - level.next:
            self._ignore(count)
            return
        session = reader.id
        if session == NO_SESSION:
            self._take(level, count)
            return
        number = reader.first
        end = number + count
        if self.sessions.repeats(session, number, count) == 0:
            self._take(level, count)
        else:
            while number < end:
                number += self._accept_some(level, session, number, end)
        self.sessions.add(session, reader.first, count)

    def _accept_some(self, level: LedgerLevel, session: i64, number: i64, end: i64) -> i64:
        """As many numbers before ``end`` as are all new, or all known; returns how many."""
        last = self.sessions.end_of(session, number)
        if last >= 0:
            count = (last + 1 if last < end else end) - number
            if not self.repeated:
                self.repeated = []
            _note(self.repeated, level.number, level.next, count)
            level.skip(count)
            self._ignore(count)
            return count
        # where the next known one is, by halving
        count = end - number
        while count > 1 and self.sessions.repeats(session, number, count) > 0:
            count >>= 1
        self._take(level, count)
        return count

    def _take(self, level: LedgerLevel, count: i64) -> None:
        if not self.accepted:
            self.accepted = []
        _note(self.accepted, level.number, level.next, count)
        level.append(count)

    def _set_change(self, change: Change, reader: EntryReader) -> None:
        """What the reader's command does to messages."""
        kind = reader.kind
        if kind == DELIVER:
            change.set(_WAITING, OUT)
        elif kind == SETTLE:
            change.set(_OUT, GONE)
        elif kind == RETURN:
            change.set(_OUT, WAITING, reader.detail)
        elif kind == DROP:
            change.set(sources_of(reader.detail), GONE)
        elif kind == DELAY:
            change.set(_OUT, DELAYED, reader.detail, 0, reader.until_ms)
        elif kind == DUE:
            change.set(_DELAYED, WAITING)
        elif kind == DEAD_LETTER:
            since = self.time_ms if self.time_ms > 0 else 1
            change.set(sources_of(reader.detail), DEAD, -1, reader.detail, since)
        else:
            change.set(_DEAD, GONE)

    def _apply_range(self, change: Change, reader: EntryReader) -> None:
        changed: i64 = 0
        level = self.levels[reader.level]
        if level is not None:
            changed = level.change(reader.first, reader.count, reader.stride, change)
        kind = reader.kind
        if (kind == RETURN and reader.detail == UNCLAIMED) or (kind == DROP and reader.detail == PURGED):
            return  # they name what lies in between as well, to be short
        self._ignore(reader.count - changed)

    def _apply_other(self, reader: EntryReader) -> None:
        kind = reader.kind
        number = reader.id
        changed = True
        if kind == ATTACH:
            changed = self.consumers.get(int(number)) != reader.priority
            if not self.consumers:
                self.consumers = {}
            self.consumers[int(number)] = int(reader.priority)
        elif kind == DETACH:
            changed = self.consumers.pop(int(number), None) is not None
            if self.active == number:
                self.active = 0
        elif kind == ACTIVATE:
            changed = self.active != number and (number == 0 or int(number) in self.consumers)
            if changed:
                self.active = number
        elif kind == SETTINGS:
            changed = self.settings != reader.settings
            self.settings = reader.settings
        elif kind == EXPIRE_SESSION:
            changed = self.sessions.forget(number)
        if not changed:
            self._ignore(1)

    def _ignore(self, count: i64) -> None:
        self.ignored = self.ignored + count if self.ignored < VARINT_MAX - count else VARINT_MAX


def _note(ranges: list[int], level: i64, first: i64, count: i64) -> None:
    """Put it behind the others, or make the last one longer."""
    size = len(ranges)
    if size > 0 and ranges[size - 3] == level and ranges[size - 2] + ranges[size - 1] == first:
        ranges[size - 1] += int(count)
        return
    ranges.append(int(level))
    ranges.append(int(first))
    ranges.append(int(count))
