"""Members of Raft groups on a store that fails: in the place of Raft, chance decides what is appended, replaced,
voted and committed; and what a start must find of all that.

A group has two logs, one for its entries and one for contents. An entry says which contents it accepts and which it
settles, so that of the second log the disk is told nothing else. docs/durability-format.md, "Raft groups".
"""

from __future__ import annotations

import hashlib
import random
import struct
from collections.abc import Callable
from typing import NamedTuple

from broker.cluster.group_log import GroupLog
from broker.raft.configuration import Configuration
from broker.raft.entry import NORMAL, Entry
from broker.raft.message import Snapshot
from broker.raft.storage import HardState
from broker.store.group_state import GroupOwner
from broker.store.log import Log, LogUser, SettlementTeller
from broker.store.logs import Logs
from broker.store.records import MESSAGE
from tests.crash.store.search import Violation

LOGS = 2
"""Of a group: for its entries, and, with the number behind, for contents."""
_COMMAND = struct.Struct(">cQQQ")
_TALLY = struct.Struct(">Q8sQQ")

Told = Callable[[str, int, int, int, bytes], None]
"""Notes what was told to the disk: kind, log, first, last, body."""


class Command(NamedTuple):
    """What an entry says of contents: ``A`` accepts, ``S`` settles."""

    kind: bytes
    first: int
    length: int
    stride: int = 1

    def positions(self) -> range:
        return range(self.first, self.first + self.length * self.stride, self.stride)


def packed(commands: list[Command], padding: bytes) -> bytes:
    return len(commands).to_bytes(2, "big") + b"".join(_COMMAND.pack(*each) for each in commands) + padding


def commands_of(data: bytes | None) -> list[Command]:
    if data is None:
        return []
    count = int.from_bytes(data[:2], "big")
    return [Command(*_COMMAND.unpack_from(data, 2 + at * _COMMAND.size)) for at in range(count)]


class Tally:
    """What a number of entries have done: the state machine."""

    def __init__(self) -> None:
        self.index = 0
        self.digest = bytes(8)
        """Of all these entries."""
        self.next = 0
        """The position behind the last content that was accepted."""
        self.live: set[int] = set()

    def apply(self, term: int, data: bytes | None) -> list[tuple[int, int]]:
        """One more entry; first and last of the ranges of contents that are not needed any more."""
        self.index += 1
        text = b"%d %d %d " % (self.index, term, data is None) + (data or b"")
        self.digest = hashlib.blake2b(self.digest + text, digest_size=8).digest()
        gone: list[tuple[int, int]] = []
        for command in commands_of(data):
            if command.kind == b"A":
                if command.first > self.next:  # accepted by entries that were replaced
                    gone.append((self.next, command.first - 1))
                self.live |= set(command.positions())
                self.next = command.first + command.length
            else:
                gone += [(position, position) for position in command.positions()]
                self.live -= set(command.positions())
        return gone

    def encode(self) -> bytes:
        """Some are too large for one record of a manifest."""
        padding = self.digest * (3000 if self.digest[0] < 30 else self.digest[1])
        live = b"".join(position.to_bytes(8, "big") for position in sorted(self.live))
        return _TALLY.pack(self.index, self.digest, self.next, len(self.live)) + live + padding


def decoded(data: bytes) -> Tally:
    tally = Tally()
    tally.index, tally.digest, tally.next, count = _TALLY.unpack_from(data)
    body = data[_TALLY.size : _TALLY.size + 8 * count]
    tally.live = {int.from_bytes(body[at : at + 8], "big") for at in range(0, 8 * count, 8)}
    return tally


class GroupWorld:
    """What the two logs of a group should hold."""

    def __init__(self, is_alone: bool) -> None:
        self.is_alone = is_alone
        self.entries: list[tuple[int, bytes | None]] = []
        """Term and data of each, from index 1 on."""
        self.term = self.vote = self.commit = 0
        self.contents: dict[int, bytes] = {}
        """Position -> body, of all that were ever appended."""
        self.replaced = 0
        """Entries that others have taken the place of."""

    def apply(self, kind: str, first: int, last: int, body: bytes) -> None:
        """Something that was told to the disk."""
        if kind == "entry":
            self.replaced += len(self.entries) - (first - 1)
            del self.entries[first - 1 :]
            self.entries.append((last, body[1:] if body[0] else None))
            if last > self.term:
                self.term, self.vote = last, 0
        elif kind == "hard state":
            if first > self.term:
                self.vote = 0
            self.term, self.vote, self.commit = first, last or self.vote, int.from_bytes(body, "big")
        elif kind == "content":
            self.contents[first] = body

    def committed(self) -> int:
        """Up to where a start applies entries."""
        return len(self.entries) if self.is_alone else self.commit

    def tally(self, through: int) -> Tally:
        tally = Tally()
        for term, data in self.entries[:through]:
            tally.apply(term, data)
        return tally

    def needed(self) -> set[int]:
        """Contents that must be there: those that the applied entries leave, and those that others accept."""
        found = self.tally(self.committed()).live
        for _, data in self.entries[self.committed() :]:
            for command in commands_of(data):
                if command.kind == b"A":
                    found |= set(command.positions())
        return found


def configuration_at(is_alone: bool, index: int) -> Configuration:
    """Of the snapshot at this index."""
    if is_alone:
        return Configuration([1])
    return Configuration([1, 2, 3], [10 + index % 3] if index % 3 else [])


class _User(LogUser):
    """Hears that the disk has what a member has written."""

    def __init__(self, durable: Callable[[], None]) -> None:
        self._durable = durable

    def durable(self) -> None:
        self._durable()

    def record(self, position: int, data: bytes, start: int, end: int) -> None:
        """Nothing is read back this way."""

    def loaded(self, through: int) -> None:
        """Nothing is read back this way."""


class _Teller(SettlementTeller):
    """Tells the group what is settled of its contents."""

    def __init__(self, member: Member) -> None:
        self._member = member

    def settled(self, log: Log, first: int, count: int, stride: int) -> None:
        self._member.say(Command(b"S", int(first), int(count), int(stride)))

    def is_wanted(self, log: Log, first: int, last: int) -> bool:
        return any(first <= position <= last for position in self._member.needed)


class Member(GroupOwner):
    """One member of one group, as long as the process lives."""

    def __init__(self, logs: Logs, number: int, is_alone: bool, told: Told) -> None:
        self.number = number
        self.is_alone = is_alone
        self.log = GroupLog(logs, logs.open(number), configuration_at(is_alone, 0))
        self.contents = logs.open(number + 1)
        self.contents.teller = _Teller(self)
        self.contents.is_told_elsewhere = True
        self.log.log.user = _User(self.durable)
        self.log.log.group_state().owner = self
        self.tally = Tally()
        """Of all that is applied."""
        self.needed: set[int] = set()
        """Contents, as a start has found."""
        self._logs = logs
        self._told = told
        self._elected = False
        """In this life."""
        self._gathered: list[Command] = []
        self._padding = b""
        self._is_expected = False
        self._unsettled: set[int] = set()
        """Contents that nobody has settled yet."""
        self._written: list[tuple[int, int]] = []
        """Number of the record and index, of entries that the disk does not have yet."""
        self._commits: list[tuple[int, int]] = []
        """The same of hard states: up to where they commit."""
        self._durable_index = 0
        self._unapplied: list[Entry] = []

    # What a start has found

    def recover(self, world: GroupWorld) -> None:
        """Raises: Violation"""
        log = self.log
        self.recover_log()
        self._check_found(world)
        if log.snapshot_index:
            self.tally = decoded(log.state())
        self._unapplied = list(log.recovered)
        log.recovery_is_over()
        self._durable_index = int(log.last_index())
        self._apply(world.committed())
        self.needed = world.needed()
        self._unsettled = set(self.tally.live)
        positions = self.contents.positions
        accepted = world.tally(len(world.entries)).next
        kept = self.needed if self.is_alone else {*self.needed, *range(self.tally.next, accepted)}
        for position in range(int(positions.first), int(positions.next)):
            if position not in kept:
                self.contents.settle_told(position, position)
        if positions.next < accepted:
            positions.settle(positions.next, accepted - 1)
        if gone := sorted(position for position in self.needed if not positions.is_live(position)):
            raise Violation(f"group {self.number}: contents are gone that are needed: {gone}")

    def recover_log(self) -> None:
        """Snapshot and entries."""
        self.log.recover(self.is_alone)

    def _check_found(self, world: GroupWorld) -> None:
        log = self.log
        name = f"group {self.number}"
        index = int(log.snapshot_index)
        if log.repair_to or log.lost_beginning:
            raise Violation(f"{name}: damage is told where there is none, up to {log.repair_to}")
        if index > world.committed():
            raise Violation(f"{name}: a snapshot of {index}, with {world.committed()} committed")
        if index:
            state = world.tally(index).encode()
            if (log.state(), log.snapshot_term) != (state, world.entries[index - 1][0]):
                raise Violation(f"{name}: the snapshot of {index} is not the one of these entries")
            if repr(log.configuration) != repr(configuration_at(self.is_alone, index)):
                raise Violation(f"{name}: the members are {log.configuration}")
        found = [(int(entry.index), int(entry.term), entry.data) for entry in log.recovered]
        expected = [(at, *world.entries[at - 1]) for at in range(index + 1, len(world.entries) + 1)]
        if found != expected:
            raise Violation(
                f"{name}: entries behind {index} are {[each[:2] for each in found]} instead of "
                f"{[each[:2] for each in expected]}"
            )
        if log.log.positions.live() != len(found):
            raise Violation(f"{name}: {log.log.positions.live()} live records for {len(found)} entries")
        hard = log.log.group_state()
        if (hard.term, hard.vote, hard.commit) != (world.term, world.vote, world.commit):
            raise Violation(
                f"{name}: term, vote and commit are {hard.term}, {hard.vote}, {hard.commit} instead of "
                f"{world.term}, {world.vote}, {world.commit}"
            )

    def live_entries(self, world: GroupWorld) -> list[bytes]:
        """What must be read back of its records, in order; without their heads."""
        return [data or b"" for _, data in world.entries[int(self.log.snapshot_index) :]]

    def live_contents(self, world: GroupWorld) -> dict[int, bytes]:
        """What must be read back of its contents."""
        positions = self.contents.positions
        return {position: body for position, body in world.contents.items() if positions.is_live(position)}

    # What is said

    def act(self, chance: random.Random) -> None:
        keeps_much = self.number // 2 % 2  # of some groups, contents get into segments
        if chance.random() < (0.05 if keeps_much else 0.5):
            self._settle(chance)
        else:
            chance.choice((self._propose, self._write_hard_state) if self.is_alone else (self._propose,))(chance)
        if self.is_alone:
            return
        if chance.random() < (0.05 if self.number % 2 else 0.5):  # of some, entries do
            self._commit(chance)
        if chance.random() < 0.15:
            chance.choice((self._vote, self._replace))(chance)

    def accept(self, body: bytes, token: object) -> None:
        """Another content."""
        position = int(self.contents.positions.next)
        if self.contents.append(position, MESSAGE, len(body), token):
            self._logs.batch.write(body)
            self._logs.batch.end()
        self._told("content", self.number, position, position, body)
        self._unsettled.add(position)
        self.say(Command(b"A", position, 1))

    def _settle(self, chance: random.Random) -> None:
        if not self._unsettled:
            return
        first = chance.choice((min(self._unsettled), min(self._unsettled), chance.choice(sorted(self._unsettled))))
        stride = chance.choice((1, 1, 2))
        count, most = 1, chance.choice((1, 2, 30, 1000))
        while count < most and first + count * stride in self._unsettled:
            count += 1
        self.contents.settle(first, count, stride)
        self._unsettled -= set(range(first, first + count * stride, stride))

    def say(self, command: Command) -> None:
        self._gathered.append(command)
        self._expect()

    def _propose(self, chance: random.Random) -> None:
        self._padding = chance.randbytes(chance.choice((1, 50, 700, 3000)))
        self._expect()

    def _expect(self) -> None:
        if not self._is_expected:
            self._is_expected = True
            self._logs.expect(self)

    def gather(self) -> None:
        self._is_expected = False
        if self.log.log.dropped:
            return
        state = self.log.log.group_state()
        if self.is_alone and not self._elected:
            self._write(HardState(state.term + 1, 1, state.commit))
            self._append(None, False)
        self._elected = True
        gathered, self._gathered = self._gathered, []
        self._append(packed(gathered, self._padding), False)
        self._padding = b""

    def _append(self, data: bytes | None, replaces: bool, index: int = 0) -> None:
        """One entry, at the end or in the place of others."""
        log = self.log
        at = index if replaces else int(log.last_index()) + 1
        term = int(log.log.group_state().term)
        entry = Entry(NORMAL, data, len(data or b""), term, at)
        log.append([entry])
        self._told("entry", self.number, at, term, b"\0" if data is None else b"\1" + data)
        self._written = [(sequence, known) for sequence, known in self._written if known < at]
        self._written.append((int(self._logs.batch.next_sequence) - 1, at))
        self._unapplied = [known for known in self._unapplied if known.index < at]
        self._unapplied.append(entry)
        self._durable_index = min(self._durable_index, at - 1)

    def _write(self, state: HardState) -> None:
        self.log.write_hard_state(state)
        self._told("hard state", self.number, int(state.term), int(state.vote), int(state.commit).to_bytes(8, "big"))

    def _write_hard_state(self, chance: random.Random) -> None:
        """Of what is committed, a group of one may say so."""
        state = self.log.log.group_state()
        if self._elected:
            self._write(HardState(state.term, state.vote, self.tally.index))

    def _vote(self, chance: random.Random) -> None:
        state = self.log.log.group_state()
        if state.vote == 0 and chance.random() < 0.5:
            self._write(HardState(state.term, chance.choice((1, 2, 3)), state.commit))
        else:
            self._write(HardState(state.term + chance.choice((1, 1, 5)), chance.choice((0, 1, 2, 3)), state.commit))

    def _replace(self, chance: random.Random) -> None:
        """Another leader has something else from some index on, or ends there."""
        state = self.log.log.group_state()
        first, last = int(state.commit) + 1, int(self.log.last_index())
        if first > last:
            return
        self._gathered = []  # what was to follow refers to entries that are gone
        self._write(HardState(state.term + 1, chance.choice((0, 2, 3)), state.commit))
        index = chance.choice((first, chance.randrange(first, last + 1)))
        self._unsettled = set(self.tally.live)
        for at in range(chance.choice((1, 1, 2, 4))):
            self._append(packed([], chance.randbytes(chance.choice((1, 50, 700)))), True, index + at)

    def _commit(self, chance: random.Random) -> None:
        """The leader says what is committed: of what the disk has, the disk must know before it is applied."""
        state = self.log.log.group_state()
        if self._durable_index > state.commit:
            commit = chance.choice((self._durable_index, chance.randrange(int(state.commit), self._durable_index) + 1))
            self._write(HardState(state.term, state.vote, commit))
            self._commits.append((int(self._logs.batch.next_sequence) - 1, commit))

    # What comes of it

    def durable(self) -> None:
        through = self._logs.batch.durable_through
        while self._written and self._written[0][0] <= through:
            self._durable_index = self._written.pop(0)[1]
        if self.is_alone:
            self._apply(self._durable_index)
        while self._commits and self._commits[0][0] <= through:
            self._apply(self._commits.pop(0)[1])

    def _apply(self, commit: int) -> None:
        while self._unapplied and self._unapplied[0].index <= commit:
            entry = self._unapplied.pop(0)
            assert entry.data is None or isinstance(entry.data, bytes)
            for first, last in self.tally.apply(int(entry.term), entry.data):
                self.contents.settle_told(first, last)
        self.log.forget(self.tally.index)

    def compact(self) -> None:
        index = self.tally.index
        if index > self.log.snapshot_index:
            self.log.compact(Snapshot(index, self.log.term(index), self.configuration(index), self.tally.encode()))

    def configuration(self, index: int) -> Configuration:
        """Of the snapshot at this index."""
        return configuration_at(self.is_alone, index)

    def close(self) -> None:
        """The group is dropped, and its logs with it."""
        self.log.log.user = None
        self.log.log.group_state().owner = None
        self._logs.drop(self.log.log)
        self._logs.drop(self.contents)
