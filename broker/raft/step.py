"""A message on its way to what a member makes of it: its term first, then its kind and the member's role."""

from __future__ import annotations

from broker.raft.election import handle_vote_request, hup, hup_for_transfer, poll
from broker.raft.follower import handle_append, handle_heartbeat, handle_snapshot
from broker.raft.leader import handle_match, step_leader
from broker.raft.message import (
    APPEND,
    APPEND_RESPONSE,
    FORGET_LEADER,
    HEARTBEAT,
    NOBODY,
    PRE_VOTE,
    PRE_VOTE_RESPONSE,
    PROPOSE,
    READ_INDEX,
    READ_INDEX_RESPONSE,
    SNAPSHOT,
    TIMEOUT_NOW,
    TRANSFER_LEADER,
    VOTE,
    VOTE_RESPONSE,
    Message,
)
from broker.raft.raft import CANDIDATE, FOLLOWER, LEADER, PRE_CANDIDATE, Raft, ReadState
from broker.raft.replication import broadcast_heartbeat


def step(raft: Raft, message: Message) -> bool:
    """What a message changes. False: a proposal that is refused, which may be made again later."""
    term = message.term
    if term > raft.term:
        if not _take_higher_term(raft, message):
            return True
    elif 0 < term < raft.term:
        _answer_lower_term(raft, message)
        return True
    kind = message.kind
    if kind in (VOTE, PRE_VOTE):
        handle_vote_request(raft, message)
        return True
    if raft.role == LEADER:
        return step_leader(raft, message)
    if raft.role == FOLLOWER:
        return _step_follower(raft, message)
    return _step_candidate(raft, message)


def _take_higher_term(raft: Raft, message: Message) -> bool:
    """A term that is ahead of ours becomes ours (section 3.3). False: the message means nothing to us."""
    kind = message.kind
    if kind in (VOTE, PRE_VOTE):
        in_lease = (
            raft.options.check_quorum and raft.lead != NOBODY and raft.election_elapsed < raft.options.election_tick
        )
        # We hear of a leader: whoever does not, or was removed, must not disturb (section 4.2.3).
        if in_lease and not message.is_transfer:
            return False
    if kind == PRE_VOTE or (kind == PRE_VOTE_RESPONSE and not message.reject):
        return True  # a term that may never begin
    is_from_leader = kind in (APPEND, HEARTBEAT, SNAPSHOT)
    raft.become_follower(message.term, message.sender if is_from_leader else NOBODY)
    return True


def _answer_lower_term(raft: Raft, message: Message) -> None:
    """Of a term that has passed: ignored, but for what would leave the sender waiting forever."""
    kind = message.kind
    if (kind in (HEARTBEAT, APPEND)) and (raft.options.check_quorum or raft.options.pre_vote or raft.repair_to > 0):
        # A leader who does not know of our term, and whom no request for votes will tell of it: we may be in a lease,
        # or ask before we stand for election, or do not stand because of damage.
        raft.send(Message(APPEND_RESPONSE, message.sender))
    elif kind == PRE_VOTE or (kind == VOTE and not raft.options.pre_vote):
        # Without pre-votes, the only candidate that could win might run after the terms of the others forever.
        answer = Message(PRE_VOTE_RESPONSE if kind == PRE_VOTE else VOTE_RESPONSE, message.sender, 0, raft.term)
        answer.reject = True
        raft.send(answer)


def _step_candidate(raft: Raft, message: Message) -> bool:
    kind = message.kind
    if kind == PROPOSE:
        return False
    if kind in (APPEND, HEARTBEAT, SNAPSHOT):
        raft.become_follower(message.term, message.sender)  # somebody else was elected in this term
        _hear_leader(raft, message)
    elif (kind == VOTE_RESPONSE and raft.role == CANDIDATE) or (
        kind == PRE_VOTE_RESPONSE and raft.role == PRE_CANDIDATE
    ):
        poll(raft, message.sender, not message.reject)
    return True


def _step_follower(raft: Raft, message: Message) -> bool:
    kind = message.kind
    if kind == PROPOSE:
        if raft.lead == NOBODY:
            return False
        raft.forward(message)
    elif kind in (APPEND, HEARTBEAT, SNAPSHOT):
        raft.election_elapsed = 0
        raft.lead = message.sender
        _hear_leader(raft, message)
    elif kind in (TRANSFER_LEADER, READ_INDEX):
        if raft.lead != NOBODY:
            raft.forward(message)
    elif kind == FORGET_LEADER:
        raft.lead = NOBODY
    elif kind == TIMEOUT_NOW:
        hup_for_transfer(raft)
    elif kind == READ_INDEX_RESPONSE:
        raft.read_states.append(ReadState(message.index, message.context))
    return True


def _hear_leader(raft: Raft, message: Message) -> None:
    if message.kind == APPEND:
        handle_append(raft, message)
    elif message.kind == HEARTBEAT:
        handle_heartbeat(raft, message)
    else:
        handle_snapshot(raft, message)


def tick(raft: Raft) -> None:
    """A tick of time has passed."""
    raft.election_elapsed += 1
    if raft.role != LEADER:
        if raft.is_promotable() and raft.election_elapsed >= raft.election_timeout:
            raft.election_elapsed = 0
            hup(raft)
        return
    raft.heartbeat_elapsed += 1
    options = raft.options
    if raft.election_elapsed >= options.election_tick:
        raft.election_elapsed = 0
        if options.check_quorum and not raft.tracker.quorum_active(raft.id):
            raft.become_follower(raft.term, NOBODY)  # others may have elected somebody else (section 6.2)
            return
        raft.transferee = NOBODY  # whoever was to lead did not make it
    if raft.heartbeat_elapsed >= options.heartbeat_tick:
        raft.heartbeat_elapsed = 0
        broadcast_heartbeat(raft)


def own_vote_saved(raft: Raft) -> None:
    """Our vote for ourselves is on the disk: now it counts."""
    if raft.role == CANDIDATE:
        poll(raft, raft.id, True)


def own_entries_saved(raft: Raft, index: int) -> None:
    """What we have appended is on the disk up to ``index``: now our own copy counts."""
    progress = raft.tracker.progress.get(raft.id)
    if raft.role == LEADER and progress is not None:
        handle_match(raft, raft.id, index, progress)
