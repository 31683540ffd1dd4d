"""The network between simulated members: it loses, doubles, delays and reorders, and is cut, perhaps one way."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING

from broker.raft.entry import Entry
from broker.raft.message import PROPOSE, SNAPSHOT, Message
from broker.raft.snapshot_transfer import SliceAnswer, SnapshotSlice
from tests.simulation.oracle import Violation

if TYPE_CHECKING:
    from tests.simulation.simulation import Simulation

Parcel = tuple[Message, list[int]]


class Network:
    """Everybody reaches everybody; times are in ticks."""

    def __init__(self, simulation: Simulation, chance: random.Random) -> None:
        self._simulation = simulation
        self._random: Callable[[], float] = chance.random
        self.cut: set[tuple[int, int]] = set()
        """From whom to whom nothing gets through."""
        self.loss = 0.0
        self.doubles = 0.0
        self.delay = 0.1
        """Most messages take between a tenth of it and this."""
        self._steady = False
        self.late = 0.0
        """So many take up to a hundred times as long."""

    def calm(self) -> None:
        """From now on nothing is lost, and everything arrives in its order, as over a connection."""
        self._steady = True
        self.cut.clear()
        self.loss = self.doubles = self.late = 0.0
        self.delay = 0.1

    def _time(self) -> float:
        if self._steady:
            return self.delay
        number = self._random()
        delay = self.delay * (0.1 + 0.9 * number)
        return delay * 100 * self._random() if self.late and self._random() < self.late else delay

    def send(self, message: Message) -> None:
        """It may get there."""
        if message.kind == PROPOSE:
            # the others' entries get their indexes once, ours must not
            message.entries = [Entry(entry.kind, entry.data, entry.size) for entry in message.entries]
        simulation = self._simulation
        if (message.sender, message.to) in self.cut or (self.loss and self._random() < self.loss):
            self.lost(message)
            return
        # what was sent does not change any more, though sender and receiver share the entries
        terms = [entry.term for entry in message.entries]
        simulation.after(self._time(), self.deliver, (message, terms))
        if self.doubles and self._random() < self.doubles:
            simulation.after(self._time() * 10, self.deliver, (copied(message), terms))

    def send_slice(self, said: SnapshotSlice | SliceAnswer, sender: int, to: int) -> None:
        """Of a snapshot, or the answer to one: whoever waits for it sends it again."""
        times = 2 if self.doubles and self._random() < self.doubles else 1
        for _ in range(times):
            if (sender, to) not in self.cut and (not self.loss or self._random() >= self.loss):
                self._simulation.after(self._time(), self.deliver_slice, (said, to))

    def deliver_slice(self, parcel: tuple[SnapshotSlice | SliceAnswer, int]) -> None:
        """It is there."""
        said, to = parcel
        receiver = self._simulation.members.get(to)
        if receiver is not None and receiver.is_up:
            receiver.receive_slice(said)

    def lost(self, message: Message) -> None:
        """It will not get there; the sender of a snapshot is told, others perhaps."""
        simulation = self._simulation
        if message.kind == SNAPSHOT:
            simulation.after(min(self._time() * 20, 50.0), self.report, (message, True))
        elif self._random() < 0.02:
            simulation.after(self._time(), self.report_unreachable, message)

    def report_unreachable(self, message: Message) -> None:
        """To the sender of what was lost."""
        sender = self._simulation.members.get(message.sender)
        if sender is not None:
            sender.call(lambda node: node.report_unreachable(message.to))

    def report(self, fate: tuple[Message, bool]) -> None:
        """To the sender of a snapshot."""
        message, failed = fate
        sender = self._simulation.members.get(message.sender)
        if sender is not None and sender.paused_until:
            self._simulation.at(sender.paused_until, self.report, fate)  # it must be told
        elif sender is not None:
            sender.call(lambda node: node.report_snapshot(message.to, failed))

    def deliver(self, parcel: Parcel) -> None:
        """It is there."""
        message, terms = parcel
        if terms and [entry.term for entry in message.entries] != terms:
            raise Violation(f"{message} has changed on its way")
        receiver = self._simulation.members.get(message.to)
        if receiver is None or not receiver.is_up:
            self.lost(message)
            return
        if message.kind == SNAPSHOT:
            self._simulation.after(min(self._time(), 50.0), self.report, (message, False))
        receiver.receive(message)


def copied(message: Message) -> Message:
    """As it would be read a second time."""
    made = Message(message.kind, message.to, message.sender, message.term)
    made.index = message.index
    made.log_term = message.log_term
    made.commit = message.commit
    made.entries = message.entries[:]
    if message.kind == PROPOSE:
        made.entries = [Entry(entry.kind, entry.data, entry.size) for entry in message.entries]
    made.reject = message.reject
    made.reject_hint = message.reject_hint
    made.context = message.context
    made.is_transfer = message.is_transfer
    made.is_damaged = message.is_damaged
    made.snapshot = message.snapshot
    return made
