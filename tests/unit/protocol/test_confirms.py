"""Publisher confirms (broker/protocol/confirms.py): every number once, never before it is decided; coalesced where that
is true."""

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
    """Any order of immediate and late answers: each number is told once, with its own verdict, and never while it still
    waits."""
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


# ---- promises that wait for the disk


def log(publisher: Publisher, batch: int, queues: int = 0) -> int:
    """A persistent message: promised when that batch is on the disk and as many queues have answered."""
    sequence = publisher.publish()
    publisher.confirms.logged(sequence, batch, queues)
    return sequence


def durable(publisher: Publisher, batch: int) -> list[tuple[str, int, bool]]:
    publisher.confirms.durable(batch, publisher.outbox, 7)
    return publisher.flush()


def test_nothing_is_promised_before_its_batch_is_on_the_disk() -> None:
    """RabbitMQ docs, Publisher Confirms: for persistent messages, a confirm means that they are on disk."""
    publisher = Publisher()
    for batch in (1, 1, 1, 2, 2):
        log(publisher, batch)
    assert publisher.flush() == []
    assert publisher.confirms.unconfirmed == 5
    assert durable(publisher, 0) == []
    assert durable(publisher, 1) == [("ack", 3, True)]
    assert durable(publisher, 1) == []
    assert publisher.confirms.unconfirmed == 2
    assert durable(publisher, 2) == [("ack", 5, True)]
    assert publisher.confirms.confirmed == 5


def test_a_later_batch_covers_earlier_ones() -> None:
    publisher = Publisher()
    for batch in (1, 2, 3):
        log(publisher, batch)
    assert durable(publisher, 2) == [("ack", 2, True)]


def test_what_is_decided_behind_a_batch_waits_for_it() -> None:
    """One frame for all of them, in the order of the numbers, instead of many."""
    publisher = Publisher()
    log(publisher, 1)
    publisher.decide()
    publisher.decide(nack=True)
    publisher.decide()
    assert publisher.flush() == []
    assert durable(publisher, 1) == [("ack", 2, True), ("nack", 3, False), ("ack", 4, False)]


def test_what_was_decided_before_a_batch_does_not_wait() -> None:
    publisher = Publisher()
    publisher.decide()
    log(publisher, 1)
    assert publisher.flush() == [("ack", 1, False)]


@pytest.mark.parametrize("disk_first", [False, True])
@pytest.mark.parametrize("refused", [False, True])
def test_disk_and_queues_must_both_have_answered(disk_first: bool, refused: bool) -> None:
    publisher = Publisher()
    number = log(publisher, 1, queues=1)
    answer = publisher.confirms.rejected if refused else publisher.confirms.accepted
    if disk_first:
        assert durable(publisher, 1) == []
        answer(number)
        said = publisher.flush()
    else:
        answer(number)
        assert publisher.flush() == []
        said = durable(publisher, 1)
    assert said == [("nack" if refused else "ack", 1, False)]


def test_multiple_covers_neither_what_waits_for_the_disk_nor_for_a_queue() -> None:
    publisher = Publisher()
    first = log(publisher, 1, queues=1)
    log(publisher, 1)
    log(publisher, 2)
    publisher.decide()
    assert publisher.flush() == [("ack", 4, False)], NEVER_COVERS
    assert durable(publisher, 1) == [("ack", 2, False)], NEVER_COVERS
    publisher.confirms.accepted(first)
    assert publisher.flush() == [("ack", 1, False)], NEVER_COVERS
    assert durable(publisher, 2) == [("ack", 3, False)]


class Undecided:
    """What one message still waits for."""

    def __init__(self, batch: int, answers: list[bool], nack: bool) -> None:
        self.batch = batch
        self.answers = answers
        self.nack = nack

    def is_decided(self, through: int) -> bool:
        return self.batch <= through and not self.answers


@pytest.mark.parametrize("seed", range(120))
def test_random_promises_are_kept_exactly_once(seed: int) -> None:
    """Messages that are decided at once, by queues, by the disk and by both, in any order: no number is told early,
    twice or wrongly."""
    chance = random.Random(seed)
    publisher = Publisher()
    messages: dict[int, Undecided] = {}
    open_batch, on_disk = 1, 0
    shares = [chance.choice([0, 1, 5, 20]) for _ in range(4)]
    if not any(shares):
        shares[0] = 1

    def check(where: str) -> None:
        for number, said in publisher.told.items():
            assert messages[number].is_decided(on_disk), f"{where}: {number} was told too early"
            assert said == ("nack" if messages[number].nack else "ack"), f"{where}: {number}"

    for step in range(300):
        where = f"seed {seed}, step {step}"
        action = chance.random()
        if action < 0.6:
            kind = chance.choices(["decided", "deferred", "logged", "both"], shares)[0]
            answers = [chance.random() < 0.2 for _ in range(chance.randrange(1, 4))]
            if kind == "decided":
                nack = chance.random() < 0.2
                messages[publisher.decide(nack)] = Undecided(0, [], nack)
            elif kind == "deferred":
                refused = chance.random() < 0.1
                number = publisher.defer(len(answers))
                if refused:
                    publisher.confirms.refuse(number)
                messages[number] = Undecided(0, answers, refused or any(answers))
            elif kind == "logged":
                messages[log(publisher, open_batch)] = Undecided(open_batch, [], False)
            else:
                messages[log(publisher, open_batch, len(answers))] = Undecided(open_batch, answers, any(answers))
        elif action < 0.75:
            waiting = [number for number, message in messages.items() if message.answers]
            for number in chance.sample(waiting, min(len(waiting), chance.randrange(1, 5))):
                (publisher.confirms.rejected if messages[number].answers.pop() else publisher.confirms.accepted)(number)
        elif action < 0.85:
            open_batch += 1
        elif action < 0.95 and on_disk < open_batch - 1:
            on_disk = chance.randrange(on_disk + 1, open_batch)
            publisher.confirms.durable(on_disk, publisher.outbox, 7)
        else:
            publisher.flush()
            check(where)
    on_disk = open_batch
    durable(publisher, open_batch)
    check(f"seed {seed}")
    assert publisher.outstanding == {number for number, message in messages.items() if message.answers}, f"seed {seed}"
    for number, message in messages.items():
        while message.answers:
            (publisher.confirms.rejected if message.answers.pop() else publisher.confirms.accepted)(number)
    publisher.flush()
    check(f"seed {seed}")
    assert publisher.outstanding == set()
    assert publisher.confirms.unconfirmed == 0
    assert publisher.confirms.confirmed == sum(not message.nack for message in messages.values())
