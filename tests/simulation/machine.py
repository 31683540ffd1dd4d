"""The state machine of a simulated member: a list of commands, or a quorum queue's ledger."""

from __future__ import annotations

import functools
import random
from abc import ABC, abstractmethod

from broker.queues.quorum import values
from broker.queues.quorum.commands import Delay, EntryWriter
from broker.queues.quorum.ledger import Ledger
from broker.queues.quorum.snapshot import restore, snapshot
from broker.raft.entry import NORMAL, Entry

_LEVELS = (4, 4, 4, 0, 31)
_NEAR = 40
"""Most commands are about messages that were accepted by one of so many commands before."""


class Machine(ABC):
    """What the entries of a group are applied to, in their order."""

    @abstractmethod
    def apply(self, entry: Entry) -> None:
        """The next entry; its data are None at the begin of a term, and bytes for a change of the members."""

    @abstractmethod
    def digest(self) -> object:
        """What two machines have in common that have applied the same entries."""

    @abstractmethod
    def snapshot(self) -> object:
        """The state, to be kept and sent; it does not change when the machine does."""

    @abstractmethod
    def restore(self, snapshot: object) -> None:
        """The state of a snapshot instead of ours; None: the state before the first entry."""


class Commands(Machine):
    """A list of commands, of which only a running hash is kept."""

    def __init__(self) -> None:
        self._hash = 0

    def apply(self, entry: Entry) -> None:
        # hashes of numbers and bytes: those of strings differ from process to process
        data = entry.data
        self._hash = hash((self._hash, entry.index, int.from_bytes(data, "big") if isinstance(data, bytes) else data))

    def digest(self) -> object:
        return self._hash

    def snapshot(self) -> object:
        return self._hash

    def restore(self, snapshot: object) -> None:
        assert snapshot is None or isinstance(snapshot, int)
        self._hash = snapshot or 0


class QueueLedger(Machine):
    """The ledger of a quorum queue. The number of a command says what a leader has decided; what one ledger cannot do,
    no other can."""

    def __init__(self) -> None:
        self._ledger = Ledger()
        self._encoded: bytes | None = None
        """The ledger as a snapshot has it; None: not known now."""

    def apply(self, entry: Entry) -> None:
        if entry.kind == NORMAL and entry.data is not None:
            assert isinstance(entry.data, int)
            self._ledger.apply(decided(entry.data))
            self._encoded = None

    def digest(self) -> object:
        encoded = self._encoded
        if encoded is None:
            self._encoded = encoded = snapshot(self._ledger)
        return encoded

    def snapshot(self) -> object:
        return self.digest()

    def restore(self, snapshot: object) -> None:
        assert snapshot is None or isinstance(snapshot, bytes)
        self._ledger = Ledger() if snapshot is None else restore(snapshot)
        self._encoded = snapshot


@functools.lru_cache(4096)
def decided(number: int) -> bytes:
    """The data of an entry: some commands of a quorum queue's leader."""
    chance = random.Random(number)
    writer = EntryWriter()
    writer.begin(number * 10)
    writer.accept(4, 2)
    for level in chance.sample(_LEVELS, chance.randrange(3)):
        writer.accept(level, 1 + chance.randrange(3), chance.choice((-1, 0, 1)), number)
    for _ in range(chance.randrange(8)):
        level = chance.choice(_LEVELS)
        first = max(0, (2 if level == 4 else 0) * number - chance.randrange(_NEAR))
        count, stride = 1 + chance.randrange(12), chance.choice((1, 1, 2))
        what = chance.randrange(8)
        if what < 2:
            writer.deliver(level, first, count, stride)
        elif what == 2:
            writer.settle(level, first, count, stride)
        elif what == 3:
            writer.requeue(level, first, count, stride, chance.randrange(values.LAST_CAUSE + 1))
        elif what == 4:
            writer.drop(level, first, count, stride, chance.choice((values.EXPIRED, values.MAXLEN, values.REJECTED)))
        elif what == 5:
            writer.delay(level, first, count, stride, Delay(values.NACK, number * 10 + 50))
            writer.due(level, max(0, first - _NEAR), count, stride)
        elif what == 6:
            writer.dead_letter(level, first, count, stride, values.REJECTED)
            writer.dead_confirmed(level, max(0, first - _NEAR), count, stride)
        else:
            writer.attach(number, chance.randrange(3))
            writer.detach(max(1, number - chance.randrange(4)))
    # nothing stays for long: a ledger that grows would cost more than it finds
    for level, behind in ((4, 2 * number - 3 * _NEAR), (0, number // 2 - 3 * _NEAR), (31, number // 2 - 3 * _NEAR)):
        if behind > 0 and number % 8 == 0:
            for reason in (values.PURGED, values.REJECTED):
                writer.drop(level, 0, behind, 1, reason)
    return writer.take()
