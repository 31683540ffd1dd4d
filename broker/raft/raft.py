"""One member of a group: its state, and how it changes from follower to candidate to leader (dissertation, chapter 3).

The rules stand beside it, each a module of functions that are given the member: ``election`` (chapters 3.4 and 9.6),
``replication`` (3.5, 10.2), ``follower``, ``leader``, ``membership`` (chapter 4), ``reads`` (6.4); ``step`` sends a
message to the one it is for, and ``raw_node`` is what the owner of a group talks to.
"""

from __future__ import annotations

from typing import Final, final

from mypy_extensions import mypyc_attr

from broker.native import i64
from broker.raft.entry import NORMAL, Entry, total_size
from broker.raft.message import (
    APPEND_RESPONSE,
    NOBODY,
    PRE_VOTE,
    PRE_VOTE_RESPONSE,
    PROPOSE,
    READ_INDEX,
    VOTE,
    VOTE_RESPONSE,
    Message,
)
from broker.raft.raft_log import RaftLog
from broker.raft.reads import Reads
from broker.raft.storage import HardState, Storage
from broker.raft.tracker import Tracker

FOLLOWER: Final[i64] = 0
CANDIDATE: Final[i64] = 1
LEADER: Final[i64] = 2
PRE_CANDIDATE: Final[i64] = 3

ROLES: Final = ("follower", "candidate", "leader", "pre-candidate")


@mypyc_attr(allow_interpreted_subclasses=True)
class Randomness:
    """Where random numbers come from: the core has no source of its own, so that a run can be repeated."""

    def below(self, limit: i64) -> i64:
        """A number from 0 to ``limit - 1``."""
        raise NotImplementedError


@final
class Options:
    """What all groups of a node have in common. Times are in ticks."""

    def __init__(
        self, election_tick: i64 = 10, heartbeat_tick: i64 = 1, check_quorum: bool = True, pre_vote: bool = True
    ) -> None:
        if heartbeat_tick <= 0 or election_tick <= heartbeat_tick:
            raise ValueError("an election has to take longer than a heartbeat, and a heartbeat takes a tick at least")
        self.election_tick: i64 = election_tick
        """A follower that hears of no leader for this long, and up to as long again, stands for election."""
        self.heartbeat_tick: i64 = heartbeat_tick
        self.check_quorum = check_quorum
        """A leader that hears of no majority for an election timeout steps down, and whoever hears of a leader votes
        for nobody else (sections 6.2 and 4.2.3)."""
        self.pre_vote = pre_vote
        """Whoever would stand for election asks first whether it could win, and disturbs nobody otherwise (section
        9.6)."""
        self.max_message_bytes: i64 = 1024 * 1024
        """Data of one append; a larger entry is sent alone."""
        self.max_applying_bytes: i64 = 16 * 1024 * 1024
        """Data of what is handed out to be applied and is not applied yet."""
        self.max_uncommitted_bytes: i64 = 64 * 1024 * 1024
        """Data that a leader has and knows not to be committed yet; beyond it proposals are refused. One may always
        be."""
        self.max_inflight_messages: i64 = 256
        """Appends to one member that are not answered yet."""
        self.max_inflight_bytes: i64 = 16 * 1024 * 1024
        """Their data."""


@final
class ReadState:
    """A read that was asked for may be answered from a state machine that has applied everything up to ``index``."""

    def __init__(self, index: i64, context: i64) -> None:
        self.index: i64 = index
        self.context: i64 = context
        """What the read was asked for with."""


@final
class Raft:
    """A member."""

    def __init__(self, member: i64, storage: Storage, applied: i64, options: Options, randomness: Randomness) -> None:
        state = storage.initial_state()
        hard_state = state.hard_state
        self.id: i64 = member
        self.options = options
        self.randomness = randomness
        self.log = RaftLog(storage, applied, options.max_applying_bytes)
        self.storage = storage
        self.tracker = Tracker(state.configuration, self.log.last_index())
        self.replaced = state.configuration
        """While a snapshot was not handed out yet: the members that the state machine has, which may still be applying
        what came before."""
        self.term: i64 = hard_state.term
        self.vote: i64 = hard_state.vote
        self.repair_to: i64 = state.repair_to
        commit = hard_state.commit
        self.log.commit_to(commit if self.repair_to == 0 else min(commit, self.log.last_index()))
        self.role: i64 = FOLLOWER
        self.lead: i64 = NOBODY
        self.transferee: i64 = NOBODY
        """Whom leadership is being handed to (section 3.10)."""
        self.pending_conf_index: i64 = 0
        """The last change of the configuration in the log, if there is one, is here or before: no other one may be
        proposed until this is applied."""
        self.uncommitted_bytes: i64 = 0
        self.reads: Reads | None = None
        """Of a leader, once it was asked for one."""
        self.read_states: list[ReadState] = []
        self.messages: list[Message] = []
        """May leave at once."""
        self.requests: list[Message] = []
        """Promises, and the first to leave: requests for votes. Whoever is about to stand for election as well hears of
        ours before a grant of ours lets him, or both would share the votes."""
        self.responses: list[Message] = []
        """Promises: they leave when everything that was handed out before them is on the disk (section 3.8). Requests
        for votes are some: a candidate that forgets its term could lead it twice, with two logs."""
        self.votes_for_itself = False
        """It stands for election, and its own vote counts once it is on the disk."""
        self.election_elapsed: i64 = 0
        """Ticks since the last election timeout; of a follower, since it heard of its leader."""
        self.heartbeat_elapsed: i64 = 0
        self.election_timeout: i64 = 0
        """Drawn anew with every change of the role."""
        self._reset(self.term)

    # -- The roles

    def become_follower(self, term: i64, lead: i64) -> None:
        """Somebody else leads, or nobody does."""
        self._reset(term)
        self.lead = lead
        self.role = FOLLOWER

    def become_pre_candidate(self) -> None:
        """It asks whether it could win: neither its term nor its vote changes."""
        self.tracker.reset_votes()
        self.lead = NOBODY
        self.role = PRE_CANDIDATE

    def become_candidate(self) -> None:
        """It stands for election in the next term, and votes for itself."""
        self._reset(self.term + 1)
        self.vote = self.id
        self.votes_for_itself = True
        self.role = CANDIDATE

    def become_leader(self) -> None:
        """It was elected. An entry of its own term is appended at once: only with one of those does it know what is
        committed (section 3.6.2)."""
        self._reset(self.term)
        self.lead = self.id
        self.role = LEADER
        ourselves = self.tracker.progress[self.id]
        ourselves.become_replicate()
        ourselves.recent_active = True
        # there may be one that is not applied; looking for it would not be worth it
        self.pending_conf_index = self.log.last_index()
        self.append([Entry(NORMAL, None, 0)])

    def _reset(self, term: i64) -> None:
        if self.term != term:
            self.term = term
            self.vote = NOBODY
        self.lead = NOBODY
        self.votes_for_itself = False
        self.election_elapsed = 0
        self.heartbeat_elapsed = 0
        self._draw_election_timeout()
        self.transferee = NOBODY
        self.tracker.reset_votes()
        last = self.log.last_index()
        for member, progress in self.tracker.progress.items():
            progress.reset(last + 1)
            if member == self.id:
                progress.match = last
        self.pending_conf_index = 0
        self.uncommitted_bytes = 0
        self.reads = None

    def _draw_election_timeout(self) -> None:
        """Once to twice the election timeout, and never the same for two members of a group: who wakes alone wins
        (section 9.3 shows what equal timeouts cost). Who may wake first goes around with the terms: if it were the same
        one each time, and could not be elected because its log is behind, it would keep all others from standing."""
        spread = self.options.election_tick
        voters = self.tracker.configuration.voters
        count: i64 = len(voters)
        if 1 < count <= spread and self.id in voters:
            rank: i64 = (voters.index(self.id) + self.term) % count
            self.election_timeout = spread + rank + count * self.randomness.below((spread - rank + count - 1) // count)
        else:
            self.election_timeout = spread + self.randomness.below(spread)

    def is_promotable(self) -> bool:
        """Whether it may stand for election: it is a voter, and knows its log."""
        return self.tracker.is_voter(self.id) and self.log.unstable_snapshot is None and self.is_repaired()

    def is_repaired(self) -> bool:
        """Whether it has everything again that it may have acknowledged before its disk was damaged."""
        return self.repair_to == 0

    # -- What it says

    def send(self, message: Message) -> None:
        """To be handed out with the next ``Ready``."""
        kind = message.kind
        message.sender = self.id
        if kind != VOTE and kind != PRE_VOTE and kind != VOTE_RESPONSE and kind != PRE_VOTE_RESPONSE:
            message.term = self.term
        if kind == VOTE:
            self.requests.append(message)
        elif kind in (APPEND_RESPONSE, VOTE_RESPONSE, PRE_VOTE_RESPONSE):
            self.responses.append(message)
        else:
            self.messages.append(message)

    def forward(self, message: Message) -> None:
        """To the leader, from whom it came: a proposal or a read, or that he may hand over his leadership."""
        message.to = self.lead
        if message.sender == NOBODY:
            message.sender = self.id
        message.term = 0 if message.kind == PROPOSE or message.kind == READ_INDEX else self.term
        self.messages.append(message)

    # -- The log

    def append(self, entries: list[Entry]) -> bool:
        """Of a leader: they get their indexes. False where too much is not committed yet."""
        size = total_size(entries)
        uncommitted = self.uncommitted_bytes
        if uncommitted > 0 and size > 0 and uncommitted + size > self.options.max_uncommitted_bytes:
            return False
        self.uncommitted_bytes = uncommitted + size
        index = self.log.last_index()
        term = self.term
        for entry in entries:
            index += 1
            entry.term = term
            entry.index = index
        self.log.append(entries)
        return True

    def maybe_commit(self) -> bool:
        """Of a leader: whether more is committed now. An entry of an earlier term is not counted, but committed with
        the first of this term (section 3.6.2)."""
        index = self.tracker.committed()
        if index > self.log.committed and self.log.matches(index, self.term):
            self.log.commit_to(index)
            return True
        return False

    def has_committed_in_term(self) -> bool:
        """Whether an entry of this term is committed: before that a leader does not know what is (section 6.4)."""
        return self.log.term(self.log.committed) == self.term

    def hard_state(self) -> HardState:
        """What has to survive."""
        return HardState(self.term, self.vote, self.log.committed)
