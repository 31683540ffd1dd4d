"""What a follower does with what its leader sends (dissertation, sections 3.5 and 5.3)."""

from __future__ import annotations

from broker.raft.message import APPEND_RESPONSE, HEARTBEAT_RESPONSE, Message, Snapshot
from broker.raft.raft import Raft
from broker.raft.tracker import Tracker


def handle_append(raft: Raft, message: Message) -> None:
    """Entries behind one that both have; or where ours may be equal, if that one is not."""
    log = raft.log
    answer = Message(APPEND_RESPONSE, message.sender)
    if message.index < log.committed:
        answer.index = log.committed
    elif log.maybe_append(message.index, message.log_term, message.entries):
        answer.index = message.index + len(message.entries)
        log.commit_to(min(message.commit, answer.index))
        if answer.index >= raft.repair_to:
            raft.repair_to = 0
    else:
        answer.index = message.index
        answer.reject = True
        answer.is_damaged = raft.repair_to > 0
        hint, term = log.find_conflict_by_term(min(message.index, log.last_index()), message.log_term)
        answer.reject_hint = hint
        answer.log_term = term
    raft.send(answer)


def handle_heartbeat(raft: Raft, message: Message) -> None:
    """There is a leader, and so much of what we have is committed."""
    # a leader knows of a member that lost some of its log only once an append was refused
    raft.log.commit_to(message.commit if raft.repair_to == 0 else min(message.commit, raft.log.last_index()))
    answer = Message(HEARTBEAT_RESPONSE, message.sender)
    answer.context = message.context
    raft.send(answer)


def handle_snapshot(raft: Raft, message: Message) -> None:
    """A state for which the entries are gone."""
    snapshot = message.snapshot
    answer = Message(APPEND_RESPONSE, message.sender)
    if snapshot is not None and _restore(raft, snapshot):
        answer.index = raft.log.last_index()
    else:
        answer.index = raft.log.committed
    raft.send(answer)


def _restore(raft: Raft, snapshot: Snapshot) -> bool:
    """Whether it takes the place of the log. It does not where it has nothing new.

    We need not belong to its members: one that was added behind it finds that in the entries that follow, and whoever
    is not a voter stands for no election.
    """
    log = raft.log
    if snapshot.index <= log.committed:
        return False
    if log.matches(snapshot.index, snapshot.term):
        log.commit_to(snapshot.index)  # the entries are here, and it says that they are committed
        if snapshot.index >= raft.repair_to:
            raft.repair_to = 0
        return False
    if log.unstable_snapshot is None:
        raft.replaced = raft.tracker.configuration
    log.restore(snapshot)
    if snapshot.index >= raft.repair_to:
        raft.repair_to = 0
    raft.tracker = Tracker(snapshot.configuration, snapshot.index)
    return True
