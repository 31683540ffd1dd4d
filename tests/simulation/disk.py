"""The log of one simulated member, on a disk that has what was synced and perhaps some of the rest.

Everything that is written is a record; what a start finds is all records in their order, folded into an ``Image``. The
member reads ``SimulatedLog.image``, which has them all; the platter has those that were synced, and after a crash some
of the others in their order: all, none, or a part, the last of them perhaps in part (a batch of entries is torn).
"""

from __future__ import annotations

import random
from abc import abstractmethod
from typing import Any

from broker.native import i64
from broker.raft.configuration import Configuration
from broker.raft.entry import CONF_CHANGE, Entry, within
from broker.raft.message import Snapshot
from broker.raft.raw_node import Ready
from broker.raft.storage import UNKNOWN, HardState, InitialState, Storage

ENTRIES = "entries"
TRUNCATE = "truncate"
HARD_STATE = "hard state"
INSTALL = "install"
SNAPSHOT = "snapshot"
COMPACT = "compact"
REPAIRED = "repaired"

Record = tuple[str, Any]


class MemberLog(Storage):
    """What a simulated member asks of its log, besides what its core reads of it. The broker's own log for groups can
    stand behind this as well."""

    @abstractmethod
    def write(self, ready: Ready, repaired: bool) -> None:
        """Everything that a ``Ready`` hands out. ``repaired``: with this the member has again what it had lost."""

    @abstractmethod
    def write_snapshot(self, snapshot: Snapshot) -> None:
        """A snapshot of our own."""

    @abstractmethod
    def compact(self, index: int) -> None:
        """Entries up to there may go: a snapshot that stands for them is synced."""

    @abstractmethod
    def begin_sync(self) -> int:
        """The sync of everything that was written begins. Returns a number that grows with every write."""

    @abstractmethod
    def end_sync(self, number: int) -> None:
        """The sync that began with this number has ended."""

    @abstractmethod
    def written(self) -> int:
        """What ``begin_sync`` would return."""

    @abstractmethod
    def crash(self, chance: random.Random) -> None:
        """The power fails; what a start reads now is what the platter has."""

    @abstractmethod
    def damage(self, chance: random.Random) -> bool:
        """A record in the middle of the log cannot be read any more. Only behind a ``crash``. False: there is none."""

    @abstractmethod
    def synced_hard_state(self) -> HardState:
        """What the platter has."""

    @abstractmethod
    def synced_last(self) -> int:
        """The last entry that the platter has, or that its snapshot stands for."""

    @abstractmethod
    def has_synced(self, index: int, term: int) -> bool:
        """Whether the platter has this entry, or a snapshot that stands for it; or had it before it was damaged."""

    @abstractmethod
    def must_repair_to(self) -> int:
        """As in ``InitialState``, until ``write`` was told that it is repaired."""

    @abstractmethod
    def is_whole(self) -> bool:
        """Whether everything is on the platter again that was before it was damaged."""


class Image:
    """What records say together."""

    def __init__(self, configuration: Configuration) -> None:
        self.start = 0
        """Entries up to there are gone."""
        self.start_term = 0
        self.entries: list[Entry] = []
        self.snapshot = Snapshot(0, 0, configuration)
        self.hard_state = HardState()
        self.repair_to = 0

    def copied(self) -> Image:
        """The entries are shared."""
        made = Image(self.snapshot.configuration)
        made.start = self.start
        made.start_term = self.start_term
        made.entries = self.entries[:]
        made.snapshot = self.snapshot
        made.hard_state = self.hard_state
        made.repair_to = self.repair_to
        return made

    def last(self) -> int:
        """The last entry."""
        return self.start + len(self.entries)

    def term(self, index: int) -> int:
        """Of an entry, ``UNKNOWN`` if it is not there."""
        at = index - self.start
        if at == 0:
            return self.start_term
        return self.entries[at - 1].term if 0 < at <= len(self.entries) else UNKNOWN

    def take(self, record: Record) -> None:
        """The next record."""
        kind, value = record
        if kind == ENTRIES:
            self.entries += value
        elif kind == HARD_STATE:
            self.hard_state = value
        elif kind == TRUNCATE:
            del self.entries[value - self.start - 1 :]
        elif kind == COMPACT:
            self._compact(value)
        elif kind == REPAIRED:
            self.repair_to = 0
        else:
            assert isinstance(value, Snapshot)
            if kind == INSTALL:
                self.start, self.start_term, self.entries = value.index, value.term, []
            if value.index > self.snapshot.index:
                self.snapshot = value

    def _compact(self, index: int) -> None:
        if index > self.start:
            self.start_term = self.term(index)
            del self.entries[: index - self.start]
            self.start = index


class SimulatedLog(MemberLog):
    """The log of one member."""

    def __init__(self, configuration: Configuration) -> None:
        self.image = Image(configuration)
        """What was written."""
        self.platter = Image(configuration)
        """What was synced."""
        self._pending: list[tuple[int, Record]] = []
        self._number = 0
        self._damaged_to = 0

    # -- What the member's core reads

    def initial_state(self) -> InitialState:
        image = self.image
        return InitialState(image.hard_state, image.snapshot.configuration, image.repair_to)

    def first_index(self) -> i64:
        return self.image.start + 1

    def last_index(self) -> i64:
        image = self.image
        return image.start + len(image.entries)

    def term(self, index: i64) -> i64:
        return self.image.term(index)

    def term_start(self, index: i64) -> i64:
        image = self.image
        term = image.term(index)
        while index > image.start + 1 and image.term(index - 1) == term:
            index -= 1
        return index

    def entries(self, first: i64, last: i64, max_bytes: i64) -> list[Entry]:
        image = self.image
        return within(image.entries[first - image.start - 1 : last - image.start], max_bytes)

    def conf_changes(self, behind: i64) -> list[int]:
        image = self.image
        return [
            entry.index for entry in image.entries[max(int(behind) - image.start, 0) :] if entry.kind == CONF_CHANGE
        ]

    def snapshot(self) -> Snapshot | None:
        snapshot = self.image.snapshot
        return snapshot if snapshot.index > 0 else None

    # -- What the member writes

    def _append(self, record: Record) -> None:
        self.image.take(record)
        self._pending.append((self._number, record))

    def write(self, ready: Ready, repaired: bool) -> None:
        self._number += 1
        if ready.snapshot is not None:
            self._append((INSTALL, ready.snapshot))
        entries = ready.entries
        if entries:
            if entries[0].index <= self.image.last():
                self._append((TRUNCATE, entries[0].index))
            self._append((ENTRIES, entries))
        if ready.hard_state is not None:
            self._append((HARD_STATE, ready.hard_state))
        if repaired:
            self._append((REPAIRED, None))

    def write_snapshot(self, snapshot: Snapshot) -> None:
        self._number += 1
        self._append((SNAPSHOT, snapshot))

    def compact(self, index: int) -> None:
        self._append((COMPACT, index))

    # -- The disk

    def written(self) -> int:
        return self._number

    def begin_sync(self) -> int:
        return self._number

    def end_sync(self, number: int) -> None:
        pending = self._pending
        take = self.platter.take
        done = 0
        for written, record in pending:
            if written > number:
                break
            take(record)
            done += 1
        del pending[:done]
        if self._damaged_to and self.platter.repair_to == 0:
            self._damaged_to = 0

    def crash(self, chance: random.Random) -> None:
        pending = self._pending
        if pending:
            kept = int(chance.random() * 3 * (len(pending) + 1)) - len(pending)
            kept = min(max(kept, 0), len(pending))
            for _, record in pending[:kept]:
                self.platter.take(record)
            if kept < len(pending) and pending[kept][1][0] == ENTRIES and chance.random() < 0.5:
                entries = pending[kept][1][1]
                assert isinstance(entries, list)
                self.platter.take((ENTRIES, entries[: int(chance.random() * len(entries))]))
            pending.clear()
        self.image = self.platter.copied()

    def damage(self, chance: random.Random) -> bool:
        platter = self.platter
        if not platter.entries:
            return False
        # what the snapshot stands for is not needed from the log, and begins it anew
        first = int(max(platter.snapshot.index, platter.start)) + 1
        if first > platter.last():
            return False
        at = first + int(chance.random() * int(platter.last() - first + 1))
        platter.repair_to = self._damaged_to = platter.last()
        del platter.entries[at - platter.start - 1 :]
        self.image = platter.copied()
        return True

    # -- What the checks ask

    def synced_hard_state(self) -> HardState:
        return self.platter.hard_state

    def synced_last(self) -> int:
        return self.platter.last()

    def has_synced(self, index: int, term: int) -> bool:
        platter = self.platter
        return platter.term(index) == term or index <= platter.start or index <= self._damaged_to

    def must_repair_to(self) -> int:
        return self.image.repair_to

    def is_whole(self) -> bool:
        return self._damaged_to == 0
