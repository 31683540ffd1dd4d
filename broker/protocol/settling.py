"""Acknowledging and transactions over very many runs of deliveries, in slices (sliced.py, where what is refused has its
place as well).

    Acknowledging   basic.ack of many
    Taking          the same, and basic.nack of many, in a transaction: what is meant is put aside until the commit
    Rollback        what was put aside is outstanding again

A channel with several consumers has a run for each delivery, so a settlement of many may be one of a million.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from broker.discard import discard
from broker.faults import FaultOwner
from broker.native import i64
from broker.protocol.transaction import Settlement, Transaction
from broker.turn import SlicedWork

if TYPE_CHECKING:
    from broker.protocol.channel import Channel

_PER_LOOK: Final = 64
"""Runs between two looks at the clock."""


@final
class Acknowledging(SlicedWork):
    """Everything outstanding up to a tag is acknowledged."""

    def __init__(self, channel: Channel, through: i64) -> None:
        self._channel = channel
        self._through: i64 = through

    def step(self) -> bool:
        channel = self._channel
        session = channel.session
        while True:
            count, done = channel.unacked.ack_some(self._through)
            channel.count_acks(count)
            if done:
                channel.unblock()
                return True
            if session.turn.out_of_time():
                return False

    def fault_owner(self) -> FaultOwner | None:
        return self._channel.session.owner


@final
class Taking(SlicedWork):
    """Everything outstanding up to a tag becomes part of a settlement of the transaction."""

    def __init__(self, channel: Channel, settlement: Settlement, through: i64) -> None:
        self._channel = channel
        self._settlement = settlement
        self._through: i64 = through

    def step(self) -> bool:
        channel = self._channel
        while True:
            runs = channel.unacked.take_some(self._through)
            if not runs:
                return True
            channel.unacked.hold(runs)
            self._settlement.runs += runs
            if channel.session.turn.out_of_time():
                return False

    def fault_owner(self) -> FaultOwner | None:
        return self._channel.session.owner


@final
class Rollback(SlicedWork):
    """A transaction is undone: its publishes are forgotten, what it has settled is outstanding again."""

    def __init__(self, channel: Channel, transaction: Transaction) -> None:
        self._channel = channel
        self._settlements = transaction.settlements
        discard(channel.session.turn, [transaction.pending])
        transaction.pending = []

    def step(self) -> bool:
        channel = self._channel
        unacked = channel.unacked
        settlements = self._settlements
        left = _PER_LOOK
        while settlements:
            runs = settlements[-1].runs
            part = runs[-left:]
            del runs[-left:]
            if not runs:
                settlements.pop()
            left -= len(part)
            unacked.restore(part)
            if left <= 0:
                left = _PER_LOOK
                if settlements and channel.session.turn.out_of_time():
                    return False
        unacked.end_transaction()
        return True

    def fault_owner(self) -> FaultOwner | None:
        return self._channel.session.owner
