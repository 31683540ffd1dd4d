"""Members that come and go, one change at a time (dissertation, chapter 4)."""

from __future__ import annotations

from broker.native import i64
from broker.raft.configuration import ConfChange, Configuration
from broker.raft.entry import CONF_CHANGE, NORMAL, Entry
from broker.raft.message import NOBODY
from broker.raft.raft import LEADER, Raft
from broker.raft.replication import broadcast_append, send_append


def check_proposal(raft: Raft, entries: list[Entry]) -> None:
    """A change that comes while another one may not be applied becomes an entry without meaning: two at once could
    give two majorities without a common member (section 4.1). Whoever proposed it finds out when that is applied."""
    at: i64 = 0
    for entry in entries:
        if entry.kind == CONF_CHANGE:
            if raft.pending_conf_index > raft.log.applied:
                entries[at] = Entry(NORMAL, None, 0)
            else:
                raft.pending_conf_index = raft.log.last_index() + at + 1
        at += 1


def apply_conf_change(raft: Raft, change: ConfChange) -> Configuration:
    """A change that was applied is in force from now on. Returns the members, to be kept with the next snapshot."""
    if raft.log.unstable_snapshot is not None:
        # it was handed out before: the snapshot stands for it and for what followed, and its members are in force
        raft.replaced = raft.replaced.changed(change)
        return raft.replaced
    configuration = raft.tracker.configuration.changed(change)
    raft.tracker.switch(configuration, raft.log.last_index())
    _act(raft)
    return configuration


def _act(raft: Raft) -> None:
    """What follows for a leader."""
    if raft.role != LEADER:
        return
    if not raft.tracker.is_voter(raft.id):
        raft.become_follower(raft.term, NOBODY)  # it has led up to its own removal (section 4.2.2)
        return
    if raft.maybe_commit():  # the majority may have become smaller
        broadcast_append(raft)
    else:
        for member in raft.tracker.progress:
            if member != raft.id:
                send_append(raft, member, False)
    if raft.transferee != NOBODY and not raft.tracker.is_voter(raft.transferee):
        raft.transferee = NOBODY
