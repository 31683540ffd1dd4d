"""One simulated member: a core, its log, its state machine, and the owner who carries out what the core asks for."""

from __future__ import annotations

import functools
import random
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from broker.native import i64
from broker.raft.configuration import Configuration, decode_conf_change
from broker.raft.entry import CONF_CHANGE, Entry
from broker.raft.message import SNAPSHOT, Message, Snapshot
from broker.raft.raft import LEADER, ROLES, Options, Raft, Randomness
from broker.raft.raw_node import RawNode, Ready
from broker.raft.snapshot_transfer import SliceAnswer, SnapshotReceiver, SnapshotSender, SnapshotSlice
from tests.simulation.oracle import Violation

if TYPE_CHECKING:
    from tests.simulation.disk import MemberLog
    from tests.simulation.machine import Machine
    from tests.simulation.simulation import Simulation

POINTS = (
    "asked",
    "sent",
    "written",
    "synced",
    "saved",
    "answered",
    "applying",
    "applied",
    "snapshot written",
    "snapshot synced",
)
"""Where a member may be made to crash: behind each of these steps."""


class Crashed(Exception):
    """A member has come to where it was to crash."""

    def __init__(self, member: Member) -> None:
        super().__init__(str(member))
        self.member = member


def _pass(member: Member, point: str) -> None:
    if member.crash_at == point:
        raise Crashed(member)


class Chance(Randomness):
    """Numbers for the core, from the seed."""

    def __init__(self, chance: random.Random) -> None:
        self._random: Callable[[], float] = chance.random

    def below(self, limit: i64) -> i64:
        return int(self._random() * int(limit))


class Habits:
    """How a member works; drawn for each start. Times are in ticks."""

    def __init__(self, chance: random.Random) -> None:
        self.defers = chance.choice((0.0, 0.0, 0.3, 0.9))
        """How often it does something else first, so that more comes together for one ready."""
        self.defers_for = chance.choice((0.2, 0.5, 4.0))
        self.sends_first = chance.random() < 0.5
        """Before it writes."""
        self.apply_delay = chance.choice((0.0, 0.0, 0.1, 2.0))
        self.applies = chance.choice((1, 3, 100))
        """Entries at a time."""
        self.snapshot_every = chance.choice((5, 20, 50, 1000))
        """Entries."""
        self.keeps = chance.choice((0, 0, 3, 20))
        """Entries before a snapshot that stay in the log."""


class Member:
    """Up, down or paused; what is asked of it while it is down is lost."""

    def __init__(self, simulation: Simulation, number: int, log: MemberLog, machine: Machine, options: Options) -> None:
        chance = simulation.chance
        self.simulation = simulation
        self.number = number
        self.log = log
        self.machine = machine
        self.options = options
        self.chance = chance
        self._random: Callable[[], float] = chance.random
        self.period = chance.choice((1.0, 1.0, 0.9, 1.1, 0.6, 1.6))
        """Of its clock."""
        self.sync_time = 0.1
        """How long the disk takes, at most."""
        self.sync_fails = False
        """The next one does."""
        self.crash_at = ""
        """One of ``POINTS``."""
        self.answers_early = False
        """Planted: it does not wait for the disk."""
        self.life = 0
        """Starts so far: what was begun before the last one does not come to an end."""
        self.is_up = False
        self.paused_until = 0.0
        self.term = 0
        self.start()

    def __repr__(self) -> str:
        if not self.is_up:
            return f"member {self.number} (down)"
        raft = self.node.raft
        log = raft.log
        return (
            f"member {self.number} ({ROLES[raft.role]} of term {raft.term}, "
            f"log {log.first_index()}-{log.last_index()}, committed {log.committed}, applied {log.applied})"
        )

    # -- Its life

    def start(self) -> None:
        """From what the disk has."""
        simulation = self.simulation
        state = self.log.initial_state()
        snapshot = self.log.snapshot()
        self.applied_index = snapshot.index if snapshot is not None else 0
        self.machine.restore(snapshot.data if snapshot is not None else None)
        self.configuration: Configuration = state.configuration
        self.node = RawNode(self.number, self.log, self.applied_index, self.options, Chance(self.chance))
        self.raft: Raft = self.node.raft
        self.habits = Habits(self.chance)
        self.life += 1
        self.is_up = True
        self._snapshots = SnapshotSender(5, 60, simulation.slice_bytes)
        self._incoming = SnapshotReceiver(self.number, 1 << 30)
        self.is_working = self.is_applying = self.is_syncing = False
        self.led_term = 0
        self.commit = self.written_commit = self.raft.log.committed
        """As the core said last; and when it had something written last."""
        if self.raft.term < self.term:
            self.term = self.raft.term  # nobody was told of the later one, as ``started`` makes sure
        self.snapshot_index = self.applied_index
        self._unsaved: deque[tuple[int, Ready | None, int]] = deque()
        """Written, and not synced: its number, and a ready or the index of a snapshot."""
        self._to_apply: deque[Entry] = deque()
        self.inbox: list[Message] = []
        """What has come during a pause."""
        if self.number in simulation.oracle.logs:
            simulation.oracle.started(self)
        simulation.oracle.logs[self.number] = self.log
        simulation.after(self._random() * self.period, self.on_tick, self.life)

    def crash(self) -> None:
        """The power fails."""
        self.is_up = False
        self.crash_at = ""
        self.sync_fails = False
        self.paused_until = 0.0
        self.log.crash(self.chance)

    def pause(self, until: float) -> None:
        """It does nothing until then, and handles everything at once."""
        if self.paused_until <= self.simulation.now:
            self.simulation.at(until, self.on_resume, self.life)
            self.paused_until = until

    def on_resume(self, life: int) -> None:
        """The pause is over."""
        if life != self.life or not self.is_up:
            return
        self.paused_until = 0.0
        inbox, self.inbox = self.inbox, []
        for message in inbox:
            self.node.step(message)
            self.look()
        self.work()

    def _is_away(self, life: int, later: Callable[[int], None]) -> bool:
        if life != self.life or not self.is_up:
            return True
        if self.paused_until:
            self.simulation.at(self.paused_until, later, life)
            return True
        return False

    def look(self) -> None:
        """Behind every call of the core."""
        raft = self.raft
        if raft.term != self.term:
            if raft.term < self.term:
                raise Violation(f"{self} goes back from term {self.term}")
            self.term = raft.term
        if raft.role == LEADER and raft.term != self.led_term:
            self.led_term = raft.term
            self.simulation.oracle.elected(self)
        commit = raft.log.committed
        if commit != self.commit:
            self.simulation.oracle.commits(self, commit)
            self.commit = commit

    # -- What happens to it

    def on_tick(self, life: int) -> None:
        """Its clock has ticked."""
        if life != self.life or not self.is_up:
            return
        simulation = self.simulation
        simulation.after(self.period, self.on_tick, life)
        if self.paused_until:
            return
        self.node.tick()
        self._snapshots.tick()
        self._send_slices()
        if not self.node.has_ready():
            simulation.count -= 1  # nothing has happened but that time goes on
            return
        self.look()
        self.work()

    def receive(self, message: Message) -> None:
        """From another member."""
        if self.paused_until:
            self.inbox.append(message)
            return
        self.node.step(message)
        self.look()
        self.work()

    def call(self, what: Callable[[RawNode], object]) -> None:
        """Whatever an owner may ask his core for."""
        if self.is_up and not self.paused_until:
            what(self.node)
            self.look()
            self.work()

    def propose(self, entries: list[Entry]) -> bool:
        """Commands."""
        if not self.is_up or self.paused_until:
            return False
        accepted = self.node.propose(entries)
        self.look()
        self.work()
        return accepted

    # -- What it does

    def work(self) -> None:
        """What the core asks for, now or soon."""
        if not self.node.has_ready():
            return
        if self.habits.defers and self._random() < self.habits.defers:
            if not self.is_working:
                self.is_working = True
                self.simulation.after(self._random() * self.habits.defers_for, self.on_work, self.life)
            return
        while self.node.has_ready():
            self._handle()

    def on_work(self, life: int) -> None:
        """It does what it has put off."""
        if self._is_away(life, self.on_work):
            return
        self.is_working = False
        while self.node.has_ready():
            self._handle()

    def _handle(self) -> None:
        ready = self.node.ready()
        if self.crash_at:
            _pass(self, "asked")
        sends_first = self.habits.sends_first
        if sends_first:
            self._send(ready)
        log = self.log
        log.write(ready, log.must_repair_to() > 0 and self.raft.repair_to == 0)
        if ready.snapshot is not None:
            self._install(ready.snapshot)
        if ready.entries:
            self.simulation.oracle.wrote(self, ready.entries)
        self.written_commit = self.commit
        if self.crash_at:
            _pass(self, "written")
        if not sends_first:
            self._send(ready)
        if self.answers_early:
            self._answer(ready)
        elif ready.must_sync or self._unsaved:
            self._unsaved.append((log.written(), ready, 0))
            self._sync()
        else:
            self._save(ready)
        for state in ready.read_states:
            self.simulation.oracle.read(self, state.context, state.index)
        if ready.committed:
            self._to_apply += ready.committed
            self._apply_soon()

    def _send(self, ready: Ready) -> None:
        simulation = self.simulation
        send = simulation.network.send
        for message in ready.messages:
            simulation.oracle.sends(self, message)
            if message.kind == SNAPSHOT and simulation.slice_bytes:
                self._snapshots.begin(message)
            else:
                send(message)
        self._send_slices()
        if self.crash_at:
            _pass(self, "sent")

    def _send_slices(self) -> None:
        self._snapshots.stop(self.raft.term)
        for part in self._snapshots.take():
            self.simulation.network.send_slice(part, part.of.sender, part.to)
        for member, failed in self._snapshots.take_fates():
            self.call(functools.partial(RawNode.report_snapshot, member=member, failed=failed))

    def receive_slice(self, said: SnapshotSlice | SliceAnswer) -> None:
        """Of a snapshot, or the answer to one."""
        if self.paused_until:
            return  # as if it was lost
        if isinstance(said, SliceAnswer):
            self._snapshots.answered(said)
            self._send_slices()
            return
        message, answer = self._incoming.take(said)
        if answer is not None:
            self.simulation.network.send_slice(answer, self.number, said.of.sender)
        if message is not None:
            self.simulation.oracle.counts["snapshots that came in slices"] += said.offset > 0
            self.receive(message)

    def _install(self, snapshot: Snapshot) -> None:
        self.simulation.oracle.installed(self, snapshot)
        self._to_apply.clear()
        self.machine.restore(snapshot.data)
        self.applied_index = self.snapshot_index = snapshot.index
        self.configuration = snapshot.configuration

    # -- Its disk

    def _sync(self) -> None:
        if not self.is_syncing:
            self.is_syncing = True
            number = self.log.begin_sync()
            self.simulation.after(self.sync_time * self._random(), self.on_sync, (self.life, number))

    def on_sync(self, sync: tuple[int, int]) -> None:
        """Everything up to a number is on the disk."""
        life, number = sync
        if life != self.life or not self.is_up:
            return
        if self.paused_until:
            self.simulation.at(self.paused_until, self.on_sync, sync)
            return
        if self.sync_fails:
            raise Crashed(self)
        self.log.end_sync(number)
        if self.crash_at:
            _pass(self, "synced")
        self.is_syncing = False
        unsaved = self._unsaved
        while unsaved and unsaved[0][0] <= number:
            _, ready, index = unsaved.popleft()
            if ready is not None:
                self._save(ready)
            else:
                if self.crash_at:
                    _pass(self, "snapshot synced")
                self.log.compact(index - self.habits.keeps)
        if unsaved:
            self._sync()
        self.work()

    def _save(self, ready: Ready) -> None:
        self.node.saved(ready)
        self.look()
        if self.crash_at:
            _pass(self, "saved")
        if ready.responses:
            self._answer(ready)

    def _answer(self, ready: Ready) -> None:
        simulation = self.simulation
        for message in ready.responses:
            simulation.oracle.responds(self, message)
            simulation.network.send(message)
        if self.crash_at:
            _pass(self, "answered")

    # -- Its state machine

    def _apply_soon(self) -> None:
        delay = self.habits.apply_delay
        if not self.is_applying:
            self.is_applying = True
            if delay:
                self.simulation.after(delay * self._random(), self.on_apply, self.life)
            else:
                self.on_apply(self.life)

    def on_apply(self, life: int) -> None:
        """Some of what is committed."""
        if self._is_away(life, self.on_apply):
            return
        self.is_applying = False
        to_apply = self._to_apply
        left = self.habits.applies if self.habits.apply_delay else len(to_apply)
        size = 0
        while to_apply and left:
            entry = to_apply.popleft()
            self._apply(entry)
            size += entry.size
            left -= 1
        if self.crash_at:
            _pass(self, "applied")
        self.node.applied(self.applied_index, size)
        self.look()
        if to_apply:
            self._apply_soon()
        if self.applied_index - self.snapshot_index >= self.habits.snapshot_every:
            self.take_snapshot()
        if not self.is_working and self.habits.apply_delay:
            self.work()

    def _apply(self, entry: Entry) -> None:
        oracle = self.simulation.oracle
        if entry.index != self.applied_index + 1:
            raise Violation(f"{self} is to apply {entry} behind entry {self.applied_index}")
        self.machine.apply(entry)
        self.applied_index = entry.index
        oracle.applied(self, entry)
        if entry.kind == CONF_CHANGE:
            assert isinstance(entry.data, bytes)
            self.configuration = self.node.apply_conf_change(decode_conf_change(entry.data))
            oracle.configured(self, entry.index, self.configuration)
            self.look()
        if self.crash_at:
            _pass(self, "applying")

    def take_snapshot(self) -> None:
        """Of what it has applied; once it is synced, the entries may go."""
        index = self.applied_index
        if index <= self.snapshot_index:
            return
        term = self.log.term(index)
        self.log.write_snapshot(Snapshot(index, term, self.configuration, self.machine.snapshot()))
        self.snapshot_index = index
        self.simulation.oracle.counts["snapshots taken"] += 1
        if self.crash_at:
            _pass(self, "snapshot written")
        self._unsaved.append((self.log.written(), None, index))
        self._sync()
