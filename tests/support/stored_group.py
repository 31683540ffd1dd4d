"""The log of a Raft group on a store (tests/support/store.py): its member does what the test says."""

from __future__ import annotations

from broker.cluster.group_log import GroupLog
from broker.raft.configuration import Configuration
from broker.raft.entry import NORMAL, Entry
from broker.raft.message import Snapshot
from broker.raft.storage import HardState
from broker.store.group_state import GroupOwner
from broker.store.log import Log
from tests.support.store import Running


class StoredGroup(GroupOwner):
    """One member of a group of three, on one run of the store."""

    def __init__(self, running: Running, log: Log) -> None:
        self.log = GroupLog(running.logs, log, Configuration([1, 2, 3]))
        self.applied = 0
        """A snapshot may stand for the entries up to there."""
        log.group_state().owner = self
        self._running = running

    def append(self, term: int, *data: bytes | None, index: int = 0) -> None:
        """Entries from ``index`` on, or behind the last one, and one sync."""
        first = index or int(self.log.last_index()) + 1
        self.log.append([Entry(NORMAL, each, len(each or b""), term, first + at) for at, each in enumerate(data)])
        self._running.sync()

    def vote(self, term: int, vote: int, commit: int) -> None:
        """A hard state, and one sync."""
        self.log.write_hard_state(HardState(term, vote, commit))
        self._running.sync()

    def gather(self) -> None:
        """Nothing is said to be coming."""

    def compact(self) -> None:
        """Called when a file with records of the group is about to be emptied."""
        if self.applied > self.log.snapshot_index:
            members = Configuration([1, 2], [3])
            term = self.log.term(self.applied)
            self.log.compact(Snapshot(self.applied, term, members, state_after(self.applied)))

    def found(self) -> dict[str, object]:
        """What a start has found of it, as JSON has it. Once."""
        self.log.recover(False)
        log, hard = self.log, self.log.log.group_state()
        return {
            "term": int(hard.term),
            "vote": int(hard.vote),
            "commit": int(hard.commit),
            "snapshot": [int(log.snapshot_index), int(log.snapshot_term), log.state().decode()],
            "voters": [int(member) for member in log.configuration.voters],
            "learners": [int(member) for member in log.configuration.learners],
            "entries": [
                [int(entry.index), int(entry.term), None if entry.data is None else entry.data[:8].decode()]
                for entry in log.recovered
                if entry.data is None or isinstance(entry.data, bytes)
            ],
            "repair_to": int(log.repair_to),
        }


def state_after(index: int) -> bytes:
    """The state machine's bytes of a snapshot."""
    return b"everything up to %d" % index
