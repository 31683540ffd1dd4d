"""A member of a Raft group on this node: what its state machine is told, from the proposal to the disk and back.

    write(command)      gathered until the node's open commit group is taken: one entry per group and commit group
    gather()            that happens now: the entry is proposed, and its record goes with the same sync as whatever
                        else was appended, such as the contents of messages that it accepts
    durable()           the disk has it: the entry counts, and with a majority it is committed
    Machine.apply       the state machine is told; then who waited for it is told

Who waits for what was written notes the ticket (promises.py): a ticket is the number of the entry that is being
gathered, and it is kept once that is applied.
"""

from __future__ import annotations

from typing import Final, NamedTuple, final

from broker.cluster.group_environment import GroupEnvironment
from broker.cluster.group_log import GroupLog
from broker.cluster.group_promises import GroupPromises
from broker.cluster.machine import Machine
from broker.native import i64
from broker.raft.configuration import Configuration, decode_conf_change
from broker.raft.entry import CONF_CHANGE, NORMAL, Entry
from broker.raft.message import Snapshot
from broker.raft.raft import LEADER
from broker.raft.raw_node import RawNode, Ready
from broker.store.group_state import GroupOwner
from broker.store.log import Log, LogUser

_NO_TICKETS: Final[list[int]] = []
"""All groups share these while they have nothing, so nothing is ever put into them:"""
_NO_READIES: Final[list[Ready]] = []
"""there are new ones instead."""


class GroupFigures(NamedTuple):
    """What a member says of its group."""

    term: int = 0
    commit_index: int = 0
    last_applied: int = 0
    last_written_index: int = 0
    snapshot_index: int = -1
    """-1 without a snapshot."""
    commit_latency_us: int = 0
    """From the proposal of an entry until it was applied; of a late one."""


@final
class _LogUser(LogUser):
    """Hears that the disk has what a group has written."""

    def __init__(self, group: Group) -> None:
        self._group = group

    def durable(self) -> None:
        self._group.durable()

    def record(self, position: i64, data: bytes, start: i64, end: i64) -> None:
        """Nothing is read back this way."""

    def loaded(self, through: i64) -> None:
        """Nothing is read back this way."""


@final
class Group(GroupOwner):
    """One member. As long as nothing is written to a group of one, it is what recovery found and nothing more: it
    stands for election when it is used first."""

    def __init__(
        self, environment: GroupEnvironment, log: Log, member: i64, founded: Configuration, machine: Machine
    ) -> None:
        self.member: i64 = member
        self.machine = machine
        self.log = GroupLog(environment.logs, log, founded)
        self.is_gathering = False
        """Something was written since the last entry was proposed."""
        self.open_ticket: i64 = 1
        """Of the entry that is being gathered, or that comes next."""
        self.applied_ticket: i64 = 0
        self.applied_index: i64 = 0
        self.promises = GroupPromises(self, founded.voters == [member])
        self._environment = environment
        self._node: RawNode | None = None
        self._led_term: i64 = -1
        """The term in which it has led, made by this process."""
        self._was_used = False
        """Something was written to it since it was looked at last."""
        self._in_flight = _NO_READIES
        """Handed to the open commit group, or to the one that is being written."""
        self._proposed = _NO_TICKETS
        """The tickets of the entries that were proposed and are not applied, by their order."""
        self._refused = b""
        """What was gathered and could not be proposed: too much was not committed."""
        self._is_expected = False
        self._timed_ticket: i64 = 0
        """Of the entry whose way to the state machine is timed; 0: none is."""
        self._timed_us: i64 = 0
        """When it was proposed; after that, how long it took."""
        log.user = _LogUser(self)
        log.group_state().owner = self

    # ---- written -----------------------------------------------------------------------------------------------------

    def written(self) -> None:
        """The machine has gathered a command: it goes with the next entry."""
        self.is_gathering = True
        self._expect()

    def _expect(self) -> None:
        if not self._is_expected:
            self._is_expected = True
            self._environment.logs.expect(self)

    def gather(self) -> None:
        self._is_expected = False
        self._was_used = True
        if self.log.log.dropped:
            return
        node = self._awake()
        if self.is_gathering and node.raft.role == LEADER:
            self._propose(node)
        self._hand_out(node)

    def _propose(self, node: RawNode) -> None:
        data = self._refused or self.machine.take()
        if data and not node.propose([Entry(NORMAL, data, len(data))]):
            self._refused = data
            return
        if data:
            if self._proposed is _NO_TICKETS:
                self._proposed = []
            if self._timed_ticket == 0:
                self._timed_ticket = self.open_ticket
                self._timed_us = self._environment.clock.monotonic_us()
            self._proposed.append(int(self.open_ticket))
            self.open_ticket += 1
        self.is_gathering = bool(self._refused)
        self._refused = b""

    def _awake(self) -> RawNode:
        node = self._node
        if node is None:
            environment = self._environment
            node = RawNode(self.member, self.log, self.applied_index, environment.options, environment.randomness)
            self._node = node
            if self.log.configuration.voters == [self.member]:
                if node.raft.term == self._led_term:
                    node.resume()
                else:
                    self._elect_itself(node)
                self._led_term = node.raft.term
                environment.woken(self)
        return node

    def rest(self) -> bool:
        """Whether it keeps no Raft state in memory any more: of a group of one that is not used, everything is
        applied, and what the log knows is enough."""
        node = self._node
        if node is None:
            return True
        idle = not self._was_used and not self.is_gathering and not self._in_flight and not self._proposed
        self._was_used = False
        if idle and not node.has_ready() and self.applied_index == node.raft.log.last_index():
            self._give_back()
            return True
        return False

    def _give_back(self) -> None:
        """Nothing was written to it for a while, and everything is applied: what need not be in memory is not."""
        if self.machine.is_small() and self.log.may_settle():
            self.compact()  # otherwise where each entry stands stays in memory until its file of the log is full
        self._node = None
        self._proposed = _NO_TICKETS
        self.promises.rest()
        self.log.rest()
        self.machine.rest()

    def _elect_itself(self, node: RawNode) -> None:
        """Alone, nobody is told of the vote: it is a promise to ourselves, and stands before everything that is based
        on it in the log. So it need not be waited for."""
        node.campaign()
        while node.raft.role != LEADER and node.has_ready():
            ready = node.ready()
            if ready.hard_state is not None:
                self.log.write_hard_state(ready.hard_state)
            node.saved(ready)

    def _hand_out(self, node: RawNode) -> None:
        """What the core wants saved goes to the open commit group."""
        while node.has_ready():
            ready = node.ready()
            self.log.append(ready.entries)
            if ready.hard_state is not None and ready.must_sync:
                self.log.write_hard_state(ready.hard_state)
            self._apply(node, ready.committed)
            if ready.must_sync:
                if self._in_flight:
                    self._in_flight.append(ready)
                else:
                    self._in_flight = [ready]
            else:
                node.saved(ready)

    def durable(self) -> None:
        """The disk has everything that was handed to the commit group that was taken last."""
        node = self._node
        if node is None:
            return
        saved = self._in_flight
        self._in_flight = _NO_READIES
        for ready in saved:
            node.saved(ready)
        if node.has_ready():
            self._after_commit(node)

    def _after_commit(self, node: RawNode) -> None:
        """More may be committed now, and be applied; what is to be saved goes with the next commit group."""
        raft = node.raft
        if (
            raft.log.unstable
            or raft.term != self.log.log.group_state().term
            or (self.is_gathering and raft.role == LEADER)
        ):
            self._expect()
        if raft.log.has_committed() and not raft.log.unstable:
            self._hand_out(node)

    # ---- applied -----------------------------------------------------------------------------------------------------

    def _apply(self, node: RawNode, entries: list[Entry]) -> None:
        machine = self.machine
        for entry in entries:
            data = entry.data
            self.applied_index = entry.index
            if entry.kind == CONF_CHANGE:
                assert isinstance(data, bytes)
                node.apply_conf_change(decode_conf_change(data))
            elif data is not None:
                assert isinstance(data, bytes)
                machine.apply(data)
                if self._proposed:
                    self.applied_ticket = self._proposed.pop(0)
            node.applied(entry.index, entry.size)
        if 0 < self._timed_ticket <= self.applied_ticket:
            self._timed_ticket = 0
            self._timed_us = self._environment.clock.monotonic_us() - self._timed_us
        if entries:
            self.log.forget(self.applied_index)
            self.promises.kept(self.applied_ticket, self._environment.clock)

    def figures(self) -> GroupFigures:
        """Where it stands; who asks changes nothing."""
        log = self.log
        node = self._node
        state = log.log.group_state()
        term, commit, written = state.term, self.applied_index, log.last_index()
        if node is not None:
            term = node.raft.term
            commit = node.raft.log.committed
            progress = node.raft.tracker.progress.get(self.member)
            if progress is not None and node.raft.role == LEADER:
                written = progress.match
        snapshot = log.snapshot_index if log.snapshot_index > 0 else -1
        latency = self._timed_us if self._timed_ticket == 0 else 0
        return GroupFigures(int(term), int(commit), int(self.applied_index), int(written), int(snapshot), int(latency))

    def close(self) -> None:
        """The group is no more, and its log with it."""
        log = self.log.log
        log.user = None
        log.group_state().owner = None
        self._node = None
        self.is_gathering = False
        self._in_flight = _NO_READIES
        self.applied_ticket = self.open_ticket
        self.promises.end(self._environment.clock)
        self._environment.logs.drop(log)

    # ---- snapshots and recovery --------------------------------------------------------------------------------------

    def compact(self) -> None:
        log = self.log
        index = self.applied_index
        if index > log.snapshot_index:
            configuration = log.configuration
            node = self._node
            if node is not None:
                configuration = node.raft.tracker.configuration
            log.compact(Snapshot(index, log.term(index), configuration, self.machine.snapshot()))

    def recover(self) -> None:
        """Bring the machine to where it was. Alone, everything that the disk has was committed by that."""
        log = self.log
        is_alone = log.configuration.voters == [self.member]
        log.recover(is_alone)
        if log.snapshot_index > 0:
            self.machine.restore(log.state())
        elif log.lost_beginning or not log.recovered:
            self.machine.make_do([entry.data for entry in log.recovered if isinstance(entry.data, bytes)])
        commit = log.last_index() if is_alone else log.log.group_state().commit
        self.applied_index = log.snapshot_index
        for entry in log.recovered:
            if entry.index > commit:
                break
            data = entry.data
            if entry.kind == NORMAL and isinstance(data, bytes):
                self.machine.apply(data)
            self.applied_index = entry.index
        log.recovery_is_over()
        if is_alone:
            log.forget(self.applied_index)
