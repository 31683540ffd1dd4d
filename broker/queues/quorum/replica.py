"""What a quorum queue's leader tells its group, and what comes of it once an entry is applied.

The queue decides at once, on the messages as they stand in its backlogs; everything it decides is a command
(commands.py) of the entry that is being gathered. What clients may see of it (a delivery, the answer to a basic.get)
waits until that entry is applied: it is held with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from broker.clock import Clock
from broker.cluster.group import Group, GroupFigures
from broker.cluster.group_environment import GroupEnvironment
from broker.cluster.machine import Machine
from broker.native import i64
from broker.queues.queue_log import LevelRecorder
from broker.queues.quorum.commands import ACCEPT, LEVELS, EntryWriter
from broker.queues.quorum.entry_reader import EntryReader
from broker.queues.quorum.held import Held
from broker.queues.quorum.ledger import Ledger
from broker.queues.quorum.level import LedgerLevel, Totals
from broker.queues.quorum.snapshot import restore, snapshot
from broker.queues.quorum.values import NACK, OUT, TAKEN, UNCLAIMED, acquired_count, state_of
from broker.store.index import Positions
from broker.store.log import Log, SettlementTeller
from broker.store.run_map import RunCursor, RunMap

if TYPE_CHECKING:
    from broker.queues.quorum.queue import QuorumQueue


_NOBODY: Final[list[Held]] = []
"""Shared, and never changed."""
_NO_ENTRIES: Final[list[list[Held]]] = []
"""Shared, and never changed."""


@final
class _Level(SettlementTeller):
    """Tells the group what is settled of the contents of one level."""

    def __init__(self, replica: Replica, level: i64) -> None:
        self._replica = replica
        self._level: i64 = level

    def settled(self, log: Log, first: i64, count: i64, stride: i64) -> None:
        self._replica.settled(self._level, first, count, stride)

    def is_wanted(self, log: Log, first: i64, last: i64) -> bool:
        replica = self._replica
        level = None if replica.has_nothing() else replica.ledger.levels[self._level]
        if level is None:
            return False
        cursor = RunCursor(level.runs)
        cursor.seek(first)
        wanted = False
        while not wanted and cursor.step() and cursor.start <= last:
            wanted = cursor.value != 0
        replica.rest()  # it was only looked at
        return wanted


@final
class _Recorder(LevelRecorder):
    """Hears what is appended to one level."""

    def __init__(self, replica: Replica, level: i64) -> None:
        self._replica = replica
        self._level: i64 = level

    def accepted(self) -> None:
        self._replica.gather().accept(self._level, 1)

    def was_delivered(self, position: i64) -> bool:
        value = self._replica.ledger.value_at(self._level, position)
        return state_of(value) == OUT or acquired_count(value) > 0


def _dead_between(positions: Positions, end: i64) -> list[tuple[int, int]]:
    """First and last of the ranges below ``end`` in which nothing is live."""
    found = [(start, last) for start, last in positions.dead_ranges() if start < end]
    if positions.first > 0:
        found.insert(0, (0, int(positions.first - 1)))
    return [(start, min(last, int(end - 1))) for start, last in found if start < end]


@final
class Replica(Machine):
    """This node's part of one quorum queue."""

    def __init__(self, queue: QuorumQueue, groups: GroupEnvironment, clock: Clock, member: i64) -> None:
        self.queue: QuorumQueue | None = queue
        """None once it is deleted."""
        self.are_out = False
        """What is being settled was delivered; otherwise it waits."""
        self._was_out: dict[int, RunMap] = {}
        """By level: what consumers had when the node ended, and has not been looked at since."""
        self._clock = clock
        self._member: i64 = member
        self._groups = groups
        self._group: Group | None = None
        """None before anything was ever written to it."""
        # on a node without a disk nobody has thought of numbers
        self._number: i64 = queue.log_number if queue.log_number > 0 else groups.logs.create(1 + LEVELS)
        self._logs = groups.logs
        self._writer: EntryWriter | None = None
        """Of the entry that is being gathered, if one was begun."""
        self._ledger: Ledger | None = None
        """None before anything happens, and while nothing happens."""
        self._state = b""
        """A snapshot of it meanwhile, a tenth of its size; empty where the group's log has it."""
        self._is_empty = True
        """No messages were in it when it was put away."""
        self._held = _NOBODY
        """What waits for the entry that is being gathered."""
        self._proposed = _NO_ENTRIES
        """The same for those that were proposed, in their order."""

    @property
    def group(self) -> Group:
        """Who agrees on what is said; made if need be."""
        group = self._group
        if group is None:
            groups = self._groups
            self._group = group = Group(
                groups, self._logs.open(self._number), self._member, groups.alone(self._member), self
            )
            if self.queue is not None:
                self.queue.promises = group.promises
        return group

    def figures(self) -> GroupFigures:
        """Where the group stands."""
        group = self._group
        return GroupFigures() if group is None else group.figures()

    @property
    def ledger(self) -> Ledger:
        """What is known of the messages."""
        ledger = self._ledger
        if ledger is None:
            state = self._put_away()
            self._ledger = ledger = restore(state) if state else Ledger()
            self._state = b""
        return ledger

    def _put_away(self) -> bytes:
        if self._state or self._group is None:
            return self._state
        return self._group.log.state()

    def has_nothing(self) -> bool:
        """Whether it is known without a look that there are no messages."""
        return self._ledger is None and self._is_empty

    # ---- said --------------------------------------------------------------------------------------------------------

    def gather(self) -> EntryWriter:
        """Takes the next command."""
        writer = self._writer
        if writer is None:
            self._writer = writer = EntryWriter()
            writer.begin(self._clock.wall_ms)
            self.group.written()
        return writer

    def settled(self, level: i64, first: i64, count: i64, stride: i64) -> None:
        """Messages are not needed any more."""
        if self.are_out:
            self.gather().settle(level, first, count, stride)
        else:
            self.gather().drop(level, first, count, stride, TAKEN)
            queue = self.queue
            if queue is not None and queue.delays is not None:
                queue.delays.forget(level, first, count, stride)

    def hold(self, held: Held) -> None:
        """To be done once what was said up to now is applied."""
        if self._held:
            self._held.append(held)
        else:
            self._held = [held]

    # ---- the group's machine -----------------------------------------------------------------------------------------

    def take(self) -> bytes:
        writer = self._writer
        if writer is None:
            return b""
        self._writer = None
        if self._proposed is _NO_ENTRIES:
            self._proposed = []
        self._proposed.append(self._held)
        self._held = _NOBODY
        return writer.take()

    def apply(self, data: bytes) -> None:
        ledger = self.ledger
        ledger.apply(data)
        gone = ledger.gone
        queue = self.queue
        at: i64 = 0
        while at < len(gone):
            self.contents(gone[at]).settle_told(gone[at + 1], gone[at + 2])
            if queue is not None and queue.keeper is not None:
                queue.keeper.gone(gone[at], gone[at + 1], gone[at + 2])
            at += 3
        if queue is not None and self._proposed:
            for held in self._proposed.pop(0):
                held.release(queue)

    def snapshot(self) -> bytes:
        state = self._put_away() if self._ledger is None else b""
        return state if state else snapshot(self.ledger)

    def restore(self, data: bytes) -> None:
        self._ledger = restore(data)
        self._state = b""

    def is_small(self) -> bool:
        ledger = self._ledger
        return ledger is None or ledger.is_small()

    def rest(self) -> None:
        if not self._proposed:
            self._proposed = _NO_ENTRIES
        ledger = self._ledger
        if ledger is not None and ledger.is_small():
            log = self.group.log
            is_known = log.snapshot_index == log.last_index() and log.snapshot_index > 0
            self._state = b"" if is_known else snapshot(ledger)
            self._is_empty = ledger.is_empty()
            self._ledger = None
            if self._is_empty and self.queue is not None:
                for level in self.queue.levels:
                    level.rest()

    def make_do(self, following: list[bytes]) -> None:
        """Whatever contents there are count as messages that may have been delivered, except for those that the
        entries accept."""
        accepted = [0] * LEVELS
        for data in following:
            reader = EntryReader(data)
            while reader.next():
                if reader.kind == ACCEPT:
                    accepted[reader.level] += int(reader.count)
        writer = EntryWriter()
        writer.begin(0)
        number: i64 = 0
        while number < LEVELS:
            log = self._logs.logs.get(self._number + 1 + number)
            count: i64 = 0 if log is None else log.positions.next - accepted[number]
            if log is not None and count > 0:
                writer.accept(number, count)
                for first, last in _dead_between(log.positions, count):
                    writer.drop(number, first, last - first + 1, 1, TAKEN)
                writer.deliver(number, 0, count, 1)
                writer.requeue(number, 0, count, 1, NACK)
            number += 1
        if not writer.empty:
            self.ledger.apply(writer.take())

    # ---- contents ----------------------------------------------------------------------------------------------------

    def contents(self, level: i64) -> Log:
        """The log with the contents of a level."""
        log = self._logs.open(self._number + 1 + level)
        if log.teller is None:
            log.teller = _Level(self, level)
            log.is_told_elsewhere = True
        return log

    def recorder(self, level: i64) -> LevelRecorder:
        """Who hears what is appended to a level."""
        return _Recorder(self, level)

    # ---- start and end -----------------------------------------------------------------------------------------------

    def recover(self) -> list[int]:
        """Bring the ledger back, and the logs to what it says. What consumers had when the node ended waits again: the
        first entry says so. Returns the levels in which there is something."""
        found: list[int] = []
        if not self._was_used():
            return found
        self.group.recover()
        number: i64 = 0
        while number < LEVELS:
            level = self.ledger.levels[number]
            log = self._logs.logs.get(self._number + 1 + number)
            if level is None and log is not None and log.positions.next > 0:
                level = LedgerLevel(number, Totals(), [])  # its first entry did not come to the disk
            if level is not None:
                self._align(self.contents(number), level)
                found.append(int(number))
            number += 1
        return found

    def _was_used(self) -> bool:
        """Whether a start has found anything of it."""
        at = self._number
        while at <= self._number + LEVELS:
            if at in self._logs.logs:
                return True
            at += 1
        return False

    def recovery_is_over(self) -> None:
        """What was found is where it belongs."""
        if self._writer is None:
            self.rest()

    def _align(self, log: Log, level: LedgerLevel) -> None:
        positions = log.positions
        at = positions.first
        out: list[tuple[int, int]] = []
        lost: list[tuple[int, int]] = []
        cursor = RunCursor(level.runs)
        cursor.seek(0)
        while cursor.step():
            first = cursor.start
            last = cursor.end
            if cursor.value == 0:
                continue
            if first > at:
                log.settle_told(at, first - 1)
            at = last + 1
            if state_of(cursor.value) == OUT:
                out.append((int(first), int(last)))
            if positions.live_between(first, last + 1) < last + 1 - first:
                lost.append((int(first), int(last)))
        if at < positions.next:
            log.settle_told(at, positions.next - 1)
        if positions.next < level.next:
            positions.settle(positions.next, level.next - 1)
        for first, last in out:
            self.gather().requeue(level.number, first, last + 1 - first, 1, UNCLAIMED)
            self._was_out.setdefault(int(level.number), RunMap()).assign(first, last, 1)
        for first, last in lost:
            for position in range(first, last + 1):
                if not positions.is_live(position):
                    self.gather().drop(level.number, position, 1, 1, TAKEN)
        missing = positions.next - level.next
        if missing > 0:  # contents whose entry did not come to the disk: their positions are not used again
            self.gather().accept(level.number, missing)
            self.gather().drop(level.number, level.next, missing, 1, TAKEN)

    def was_out(self, level: i64, position: i64) -> bool:
        """Whether a consumer had this message when the node ended; asked once for each."""
        found = self._was_out.get(int(level))
        if found is None or found.value_at(position) == 0:
            return False
        found.remove(position, position)
        return True

    def close(self) -> None:
        """The queue is deleted."""
        self.queue = None
        held = self._held
        proposed = self._proposed
        self._held = _NOBODY
        self._proposed = _NO_ENTRIES
        for each in [held, *proposed]:
            for waiting in each:
                waiting.drop()
        if self._group is not None:
            self._group.close()
        number = self._number + 1
        while number <= self._number + LEVELS:
            log = self._logs.logs.get(number)
            if log is not None:  # no half on the disk, which would have done it: nothing is in it
                self._logs.drop(log)
            number += 1
