"""Publisher confirms (broker/protocol/confirms.py): every number once, never before it is decided; coalesced where that
is true."""

from __future__ import annotations

import random

import pytest

from broker.promises import Promise
from broker.protocol.confirms import Confirms
from broker.protocol.outbox import Outbox
from tests.support.fake_transport import FakeSink
from tests.support.wire import read_method, split_frames
from tests.toys.promising import ToySource

NEVER_COVERS = "RabbitMQ docs, Publisher Confirms: multiple=true confirms every number up to and including its own"


class Publisher:
    """A channel's confirms, and what its client believes after reading the frames."""

    def __init__(self) -> None:
        self.confirms = Confirms()
        self.sink = FakeSink()
        self.outbox = Outbox(self.sink)
        self.outstanding: set[int] = set()
        self.said: list[tuple[str, int, bool]] = []
        self.told: dict[int, str] = {}
        self.asked: list[Promise] = []
        """Of what it wants to hear."""

    def publish(self) -> int:
        self.confirms.published += 1
        self.outstanding.add(int(self.confirms.published))
        return int(self.confirms.published)

    def decide(self, nack: bool = False) -> int:
        """A message that all its queues took, or one refused, at once."""
        sequence = self.publish()
        self.confirms.decided(sequence, nack, self.outbox, 7)
        return sequence

    def wait(self, *sources: ToySource) -> int:
        """A message that these sources have to keep; the usual source is the first one there is."""
        sequence = self.publish()
        if self.confirms.usual is None:
            self.confirms.usual = sources[0]
        if len(sources) == 1 and sources[0] is self.confirms.usual:
            if self.confirms.joins(sequence, sources[0].ticket()):
                return sequence
        self.asked += self.confirms.wait(sequence, [Promise(source, source.ticket()) for source in sources])
        return sequence

    def keep(self, source: ToySource, through: int | None = None) -> list[tuple[str, int, bool]]:
        """A source has kept that; what leaves then."""
        source.keep(through)
        self.confirms.kept(source)
        return self.flush()

    def flush(self) -> list[tuple[str, int, bool]]:
        """The frames that leave now, as (method, number, multiple)."""
        self.confirms.flush(self.outbox, 7)
        self.outbox.flush()
        frames = split_frames(self.sink.take())
        assert all(frame.channel == 7 for frame in frames)
        said = []
        for frame in frames:
            method = read_method(frame.payload)
            name, number, multiple = (
                method.name.removeprefix("basic."),
                method.number("delivery_tag"),
                bool(method["multiple"]),
            )
            said.append((name, number, multiple))
            covered = {each for each in self.outstanding if each <= number} if multiple else {number}
            assert number in self.outstanding, f"{number} was told before, or never published"
            for each in covered:
                self.told[each] = name
            self.outstanding -= covered
        return said


def test_what_is_decided_in_one_turn_is_one_frame() -> None:
    publisher = Publisher()
    for _ in range(5):
        publisher.decide()
    assert publisher.flush() == [("ack", 5, True)]
    assert publisher.flush() == []


def test_a_single_number_is_not_multiple() -> None:
    publisher = Publisher()
    publisher.decide()
    assert publisher.flush() == [("ack", 1, False)]
    publisher.decide()
    assert publisher.flush() == [("ack", 2, False)]


def test_acks_and_nacks_do_not_cover_each_other() -> None:
    publisher = Publisher()
    for nack in (False, False, True, False, True, True):
        publisher.decide(nack)
    assert publisher.flush() == [("ack", 2, True), ("nack", 3, False), ("ack", 4, False), ("nack", 6, True)]
    assert publisher.told == {1: "ack", 2: "ack", 3: "nack", 4: "ack", 5: "nack", 6: "nack"}


def test_nothing_is_promised_before_it_is_kept() -> None:
    """RabbitMQ docs, Publisher Confirms: for persistent messages, a confirm means that they are on disk."""
    publisher = Publisher()
    log = ToySource(True)
    for _ in range(3):
        publisher.wait(log)
    log.gather()
    for _ in range(2):
        publisher.wait(log)
    assert publisher.flush() == []
    assert publisher.confirms.unconfirmed == 5
    assert [promise.ticket for promise in publisher.asked] == [1, 2], "once for each ticket"
    assert publisher.keep(log, 0) == []
    assert publisher.keep(log, 1) == [("ack", 3, True)]
    assert publisher.keep(log, 1) == []
    assert publisher.confirms.unconfirmed == 2
    assert publisher.keep(log, 2) == [("ack", 5, True)]
    assert publisher.confirms.confirmed == 5


def test_a_later_ticket_covers_earlier_ones() -> None:
    publisher = Publisher()
    log = ToySource(True)
    for _ in range(3):
        publisher.wait(log)
        log.gather()
    assert publisher.keep(log, 2) == [("ack", 2, True)]


def test_what_is_decided_behind_a_prompt_source_waits_for_it() -> None:
    """One frame for all of them, in the order of the numbers, instead of many."""
    publisher = Publisher()
    log = ToySource(True)
    publisher.wait(log)
    publisher.decide()
    publisher.decide(nack=True)
    publisher.decide()
    assert publisher.flush() == []
    assert publisher.keep(log) == [("ack", 2, True), ("nack", 3, False), ("ack", 4, False)]


def test_what_is_decided_behind_any_other_source_does_not() -> None:
    """It may be long without the majority of its members: multiple never covers what waits for it."""
    publisher = Publisher()
    source = ToySource()
    publisher.decide()
    publisher.wait(source)
    publisher.decide()
    publisher.decide(nack=True)
    assert publisher.flush() == [("ack", 1, False), ("ack", 3, False), ("nack", 4, False)], NEVER_COVERS
    publisher.decide()
    assert publisher.flush() == [("ack", 5, False)], NEVER_COVERS
    assert publisher.confirms.unconfirmed == 1
    assert publisher.keep(source) == [("ack", 2, False)]
    assert publisher.confirms.unconfirmed == 0


def test_what_was_decided_before_does_not_wait() -> None:
    publisher = Publisher()
    publisher.decide()
    publisher.wait(ToySource(True))
    assert publisher.flush() == [("ack", 1, False)]


def test_runs_of_two_sources_in_turn_are_asked_for_once() -> None:
    publisher = Publisher()
    one, other = ToySource(True), ToySource()
    for _ in range(3):
        publisher.wait(one)
        publisher.wait(other)
    assert [(promise.source, promise.ticket) for promise in publisher.asked] == [(one, 1), (other, 1)]
    assert publisher.keep(one) == [("ack", 1, False), ("ack", 3, False), ("ack", 5, False)], NEVER_COVERS
    assert publisher.keep(other) == [("ack", 6, True)]
    assert publisher.confirms.confirmed == 6


def test_what_two_sources_keep_in_one_turn_is_one_frame() -> None:
    publisher = Publisher()
    one, other = ToySource(), ToySource()
    for _ in range(3):
        publisher.wait(one)
        publisher.wait(other)
    other.keep()
    publisher.confirms.kept(other)
    assert publisher.keep(one) == [("ack", 6, True)]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_a_message_is_confirmed_when_its_last_source_has_kept_it(order: tuple[int, ...]) -> None:
    """RabbitMQ docs, Publisher Confirms: one ack, after all queues that the message reached; and one for all messages
    that wait for the same."""
    publisher = Publisher()
    sources = [ToySource(), ToySource(True), ToySource()]
    for _ in range(4):
        publisher.wait(*sources)
    publisher.decide()
    assert len(publisher.asked) == 3
    assert publisher.flush() == [("ack", 5, False)]
    for place in order[:2]:
        assert publisher.keep(sources[place]) == []
    assert publisher.keep(sources[order[2]]) == [("ack", 4, True)]


def test_messages_that_wait_for_other_tickets_are_another_run() -> None:
    publisher = Publisher()
    one, other = ToySource(), ToySource()
    publisher.wait(one, other)
    other.gather()
    publisher.wait(one, other)
    assert [(promise.source, promise.ticket) for promise in publisher.asked] == [(one, 1), (other, 1), (other, 2)]
    assert publisher.keep(one) == []
    assert publisher.keep(other, 1) == [("ack", 1, False)]
    assert publisher.keep(other, 2) == [("ack", 2, False)]


def test_what_a_source_that_ends_has_not_kept_is_refused() -> None:
    publisher = Publisher()
    one, other = ToySource(), ToySource()
    publisher.wait(one)
    one.gather()
    publisher.wait(one)
    publisher.wait(one, other)
    publisher.wait(other)
    assert publisher.keep(one, 1) == [("ack", 1, False)]
    publisher.confirms.lost(one)
    assert publisher.flush() == [("nack", 3, True)]
    assert publisher.keep(other) == [("ack", 4, False)]
    assert publisher.confirms.confirmed == 2


def test_confirmed_does_not_count_a_number_again_that_a_later_multiple_covers() -> None:
    """The ack of 4 covers 3 as well, which was told long ago."""
    publisher = Publisher()
    source = ToySource()
    for _ in range(2):
        publisher.wait(source)
    publisher.decide(nack=True)
    publisher.decide()
    publisher.wait(source)
    assert publisher.flush() == [("nack", 3, False), ("ack", 4, False)]
    assert publisher.keep(source) == [("ack", 5, True)]
    assert publisher.confirms.confirmed == 4


class Undecided:
    """What one message waits for."""

    def __init__(self, promises: list[Promise], nack: bool) -> None:
        self.promises = promises
        self.nack = nack
        self.behind: list[Promise] = []
        """What stood before it, where it may wait for that."""

    def is_decided(self) -> bool:
        return all(promise.is_kept() for promise in self.promises)

    def is_due(self) -> bool:
        return self.is_decided() and all(promise.is_kept() for promise in self.behind)


@pytest.mark.parametrize("seed", range(200))
def test_random_promises_are_kept_exactly_once(seed: int) -> None:
    """Messages that are decided at once, and by one or more sources that keep what they have in any order: no number is
    told early, twice or wrongly, and none later than it must."""
    chance = random.Random(seed)
    publisher = Publisher()
    messages: dict[int, Undecided] = {}
    sources = [ToySource(chance.random() < 0.5) for _ in range(chance.randrange(1, 4))]
    shares = [chance.choice([0, 1, 5, 20]) for _ in range(4)]
    if not any(shares):
        shares[0] = 1

    def check(where: str) -> None:
        for number, said in publisher.told.items():
            assert messages[number].is_decided(), f"{where}: {number} was told too early"
            assert said == ("nack" if messages[number].nack else "ack"), f"{where}: {number}"
        for number in publisher.outstanding:
            assert not messages[number].is_due(), f"{where}: {number} is due"

    prompt: list[Promise] = []
    for step in range(300):
        where = f"seed {seed}, step {step}"
        action = chance.random()
        if action < 0.6:
            kind = chance.choices(["decided", "refused", "one", "several"], shares)[0]
            if kind in ("decided", "refused"):
                message = Undecided([], kind == "refused")
                message.behind = list(prompt)
                messages[publisher.decide(message.nack)] = message
            else:
                asked = chance.sample(sources, 1 if kind == "one" else chance.randrange(1, len(sources) + 1))
                message = Undecided([Promise(source, source.ticket()) for source in asked], False)
                messages[publisher.wait(*asked)] = message
                prompt += [promise for promise in message.promises if promise.source.is_prompt]
        elif action < 0.75:
            chance.choice(sources).gather()
        elif action < 0.9:
            source = chance.choice(sources)
            if source.kept < source.open - 1:
                source.keep(chance.randrange(source.kept + 1, source.open))
                publisher.confirms.kept(source)
        else:
            publisher.flush()
            check(where)
    for source in sources:
        publisher.keep(source)
    check(f"seed {seed}")
    assert publisher.outstanding == set()
    assert publisher.confirms.unconfirmed == 0
    assert publisher.confirms.confirmed == sum(not message.nack for message in messages.values())
