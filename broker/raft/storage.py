"""Where a group's log is kept: what the core reads of it. The owner of the core writes it, as ``Ready`` says.

What ``Ready`` hands out stands in the storage before the core is asked anything else, whether or not it is on the disk
yet: that is told later (``RawNode.saved``).
"""

from __future__ import annotations

from typing import Final, final

from mypy_extensions import mypyc_attr

from broker.native import i64
from broker.raft.configuration import Configuration
from broker.raft.entry import CONF_CHANGE, Entry, within
from broker.raft.message import Snapshot

UNKNOWN: Final[i64] = -1
"""In place of a term: the entry is not there, or not any more."""


@final
class HardState:
    """What a member must know again after a crash, besides its entries (dissertation, section 3.8)."""

    def __init__(self, term: i64 = 0, vote: i64 = 0, commit: i64 = 0) -> None:
        self.term: i64 = term
        self.vote: i64 = vote
        """Whom it has voted for in this term, 0: nobody."""
        self.commit: i64 = commit
        """Known to be committed. It may be behind after a crash: it need not be synced."""

    def __repr__(self) -> str:
        return f"<HardState term={self.term} vote={self.vote} commit={self.commit}>"


@final
class InitialState:
    """What a start found."""

    def __init__(self, hard_state: HardState, configuration: Configuration, repair_to: i64 = 0) -> None:
        self.hard_state = hard_state
        self.configuration = configuration
        """In force at the last entry that the state machine has applied."""
        self.repair_to: i64 = repair_to
        """Entries up to this index may have been acknowledged, and some of them are lost to damage; 0: none are. The
        member neither votes nor stands for election until a leader has brought its log up to there."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Storage:
    """The log of one group. Indexes begin at 1; what a snapshot stands for is gone, but for the term of its last
    entry."""

    def initial_state(self) -> InitialState:
        """What the group starts from."""
        raise NotImplementedError

    def first_index(self) -> i64:
        """The first entry that is there, or would be: the one behind the snapshot."""
        raise NotImplementedError

    def last_index(self) -> i64:
        """The last entry; the snapshot's when there is none."""
        raise NotImplementedError

    def term(self, index: i64) -> i64:
        """Of the entry at ``index``, also of the last one that the snapshot stands for; ``UNKNOWN`` for all others."""
        raise NotImplementedError

    def term_start(self, index: i64) -> i64:
        """The first entry there is from which on up to ``index`` all have the same term."""
        raise NotImplementedError

    def entries(self, first: i64, last: i64, max_bytes: i64) -> list[Entry]:
        """Those from ``first`` to ``last``, which are there, up to ``max_bytes`` of data; one at least."""
        raise NotImplementedError

    def conf_changes(self, behind: i64) -> list[int]:
        """The indexes of the entries behind this one that change the configuration, ascending."""
        raise NotImplementedError

    def snapshot(self) -> Snapshot | None:
        """For a member that needs entries which are gone; None while there is none ready."""
        raise NotImplementedError


@final
class MemoryStorage(Storage):
    """All of it in memory: for tests, and for what need not outlast its process."""

    def __init__(self, state: InitialState) -> None:
        self._state = state
        self._snapshot = Snapshot(0, 0, state.configuration)
        self._entries: list[Entry] = []

    def initial_state(self) -> InitialState:
        """What was given, or set since."""
        return self._state

    def set_state(self, state: InitialState) -> None:
        """What the next core starts from."""
        self._state = state

    def first_index(self) -> i64:
        """Behind the snapshot."""
        return self._snapshot.index + 1

    def last_index(self) -> i64:
        """The last entry's."""
        return self._snapshot.index + len(self._entries)

    def term(self, index: i64) -> i64:
        """The entry's."""
        at = index - self._snapshot.index
        if at == 0:
            return self._snapshot.term
        return self._entries[at - 1].term if 0 < at <= len(self._entries) else UNKNOWN

    def term_start(self, index: i64) -> i64:
        """One entry after the other is looked at."""
        term = self.term(index)
        while index > self._snapshot.index + 1 and self.term(index - 1) == term:
            index -= 1
        return index

    def entries(self, first: i64, last: i64, max_bytes: i64) -> list[Entry]:
        """The same objects that were appended."""
        at = first - self._snapshot.index - 1
        return within(self._entries[at : last - self._snapshot.index], max_bytes)

    def conf_changes(self, behind: i64) -> list[int]:
        """One entry after the other is looked at."""
        return [entry.index for entry in self._entries if entry.kind == CONF_CHANGE and entry.index > behind]

    def snapshot(self) -> Snapshot | None:
        """The last one, if there was one."""
        return self._snapshot if self._snapshot.index > 0 else None

    def append(self, entries: list[Entry]) -> None:
        """The entries of a ``Ready``: they replace what stands at their indexes, and all behind (section 3.5)."""
        if entries:
            del self._entries[entries[0].index - self._snapshot.index - 1 :]
            self._entries += entries

    def install(self, snapshot: Snapshot) -> None:
        """The snapshot of a ``Ready``: it stands for everything that was there."""
        self._snapshot = snapshot
        self._entries = []

    def compact(self, snapshot: Snapshot) -> None:
        """A snapshot of our own stands for the entries up to its index."""
        del self._entries[: snapshot.index - self._snapshot.index]
        self._snapshot = snapshot
