"""Random entries of all commands: the ledger, its copies restored from snapshots, and one that applies everything from
the beginning say what a dict of messages says."""

from __future__ import annotations

import random

import pytest

from broker.queues.quorum import values
from broker.queues.quorum.commands import Delay, EntryWriter
from broker.queues.quorum.ledger import Ledger
from broker.queues.quorum.snapshot import digest
from tests.support.ledger_model import SOURCES, Model, Range, again, assert_equal, assert_said

SEEDS = 200


class Actor:
    """Writes commands, mostly about what is there, and tells the model."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.model = Model()
        self.writer = EntryWriter()
        self.levels = chance.choice([[4], [4], [0, 4, 31]])
        self.width = chance.choice([1, 4, 30])
        self.sequences = [0, 0, 0]
        self.time = 1_000_000

    def entry(self) -> bytes:
        """The next entry."""
        chance = self.chance
        self.time += chance.randrange(-50, 200)
        self.model.begin(self.time)
        self.writer.begin(self.time)
        assert self.writer.empty
        for _ in range(chance.randrange(8)):
            chance.choices(
                [self.accept, self.deliver, self.settle, self.requeue, self.drop, self.delay, self.due],
                [4, 5, 4, 3, 1, 1, 1],
            )[0]()
            chance.choices([self.nothing, self.dead_letter, self.confirm, self.other], [6, 1, 1, 1])[0]()
        return self.writer.take()

    def nothing(self) -> None:
        """Once in a while."""

    def range(self) -> Range:
        """Positions of a level, perhaps none of which exists."""
        chance = self.chance
        level = chance.choice(self.levels) if chance.random() < 0.98 else 7
        most = self.model.next.get(level, 0) + 3
        first = chance.randrange(max(0, most - 100), most)
        stride = chance.choice([1, 1, 1, 2, 3, 100])
        return Range(level, first, chance.randint(1, self.width), stride)

    def accept(self) -> None:
        chance = self.chance
        level = chance.choice(self.levels)
        count = chance.randint(1, self.width)
        session = chance.choice([-1, 0, 1, 2])
        sequence = 0
        if session >= 0:
            sequence = max(0, self.sequences[session] - chance.choice([0, 0, 0, 1, 5]))
            self.sequences[session] = max(self.sequences[session], sequence + count)
        self.writer.accept(level, count, session, sequence)
        self.model.accept(level, count, session, sequence)

    def deliver(self) -> None:
        what = self.range()
        self.writer.deliver(what.level, what.first, what.count, what.stride)
        self.model.deliver(what)

    def settle(self) -> None:
        what = self.range()
        self.writer.settle(what.level, what.first, what.count, what.stride)
        self.model.settle(what)

    def requeue(self) -> None:
        what, cause = self.range(), self.chance.randrange(values.LAST_CAUSE + 1)
        self.writer.requeue(what.level, what.first, what.count, what.stride, cause)
        self.model.requeue(what, cause)

    def drop(self) -> None:
        what, reason = self.range(), self.chance.choice(list(SOURCES))
        self.writer.drop(what.level, what.first, what.count, what.stride, reason)
        self.model.drop(what, reason)

    def delay(self) -> None:
        what, cause = self.range(), self.chance.randrange(values.LAST_CAUSE + 1)
        until = self.time + self.chance.choice([100, 200])
        self.writer.delay(what.level, what.first, what.count, what.stride, Delay(cause, until))
        self.model.requeue(what, cause, until)

    def due(self) -> None:
        what = self.range()
        self.writer.due(what.level, what.first, what.count, what.stride)
        self.model.due(what)

    def dead_letter(self) -> None:
        what, reason = self.range(), self.chance.randint(values.EXPIRED, values.DELIVERY_LIMIT)
        self.writer.dead_letter(what.level, what.first, what.count, what.stride, reason)
        self.model.dead_letter(what, reason)

    def confirm(self) -> None:
        what = self.range()
        self.writer.dead_confirmed(what.level, what.first, what.count, what.stride)
        self.model.dead_confirmed(what)

    def other(self) -> None:
        chance = self.chance
        number = chance.randint(1, 4)
        action = chance.randrange(5)
        if action == 0:
            priority = chance.randint(-3, 3)
            self.writer.attach(number, priority)
            self.model.attach(number, priority)
        elif action == 1:
            self.writer.detach(number)
            self.model.detach(number)
        elif action == 2:
            self.writer.activate(number - 1)
            self.model.activate(number - 1)
        elif action == 3:
            settings = {key: chance.randint(-5, 5) for key in chance.sample(range(256), number)}
            self.writer.settings(settings)
            self.model.set(settings)
        else:
            session = chance.randrange(4)
            self.writer.expire_session(session)
            self.model.expire(session)
            if session < 3:
                self.sequences[session] = 0


@pytest.mark.parametrize("seed", range(SEEDS))
def test_random_entries_agree_with_the_model(seed: int) -> None:
    chance = random.Random(seed)
    actor = Actor(chance)
    ledger = Ledger()
    entries: list[bytes] = []
    for _ in range(60):
        entries.append(actor.entry())
        ledger.apply(entries[-1])
        assert_said(ledger, actor.model)
        if chance.random() < 0.1:
            assert_equal(ledger, actor.model)
        if chance.random() < 0.1:
            ledger = again(ledger)
    assert_equal(ledger, actor.model)
    replayed = Ledger()
    for entry in entries:
        replayed.apply(entry)
    assert digest(replayed) == digest(ledger)
