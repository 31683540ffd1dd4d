"""Mistakes planted in what is kept of Raft groups, to see that the lives find them (tests of the tests).

Where the code in question is compiled, the mistake is made beside it: in what it is given, or by the member that uses
it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from broker.raft.configuration import Configuration
from broker.raft.storage import HardState
from broker.store import manifest_records
from broker.store.log import LogState
from broker.store.manifest_edits import ManifestEdits
from broker.store.manifest_records import GROUP, Edit, ManifestState, Record
from broker.store.tasks import Task
from tests.crash.store.lives import Build
from tests.crash.store.members import Command, GroupWorld, Member, configuration_at
from tests.crash.store.planted_moves import Bug

HARD_STATE_SIZE = 24
"""Bytes of term, vote and commit in what the manifest says of a group; the snapshot follows."""


def with_groups(change: Callable[[ManifestEdits, int, bytes], bytes]) -> Callable[[ManifestEdits, Edit], Task]:
    """Edits that say something else of a group than they should."""

    def commit(self: ManifestEdits, edit: Edit) -> Task:
        states: list[LogState] = [
            (number, mark, positions, change(self, number, group) if group else group)
            for number, mark, positions, group in edit.states
        ]
        yield from _commit(self, edit._replace(states=states))

    return commit


_commit = ManifestEdits.commit


def nothing(edits: ManifestEdits, number: int, group: bytes) -> bytes:
    """Positions are kept, and nothing else."""
    return b""


def no_hard_state(edits: ManifestEdits, number: int, group: bytes) -> bytes:
    """Its records go with the file, and nobody writes it again."""
    return bytes(HARD_STATE_SIZE) + group[HARD_STATE_SIZE:]


def no_commit(edits: ManifestEdits, number: int, group: bytes) -> bytes:
    """Up to where entries are committed."""
    return group[:16] + bytes(8) + group[HARD_STATE_SIZE:]


def snapshot_of_before(edits: ManifestEdits, number: int, group: bytes) -> bytes:
    """The entries are gone with this edit, and the snapshot that stands for them comes with the next one."""
    known: dict[int, bytes] = edits.__dict__.setdefault("known", {})
    before = known.get(number, b"")
    known[number] = group[HARD_STATE_SIZE:]
    return group[:HARD_STATE_SIZE] + before


def keeps_the_vote(self: ManifestState, number: int, kind: int, body: bytes) -> None:
    """A new term begins without a vote; the one of the term before stays."""
    if kind == GROUP and number in self.groups and not any(body[8:16]):
        body = body[:8] + self.groups[number][8:16] + body[16:]
    _apply(self, number, kind, body)


_apply = ManifestState.apply


def forgets_groups(self: ManifestState) -> Iterator[Record]:
    """Of a manifest that is written anew."""
    return (record for record in _records(self) if record[1] != GROUP)


_records = ManifestState.records


def cuts_large_snapshots(record: Record) -> Iterator[Record]:
    """The last part of what does not fit into one batch is missing."""
    parts = list(_fragments_of(record))
    return iter(parts[:-1] if record[1] == GROUP and len(parts) > 1 else parts)


_fragments_of = manifest_records._fragments_of


def index_of(record: tuple[int, bytes]) -> int:
    """Of the entry in what a start has found."""
    return int.from_bytes(record[1][16:24], "big")


class TakesTheFirst(Member):
    """An entry that takes the place of another one is passed over."""

    def recover_log(self) -> None:
        group = self.log.log.group_state()
        first: dict[int, tuple[int, bytes]] = {}
        for record in sorted(group.take_found()):
            first.setdefault(index_of(record), record)
        for position, data in first.values():
            group.add_found(position, data)
        super().recover_log()


class TakesThemByIndex(Member):
    """An entry that takes the place of another one leaves those behind it."""

    def recover_log(self) -> None:
        group = self.log.log.group_state()
        found = sorted(group.take_found())
        for (position, _), (_, data) in zip(found, sorted(found, key=index_of), strict=True):
            group.add_found(position, data)
        super().recover_log()


class ReclaimsTooMuch(Member):
    """The first entry behind the snapshot goes too."""

    def compact(self) -> None:
        super().compact()
        log = self.log.log
        if log.positions.live() > 1:
            log.settle(log.positions.first, 1, 1)
            log.collect()


class ForgetsMembers(Member):
    """A snapshot has the members that the group was founded with."""

    def configuration(self, index: int) -> Configuration:
        return configuration_at(self.is_alone, 0)


class VotesInMemory(Member):
    """A vote is not written."""

    def _write(self, state: HardState) -> None:
        group = self.log.log.group_state()
        if state.vote != group.vote:
            group.tell(state.term, state.vote, state.commit)
            self._told(
                "hard state", self.number, int(state.term), int(state.vote), int(state.commit).to_bytes(8, "big")
            )
        else:
            super()._write(state)


class AppliesAtOnce(Member):
    """Entries of a group of several are applied when the disk has them, committed or not."""

    def durable(self) -> None:
        super().durable()
        self._apply(self._durable_index)


class SettlesAtOnce(Member):
    """Contents are settled when that is said, before the entry that says so counts."""

    def say(self, command: Command) -> None:
        if command.kind == b"S":
            for position in command.positions():
                self.contents.settle_told(position, position)
        super().say(command)


class WritesSettlements(Member):
    """What is said to be settled is written as of any other log, and taken at face value by a start."""

    def say(self, command: Command) -> None:
        if command.kind == b"S":
            contents = self.contents
            teller, contents.teller, contents.is_told_elsewhere = contents.teller, None, False
            contents.settle(command.first, command.length, command.stride)
            contents.collect()
            contents.teller, contents.is_told_elsewhere = teller, True
        super().say(command)


class LetsGoOfWhatIsNotCommitted(Member):
    """A start keeps the contents that the ledger has, and not those of entries that may be committed yet."""

    def recover(self, world: GroupWorld) -> None:
        super().recover(world)
        for position in sorted(self.needed - self.tally.live):
            self.contents.settle_told(position, position)


def build(member: type[Member] = Member) -> Build:
    made = Build()
    made.groups, made.member = 1.0, member
    return made


FOUND_BY_LIVES: dict[str, Bug] = {
    "hard state not written again when its file is emptied": Bug(
        build(), ((ManifestEdits, "commit", with_groups(no_hard_state)),), seed=7
    ),
    "commit index not written again when its file is emptied": Bug(
        build(), ((ManifestEdits, "commit", with_groups(no_commit)),), seed=7
    ),
    "manifest without the state of the group": Bug(build(), ((ManifestEdits, "commit", with_groups(nothing)),), seed=1),
    "manifest written anew without the state of the group": Bug(
        build(), ((ManifestState, "records", forgets_groups),), seed=3
    ),
    "snapshot an edit later than what it settles": Bug(
        build(), ((ManifestEdits, "commit", with_groups(snapshot_of_before)),), seed=1
    ),
    "large snapshot cut": Bug(build(), ((manifest_records, "_fragments_of", cuts_large_snapshots),), seed=3),
    "members not in the snapshot": Bug(build(ForgetsMembers), seed=6),
    "vote kept over a term": Bug(build(), ((ManifestState, "apply", keeps_the_vote),), seed=12),
    "vote not written": Bug(build(VotesInMemory), seed=1),
    "the first of two entries with one index counts": Bug(build(TakesTheFirst), seed=2),
    "entries behind one that was replaced stay": Bug(build(TakesThemByIndex), seed=2),
    "entry reclaimed that no snapshot stands for": Bug(build(ReclaimsTooMuch), seed=5),
    "applied before it is committed": Bug(build(AppliesAtOnce), seed=3),
    "contents settled before the entry counts": Bug(build(SettlesAtOnce), seed=3),
    "settlements written beside the entries": Bug(build(WritesSettlements), seed=3),
    "contents of an entry that is not committed let go": Bug(build(LetsGoOfWhatIsNotCommitted), seed=6),
}
"""By what is wrong."""
