"""Commit groups of the write-ahead log, and what was promised about them.

What one turn, or the turns during one sync, have appended is one commit group: batches that are covered by the same
sync. A group is whole or it is not there, so what belongs together (the publishes of a tx.commit) is appended to one
group.
"""

from typing import Final, final

from mypy_extensions import mypyc_attr

from broker.clock import NEVER
from broker.faults import FaultOwner, Faults
from broker.native import i64
from broker.store.batch import Batch
from broker.store.batch_writer import BATCH_SIZE, BatchWriter
from broker.turn import Syncable, Turn

HOLD_MS: Final[i64] = 100
"""The open group is held for so long before nobody else may begin to hold it: whoever waits for it must not wait
without end."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Listener:
    """Whoever made a promise that depends on a batch."""

    def durable(self, through: i64) -> None:
        """Every record up to number ``through`` is on the disk. Called once per registration, on the owner's thread."""
        raise NotImplementedError

    def fault_owner(self) -> FaultOwner | None:
        """Whose work it is, which ends when it fails by a mistake of ours."""
        return None


@mypyc_attr(allow_interpreted_subclasses=True)
class Collector:
    """Whoever has records that may wait until a batch leaves: settlements, which are merged until then."""

    def collect(self) -> None:
        """Append them now; the batch is about to be taken."""
        raise NotImplementedError

    def settle(self) -> None:
        """Append them now: somebody waits for them."""
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class CommitGroupHost:
    """The log that writes the commit groups."""

    def sync(self) -> None:
        """Take the open group, at once or when the one before it is done."""
        raise NotImplementedError


@final
class CommitGroup:
    """Batches that go to the disk together, one behind the other, under one sync."""

    def __init__(self, batches: list[Batch], listeners: list[Listener], ordinal: i64) -> None:
        self.batches = batches
        """At least one; the last one may be empty."""
        self.listeners = listeners
        self.ordinal: i64 = ordinal
        """Groups are counted from 1 for as long as the log is open."""

    def first_sequence(self) -> i64:
        """The number of its first record."""
        return self.batches[0].first_sequence

    def tell(self, through: i64, faults: Faults) -> None:
        """It is on the disk: every record up to number ``through`` is."""
        for listener in self.listeners:
            try:
                listener.durable(through)
            except Exception as error:
                faults.caught("promise", listener.fault_owner(), error)

    def through(self) -> i64:
        """The number of its last record."""
        return self.batches[-1].through()

    def size(self) -> i64:
        """Its bytes on the disk."""
        size: i64 = 0
        for batch in self.batches:
            size += batch.size()
        return size


@final
class CommitGroupWriter(BatchWriter, Syncable):
    """The open commit group of the write-ahead log, and who waits for it. One for the life of the log."""

    def __init__(self, next_sequence: i64, host: CommitGroupHost | None = None, batch_size: i64 = BATCH_SIZE) -> None:
        super().__init__(next_sequence, batch_size)
        self.awaits_record = True
        self.durable_through: i64 = next_sequence - 1
        """Every record up to this number is on the disk."""
        self.turn: Turn | None = None
        """Calls ``sync`` at the end of each turn in which something was appended, if set."""
        self.collector: Collector | None = None
        """Asked before each group is taken, if set."""
        self.group: i64 = 1
        """Ordinal of the open group."""
        self.durable_group: i64 = 0
        """Ordinal of the last group that is on the disk."""
        self.holders = 0
        """Who has not yet appended all that belongs into the open group: until then it is not taken."""
        self.urgent = False
        """Somebody waits for the open group to be on the disk."""
        self.is_expecting = False
        """The collector has something to append when the open group is taken."""
        self._held_from_ms: i64 = NEVER
        """When somebody began to hold the open group."""
        self._lingers = False
        self._host = host
        self._listeners: list[Listener] = []
        self._outstanding: CommitGroup | None = None
        self._outstanding_size: i64 = 0

    def record_added(self) -> None:
        """Its log has something to write at the end of this turn."""
        self.awaits_record = False
        self._lingers = False
        turn = self.turn
        if turn is not None:
            turn.schedule_sync(self)

    def linger(self) -> None:
        """The open group was not taken at the end of a turn, to be larger: its log is to be asked again when something
        is added to it."""
        self._lingers = True
        self.awaits_record = True

    def listen(self, listener: Listener, group: i64 = 0) -> None:
        """Call ``listener.durable`` when what was appended so far is on the disk, or what was appended up to that
        group; not at once, so ``is_durable`` is asked before."""
        outstanding = self._outstanding
        if outstanding is not None and (self.record_count == 0 or group == outstanding.ordinal):
            outstanding.listeners.append(listener)
        else:
            self._listeners.append(listener)
            self.hurry()

    def hurry(self) -> None:
        """Somebody waits for what was appended so far."""
        self.urgent = True
        if self._lingers:
            self.record_added()

    def expect(self) -> None:
        """The collector will have something to append when the open group is taken, which should be soon."""
        self.is_expecting = True
        self.urgent = True
        if self.awaits_record:
            self.record_added()

    def has_something(self) -> bool:
        """Whether there is anything to take."""
        return self.record_count > 0 or self.is_expecting

    def is_durable(self) -> bool:
        """Whether everything that was appended so far is on the disk."""
        return self.durable_through >= self.next_sequence - 1

    def committed(self) -> None:
        """The group that was taken last is on the disk."""
        outstanding = self._outstanding
        if outstanding is not None:
            self._outstanding = None
            self._outstanding_size = 0
            self.durable_through = outstanding.through()
            self.durable_group = outstanding.ordinal

    def sync(self) -> None:
        # Here and not in the log, which is interpreted: such a class cannot be a compiled trait.
        host = self._host
        if host is not None:
            host.sync()

    def hold_group(self, hold: bool) -> None:
        """What is appended until ``hold_group(False)`` belongs into one group, however many turns it takes."""
        turn = self.turn
        if hold and turn is not None and (self._held_from_ms == NEVER or (self.holders == 0 and self._is_unused())):
            self._held_from_ms = turn.clock.monotonic_ms()
        self.holders += 1 if hold else -1
        if self.holders == 0 and self.has_something():
            self.sync()

    def _is_unused(self) -> bool:
        return self.record_count == 0 and not self._listeners

    def is_held_for_long(self) -> bool:
        """Whether the open group is held, and has to be handed over before somebody else holds it too."""
        turn = self.turn
        return self.holders > 0 and turn is not None and turn.clock.monotonic_ms() - self._held_from_ms >= HOLD_MS

    def unwritten(self) -> i64:
        """Bytes of the records that are not on the disk yet."""
        return self._outstanding_size + self.group_size()

    def take(self) -> CommitGroup:
        """What was appended since the last call, which may be nothing."""
        self._held_from_ms = NEVER
        self.is_expecting = False
        collector = self.collector
        if collector is not None:
            collector.collect()
        size = self.group_size()
        group = CommitGroup(self.take_batches(), self._listeners, self.group)
        self.group += 1
        self._listeners = []
        self.urgent = False
        self._lingers = False
        self.awaits_record = True
        self._outstanding = group
        self._outstanding_size = size
        return group
