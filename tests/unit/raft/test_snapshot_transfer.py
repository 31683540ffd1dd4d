"""Snapshots in slices (broker/raft/snapshot_transfer.py; dissertation, section 5.3)."""

from __future__ import annotations

import random

import pytest

from broker.raft.configuration import Configuration
from broker.raft.message import SNAPSHOT, Message, Snapshot
from broker.raft.snapshot_transfer import SliceAnswer, SnapshotReceiver, SnapshotSender, SnapshotSlice

MEMBERS = Configuration([1, 2, 3], [4])
STATE = bytes(range(256)) * 4


def told(data: bytes = STATE, *, to: int = 2, term: int = 5, index: int = 70, sender: int = 1) -> Message:
    message = Message(SNAPSHOT, to, sender, term)
    message.snapshot = Snapshot(index, 4, MEMBERS, data)
    return message


def only(slices: list[SnapshotSlice]) -> SnapshotSlice:
    (found,) = slices
    return found


def exchange(sender: SnapshotSender, receiver: SnapshotReceiver) -> list[Message]:
    """Everything arrives; what the receiver has whole."""
    found: list[Message] = []
    while slices := sender.take():
        for part in slices:
            message, answer = receiver.take(part)
            if message is not None:
                found.append(message)
            if answer is not None:
                sender.answered(answer)
    return found


@pytest.mark.parametrize("size", [0, 1, 99, 100, 101, 1024])
def test_it_arrives_as_it_was_sent(size: int) -> None:
    sender, receiver = SnapshotSender(3, 20, 100), SnapshotReceiver(2, 5000)
    sender.begin(told(STATE[:size]))
    (message,) = exchange(sender, receiver)
    snapshot = message.snapshot
    assert snapshot is not None
    assert (message.kind, message.to, message.sender, message.term) == (SNAPSHOT, 2, 1, 5)
    assert (snapshot.index, snapshot.term, snapshot.data) == (70, 4, STATE[:size])
    assert snapshot.configuration == MEMBERS
    assert sender.take_fates() == [(2, False)]
    assert sender.take_fates() == []


def test_one_slice_is_on_its_way_at_a_time() -> None:
    sender, receiver = SnapshotSender(3, 20, 100), SnapshotReceiver(2, 5000)
    sender.begin(told())
    first = only(sender.take())
    assert (first.offset, len(first.data), first.size) == (0, 100, 1024)
    assert sender.take() == []
    _, answer = receiver.take(first)
    assert answer is not None
    sender.answered(answer)
    assert only(sender.take()).offset == 100
    sender.answered(answer)
    assert sender.take() == [], "it is on its way already"


def test_what_is_lost_is_sent_again_and_given_up_in_the_end() -> None:
    sender = SnapshotSender(3, 8, 100)
    sender.begin(told())
    only(sender.take())
    for tick in range(1, 8):
        sender.tick()
        assert [part.offset for part in sender.take()] == ([0] if tick % 3 == 0 else [])
        assert sender.take_fates() == []
    sender.tick()
    assert sender.take() == []
    assert sender.take_fates() == [(2, True)]
    sender.tick()
    assert sender.take() == []


def test_a_receiver_that_has_started_again_gets_all_of_it() -> None:
    sender, receiver = SnapshotSender(3, 20, 100), SnapshotReceiver(2, 5000)
    sender.begin(told())
    for _ in range(4):
        _, answer = receiver.take(only(sender.take()))
        assert answer is not None
        sender.answered(answer)
    (message,) = exchange(sender, SnapshotReceiver(2, 5000))
    assert message.snapshot is not None
    assert message.snapshot.data == STATE


def test_the_answer_may_be_lost_when_all_is_there() -> None:
    """It is not given to the core twice."""
    sender, receiver = SnapshotSender(1, 20, 2000), SnapshotReceiver(2, 5000)
    sender.begin(told())
    message, _ = receiver.take(only(sender.take()))
    assert message is not None
    sender.tick()
    message, answer = receiver.take(only(sender.take()))
    assert message is None
    assert answer is not None
    sender.answered(answer)
    assert sender.take_fates() == [(2, False)]


def test_a_later_snapshot_takes_the_place_of_another() -> None:
    sender, receiver = SnapshotSender(3, 20, 100), SnapshotReceiver(2, 5000)
    sender.begin(told())
    old = only(sender.take())
    _, late = receiver.take(old)
    sender.begin(told(STATE[::-1], index=90))
    (message,) = exchange(sender, receiver)
    assert message.snapshot is not None
    assert (message.snapshot.index, message.snapshot.data) == (90, STATE[::-1])
    assert receiver.take(old) == (None, None), "it is older"
    assert late is not None
    sender.answered(late)
    assert sender.take() == []
    assert sender.take_fates() == [(2, False)]


@pytest.mark.parametrize(("term", "taken"), [(4, False), (6, True)])
def test_a_later_leader_goes_first(term: int, taken: bool) -> None:
    receiver = SnapshotReceiver(2, 5000)
    sender, other = SnapshotSender(3, 20, 100), SnapshotSender(3, 20, 100)
    sender.begin(told())
    receiver.take(only(sender.take()))
    other.begin(told(term=term, sender=3, index=60))
    assert (exchange(other, receiver) != []) is taken


def test_what_is_too_large_is_not_begun() -> None:
    sender, receiver = SnapshotSender(3, 20, 100), SnapshotReceiver(2, 1000)
    sender.begin(told())
    assert receiver.take(only(sender.take())) == (None, None)


def test_who_does_not_lead_any_more_sends_nothing() -> None:
    sender = SnapshotSender(1, 20, 100)
    sender.begin(told())
    sender.begin(told(to=3))
    sender.take()
    sender.stop(5)
    sender.tick()
    assert [part.to for part in sender.take()] == [2, 3]
    sender.stop(6)
    sender.tick()
    assert sender.take() == []
    assert sender.take_fates() == [], "the core has forgotten it too"


def test_members_do_not_wait_for_each_other() -> None:
    sender = SnapshotSender(3, 20, 100)
    sender.begin(told())
    sender.begin(told(to=3))
    receiver = SnapshotReceiver(3, 5000)
    lost, part = sender.take()
    assert (lost.to, part.to) == (2, 3)
    _, answer = receiver.take(part)
    assert answer is not None
    sender.answered(answer)
    (message,) = exchange(sender, receiver)
    assert message.to == 3
    assert sender.take_fates() == [(3, False)]


@pytest.mark.parametrize("seed", range(100))
def test_random_losses_copies_and_orders(seed: int) -> None:
    """It arrives whole or is given up, and the receiver never hears of anything else."""
    chance = random.Random(seed)
    state = chance.randbytes(chance.randrange(2000))
    sender = SnapshotSender(4, 60, chance.choice((1, 50, 5000)) if len(state) < 100 else 50)
    receiver = SnapshotReceiver(2, 5000)
    sender.begin(told(state))
    loss = chance.choice((0.0, 0.1, 0.5))
    on_the_way: list[SnapshotSlice | SliceAnswer] = []
    fates: list[tuple[int, bool]] = []
    whole = 0
    for _ in range(10_000):
        on_the_way += sender.take()
        fates += sender.take_fates()
        if fates:
            break
        if not on_the_way or chance.random() < 0.05:
            sender.tick()
            continue
        said = on_the_way.pop(chance.randrange(len(on_the_way)) if chance.random() < 0.3 else 0)
        if chance.random() < loss:
            continue
        if chance.random() < 0.1:
            on_the_way.append(said)
        if isinstance(said, SliceAnswer):
            sender.answered(said)
            continue
        if chance.random() < 0.01:
            receiver = SnapshotReceiver(2, 5000)
        message, answer = receiver.take(said)
        if message is not None:
            whole += 1
            assert message.snapshot is not None
            assert message.snapshot.data == state
        if answer is not None:
            on_the_way.append(answer)
    assert len(fates) == 1
    assert fates[0][1] or whole > 0
