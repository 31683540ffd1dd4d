"""A group's log as the core sees it: what the storage has, what was not handed out yet, what is committed."""

from __future__ import annotations

from typing import final

from broker.native import i64
from broker.raft.entry import CONF_CHANGE, Entry, total_size, within
from broker.raft.message import Snapshot
from broker.raft.storage import UNKNOWN, Storage


@final
class RaftLog:
    """The log. ``applied <= applying <= committed <= last_index()``."""

    def __init__(self, storage: Storage, applied: i64, max_applying_bytes: i64) -> None:
        self._storage = storage
        self.offset: i64 = storage.last_index() + 1
        """The index of the first entry that was not handed out yet."""
        self.unstable: list[Entry] = []
        """Those that were not; they replace whatever the storage has from ``offset`` on."""
        self.unstable_snapshot: Snapshot | None = None
        """One from the leader that was not handed out yet: the storage counts for nothing meanwhile."""
        start = storage.first_index() - 1
        self.committed: i64 = max(start, applied)
        self.applying: i64 = self.committed
        """Up to there entries were handed out to be applied."""
        self.applied: i64 = self.committed
        self._max_applying_bytes: i64 = max_applying_bytes
        self._applying_bytes: i64 = 0
        self._conf_changes: list[int] = storage.conf_changes(self.committed)
        """The indexes of changes of the configuration that are not applied."""

    # -- What is there

    def first_index(self) -> i64:
        """The first entry that is there, or would be."""
        snapshot = self.unstable_snapshot
        return self._storage.first_index() if snapshot is None else snapshot.index + 1

    def last_index(self) -> i64:
        """The last entry, handed out or not."""
        return self.offset + len(self.unstable) - 1

    def term(self, index: i64) -> i64:
        """Of the entry at ``index``; ``UNKNOWN`` if it is not there."""
        at = index - self.offset
        if at >= 0:
            return self.unstable[at].term if at < len(self.unstable) else UNKNOWN
        snapshot = self.unstable_snapshot
        if snapshot is not None:
            return snapshot.term if index == snapshot.index else UNKNOWN
        return self._storage.term(index)

    def last_term(self) -> i64:
        """Of the last entry."""
        return self.term(self.last_index())

    def matches(self, index: i64, term: i64) -> bool:
        """Whether the entry at ``index`` is there and has this term: then all before it are equal as well (the log
        matching property, section 3.5)."""
        found = self.term(index)
        return found != UNKNOWN and found == term

    def is_up_to_date(self, index: i64, term: i64) -> bool:
        """Whether a log that ends so has everything that may be committed here (section 3.6.1)."""
        ours = self.last_term()
        return term > ours or (term == ours and index >= self.last_index())

    def entries(self, first: i64, max_bytes: i64) -> list[Entry]:
        """From ``first`` on to the end, within ``max_bytes``; one at least, if there is any. ``first`` is there."""
        return self._between(first, self.last_index(), max_bytes)

    def _between(self, first: i64, last: i64, max_bytes: i64) -> list[Entry]:
        if first > last:
            return []
        if first >= self.offset:
            at = first - self.offset
            if at == 0 and last == self.last_index():
                return within(self.unstable[:], max_bytes)
            return within(self.unstable[at : last - self.offset + 1], max_bytes)
        stored_last = min(last, self.offset - 1)
        found = self._storage.entries(first, stored_last, max_bytes)
        if stored_last == last or len(found) < stored_last - first + 1:
            return found
        return within(found + self.unstable[: last - stored_last], max_bytes)

    def find_conflict_by_term(self, index: i64, term: i64) -> tuple[i64, i64]:
        """The last entry at or before ``index`` whose term is not larger than ``term``, and its term; a term of 0
        where that is not known. Which entries may be equal, by what one side knows of the other's: at most one
        append per term is refused (section 5.3 of the Raft paper, end)."""
        while index > 0:
            ours = self.term(index)
            if ours == UNKNOWN:
                return index, 0
            if ours <= term:
                return index, ours
            if index < self.offset and self.unstable_snapshot is None:
                index = self._storage.term_start(index) - 1
            else:
                index -= 1
        return 0, 0

    def has_unapplied_conf_change(self) -> bool:
        """Whether one is committed and not applied: nobody may stand for election meanwhile, by the old members."""
        pending = self._conf_changes
        return bool(pending) and pending[0] <= self.committed

    # -- What comes

    def append(self, entries: list[Entry]) -> None:
        """They stand behind what is there, or replace what stands at their indexes and all behind; never what is
        committed."""
        first = entries[0].index
        if first <= self.committed:
            raise AssertionError(f"entry {first} would replace a committed one, {self.committed}")
        if first == self.last_index() + 1:
            self.unstable += entries
        elif first <= self.offset:
            self.offset = first
            self.unstable = entries[:]
        else:
            del self.unstable[first - self.offset :]
            self.unstable += entries
        conf_changes = self._conf_changes
        while conf_changes and conf_changes[-1] >= first:
            conf_changes.pop()
        for entry in entries:
            if entry.kind == CONF_CHANGE:
                conf_changes.append(entry.index)

    def maybe_append(self, index: i64, term: i64, entries: list[Entry]) -> bool:
        """What a leader has behind the entry at ``index`` (section 3.5). False: that entry is not the same here.

        Entries that are here are left alone, and so is what follows them: an append of long ago must not take away
        what came since.
        """
        if not self.matches(index, term):
            return False
        at: i64 = 0
        for entry in entries:
            if not self.matches(entry.index, entry.term):
                self.append(entries[at:] if at > 0 else entries)
                break
            at += 1
        return True

    def commit_to(self, index: i64) -> None:
        """Everything up to there is committed; what is, stays so."""
        if index > self.committed:
            if index > self.last_index():
                raise AssertionError(f"entry {index} is said to be committed, the last one here is {self.last_index()}")
            self.committed = index

    def restore(self, snapshot: Snapshot) -> None:
        """The leader's snapshot takes the place of the log."""
        self.committed = snapshot.index
        self.offset = snapshot.index + 1
        self.unstable = []
        self.unstable_snapshot = snapshot
        self._conf_changes = []

    # -- What is handed out

    def take_unstable(self) -> list[Entry]:
        """The entries that were not handed out yet: from now on the storage has them."""
        entries = self.unstable
        if entries:
            self.offset += len(entries)
            self.unstable = []
        return entries

    def take_snapshot(self) -> Snapshot | None:
        """The snapshot that was not handed out yet: from now on the storage, and the state machine, have it."""
        snapshot = self.unstable_snapshot
        if snapshot is not None:
            self.unstable_snapshot = None
            self.applying = snapshot.index
            self.applied = snapshot.index
            self._applying_bytes = 0
        return snapshot

    def has_committed(self) -> bool:
        """Whether something may be handed out to be applied."""
        return (
            self.applying < self.committed
            and self._applying_bytes < self._max_applying_bytes
            and self.unstable_snapshot is None
        )

    def take_committed(self) -> list[Entry]:
        """What is committed and was not handed out to be applied yet, within the limit of bytes."""
        if not self.has_committed():
            return []
        entries = self._between(self.applying + 1, self.committed, self._max_applying_bytes - self._applying_bytes)
        self.applying += len(entries)
        self._applying_bytes += total_size(entries)
        return entries

    def applied_to(self, index: i64, size: i64) -> None:
        """The state machine has applied everything up to there; ``size`` are the bytes it took for that."""
        if index <= self.applied:
            return
        if index > self.applying:
            raise AssertionError(f"entry {index} cannot be applied, {self.applying} was handed out last")
        self.applied = index
        self._applying_bytes -= size
        conf_changes = self._conf_changes
        while conf_changes and conf_changes[0] <= index:
            conf_changes.pop(0)
