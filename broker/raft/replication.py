"""What a leader sends so that the others' logs become equal to its own (dissertation, sections 3.5, 5.4 and 10.2)."""

from __future__ import annotations

from broker.native import i64
from broker.raft.entry import total_size
from broker.raft.message import APPEND, HEARTBEAT, SNAPSHOT, TIMEOUT_NOW, Message
from broker.raft.progress import REPLICATE, Progress
from broker.raft.raft import Raft
from broker.raft.storage import UNKNOWN


def send_append(raft: Raft, member: i64, even_if_empty: bool) -> bool:
    """What comes next for this member, or a snapshot if that is gone. An append without entries tells of what is
    committed, and asks for an answer. Whether something was sent."""
    progress = raft.tracker.progress[member]
    if not progress.may_send():
        return False
    log = raft.log
    options = raft.options
    previous = progress.next - 1
    term = log.term(previous)
    if term == UNKNOWN or progress.next < log.first_index():
        return _send_snapshot(raft, member, progress)
    message = Message(APPEND, member)
    # A member whose appends have all been lost would be waited for forever: one without entries asks again.
    if progress.state != REPLICATE or not progress.is_full(options.max_inflight_messages, options.max_inflight_bytes):
        message.entries = log.entries(progress.next, options.max_message_bytes)
    if not message.entries and not even_if_empty:
        return False
    message.index = previous
    message.log_term = term
    message.commit = log.committed
    raft.send(message)
    progress.sent(
        len(message.entries), total_size(message.entries), options.max_inflight_messages, options.max_inflight_bytes
    )
    progress.sent_commit = log.committed
    return True


def _send_snapshot(raft: Raft, member: i64, progress: Progress) -> bool:
    """To a member that was heard of lately; nobody else would take it."""
    if not progress.recent_active:
        return False
    snapshot = raft.log.unstable_snapshot
    if snapshot is None:
        snapshot = raft.storage.snapshot()
    if snapshot is None:
        return False
    progress.become_snapshot(snapshot.index)
    message = Message(SNAPSHOT, member)
    message.snapshot = snapshot
    raft.send(message)
    return True


def broadcast_append(raft: Raft) -> None:
    """To everybody who may be sent something."""
    for member in raft.tracker.progress:
        if member != raft.id:
            send_append(raft, member, True)


def broadcast_heartbeat(raft: Raft) -> None:
    """To everybody, with the reads that wait. A member is told of no more that is committed than it has: what stands
    behind may be something else in its log (section 3.5)."""
    context: i64 = 0 if raft.reads is None else raft.reads.last()
    for member, progress in raft.tracker.progress.items():
        if member != raft.id:
            message = Message(HEARTBEAT, member)
            message.commit = min(progress.match, raft.log.committed)
            message.context = context
            raft.send(message)
            progress.sent_commit = message.commit


def send_timeout_now(raft: Raft, member: i64) -> None:
    """It is to stand for election at once (section 3.10)."""
    raft.send(Message(TIMEOUT_NOW, member))
