"""How a leader is elected (dissertation, section 3.4), and asked for beforehand (section 9.6)."""

from __future__ import annotations

from broker.native import i64
from broker.raft.message import NOBODY, PRE_VOTE, PRE_VOTE_RESPONSE, VOTE, VOTE_RESPONSE, Message
from broker.raft.raft import LEADER, PRE_CANDIDATE, Raft
from broker.raft.replication import broadcast_append
from broker.raft.tracker import VOTE_LOST, VOTE_WON


def hup(raft: Raft) -> None:
    """No leader was heard of for long enough: stand for election."""
    if _may_campaign(raft):
        if raft.options.pre_vote:
            _pre_campaign(raft)
        else:
            _campaign(raft, False)


def hup_for_transfer(raft: Raft) -> None:
    """The leader hands over. Nobody is asked beforehand: we know that we are not coming back from a partition."""
    if _may_campaign(raft):
        _campaign(raft, True)


def _may_campaign(raft: Raft) -> bool:
    # A configuration that is committed and not applied here decides who votes: we would ask the wrong ones.
    return raft.role != LEADER and raft.is_promotable() and not raft.log.has_unapplied_conf_change()


def _pre_campaign(raft: Raft) -> None:
    raft.become_pre_candidate()
    _ask_for_votes(raft, PRE_VOTE, raft.term + 1, False)
    poll(raft, raft.id, True)  # it promises nothing, so that it need not be on the disk


def _campaign(raft: Raft, is_transfer: bool) -> None:
    raft.become_candidate()
    _ask_for_votes(raft, VOTE, raft.term, is_transfer)


def _ask_for_votes(raft: Raft, kind: i64, term: i64, is_transfer: bool) -> None:
    index = raft.log.last_index()
    log_term = raft.log.last_term()
    for voter in raft.tracker.configuration.voters:
        if voter != raft.id:
            message = Message(kind, voter, 0, term)
            message.index = index
            message.log_term = log_term
            message.is_transfer = is_transfer
            raft.send(message)


def poll(raft: Raft, member: i64, granted: bool) -> None:
    """A vote for us or against us, our own among them."""
    raft.tracker.record_vote(member, granted)
    result = raft.tracker.tally()
    if result == VOTE_WON:
        if raft.role == PRE_CANDIDATE:
            _campaign(raft, False)
        elif raft.tracker.has_voted(raft.id):
            # Not before its own vote, and so its term, is on the disk, even if the others are enough: after a crash
            # it could be elected again in this term, and append other entries at the same indexes.
            raft.become_leader()
            broadcast_append(raft)
    elif result == VOTE_LOST:
        raft.become_follower(raft.term, NOBODY)


def handle_vote_request(raft: Raft, message: Message) -> None:
    """Somebody stands for election, or asks whether he could: yes if we have not voted for somebody else in this term,
    and his log has all that may be committed (section 3.6.1).

    Learners vote as well: one that was made a voter may not know it yet, and be needed for a majority.
    """
    kind = message.kind
    may_vote = (
        raft.vote == message.sender
        or (raft.vote == NOBODY and raft.lead == NOBODY)
        or (kind == PRE_VOTE and message.term > raft.term)
    )
    granted = may_vote and raft.is_repaired() and raft.log.is_up_to_date(message.index, message.log_term)
    answer_kind = VOTE_RESPONSE if kind == VOTE else PRE_VOTE_RESPONSE
    # A grant bears the term that was asked for, which may be ahead of ours: the other would ignore an older one.
    answer = Message(answer_kind, message.sender, 0, message.term if granted else raft.term)
    answer.reject = not granted
    raft.send(answer)
    if granted and kind == VOTE:
        raft.election_elapsed = 0
        raft.vote = message.sender
