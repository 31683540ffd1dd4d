"""Publish sequence numbers of one channel, and their basic.ack / basic.nack, coalesced (RabbitMQ docs, Publisher Confirms).

What every queue decided at once is one run per turn: a single frame with multiple=true. Numbers that wait for a disk or for
other nodes are kept apart; a frame with multiple=true never covers one of them.
"""

from typing import final

from broker.message import Confirm
from broker.native import i64
from broker.protocol.outbox import Outbox
from broker.wire.writer import write_ack, write_nack


@final
class Confirms(Confirm):
    """The confirms of one channel: numbers only; the channel decides when to flush."""

    def __init__(self) -> None:
        self.published: i64 = 0
        """The sequence number of the last message."""
        self.confirmed: i64 = 0
        """How many acks were written."""
        self._run_from: i64 = 0
        self._run_to: i64 = 0
        self._run_size: i64 = 0
        self._run_nack = False
        self._waiting: dict[int, int] = {}
        self._rejected: set[int] = set()
        self._late: list[tuple[int, bool]] = []

    @property
    def unconfirmed(self) -> int:
        """Messages that wait for a promise."""
        return len(self._waiting)

    @property
    def due(self) -> bool:
        """Whether ``flush`` has something to write."""
        return self._run_to > 0 or len(self._late) > 0

    def decided(self, sequence: i64, nack: bool, outbox: Outbox, channel: i64) -> None:
        """Message ``sequence`` is taken or refused by all its queues now. Numbers come in ascending order."""
        if self._waiting or self._late:
            self._late.append((sequence, nack))
            return
        self._extend_run(sequence, nack, outbox, channel)

    def _extend_run(self, sequence: i64, nack: bool, outbox: Outbox, channel: i64) -> None:
        if self._run_to and self._run_nack != nack:
            self._write_run(outbox, channel)
        if not self._run_to:
            self._run_from = sequence
            self._run_nack = nack
            self._run_size = 0
        self._run_to = sequence
        self._run_size += 1

    def defer(self, sequence: i64, queues: int) -> None:
        """Message ``sequence`` waits for ``queues`` of its queues."""
        self._waiting[sequence] = queues

    def refuse(self, sequence: i64) -> None:
        """One of its queues refused message ``sequence`` at once; it becomes a nack when the others have answered."""
        self._rejected.add(sequence)

    def accepted(self, sequence: i64) -> None:
        left = self._waiting.get(sequence, 0) - 1
        if left > 0:
            self._waiting[sequence] = left
        elif left == 0:
            del self._waiting[sequence]
            refused = sequence in self._rejected
            self._rejected.discard(sequence)
            self._late.append((sequence, refused))

    def rejected(self, sequence: i64) -> None:
        if sequence in self._waiting:
            self._rejected.add(sequence)
            self.accepted(sequence)

    def _write_run(self, outbox: Outbox, channel: i64) -> None:
        multiple = self._run_to > self._run_from
        if self._run_nack:
            write_nack(outbox.writer, channel, self._run_to, multiple)
        else:
            write_ack(outbox.writer, channel, self._run_to, multiple)
            self.confirmed += self._run_size
        self._run_to = 0

    def flush(self, outbox: Outbox, channel: i64) -> None:
        """Write what was decided since the last flush."""
        if self._run_to:
            self._write_run(outbox, channel)
        if not self._late:
            return
        late = self._late
        self._late = []
        late.sort()
        horizon = next(iter(self._waiting)) if self._waiting else 1 << 62
        for sequence, nack in late:
            if sequence > horizon:
                if nack:
                    write_nack(outbox.writer, channel, sequence, False)
                else:
                    write_ack(outbox.writer, channel, sequence, False)
                    self.confirmed += 1
                continue
            self._extend_run(sequence, nack, outbox, channel)
        if self._run_to:
            self._write_run(outbox, channel)
