"""What the owner of a group talks to (etcd/raft's RawNode).

    node.tick() / node.step(message) / node.propose(entries)
    ready = node.ready()          if node.has_ready()
        the storage takes ready.snapshot, ready.entries and ready.hard_state, in this order
        ready.messages are sent; they need not wait for the disk (dissertation, section 10.2.1)
        the state machine takes ready.snapshot and ready.committed; what it was given before a snapshot and has not
        applied yet is dropped
    node.applied(index, size)     once the state machine has applied them
    node.saved(ready)             once all of it is on the disk: then ready.responses are sent

More may be asked for with ``ready`` before the last one is saved; they are saved in their order. Nothing here waits,
and nothing is thrown away: what is not handed out yet comes with the next ``ready``.
"""

from __future__ import annotations

from typing import final

from broker.native import i64
from broker.raft.configuration import ConfChange, Configuration
from broker.raft.election import hup
from broker.raft.entry import CONF_CHANGE, Entry
from broker.raft.membership import apply_conf_change
from broker.raft.message import (
    APPEND_RESPONSE,
    FORGET_LEADER,
    HEARTBEAT_RESPONSE,
    NOBODY,
    PRE_VOTE_RESPONSE,
    PROPOSE,
    READ_INDEX,
    READ_INDEX_RESPONSE,
    SNAPSHOT_STATUS,
    TRANSFER_LEADER,
    UNREACHABLE,
    VOTE_RESPONSE,
    Message,
    Snapshot,
)
from broker.raft.raft import LEADER, Options, Raft, Randomness, ReadState
from broker.raft.step import own_entries_saved, own_vote_saved, step, tick
from broker.raft.storage import HardState, Storage


@final
class Ready:
    """What is to be done now."""

    def __init__(self, raft: Raft) -> None:
        log = raft.log
        self.hard_state: HardState | None = None
        """What changed of it must be saved."""
        self.must_sync = False
        """There is something in it that ``saved`` must wait for the disk for; a commit index alone need not be."""
        self.snapshot: Snapshot | None = log.take_snapshot()
        self.committed: list[Entry] = log.take_committed()
        """To be applied, behind the snapshot."""
        # behind what is committed, which may be among them: the storage does not have them yet
        self.entries: list[Entry] = log.take_unstable()
        self.messages: list[Message] = raft.messages
        self.responses: list[Message] = raft.requests + raft.responses if raft.requests else raft.responses
        self.read_states: list[ReadState] = raft.read_states
        self.term: i64 = raft.term
        self.last_index: i64 = log.last_index()
        """With this ready, everything up to here has been handed out."""
        self.votes_for_itself: bool = raft.votes_for_itself
        raft.messages = []
        raft.requests = []
        raft.responses = []
        raft.read_states = []
        raft.votes_for_itself = False


@final
class RawNode:
    """A member of a group, for its owner."""

    def __init__(self, member: i64, storage: Storage, applied: i64, options: Options, randomness: Randomness) -> None:
        """``applied``: up to where the state machine has applied what is in the log."""
        self.raft = Raft(member, storage, applied, options, randomness)
        self._term: i64 = self.raft.term
        self._vote: i64 = self.raft.vote
        self._commit: i64 = self.raft.log.committed

    # -- What happens

    def tick(self) -> None:
        """A tick of time has passed."""
        tick(self.raft)

    def step(self, message: Message) -> bool:
        """A message from another member. False: a proposal in it is refused.

        An answer from somebody who does not belong to the group, as far as we know, means nothing: whoever was removed
        goes on with terms of its own, and must not bring a leader down with them (section 4.2.3).
        """
        kind = message.kind
        answers = kind in (APPEND_RESPONSE, VOTE_RESPONSE, HEARTBEAT_RESPONSE, READ_INDEX_RESPONSE, PRE_VOTE_RESPONSE)
        if answers and message.sender not in self.raft.tracker.progress:
            return True
        return step(self.raft, message)

    def campaign(self) -> None:
        """Stand for election now."""
        hup(self.raft)

    def propose(self, entries: list[Entry]) -> bool:
        """These are to become entries of the log, which they are once they are handed out as committed. They are ours
        from now on. False: there is no leader, or he has too much that is not committed, or he is handing over."""
        message = Message(PROPOSE, NOBODY)
        message.entries = entries
        return step(self.raft, message)

    def propose_conf_change(self, change: ConfChange) -> bool:
        """The same for a change of the members. Another one that is on its way makes an empty entry of it."""
        data = change.encode()
        return self.propose([Entry(CONF_CHANGE, data, len(data))])

    def apply_conf_change(self, change: ConfChange) -> Configuration:
        """For each entry of that kind that is applied, in its place; one of ``NOBODY`` if it is not wanted any more.
        What is returned belongs into the snapshots from there on."""
        return apply_conf_change(self.raft, change)

    def read_index(self, context: i64) -> None:
        """A ``ReadState`` with ``context`` says when a read may be answered. It may never come: ask again then."""
        message = Message(READ_INDEX, NOBODY)
        message.context = context
        step(self.raft, message)

    def transfer_leader(self, member: i64) -> None:
        """This one should lead."""
        step(self.raft, Message(TRANSFER_LEADER, NOBODY, member))

    def forget_leader(self) -> None:
        """The leader is known to be gone, as when his node is: nobody has to wait for the election timeout to vote."""
        step(self.raft, Message(FORGET_LEADER, NOBODY))

    def report_unreachable(self, member: i64) -> None:
        """What was sent to it lately did not get there."""
        step(self.raft, Message(UNREACHABLE, NOBODY, member))

    def report_snapshot(self, member: i64, failed: bool) -> None:
        """The snapshot that was sent to it has arrived, or will not. It must be told."""
        message = Message(SNAPSHOT_STATUS, NOBODY, member)
        message.reject = failed
        step(self.raft, message)

    # -- What is to be done

    def has_ready(self) -> bool:
        """Whether ``ready`` has anything."""
        raft = self.raft
        log = raft.log
        return (
            bool(raft.messages)
            or bool(raft.responses)
            or bool(raft.requests)
            or bool(log.unstable)
            or log.has_committed()
            or raft.term != self._term
            or raft.vote != self._vote
            or log.committed != self._commit
            or log.unstable_snapshot is not None
            or bool(raft.read_states)
        )

    def ready(self) -> Ready:
        """What is to be done; it counts as handed out."""
        raft = self.raft
        ready = Ready(raft)
        committed = raft.log.committed
        if raft.term != self._term or raft.vote != self._vote or committed != self._commit:
            ready.hard_state = raft.hard_state()
            ready.must_sync = raft.term != self._term or raft.vote != self._vote
            self._term = raft.term
            self._vote = raft.vote
            self._commit = committed
        ready.must_sync = ready.must_sync or bool(ready.entries) or ready.snapshot is not None
        return ready

    def saved(self, ready: Ready) -> None:
        """All of it is on the disk, and of those before it as well."""
        raft = self.raft
        if raft.term != ready.term:
            return  # what it was for has passed
        if ready.votes_for_itself:
            own_vote_saved(raft)
        elif raft.role == LEADER and ready.entries:
            own_entries_saved(raft, ready.last_index)

    def applied(self, index: i64, size: i64) -> None:
        """The state machine has applied everything up to there, which were ``size`` bytes of what was handed out."""
        raft = self.raft
        raft.log.applied_to(index, size)
        if raft.role == LEADER:
            raft.uncommitted_bytes = max(raft.uncommitted_bytes - size, 0)
