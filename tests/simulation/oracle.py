"""What must hold whatever happens: looked at behind every call of a core, and at everything that leaves a member.

Most of it is a comparison with what was seen before anywhere. An entry is known by its index and term; whoever writes
it must have the same entry before it as all others that have written it, so that equal entries mean equal logs up to
there (log matching), and one look at the last committed entry says that a leader has all of them.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from broker.raft.configuration import Configuration
from broker.raft.entry import CONF_CHANGE, Entry
from broker.raft.message import APPEND_RESPONSE, VOTE, VOTE_RESPONSE, Message, Snapshot
from broker.raft.raft import LEADER
from broker.raft.storage import UNKNOWN

if TYPE_CHECKING:
    from tests.simulation.disk import MemberLog
    from tests.simulation.member import Member


class Violation(AssertionError):
    """Something that must not be."""


class Oracle:
    """Everything that was promised so far."""

    def __init__(self, founded: Configuration) -> None:
        self.counts: Counter[str] = Counter()
        self.logs: dict[int, MemberLog] = {}
        """Of everybody who ever was, the lost ones as they were."""
        self.members: dict[int, Member] = {}
        self.leaders: dict[int, int] = {}
        """Who was elected, by term."""
        self.committed = 0
        """The last entry known to be committed."""
        self.terms: list[int] = [0]
        """Of the committed entries, by their index."""
        self._committed_by: dict[int, int] = {}
        """The last entry that a leader found committed, by his term."""
        self._votes: dict[tuple[int, int], int] = {}
        self._written: dict[tuple[int, int], tuple[int, int, object]] = {}
        """Term of the entry before, kind and data, by index and term."""
        self._digests: list[object] = [None]
        """Of a machine that has applied so many entries."""
        self.configurations: list[tuple[int, Configuration]] = [(0, founded)]
        """As they were applied, with the index of the entry."""
        self.reads: dict[int, int] = {}
        """What was committed when a read was asked for, by its number."""

    # -- The log

    def wrote(self, member: Member, entries: list[Entry]) -> None:
        """It has written these; its log has them already."""
        first = entries[0].index
        if first <= member.written_commit:
            raise Violation(f"{member} replaces entry {first}, and {member.written_commit} was committed before")
        before = member.log.term(first - 1)
        if before == UNKNOWN:
            raise Violation(f"{member} has written entry {first} with none before it")
        written = self._written
        changes = False
        for entry in entries:
            key = (entry.index, entry.term)
            ours = (before, entry.kind, entry.data)
            if written.setdefault(key, ours) != ours:
                raise Violation(f"{member}: two entries {key}: {ours} and {written[key]}")
            before = entry.term
            changes = changes or entry.kind == CONF_CHANGE
        if changes and len(member.log.conf_changes(max(self.committed, member.log.first_index() - 1))) > 1:
            raise Violation(f"{member} has two changes of the members that are not committed")

    def installed(self, member: Member, snapshot: Snapshot) -> None:
        """It takes a snapshot instead of its log."""
        index = snapshot.index
        if index > self.committed or snapshot.term != self.terms[index]:
            raise Violation(f"{member} installs {snapshot}, and {self.committed} is committed")
        if snapshot.data != self._digests[index]:
            raise Violation(f"{member} installs {snapshot} with another state than those who have applied as much")
        if snapshot.configuration != self.configuration_at(index):
            raise Violation(f"{member} installs {snapshot}, the members were {self.configuration_at(index)}")
        self.counts["snapshots installed"] += 1

    def commits(self, member: Member, index: int) -> None:
        """Its commit index has changed."""
        raft = member.raft
        if index < member.commit:
            raise Violation(f"{member} takes back that {member.commit} is committed, now {index}")
        if index > self.committed:
            if raft.role != LEADER:
                raise Violation(f"{member} says that {index} is committed, and no leader has said so")
            self._leader_commits(member, index)
        elif raft.log.term(index) != self.terms[index]:
            raise Violation(f"{member}: entry {index} has term {raft.log.term(index)}, committed {self.terms[index]}")

    def _leader_commits(self, member: Member, index: int) -> None:
        raft = member.raft
        log = raft.log
        if log.term(self.committed) != self.terms[self.committed]:
            raise Violation(f"{member} commits {index} on a log without committed entry {self.committed}")
        self.terms += [log.term(at) for at in range(self.committed + 1, index + 1)]
        self.counts["commits"] += index - self.committed
        self.committed = index
        term = self.terms[index]
        if term != raft.term:
            raise Violation(f"{member} commits {index}, of term {term}, by counting (section 3.6.2)")
        self._committed_by[raft.term] = index
        voters = raft.tracker.configuration.voters
        synced = [voter for voter in voters if self.logs[voter].has_synced(index, term)]
        if 2 * len(synced) <= len(voters):
            raise Violation(f"{member} commits {index}, which only {synced} of {voters} have on their disks")
        for other in self.members.values():  # one that was elected later must have it
            if other.term > raft.term and other.is_up and other.raft.role == LEADER:
                self._check_complete(other)

    # -- Elections

    def elected(self, member: Member) -> None:
        """It leads, as it says."""
        raft = member.raft
        term = raft.term
        if self.leaders.setdefault(term, member.number) != member.number:
            raise Violation(f"{member} was elected in term {term}, and {self.leaders[term]} before")
        self.counts["elections"] += 1
        hard_state = member.log.synced_hard_state()
        if hard_state.term != term or hard_state.vote != member.number:
            raise Violation(f"{member} leads term {term} with {hard_state} on its disk")
        self._votes[member.number, term] = member.number
        voters = raft.tracker.configuration.voters
        granted = [voter for voter in voters if self._votes.get((voter, term)) == member.number]
        if 2 * len(granted) <= len(voters) or member.number not in voters:
            raise Violation(f"{member} leads term {term} with the votes of {granted} of {voters}")
        if member.log.must_repair_to() > 0:
            raise Violation(f"{member} leads, and has lost entries")
        self._check_complete(member)

    def _check_complete(self, member: Member) -> None:
        term = member.raft.term
        known = max((index for before, index in self._committed_by.items() if before < term), default=0)
        if member.raft.log.term(known) != self.terms[known]:
            raise Violation(f"{member} leads term {term} without entry {known}, which was committed before")

    def responds(self, member: Member, message: Message) -> None:
        """A message leaves that had to wait for the disk."""
        kind = message.kind
        if message.reject:
            return
        if kind == VOTE_RESPONSE:
            term = message.term
            if self._votes.setdefault((member.number, term), message.to) != message.to:
                raise Violation(f"{member} votes for {message.to} in term {term}, and for another before")
            hard_state = member.log.synced_hard_state()
            if hard_state.term < term or (hard_state.term == term and hard_state.vote != message.to):
                raise Violation(f"{member} votes for {message.to} in term {term} with {hard_state} on its disk")
            if member.log.must_repair_to() > 0:
                raise Violation(f"{member} votes, and has lost entries")
        elif kind == VOTE:
            hard_state = member.log.synced_hard_state()
            if hard_state.term < message.term:
                raise Violation(f"{member} asks for votes in term {message.term} with {hard_state} on its disk")
        elif kind == APPEND_RESPONSE:
            term = member.log.synced_hard_state().term
            if term < message.term:
                raise Violation(f"{member} answers in term {message.term}, its disk has term {term}")
            # a later leader's entries may have taken the place of those since
            if term == message.term and member.log.synced_last() < message.index:
                last = member.log.synced_last()
                raise Violation(f"{member} acknowledges {message.index}, its disk has entries up to {last}")

    def sends(self, member: Member, message: Message) -> None:
        """A message leaves that need not wait for the disk."""
        if message.kind in (VOTE, VOTE_RESPONSE, APPEND_RESPONSE):
            raise Violation(f"{member} does not wait for the disk with {message}")

    def started(self, member: Member) -> None:
        """It was started again from its disk."""
        raft = member.raft
        promised = max((term for number, term in self._votes if number == member.number), default=0)
        if raft.term < promised:
            raise Violation(f"{member} starts in term {raft.term}, and has voted in term {promised}")
        vote = self._votes.get((member.number, raft.term), raft.vote)
        if vote != raft.vote:
            raise Violation(f"{member} starts without its vote for {vote} in term {raft.term}")

    # -- The state machine

    def applied(self, member: Member, entry: Entry) -> None:
        """Its machine has just applied this one."""
        index = entry.index
        if index > self.committed or entry.term != self.terms[index]:
            raise Violation(f"{member} applies {entry}, committed are entries up to {self.committed}")
        digest = member.machine.digest()
        if index == len(self._digests):
            self._digests.append(digest)
        elif digest != self._digests[index]:
            raise Violation(f"{member} has another state than others at entry {index}")

    def configured(self, member: Member, index: int, configuration: Configuration) -> None:
        """It has applied a change of the members."""
        if index > self.configurations[-1][0]:
            if configuration != self.configurations[-1][1]:
                self.counts["membership changes"] += 1
            self.configurations.append((index, configuration))
        elif configuration != self.configuration_at(index):
            raise Violation(f"{member} has {configuration} at {index}, others {self.configuration_at(index)}")

    def configuration_at(self, index: int) -> Configuration:
        """The members behind this entry."""
        return next(known for since, known in reversed(self.configurations) if since <= index)

    # -- Reads

    def asked(self, number: int) -> None:
        """A read with this number is asked for."""
        self.reads[number] = self.committed

    def read(self, member: Member, number: int, index: int) -> None:
        """It may be answered by a machine that has applied ``index``."""
        if index < self.reads[number]:
            raise Violation(f"{member} reads at {index}, when it asked {self.reads[number]} was committed")
        self.counts["reads"] += 1
