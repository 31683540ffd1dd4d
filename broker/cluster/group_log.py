"""The log of a Raft group, on the node's write-ahead log (store/group_state.py says what stands on the disk).

In memory are the entries that somebody may still ask for: those that are not applied, and of a group with other members
the last ones that are.

An entry is a record at a position that is never used again. What others replace is cut off by a record as well, in the
same commit group: without it a start would miss those whose segment has gone.
"""

from __future__ import annotations

from typing import Final, final

from librt.strings import BytesWriter, read_i64_be, write_i64_be

from broker.native import i64
from broker.raft.configuration import Configuration
from broker.raft.entry import CONF_CHANGE, Entry, within
from broker.raft.message import Snapshot
from broker.raft.storage import UNKNOWN, HardState, InitialState, Storage
from broker.store.log import Log, LogUser
from broker.store.logs import Logs
from broker.store.records import ENTRY, FLAGS_SHIFT, HEAD_SIZE, MESSAGE

_READ_BYTES: Final[i64] = 1 << 20
_NO_ENTRIES: Final[list[Entry]] = []
"""All groups share these while they have nothing, so nothing is ever put into them:"""
_NO_RUNS: Final[list[int]] = []
"""there are new ones instead."""


@final
class GroupLog(Storage):
    """Of one group of this node."""

    def __init__(self, logs: Logs, log: Log, founded: Configuration) -> None:
        """``founded``: who belongs to a group of which no snapshot was taken yet."""
        self.log = log
        self.configuration = founded
        """Of the last snapshot."""
        self.snapshot_index: i64 = 0
        self.snapshot_term: i64 = 0
        self.recovered = _NO_ENTRIES
        """Behind the snapshot, as a start has found them, for whoever applies them."""
        self.lost_beginning = False
        """There was a snapshot, or entries, before those that a start has found: damage has taken them."""
        self.repair_to: i64 = 0
        """Entries up to this index may have been there, and some of them are lost; 0: none are."""
        self._logs = logs
        self._before: i64 = 0
        """The index before the first entry in memory."""
        self._before_term: i64 = 0
        self._entries = _NO_ENTRIES
        self._run_indexes = _NO_RUNS
        """Where the entries stand in the log: those from this index on, up to the next one, behind each other"""
        self._run_positions = _NO_RUNS
        """from this position on."""
        log.is_told_elsewhere = True

    # ---- what the core asks for --------------------------------------------------------------------------------------

    def initial_state(self) -> InitialState:
        """What recovery found."""
        group = self.log.group_state()
        last = self.last_index()
        commit = group.commit if group.commit < last else last
        if commit < self.snapshot_index:
            commit = self.snapshot_index
        return InitialState(HardState(group.term, group.vote, commit), self.configuration, self.repair_to)

    def first_index(self) -> i64:
        """Of those in memory."""
        return self._before + 1

    def last_index(self) -> i64:
        """The last entry."""
        return self._before + len(self._entries)

    def term(self, index: i64) -> i64:
        """Of what is in memory, and of the entry before that."""
        at = index - self._before
        if at == 0:
            return self._before_term
        return self._entries[at - 1].term if 0 < at <= len(self._entries) else UNKNOWN

    def term_start(self, index: i64) -> i64:
        """One entry in memory after the other is looked at."""
        term = self.term(index)
        while index > self._before + 1 and self.term(index - 1) == term:
            index -= 1
        return index

    def entries(self, first: i64, last: i64, max_bytes: i64) -> list[Entry]:
        """Of those in memory."""
        return within(self._entries[first - self._before - 1 : last - self._before], max_bytes)

    def conf_changes(self, behind: i64) -> list[int]:
        """Of those in memory."""
        return [entry.index for entry in self._entries if entry.kind == CONF_CHANGE and entry.index > behind]

    def snapshot(self) -> Snapshot | None:
        """The last one that was taken, if the entries in memory begin behind it."""
        if self.snapshot_index == 0 or self._before > self.snapshot_index:
            return None
        return Snapshot(self.snapshot_index, self.snapshot_term, self.configuration, self.state())

    def state(self) -> bytes:
        """The state machine's, of the last snapshot; empty: none was taken."""
        group = self.log.group
        if group is None or not group.snapshot:
            return b""
        return group.snapshot[_state_at(group.snapshot) :]

    # ---- written -----------------------------------------------------------------------------------------------------

    def append(self, entries: list[Entry]) -> None:
        """To the open commit group; what stood at these indexes and behind is void."""
        if not entries:
            return
        log = self.log
        self._cut(entries[0].index)
        self._note_run(entries[0].index, log.positions.next)
        batch = self._logs.batch
        for entry in entries:
            data = entry.data
            assert data is None or isinstance(data, bytes)
            size: i64 = 0 if data is None else len(data)
            if log.append(log.positions.next, MESSAGE, HEAD_SIZE + size, entry):
                writer = batch.writer
                write_i64_be(writer, ENTRY << FLAGS_SHIFT)
                write_i64_be(writer, entry.term)
                write_i64_be(writer, entry.index)
                write_i64_be(writer, (1 if data is None else 0) << 8 | entry.kind)
                write_i64_be(writer, 0)
                if data is not None and size > 0:
                    batch.write(data)
                batch.end()
        if self._entries is _NO_ENTRIES:
            self._entries = []
        self._entries += entries

    def _cut(self, index: i64) -> None:
        """The entries from there on are void."""
        last = self.last_index()
        if index > last:
            return
        del self._entries[index - self._before - 1 :]
        runs: i64 = len(self._run_indexes)
        while runs > 0 and last >= index:
            start: i64 = self._run_indexes[runs - 1]
            first = start if start > index else index
            position = self._run_positions[runs - 1] + first - start
            self.log.settle(position, last - first + 1, 1)
            self.log.write_settled(position, position + last - first)
            last = first - 1
            if start >= index:
                self._run_indexes.pop()
                self._run_positions.pop()
            runs -= 1

    def _note_run(self, index: i64, position: i64) -> None:
        """The entry with this index stands, or will stand, at this position."""
        if not self._run_indexes:
            self._run_indexes = [int(index)]
            self._run_positions = [int(position)]
        elif self._position(index) != position:
            self._run_indexes.append(int(index))
            self._run_positions.append(int(position))

    def _position(self, index: i64) -> i64:
        """Where this entry stands, or the one that would follow the last."""
        at: i64 = len(self._run_indexes) - 1
        while at > 0 and self._run_indexes[at] > index:
            at -= 1
        return self._run_positions[at] + index - self._run_indexes[at]

    def write_hard_state(self, state: HardState) -> None:
        """To the open commit group."""
        self.log.write_hard_state(state.term, state.vote, state.commit)

    # ---- what goes ---------------------------------------------------------------------------------------------------

    def forget(self, index: i64) -> None:
        """The entries up to there were applied and nobody asks for them: the disk has them up to the next snapshot."""
        count = index - self._before
        if count > 0:
            self._before_term = self.term(index)
            self._before = index
            del self._entries[:count]

    def may_settle(self) -> bool:
        """Whether a snapshot may be taken now, and not just when a file of the write-ahead log is about to be emptied:
        the entries are not needed then, but until the manifest has the snapshot they must stay where they are, as they
        do in the write-ahead log. A segment without anything live goes at once."""
        return not self._logs.are_moving and not self.log.extents.segments

    def compact(self, snapshot: Snapshot) -> None:
        """A snapshot of our own, of what was applied: what it stands for is not needed any more, once the manifest has
        it."""
        data = snapshot.data
        assert isinstance(data, bytes)
        if snapshot.index > self.snapshot_index:
            self._settle_through(self._position(snapshot.index))
        self._note(snapshot, data)

    def install(self, snapshot: Snapshot) -> None:
        """The leader's takes the place of everything."""
        data = snapshot.data
        assert isinstance(data, bytes)
        self._settle_through(self.log.positions.next - 1)
        self._run_indexes = _NO_RUNS
        self._run_positions = _NO_RUNS
        self._entries = _NO_ENTRIES
        self._before = snapshot.index
        self._before_term = snapshot.term
        self._note(snapshot, data)

    def _settle_through(self, position: i64) -> None:
        log = self.log
        first = log.positions.first
        log.collect()
        if position >= first:
            log.settle_told(first, position)

    def _note(self, snapshot: Snapshot, data: bytes) -> None:
        self.snapshot_index = snapshot.index
        self.snapshot_term = snapshot.term
        self.configuration = snapshot.configuration
        self.log.group_state().snapshot = _encode(snapshot, data)

    def rest(self) -> None:
        """Nothing was written for a while."""
        if not self._entries:
            self._entries = _NO_ENTRIES
        if self.snapshot_index == self.last_index():
            self._run_indexes = _NO_RUNS
            self._run_positions = _NO_RUNS

    # ---- recovery ----------------------------------------------------------------------------------------------------

    def recovery_is_over(self) -> None:
        """What was ``recovered`` is applied."""
        self.recovered = _NO_ENTRIES

    def recover(self, is_alone: bool) -> None:
        """Take what a start has found: the snapshot, and the entries behind it in the order of their records.

        Where one is missing, the log of a group with other members ends: it gets the rest from them. A member that
        ``is_alone`` has nobody to ask, and what it has was committed: it goes on behind the gap.
        """
        log = self.log
        group = log.group_state()
        if group.snapshot:
            self._restore(group.snapshot)
        found = self._all_found(group.take_found())
        for position, data in found:
            if not log.positions.is_live(position):
                continue  # a later record has cut it off
            entry = _decode(data)
            if entry.index <= self.snapshot_index:
                log.settle(position, 1, 1)
            elif entry.index <= self.last_index() + 1:
                self._recover_entry(entry, position)
            elif is_alone:
                self.lost_beginning = self.lost_beginning or (self.snapshot_index == 0 and not self.recovered)
                self.forget(self.last_index())
                self._before = entry.index - 1
                self._recover_entry(entry, position)
            else:
                self.repair_to = max(self.repair_to, entry.index)
                log.settle(position, 1, 1)
        log.collect()
        lost = group.missing + self._logs.lost_records
        if lost > 0 and not is_alone:  # of those behind the last one nothing else may tell
            self.repair_to = max(self.repair_to, self.last_index() + lost)

    def _recover_entry(self, entry: Entry, position: i64) -> None:
        last = self.last_index()
        if entry.index <= last:
            del self.recovered[len(self.recovered) - (last - entry.index + 1) :]
            self._cut(entry.index)
        self._note_run(entry.index, position)
        if self._entries is _NO_ENTRIES:
            self._entries = []
        if self.recovered is _NO_ENTRIES:
            self.recovered = []
        self._entries.append(entry)
        self.recovered.append(entry)
        self.log.group_state().tell(entry.term, 0, 0)  # the hard state may be lost

    def _restore(self, snapshot: bytes) -> None:
        index = read_i64_be(snapshot, 0)
        term = read_i64_be(snapshot, 8)
        voters = read_i64_be(snapshot, 16)
        members = [int(read_i64_be(snapshot, at)) for at in range(32, _state_at(snapshot), 8)]
        configuration = Configuration(members[:voters], members[voters:])
        if configuration != self.configuration:  # most groups share that of their node
            self.configuration = configuration
        self.snapshot_index = self._before = index
        self.snapshot_term = self._before_term = term

    def _all_found(self, known: list[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
        """With those that were moved to segments."""
        log = self.log
        through = log.extents.moved_through()
        moved = _Moved(log.positions.first)
        while log.positions.live_between(moved.through, through + 1) > 0:
            self._logs.read_now(log, moved.through, through + 1, _READ_BYTES, moved)
        return sorted(moved.found + known)


@final
class _Moved(LogUser):
    """Takes entries that are in segments."""

    def __init__(self, first: i64) -> None:
        self.found: list[tuple[int, bytes]] = []
        self.through: i64 = first
        """Everything before was told."""

    def durable(self) -> None:
        """Nothing of it is promised."""

    def record(self, position: i64, data: bytes, start: i64, end: i64) -> None:
        """One of them."""
        self.found.append((int(position), data[start:end]))

    def loaded(self, through: i64) -> None:
        """Those before are told."""
        self.through = through


def _decode(data: bytes) -> Entry:
    """What ``GroupLog.append`` has written."""
    kind = read_i64_be(data, 24)
    body: bytes | None = None if kind >> 8 else data[HEAD_SIZE:]
    return Entry(kind & 0xFF, body, len(data) - HEAD_SIZE, read_i64_be(data, 8), read_i64_be(data, 16))


def _state_at(snapshot: bytes) -> i64:
    """Where the state machine's bytes begin in what ``_encode`` has made."""
    return 32 + 8 * (read_i64_be(snapshot, 16) + read_i64_be(snapshot, 24))


def _encode(snapshot: Snapshot, data: bytes) -> bytes:
    """Index (8), term (8), number of voters (8) and learners (8), their ids (8 each), the state machine's bytes."""
    writer = BytesWriter()
    write_i64_be(writer, snapshot.index)
    write_i64_be(writer, snapshot.term)
    voters = snapshot.configuration.voters
    learners = snapshot.configuration.learners
    write_i64_be(writer, len(voters))
    write_i64_be(writer, len(learners))
    for member in voters + learners:
        write_i64_be(writer, member)
    writer.write(data)
    return writer.getvalue()
