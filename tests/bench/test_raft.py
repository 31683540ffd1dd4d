"""The Raft core alone, three members in one process: what an entry costs, and how many ticks pass without a leader."""

from __future__ import annotations

import json
import os
import random
from typing import Final

import pytest

from broker.native import i64
from broker.raft.configuration import Configuration
from broker.raft.entry import NORMAL, Entry, total_size
from broker.raft.message import Message, Snapshot
from broker.raft.raft import LEADER, Options, Randomness
from broker.raft.raw_node import RawNode
from broker.raft.storage import HardState, InitialState, MemoryStorage
from tests.bench.timing import ceiling, microseconds

BATCH: Final = 256
BATCHES: Final = 200
BODY: Final = b"x" * 1024
LOSSES: Final = 2000


class Dice(Randomness):
    """A random source that can be repeated."""

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)

    def below(self, limit: i64) -> i64:
        return self._dice.randrange(limit)


class Member:
    """A member whose disk is memory, and which is told at once that everything is saved and applied."""

    def __init__(self, number: int, options: Options, randomness: Randomness) -> None:
        self.number = number
        self.storage = MemoryStorage(InitialState(HardState(), Configuration([1, 2, 3])))
        self.node = RawNode(number, self.storage, 0, options, randomness)
        self.applied = 0
        self.is_cut_off = False

    def handle(self, sent: list[Message]) -> None:
        """All that is to be done; what is to be sent is put behind ``sent``."""
        node = self.node
        while node.has_ready():
            ready = node.ready()
            self.storage.append(ready.entries)
            sent += ready.messages
            node.saved(ready)
            sent += ready.responses
            if ready.committed:
                self.applied = ready.committed[-1].index
                node.applied(self.applied, total_size(ready.committed))

    def forget(self) -> None:
        """What was applied is let go."""
        self.storage.compact(Snapshot(self.applied, self.storage.term(self.applied), Configuration([1, 2, 3])))


class Three:
    """The members, in lock-step: what one sends arrives at once, or with the next tick."""

    def __init__(self, seed: int = 1) -> None:
        options = Options()
        self.members = {number: Member(number, options, Dice(seed * 10 + number)) for number in (1, 2, 3)}
        self.sent: list[Message] = []

    def settle(self) -> None:
        """Until nothing is under way."""
        while True:
            for member in self.members.values():
                member.handle(self.sent)
            if not self.sent:
                return
            self.deliver()

    def deliver(self) -> None:
        """What is under way arrives, unless one of the two is cut off."""
        sent, self.sent = self.sent, []
        for message in sent:
            to = self.members[message.to]
            if not to.is_cut_off and not self.members[message.sender].is_cut_off:
                to.node.step(message)

    def tick(self, *, at_once: bool) -> None:
        """Time passes for all."""
        self.deliver()
        for member in self.members.values():
            member.node.tick()
        if at_once:
            self.settle()
        for member in self.members.values():
            member.handle(self.sent)

    def leaders(self) -> list[Member]:
        """Who leads, of those that are not cut off."""
        return [member for member in self.members.values() if member.node.raft.role == LEADER and not member.is_cut_off]


def test_batches_of_entries() -> None:
    """One batch is on its way at a time, as one message to each of the others."""
    three = Three()
    leader = three.members[1]
    leader.node.campaign()
    three.settle()

    def run() -> None:
        for _ in range(BATCHES):
            assert leader.node.propose([Entry(NORMAL, BODY, len(BODY)) for _ in range(BATCH)])
            three.settle()
            for member in three.members.values():
                member.forget()

    before = leader.applied
    name = f"raft, batches of {BATCH} entries of 1 KiB, three members"
    each = microseconds(name, BATCH * BATCHES, run)
    assert leader.applied == before + 5 * BATCH * BATCHES
    assert {member.applied for member in three.members.values()} == {leader.applied}
    assert each < ceiling(2.0, 10.0)


@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "a tick later"])
def test_ticks_until_there_is_another_leader(at_once: bool) -> None:
    """The leader is cut off, at any time between two heartbeats, and comes back when another one leads."""
    three = Three()
    dice = random.Random(11)
    waits: list[int] = []
    while len(waits) < LOSSES:
        while not three.leaders():
            three.tick(at_once=at_once)
        for _ in range(dice.randrange(5, 15)):
            three.tick(at_once=at_once)
        leaders = three.leaders()
        if not leaders:
            continue
        leaders[0].is_cut_off = True
        waited = 0
        while not three.leaders():
            three.tick(at_once=at_once)
            waited += 1
        waits.append(waited)
        leaders[0].is_cut_off = False
    waits.sort()
    figures = {"p50": waits[LOSSES // 2], "p99": waits[LOSSES * 99 // 100], "max": waits[-1]}
    name = f"raft, ticks to another leader, messages arrive {'at once' if at_once else 'a tick later'}"
    print(json.dumps({"benchmark": name, **figures, "losses": LOSSES, "build": os.environ.get("LEVERET_BUILD", "")}))
    assert figures["p99"] <= 35
