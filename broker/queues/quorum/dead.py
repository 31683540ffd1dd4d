"""x-dead-letter-strategy: at-least-once on a quorum queue: its dead letters stay in the ledger, and count, until all
their targets have them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from broker.clock import Clock
from broker.discard import discard
from broker.message import Message
from broker.native import i64
from broker.queues.block import body_size, is_missing
from broker.queues.entry import Entry
from broker.queues.message_backlog import MessageBacklog
from broker.queues.quorum.commands import EntryWriter
from broker.queues.quorum.dead_letter_sender import DeadLetterSender
from broker.queues.quorum.death_order import DeathOrder
from broker.queues.quorum.held import Held
from broker.queues.quorum.level import LedgerLevel
from broker.queues.quorum.values import DEAD, PURGED, REASONS, state_of
from broker.queues.read_back import ReadBack
from broker.store.logs import Logs
from broker.store.run_map import RunCursor, RunMap
from broker.turn import Turn

if TYPE_CHECKING:
    from broker.queues.disk_backlog import DiskBacklog
    from broker.queues.quorum.queue import QuorumQueue

AT_ONCE: Final[i64] = 4096
"""Messages that die in one go, at the most."""


@final
class _Died(Held):
    """What has died with one entry: it is sent once that is applied."""

    def __init__(self, dead: Dead) -> None:
        self.order = DeathOrder()
        self._dead = dead

    def release(self, queue: QuorumQueue) -> None:
        self._dead.died(self)


@final
class Dead:
    """Those of one queue."""

    def __init__(self, queue: QuorumQueue, logs: Logs | None, clock: Clock, turn: Turn) -> None:
        """``logs`` has the contents; None on a node that keeps nothing on disk."""
        self.sender = DeadLetterSender(queue, logs, clock, turn)
        self.count: i64 = 0
        """How many there are."""
        self.bytes: i64 = 0
        """Sum of the sizes of their bodies, about."""
        self._queue = queue
        self._turn = turn
        self._at_hand: dict[int, RunMap] | None = {} if logs is None else None
        """By level, where the contents stay in the backlogs' tables: the positions."""
        self._dying: list[_Died] = []
        """Those whose entry is not applied."""
        self._recovered: dict[int, ReadBack] = {}
        """By level, where some that were there at the start stand among what waits on the disk."""
        self._writer: EntryWriter | None = None
        """Of the entry of the last of them."""

    # ---- in ----------------------------------------------------------------------------------------------------------

    def keep(self, backlog: MessageBacklog, first: i64, count: i64, stride: i64, reason: str) -> None:
        """Messages that do not wait, ``AT_ONCE`` at the most, have died."""
        queue = self._queue
        level = backlog.level
        writer = queue.replica.gather()
        writer.dead_letter(level, first, count, stride, REASONS.index(reason))
        if writer is not self._writer:
            self._writer = writer
            self._dying.append(_Died(self))
            queue.replica.hold(self._dying[-1])
        self._dying[-1].order.add(level, first, count, stride)
        self.count += count
        self.bytes += self._size(backlog, first, count, stride)
        if self._at_hand is None:
            backlog.table.release(first, count, stride)
        else:
            self._at_hand.setdefault(int(level), RunMap()).assign_each(first, count, stride, DEAD)
        if queue.delays is not None:
            queue.delays.forget(level, first, count, stride)

    def _size(self, backlog: MessageBacklog, first: i64, count: i64, stride: i64) -> i64:
        """Sum of the sizes of their bodies; those that are on the disk only count as large as what waits."""
        size: i64 = 0
        unknown: i64 = 0
        position = first
        while position < first + count * stride:
            item = backlog.table.item(position)
            if item is None or is_missing(item):
                unknown += 1
            else:
                size += body_size(item)
            position += stride
        waiting = backlog.count() if unknown > 0 else 0
        return size if waiting == 0 else size + backlog.body_bytes * unknown // waiting

    def died(self, died: _Died) -> None:
        """The ledger has them."""
        self._dying.remove(died)
        self.sender.order.join(died.order)
        self.sender.wake()

    def recover(self, level: LedgerLevel, disk: DiskBacklog) -> None:
        """Those of a level that were there when the node ended."""
        count = level.totals.dead
        if count == 0:
            return
        queue = self._queue
        runs = RunMap()
        cursor = RunCursor(level.runs)
        cursor.seek(0)
        last = level.times.last()
        while cursor.end < last and cursor.step():
            if state_of(cursor.value) == DEAD:
                runs.assign(cursor.start, cursor.end, DEAD)
                self.sender.order.add_rest(level.number, cursor.start, cursor.end - cursor.start + 1, 1)
        log = queue.replica.contents(level.number)
        live = log.positions.live()
        self._recovered[int(level.number)] = disk.leave_out(runs)
        self.count += count
        self.bytes += log.body_bytes * count // live if live > 0 else 0
        self.sender.wake()

    # ---- out ---------------------------------------------------------------------------------------------------------

    def confirm(self, level: i64, position: i64, body_bytes: i64) -> None:
        """One of them need not stay."""
        queue = self._queue
        queue.replica.gather().dead_confirmed(level, position, 1, 1)
        if self._at_hand is not None:
            self._at_hand[int(level)].remove(position, position)
            queue.backlog_at(level).table.release_one(position)
        self.count -= 1
        self.bytes -= body_bytes
        if self.count == 0 or self.bytes < 0:
            self.bytes = 0

    def gone(self, level: i64, first: i64, last: i64) -> None:
        """Nothing of what the ledger had at these positions is left."""
        on_disk = self._recovered.get(int(level))
        if on_disk is None:
            return
        if on_disk.left_out is None:
            del self._recovered[int(level)]
        else:
            on_disk.left_out.remove(first, last)

    def purge(self) -> i64:
        """All of them are gone; how many."""
        queue = self._queue
        count = self.count
        if count > 0:
            for backlog in queue.levels:
                if backlog.next > 0:
                    queue.replica.gather().drop(backlog.level, 0, backlog.next, 1, PURGED)
        self.clear()
        return count

    def clear(self) -> None:
        """None of them is left."""
        for died in self._dying:
            died.order.clear()
        self.sender.clear()
        if self._at_hand:
            self._let_go(self._at_hand)
            self._at_hand = {}
        self.count = 0
        self.bytes = 0

    def _let_go(self, at_hand: dict[int, RunMap]) -> None:
        lists: list[list[Message | Entry | None]] = []
        for level, runs in at_hand.items():
            table = self._queue.backlog_at(level).table
            last = runs.last()
            cursor = RunCursor(runs)
            cursor.seek(0)
            while cursor.end < last and cursor.step():
                if cursor.value != 0:
                    table.take_out_range(cursor.start, cursor.end + 1, lists)
        discard(self._turn, lists)
