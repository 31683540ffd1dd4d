"""Events that happen to the members of a Raft group, as lines of text, and what each line comes to in our core.

tests/comparison/etcd_raft answers the same lines from etcd/raft v3.7.0, with the same text where both do the same:
every field of the state that is listed below, and every field of every message, in the order in which a member sends
them. tests/comparison/test_etcd_raft.py compares the two, and tests/unit/raft/test_recorded_streams.py compares with
answers that were written down.

    new COUNT VOTERS LEARNERS PRE_VOTE CHECK_QUORUM ELECTION HEARTBEAT MESSAGE APPLYING UNCOMMITTED INFLIGHT BYTES SALT
                        the first line: so many members with an empty disk, who was in the group when it was founded,
                        the options; ``-`` is nobody, or no limit
    T                   a tick for everybody
    t M                 a tick for member M
    d A B N             the Nth message from A to B, counted from 0, arrives (again)
    p M SIZE ...        M is asked to propose entries of so many bytes; ``+K``, ``-K`` and ``*K`` are changes of the
                        configuration: K becomes a voter, goes, becomes a learner
    h M                 M stands for election
    x M K               M is asked to hand over to K
    r M N               M is asked for a read
    s M                 a snapshot takes the place of the entries that M has applied
    y M K F             the snapshot that was sent to K has failed (1) or arrived (0)
    u M K               K cannot be reached
    f M                 M forgets its leader
    R M S               M starts again, with (1) or without (0) the state of its state machine
    g M                 nothing but what is to be done
    ~ ...               the same event, and what M is to do waits for the next event without the mark
    = ...               the same event, and what M is to do is begun, as long as nothing else is: it is saved and sent,
                        and waits to be applied and for the core to be told

What is to be done is done behind each event without a mark: saved, sent, applied, until nothing is left. The answer is
``.``, or for each member its number and what has changed of its state since the last answer (``news``), ``!`` for a
refused proposal, ``?INDEX:N`` for a read that may be answered, and the messages (``message_text``).

What the two cores do differently on purpose, and how it is kept out of the comparison:

- The election timeout is random. Both are given one that follows from the member, its term and the salt.
- etcd/raft counts the size of an encoded entry where we count its data (for the limits of an append and of what is
  handed out to be applied). Sizes and limits are multiples of 5,000 bytes, so that what encoding adds makes no
  difference; an entry that changes the configuration counts as its 4 bytes.
- Reads that wait for the first commit of a term are lost with the leadership, as those are that were asked for later.
  etcd/raft keeps them, and answers them if the same member leads again; the harness lets them go.
- A read's context is an entry there and a number here; it is written as the number. The same holds for the kind of a
  change of the configuration, which is encoded differently.
- We count our own pre-vote at once, etcd/raft when what stands before it is saved; and we lead only once our own vote
  is saved, where etcd/raft does as soon as the others are enough. The generator lets nothing wait (``~``, ``=``) of a
  member that stands for election.
- Whether requests for votes may leave before the disk has the term: they stand at one place in both orders.
- Without pre-votes, a request for votes of an older term is rejected here, and not answered there. It does not reach
  our core.
- A single voter answers a read at once there, and here once an entry of its term is committed. The generator asks for
  none in between.
- A change of the configuration that was handed out before a snapshot, and is applied behind it, counts once more there.
  The generator lets nothing wait when a snapshot comes.
- A leader that appended twice before anything was handed out counts its own copy twice there, and once here. The
  generator lets one append wait at most.
- A member takes a snapshot in which it is not among the members; etcd/raft ignores it. The generator loses those.
- The last voter cannot be removed; there, the caller has to see to that. The harness does what etcd does in such a
  case: it applies a change of member 0.
"""

from __future__ import annotations

from typing import Final

from broker.native import i64
from broker.raft.configuration import ADD_LEARNER, ADD_VOTER, REMOVE, ConfChange, Configuration, decode_conf_change
from broker.raft.entry import CONF_CHANGE, NORMAL, Entry
from broker.raft.message import (
    APPEND_RESPONSE,
    NOBODY,
    PRE_VOTE_RESPONSE,
    PROPOSE,
    VOTE,
    VOTE_RESPONSE,
    Message,
    Snapshot,
)
from broker.raft.progress import SNAPSHOTTING, Progress
from broker.raft.raft import LEADER, Options, Randomness, ReadState
from broker.raft.raw_node import RawNode, Ready
from broker.raft.storage import HardState, InitialState, MemoryStorage

NO_LIMIT: Final = 1 << 62
CONF_CHANGE_BYTES: Final = 4
MARKS: Final = ("~", "=")
CHANGES: Final = {"+": ADD_VOTER, "-": REMOVE, "*": ADD_LEARNER}


class Zero(Randomness):
    """The smallest timeout: it is replaced behind each event."""

    def below(self, limit: i64) -> i64:
        return 0


def configuration_text(members: list[int], between: str = ",") -> str:
    """Their numbers."""
    return between.join(str(member) for member in members)


def entry_text(entry: Entry) -> str:
    """Term, index, and what it is."""
    if entry.kind == CONF_CHANGE:
        assert isinstance(entry.data, bytes)
        change = decode_conf_change(entry.data)
        return f"{entry.term}/{entry.index}~{change.kind}.{change.member}"
    return f"{entry.term}/{entry.index}" + (f"={entry.data}" if entry.data else "")


def message_text(message: Message) -> str:
    """To whom, the kind, and every field that is not 0: sender (o), term (t), index (i), term of that entry (g), commit
    index (c), rejection (R) and its hint (h), transfer (T), read (x), entries, snapshot (S)."""
    fields = {
        "o": message.sender,
        "t": message.term,
        "i": message.index,
        "g": message.log_term,
        "c": message.commit,
        "R": "" if message.reject else 0,
        "h": message.reject_hint,
        "T": "" if message.is_transfer else 0,
        "x": message.context,
    }
    text = f">{message.to}:{message.kind}"
    for name, value in fields.items():
        if value != 0:
            text += f",{name}{value}"
    if message.entries:
        text += "," + ";".join([entry_text(entry) for entry in message.entries])
    snapshot = message.snapshot
    if snapshot is not None:
        voters = configuration_text(snapshot.configuration.voters, "+")
        learners = configuration_text(snapshot.configuration.learners, "+")
        text += f",S{snapshot.term}/{snapshot.index}/{voters}/{learners}/{snapshot.data}"
    return text


def _place(message: Message) -> int:
    """Where it stands among those that are handed out together: requests for votes behind what may leave at once, and
    before the answers, which wait for the disk."""
    if message.kind in (APPEND_RESPONSE, VOTE_RESPONSE, PRE_VOTE_RESPONSE):
        return 2
    return 1 if message.kind == VOTE else 0


def progress_text(progress: Progress) -> str:
    """Probe, replicate or snapshot; match and next, the snapshot's index; whether it is paused (p), active (a)."""
    text = f"{'PRS'[progress.state]}{progress.match},{progress.next}"
    if progress.state == SNAPSHOTTING:
        text += f",{progress.pending_snapshot}"
    return text + ("p" if progress.is_paused else "") + ("a" if progress.recent_active else "")


def received(message: Message) -> Message:
    """A message as it comes off the network, where it may come again: what the core changes of it is new."""
    copy = Message(message.kind, message.to, message.sender, message.term)
    copy.index = message.index
    copy.log_term = message.log_term
    copy.commit = message.commit
    copy.entries = message.entries[:]
    if message.kind == PROPOSE:
        copy.entries = [Entry(entry.kind, entry.data, entry.size) for entry in message.entries]
    copy.reject = message.reject
    copy.reject_hint = message.reject_hint
    copy.context = message.context
    copy.is_transfer = message.is_transfer
    copy.is_damaged = message.is_damaged
    copy.snapshot = message.snapshot
    return copy


class Member:
    """A member with its disk and a state machine that is a checksum."""

    def __init__(self, number: int, world: World) -> None:
        self.number = number
        self.world = world
        self.configuration = world.founded
        self.storage = MemoryStorage(InitialState(HardState(), world.founded))
        self.hard_state = HardState()
        self.applied = 0
        self.digest = 0
        self.snapshot = Snapshot(0, 0, world.founded, 0)
        self.open: Ready | None = None
        """What was handed out and is not finished."""
        self.sent: list[Message] = []
        self.read_states: list[ReadState] = []
        self.refused = False
        self.said: dict[str, object] = {}
        self.start()

    def start(self) -> None:
        """A core for what the disk has."""
        self.storage.set_state(InitialState(self.hard_state, self.configuration))
        self.node = RawNode(self.number, self.storage, self.applied, self.world.options, Zero())
        self.set_timeout()

    def restart(self, keep_state: bool) -> None:
        """Everything but the disk is lost; without the state of the machine it begins with the snapshot's."""
        if not keep_state:
            state = self.snapshot.data
            assert isinstance(state, int)
            self.applied = self.snapshot.index
            self.digest = state
            self.configuration = self.snapshot.configuration
        self.open = None
        self.start()

    def set_timeout(self) -> None:
        """In place of a random one."""
        ticks = self.world.options.election_tick
        raft = self.node.raft
        raft.election_timeout = ticks + (self.number * 7 + raft.term * 5 + self.world.salt) % ticks

    def handle(self) -> None:
        """All that is to be done."""
        while self.open is not None or self.node.has_ready():
            self.begin()
            if self.open is not None:
                self._finish(self.open)

    def begin(self) -> None:
        """What is to be saved and sent now, unless something else is not finished. Nothing waits behind a snapshot."""
        if self.open is not None or not self.node.has_ready():
            return
        ready = self.open = self.node.ready()
        if ready.snapshot is not None:
            state = ready.snapshot.data
            assert isinstance(state, int)
            self.storage.install(ready.snapshot)
            self.snapshot = ready.snapshot
            self.configuration = ready.snapshot.configuration
            self.digest = state
            self.applied = ready.snapshot.index
        self.storage.append(ready.entries)
        if ready.hard_state is not None:
            self.hard_state = ready.hard_state
        self.sent += sorted(ready.messages + ready.responses, key=_place)
        self.read_states += ready.read_states
        if ready.snapshot is not None:
            self.handle()

    def _finish(self, ready: Ready) -> None:
        """It is applied, and the core is told that it is saved and applied."""
        size = 0
        for entry in ready.committed:
            self._apply(entry)
            size += entry.size
        self.node.saved(ready)
        if ready.committed:
            self.node.applied(self.applied, size)
        self.open = None

    def _apply(self, entry: Entry) -> None:
        label = entry.data if isinstance(entry.data, int) else 0
        if entry.kind == CONF_CHANGE:
            assert isinstance(entry.data, bytes)
            change = decode_conf_change(entry.data)
            label = change.kind * 16 + change.member
            self.configuration = self.node.apply_conf_change(change)
        self.digest = (self.digest * 31 + entry.index * 7 + entry.term * 3 + label) % (1 << 32)
        self.applied = entry.index

    def compact(self) -> None:
        """A snapshot stands for everything that was applied."""
        if self.applied >= self.storage.first_index():
            term = self.storage.term(self.applied)
            self.snapshot = Snapshot(self.applied, term, self.configuration, self.digest)
            self.storage.compact(self.snapshot)

    def news(self) -> list[str]:
        """What is different from what was said last: role, term, vote, commit and applied index, leader; last index,
        its term and first index on the disk; to whom leadership is handed over, where a change of the configuration may
        be pending, uncommitted bytes, ticks since the election timeout and the heartbeat, the state machine's checksum,
        voters and learners, and of a leader the progress of each member."""
        raft = self.node.raft
        last = self.storage.last_index()
        said: dict[str, object] = {
            "r": "FCLP"[raft.role],
            "t": raft.term,
            "v": raft.vote,
            "c": raft.log.committed,
            "a": raft.log.applied,
            "l": raft.lead,
            "n": last,
            "m": self.storage.term(last),
            "f": self.storage.first_index(),
            "x": raft.transferee,
            "q": raft.pending_conf_index,
            "u": raft.uncommitted_bytes,
            "e": raft.election_elapsed,
            "b": raft.heartbeat_elapsed,
            "d": self.digest,
        }
        if raft.role == LEADER:
            for member, progress in raft.tracker.progress.items():
                said[f"p{member}="] = progress_text(progress)
        said["V"] = configuration_text(raft.tracker.configuration.voters)
        said["L"] = configuration_text(raft.tracker.configuration.learners)
        before, self.said = self.said, said
        return [f"{name}{value}" for name, value in said.items() if before.get(name) != value]


class World:
    """The members, and everything that one has ever sent to another."""

    def __init__(self, line: str) -> None:
        words = line.split()[1:]
        count, voters, learners, pre_vote, check_quorum, election, heartbeat, *limits, salt = words
        message, applying, uncommitted, inflight, inflight_bytes = [
            NO_LIMIT if limit == "-" else int(limit) for limit in limits
        ]
        self.options = Options(int(election), int(heartbeat), check_quorum == "1", pre_vote == "1")
        self.options.max_message_bytes = message
        self.options.max_applying_bytes = applying
        self.options.max_uncommitted_bytes = uncommitted
        self.options.max_inflight_messages = inflight
        self.options.max_inflight_bytes = inflight_bytes
        self.salt = int(salt)
        self.founded = Configuration(
            *([] if text == "-" else [int(each) for each in text.split(",")] for text in (voters, learners))
        )
        self.members = {number: Member(number, self) for number in range(1, int(count) + 1)}
        self.sent: dict[tuple[int, int], list[Message]] = {}
        self.newest: list[tuple[int, int, int]] = []
        """What was sent since this was emptied: from, to, number."""
        self._labels = 0

    def run(self, line: str) -> str:
        """What an event comes to."""
        mark, *words = line.split()
        touched = self.happen(words if mark in MARKS else [mark, *words])
        self.do(mark, touched)
        return self.answer(touched)

    def happen(self, words: list[str]) -> list[Member]:
        """The event itself, and whose it is. What is to be done waits."""
        kind, *rest = words
        if kind == "T":
            for member in self.members.values():
                member.node.tick()
            return list(self.members.values())
        if kind == "d":
            sender, to, at = [int(word) for word in rest]
            member = self.members[to]
            message = received(self.sent[sender, to][at])
            is_late = message.kind == VOTE and message.term < member.node.raft.term and not self.options.pre_vote
            if not is_late:
                member.refused = not member.node.step(message) or member.refused
            return [member]
        member = self.members[int(rest[0])]
        if kind == "p":
            member.refused = not member.node.propose(self._entries(rest[1:])) or member.refused
        else:
            self._ask(member, kind, [int(word) for word in rest[1:]])
        return [member]

    def _entries(self, words: list[str]) -> list[Entry]:
        entries: list[Entry] = []
        for word in words:
            if word[0] in CHANGES:
                data = ConfChange(CHANGES[word[0]], int(word[1:])).encode()
                entries.append(Entry(CONF_CHANGE, data, CONF_CHANGE_BYTES))
            else:
                self._labels += 1
                entries.append(Entry(NORMAL, self._labels if int(word) >= 8 else 0, int(word)))
        return entries

    def _ask(self, member: Member, kind: str, numbers: list[int]) -> None:
        node = member.node
        if kind == "t":
            node.tick()
        elif kind == "h":
            node.campaign()
        elif kind == "x":
            node.transfer_leader(numbers[0])
        elif kind == "r":
            node.read_index(numbers[0])
        elif kind == "s":
            member.compact()
        elif kind == "y":
            node.report_snapshot(numbers[0], numbers[1] == 1)
        elif kind == "u":
            node.report_unreachable(numbers[0])
        elif kind == "f":
            node.forget_leader()
        elif kind == "R":
            member.restart(numbers[0] == 1)
        elif kind != "g":
            raise ValueError(f"no such event: {kind}")

    def do(self, mark: str, touched: list[Member]) -> None:
        """They do what is to be done, as far as the mark says."""
        for member in touched:
            if mark == "=":
                member.begin()
            elif mark != "~":
                member.handle()

    def answer(self, touched: list[Member]) -> str:
        """What is to be said of them."""
        parts = []
        for member in touched:
            member.set_timeout()
            words = member.news()
            if member.refused:
                words.append("!")
            words += [f"?{state.index}:{state.context}" for state in member.read_states]
            for message in member.sent:
                assert message.to != NOBODY
                words.append(message_text(message))
                pair = (member.number, int(message.to))
                between = self.sent.setdefault(pair, [])
                self.newest.append((*pair, len(between)))
                between.append(message)
            member.refused = False
            member.read_states = []
            member.sent = []
            if words:
                parts.append(f"{member.number} {' '.join(words)}")
        return " | ".join(parts) or "."
