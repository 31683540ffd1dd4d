"""What a leader does with what it is asked for and answered (dissertation, sections 3.5, 3.10 and 6.4)."""

from __future__ import annotations

from broker.native import i64
from broker.raft.membership import check_proposal
from broker.raft.message import (
    APPEND_RESPONSE,
    HEARTBEAT_RESPONSE,
    NOBODY,
    PROPOSE,
    READ_INDEX,
    READ_INDEX_RESPONSE,
    SNAPSHOT_STATUS,
    TRANSFER_LEADER,
    UNREACHABLE,
    Message,
)
from broker.raft.progress import PROBE, REPLICATE, SNAPSHOTTING, Progress
from broker.raft.raft import Raft, ReadState
from broker.raft.reads import Reads
from broker.raft.replication import broadcast_append, broadcast_heartbeat, send_append, send_timeout_now


def step_leader(raft: Raft, message: Message) -> bool:
    """False: a proposal that is refused."""
    kind = message.kind
    if kind == PROPOSE:
        return _propose(raft, message)
    if kind == READ_INDEX:
        _read_index(raft, message)
        return True
    progress = raft.tracker.progress.get(message.sender)
    if progress is None:
        return True  # removed
    if kind == APPEND_RESPONSE:
        progress.recent_active = True
        if message.reject:
            _handle_rejection(raft, message, progress)
        else:
            handle_match(raft, message.sender, message.index, progress)
    elif kind == HEARTBEAT_RESPONSE:
        _handle_heartbeat_response(raft, message, progress)
    elif kind == SNAPSHOT_STATUS:
        _handle_snapshot_status(message, progress)
    elif kind == UNREACHABLE:
        if progress.state == REPLICATE:
            progress.become_probe()  # what was on its way is probably lost
    elif kind == TRANSFER_LEADER:
        _transfer(raft, message.sender, progress)
    return True


def _propose(raft: Raft, message: Message) -> bool:
    if raft.id not in raft.tracker.progress or raft.transferee != NOBODY:
        return False
    check_proposal(raft, message.entries)
    if not raft.append(message.entries):
        return False
    broadcast_append(raft)
    return True


# -- Answers


def _handle_rejection(raft: Raft, message: Message, progress: Progress) -> None:
    """The logs are not equal where we thought. The member says how far it may be, and up to which term: what we have
    of larger terms there cannot be equal (section 5.3 of the Raft paper, end)."""
    hint = message.reject_hint
    if message.log_term > 0:
        hint, _ = raft.log.find_conflict_by_term(hint, message.log_term)
    if message.is_damaged and message.reject_hint < progress.match:
        progress.lost(hint)
        send_append(raft, message.sender, True)
    elif progress.decrease(message.index, hint):
        if progress.state == REPLICATE:
            progress.become_probe()
        send_append(raft, message.sender, True)


def handle_match(raft: Raft, member: i64, index: i64, progress: Progress) -> None:
    """A member, or we ourselves, have everything up to ``index`` on the disk."""
    if not progress.update(index) and not (progress.match == index and progress.state == PROBE):
        return
    if progress.state == PROBE:
        progress.become_replicate()
    elif progress.state == SNAPSHOTTING:
        if progress.match + 1 >= raft.log.first_index():
            progress.become_probe()
            progress.become_replicate()
    else:
        progress.inflights.free_through(index)
    is_other = member != raft.id
    if raft.maybe_commit():
        _release_reads(raft)
        broadcast_append(raft)
    elif is_other and progress.can_bump_commit(raft.log.committed):
        send_append(raft, member, True)
    if not is_other:
        return
    while send_append(raft, member, False):  # what waited for there to be room
        pass
    if member == raft.transferee and progress.match == raft.log.last_index():
        send_timeout_now(raft, member)


def _handle_heartbeat_response(raft: Raft, message: Message, progress: Progress) -> None:
    progress.recent_active = True
    progress.is_paused = False  # what it was paused for is lost, or it would have been answered before
    if progress.match < raft.log.last_index() or progress.state == PROBE:
        send_append(raft, message.sender, True)
    reads = raft.reads
    if reads is None or message.context == 0:
        return
    reads.acknowledge(message.sender, message.context)
    for asked, committed in reads.confirm(raft.tracker.configuration.voters):
        _answer_read(raft, asked, committed)


def _handle_snapshot_status(message: Message, progress: Progress) -> None:
    """The snapshot arrived, or did not. Either way the next append waits for an answer or a heartbeat's: the member
    has to take the snapshot first, or somebody has to look after it."""
    if progress.state != SNAPSHOTTING:
        return
    if message.reject:
        progress.pending_snapshot = 0
    progress.become_probe()
    progress.is_paused = True


# -- Leadership is handed over


def _transfer(raft: Raft, member: i64, progress: Progress) -> None:
    """The member stands for election as soon as it has everything; no proposals meanwhile (section 3.10)."""
    if progress.is_learner or raft.transferee == member:
        return
    raft.transferee = NOBODY
    if member == raft.id:
        return
    raft.election_elapsed = 0  # it has an election timeout for it
    raft.transferee = member
    if progress.match == raft.log.last_index():
        send_timeout_now(raft, member)
    else:
        send_append(raft, member, True)


# -- Reads


def _read_index(raft: Raft, message: Message) -> None:
    reads = raft.reads
    if reads is None:
        raft.reads = reads = Reads()
    if raft.has_committed_in_term():
        _ask_majority(raft, reads, message)
    else:
        reads.waiting.append(message)


def _ask_majority(raft: Raft, reads: Reads, message: Message) -> None:
    if raft.tracker.is_single(raft.id):  # not before it knows what is committed: it may have forgotten in a crash
        _answer_read(raft, message, raft.log.committed)
        return
    reads.add(message, raft.log.committed)
    reads.acknowledge(raft.id, reads.last())
    broadcast_heartbeat(raft)


def _release_reads(raft: Raft) -> None:
    """Now that an entry of this term is committed."""
    reads = raft.reads
    if reads is not None and reads.waiting and raft.has_committed_in_term():
        waiting = reads.waiting
        reads.waiting = []
        for message in waiting:
            _ask_majority(raft, reads, message)


def _answer_read(raft: Raft, message: Message, committed: i64) -> None:
    if message.sender == NOBODY or message.sender == raft.id:
        raft.read_states.append(ReadState(committed, message.context))
        return
    answer = Message(READ_INDEX_RESPONSE, message.sender)
    answer.index = committed
    answer.context = message.context
    raft.send(answer)
