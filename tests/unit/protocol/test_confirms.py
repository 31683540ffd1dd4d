"""Publisher confirms (broker/protocol/confirms.py): every number once, never before it is decided; coalesced where that is true."""

from __future__ import annotations

import random

import pytest

from broker.protocol.confirms import Confirms
from broker.protocol.outbox import Outbox
from tests.support.fake_transport import FakeSink
from tests.support.wire import read_method, split_frames

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

    def publish(self) -> int:
        self.confirms.published += 1
        self.outstanding.add(int(self.confirms.published))
        return int(self.confirms.published)

    def decide(self, nack: bool = False) -> int:
        """A message that all its queues took, or one refused, at once."""
        sequence = self.publish()
        self.confirms.decided(sequence, nack, self.outbox, 7)
        return sequence

    def defer(self, queues: int = 1) -> int:
        """A message that some of its queues answer later."""
        sequence = self.publish()
        self.confirms.defer(sequence, queues)
        return sequence

    def flush(self) -> list[tuple[str, int, bool]]:
        """The frames that leave now, as (method, number, multiple)."""
        self.confirms.flush(self.outbox, 7)
        self.outbox.flush()
        frames = split_frames(self.sink.take())
        assert all(frame.channel == 7 for frame in frames)
        said = []
        for frame in frames:
            method = read_method(frame.payload)
            name, number, multiple = method.name.removeprefix("basic."), method.number("delivery_tag"), bool(method["multiple"])
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
    assert publisher.confirms.due
    assert publisher.flush() == [("ack", 5, True)]
    assert not publisher.confirms.due
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


def test_multiple_never_covers_a_number_that_waits() -> None:
    publisher = Publisher()
    publisher.decide()
    waiting = publisher.defer()
    publisher.decide()
    publisher.decide()
    assert publisher.flush() == [("ack", 1, False), ("ack", 3, False), ("ack", 4, False)], NEVER_COVERS
    assert publisher.confirms.unconfirmed == 1
    publisher.confirms.accepted(waiting)
    assert publisher.flush() == [("ack", 2, False)]
    assert publisher.confirms.unconfirmed == 0


def test_late_answers_are_coalesced_too() -> None:
    """One sync answers many messages at once: they leave as one frame."""
    publisher = Publisher()
    numbers = [publisher.defer() for _ in range(6)]
    assert publisher.flush() == []
    for number in numbers[:4]:
        publisher.confirms.accepted(number)
    assert publisher.flush() == [("ack", 4, True)]
    for number in reversed(numbers[4:]):
        publisher.confirms.accepted(number)
    assert publisher.flush() == [("ack", 6, True)]


def test_a_message_is_confirmed_when_its_last_queue_has_answered() -> None:
    """RabbitMQ docs, Publisher Confirms: one ack, after all queues that the message reached."""
    publisher = Publisher()
    number = publisher.defer(queues=3)
    publisher.confirms.accepted(number)
    publisher.confirms.accepted(number)
    assert publisher.flush() == []
    publisher.confirms.accepted(number)
    assert publisher.flush() == [("ack", 1, False)]


@pytest.mark.parametrize("order", [[True, False], [False, True]])
def test_one_refusing_queue_is_enough_for_a_nack(order: list[bool]) -> None:
    """RabbitMQ docs, Publisher Confirms; the nack too waits for every queue."""
    publisher = Publisher()
    number = publisher.defer(queues=2)
    for refused in order:
        assert publisher.flush() == []
        (publisher.confirms.rejected if refused else publisher.confirms.accepted)(number)
    assert publisher.flush() == [("nack", 1, False)]


def test_a_refusal_at_once_waits_for_the_queues_that_answer_later() -> None:
    publisher = Publisher()
    number = publisher.defer()
    publisher.confirms.refuse(number)
    assert publisher.flush() == []
    publisher.confirms.accepted(number)
    assert publisher.flush() == [("nack", 1, False)]


def test_confirmed_counts_acks_only() -> None:
    publisher = Publisher()
    for nack in (False, True, False, False):
        publisher.decide(nack)
    late = publisher.defer()
    publisher.flush()
    publisher.confirms.accepted(late)
    publisher.flush()
    assert publisher.confirms.confirmed == 4


def test_confirmed_does_not_count_a_number_again_that_a_later_multiple_covers() -> None:
    """The ack of 4 covers 3 as well, which was told long ago."""
    publisher = Publisher()
    first = publisher.defer()
    second = publisher.defer()
    publisher.decide()
    last = publisher.defer()
    assert publisher.flush() == [("ack", 3, False)]
    for late in (first, second, last):
        publisher.confirms.accepted(late)
    publisher.flush()
    assert publisher.confirms.confirmed == 4


@pytest.mark.parametrize("seed", range(80))
def test_random_decisions_reach_the_publisher_exactly_once(seed: int) -> None:
    """Any order of immediate and late answers: each number is told once, with its own verdict, and never while it still waits."""
    chance = random.Random(seed)
    publisher = Publisher()
    verdict: dict[int, str] = {}
    waiting: dict[int, list[bool]] = {}
    late_share = chance.choice([0.0, 0.1, 0.5, 0.9])
    for step in range(300):
        if chance.random() < 0.6:
            if chance.random() < late_share:
                queues = chance.randrange(1, 4)
                number = publisher.defer(queues)
                waiting[number] = [chance.random() < 0.2 for _ in range(queues)]
                verdict[number] = "nack" if any(waiting[number]) else "ack"
            else:
                nack = chance.random() < 0.2
                verdict[publisher.decide(nack)] = "nack" if nack else "ack"
        elif waiting:
            for number in chance.sample(sorted(waiting), chance.randrange(1, min(5, len(waiting)) + 1)):
                refused = waiting[number].pop()
                (publisher.confirms.rejected if refused else publisher.confirms.accepted)(number)
                if not waiting[number]:
                    del waiting[number]
        if chance.random() < 0.2:
            publisher.flush()
            assert publisher.outstanding == set(waiting), f"seed {seed}, step {step}"
            assert publisher.confirms.unconfirmed == len(waiting), f"seed {seed}, step {step}"
    for number in sorted(waiting, key=lambda _: chance.random()):
        for refused in waiting[number]:
            (publisher.confirms.rejected if refused else publisher.confirms.accepted)(number)
    publisher.flush()
    assert publisher.told == verdict, f"seed {seed}"
