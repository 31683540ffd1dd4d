"""Publish sequence numbers of one channel, and their basic.ack / basic.nack, coalesced (RabbitMQ docs, Publisher
Confirms).

What every queue decided at once is one run per turn: a single frame with multiple=true. What waits for the disk is a
run as well: all of it waits for the same commit group, and what is decided meanwhile waits behind it, so that order and
runs are kept. Numbers that wait for other nodes are kept apart; a frame with multiple=true never covers one of them.
"""

from typing import final

from broker.message import Confirm
from broker.native import i64
from broker.protocol.outbox import Outbox
from broker.wire.writer import write_ack, write_nack


@final
class _Run:
    """Consecutive messages with the same outcome that wait for the same commit group."""

    def __init__(self, first: i64, last: i64, nack: bool, group: i64) -> None:
        self.first: i64 = first
        self.last: i64 = last
        self.nack = nack
        self.group: i64 = group
        """The commit group of the log that must be on the disk, by its ordinal."""


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
        self._logged: list[_Run] = []
        self._logged_apart: list[tuple[int, int]] = []

    @property
    def unconfirmed(self) -> int:
        """Messages that wait for a promise."""
        count = len(self._waiting)
        for run in self._logged:
            count += int(run.last - run.first) + 1
        return count

    def decided(self, sequence: i64, nack: bool, outbox: Outbox, channel: i64) -> None:
        """Message ``sequence`` is taken or refused by all its queues now. Numbers come in ascending order."""
        if self._waiting or self._late:
            self._late.append((sequence, nack))
            return
        if self._logged:
            self._extend_logged(sequence, nack, self._logged[-1].group)
            return
        self._extend_run(sequence, sequence, nack, outbox, channel)

    def logged(self, sequence: i64, group: i64, queues: i64) -> None:
        """Message ``sequence`` is promised when that commit group of the log is on the disk and ``queues`` more have
        answered."""
        if queues == 0 and not self._waiting and not self._late:
            self._extend_logged(sequence, False, group)
            return
        self._waiting[sequence] = int(queues) + 1
        self._logged_apart.append((group, sequence))

    def _extend_logged(self, sequence: i64, nack: bool, group: i64) -> None:
        logged = self._logged
        if logged:
            last = logged[-1]
            if last.nack == nack and last.group == group and last.last + 1 == sequence:
                last.last = sequence
                return
        logged.append(_Run(sequence, sequence, nack, group))

    def durable(self, group: i64, outbox: Outbox, channel: i64) -> None:
        """That commit group of the log, and all before it, are on the disk."""
        logged = self._logged
        count: i64 = 0
        for run in logged:
            if run.group > group:
                break
            self._extend_run(run.first, run.last, run.nack, outbox, channel)
            count += 1
        del logged[:count]
        if self._logged_apart:
            apart = self._logged_apart
            self._logged_apart = [each for each in apart if each[0] > group]
            for waited_for, sequence in apart:
                if waited_for <= group:
                    self.accepted(sequence)

    def _extend_run(self, first: i64, last: i64, nack: bool, outbox: Outbox, channel: i64) -> None:
        if self._run_to and self._run_nack != nack:
            self._write_run(outbox, channel)
        if not self._run_to:
            self._run_from = first
            self._run_nack = nack
            self._run_size = 0
        self._run_to = last
        self._run_size += last - first + 1

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
        if self._logged and self._logged[0].first < horizon:
            horizon = int(self._logged[0].first)
        for sequence, nack in late:
            if sequence > horizon:
                if nack:
                    write_nack(outbox.writer, channel, sequence, False)
                else:
                    write_ack(outbox.writer, channel, sequence, False)
                    self.confirmed += 1
                continue
            self._extend_run(sequence, sequence, nack, outbox, channel)
        if self._run_to:
            self._write_run(outbox, channel)
