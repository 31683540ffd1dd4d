"""The log of a node that keeps nothing: whoever writes to a log and waits for the disk does so here too, and need not
know that there is none. Raft groups are told that their entries are saved, contents are forgotten.
"""

from __future__ import annotations

from typing import Final, final

from broker.native import i64
from broker.store.commit_group import CommitGroup, CommitGroupHost, CommitGroupWriter
from broker.store.log import Log
from broker.store.logs import Logs
from broker.turn import Turn

ENTRIES_KEPT: Final[i64] = 1024
"""A group with more entries than this, and than a sixteenth of the bytes of its last snapshot, takes another one: what
is known of each entry is in memory."""
_NO_FILE: Final[i64] = -1


@final
class Nowhere(CommitGroupHost):
    """What is appended is as good as on the disk at the end of the turn."""

    def __init__(self, turn: Turn) -> None:
        self.logs = Logs(turn.clock)
        batch = CommitGroupWriter(1, self)
        batch.turn = turn
        self.logs.attach(batch)
        self._faults = turn.clock.faults
        self._is_syncing = False

    def sync(self) -> None:
        if self._is_syncing:
            return  # whoever is told now appends again: that is taken below
        batch = self.logs.batch
        self._is_syncing = True
        try:
            while batch.holders == 0 and batch.has_something():
                self._commit(batch.take())
        finally:
            self._is_syncing = False

    def _commit(self, group: CommitGroup) -> None:
        logs = self.logs
        logs.batch.committed()
        group.tell(logs.batch.durable_through, self._faults)
        touched = logs.by_file.get(int(_NO_FILE))
        logs.forget_file(_NO_FILE)
        for log in [] if touched is None else touched:
            _shorten(log)


def _shorten(log: Log) -> None:
    """Let a snapshot stand for the entries of a group, if they are many."""
    group = log.group
    if group is None or log.dropped:
        return
    owner = group.owner
    if owner is not None and log.positions.live() > ENTRIES_KEPT + len(group.snapshot) // 16:
        owner.compact()
