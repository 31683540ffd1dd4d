"""Who gets the next message (broker/queues/consumers.py): rotation, priorities, single active, exclusive."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from typing import Any

import pytest

from broker.queues.consumers import Consumers, Group
from tests.support.fakes import FakeConsumer


def made(*tags: str, single_active: bool = False) -> tuple[Consumers, dict[str, FakeConsumer]]:
    consumers = Consumers(single_active)
    known = {tag: FakeConsumer(tag) for tag in tags}
    for consumer in known.values():
        consumers.add(consumer)
    return consumers, known


def rotation(consumers: Consumers, count: int) -> str:
    """The tags of whose turn it is, one after the other, as a queue goes round."""
    tags = ""
    for _ in range(count):
        group = consumers.group()
        assert group is not None
        tags += group.active[group.turn].tag
        group.turn = (group.turn + 1) % len(group.active)
    return tags


def block(consumers: Consumers, consumer: FakeConsumer) -> None:
    group = next(group for group in consumers.groups if consumer in group.active)
    group.block(consumer)


def test_nobody() -> None:
    consumers = Consumers(False)
    assert (consumers.count(), consumers.group()) == (0, None)


def test_in_turns() -> None:
    """RabbitMQ docs, Consumers."""
    consumers, _ = made("a", "b", "c")
    assert rotation(consumers, 7) == "abcabca"
    assert consumers.count() == 3


def test_a_newcomer_is_last_in_line() -> None:
    consumers, _ = made("a", "b", "c")
    assert rotation(consumers, 1) == "a"
    consumers.add(FakeConsumer("d"))
    assert rotation(consumers, 4) == "bcad"


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("tag", ["a", "b", "c", "d"])
def test_one_that_leaves_changes_nobody_elses_turn(turns: int, tag: str) -> None:
    consumers, known = made("a", "b", "c", "d")
    rotation(consumers, turns)
    expected = [each for each in "abcd"[turns:] + "abcd"[:turns] if each != tag]
    consumers.remove(known[tag])
    assert rotation(consumers, 3) == "".join(expected)
    assert not known[tag].registered


def test_one_without_room_leaves_the_rotation_and_comes_back_last() -> None:
    consumers, known = made("a", "b", "c")
    rotation(consumers, 1)
    block(consumers, known["b"])
    assert known["b"].blocked
    assert rotation(consumers, 3) == "cac"
    assert consumers.unblock(known["b"])
    assert not known["b"].blocked
    assert rotation(consumers, 4) == "acba", "a has the turn, so b stands behind c"
    assert consumers.count() == 3


def test_all_without_room() -> None:
    consumers, known = made("a", "b")
    block(consumers, known["a"])
    block(consumers, known["b"])
    assert consumers.group() is None
    assert consumers.unblock(known["b"])
    assert rotation(consumers, 2) == "bb"


def test_unblocking_one_that_is_not_blocked_or_has_gone_does_nothing() -> None:
    consumers, known = made("a", "b")
    assert not consumers.unblock(known["a"])
    block(consumers, known["b"])
    consumers.remove(known["b"])
    assert not consumers.unblock(known["b"])
    consumers.remove(known["b"])
    assert rotation(consumers, 2) == "aa"


def test_higher_priorities_come_first() -> None:
    """RabbitMQ docs, Consumer Priorities: any integer, 0 when none is given."""
    consumers = Consumers(False)
    known = {
        tag: FakeConsumer(tag, priority=priority)
        for tag, priority in (("a", 0), ("b", 5), ("c", -3), ("d", 5), ("e", 1 << 40))
    }
    for consumer in known.values():
        consumers.add(consumer)
    assert [group.priority for group in consumers.groups] == [1 << 40, 5, 0, -3]
    assert rotation(consumers, 2) == "ee"
    block(consumers, known["e"])
    assert rotation(consumers, 3) == "bdb"
    block(consumers, known["b"])
    block(consumers, known["d"])
    assert rotation(consumers, 1) == "a"
    consumers.unblock(known["d"])
    assert rotation(consumers, 2) == "dd"


def test_a_priority_without_consumers_is_forgotten() -> None:
    consumers = Consumers(False)
    high, low = FakeConsumer("h", priority=1), FakeConsumer("l")
    consumers.add(high)
    consumers.add(low)
    consumers.remove(high)
    assert [group.priority for group in consumers.groups] == [0]


def test_single_active() -> None:
    """RabbitMQ docs, Single Active Consumer: in the order in which they came, whatever their priorities."""
    consumers, known = made("a", "b", "c", single_active=True)
    assert rotation(consumers, 3) == "aaa"
    consumers.remove(known["b"])
    assert rotation(consumers, 2) == "aa"
    consumers.remove(known["a"])
    assert rotation(consumers, 2) == "cc"
    consumers.remove(known["c"])
    assert consumers.group() is None


def test_a_waiting_single_active_consumer_cannot_be_unblocked_into_the_rotation() -> None:
    consumers, known = made("a", "b", single_active=True)
    block(consumers, known["a"])
    assert not consumers.unblock(known["b"])
    assert consumers.group() is None
    consumers.unblock(known["a"])
    assert rotation(consumers, 2) == "aa"


def test_a_blocked_active_one_that_leaves_is_followed_by_the_next() -> None:
    consumers, known = made("a", "b", single_active=True)
    block(consumers, known["a"])
    consumers.remove(known["a"])
    assert rotation(consumers, 2) == "bb"


def test_the_exclusive_one_is_known_until_it_leaves() -> None:
    consumers = Consumers(False)
    alone = FakeConsumer("x", exclusive=True)
    consumers.add(alone)
    assert consumers.exclusive is alone
    consumers.remove(alone)
    assert consumers.exclusive is None


@pytest.mark.parametrize("seed", range(30))
def test_random_comings_and_goings(seed: int) -> None:
    """Whoever has the turn is registered, not blocked, and of the highest priority that has such; everybody gets a
    turn."""
    chance = random.Random(seed)
    consumers = Consumers(False)
    present: list[FakeConsumer] = []
    for step in range(300):
        match chance.choice(["add", "remove", "block", "unblock", "turn", "turn"]):
            case "add":
                consumer = FakeConsumer(str(step), priority=chance.randrange(3))
                present.append(consumer)
                consumers.add(consumer)
            case "remove" if present:
                consumers.remove(present.pop(chance.randrange(len(present))))
            case "block":
                group = consumers.group()
                if group is not None:
                    group.block(group.active[group.turn])
            case "unblock" if present:
                consumer = chance.choice(present)
                assert consumers.unblock(consumer) is consumer.blocked or not consumer.blocked
            case _:
                group = consumers.group()
                if group is not None:
                    group.turn = (group.turn + 1) % len(group.active)
        able = [consumer for consumer in present if not consumer.blocked]
        group = consumers.group()
        assert (group is None) == (not able), f"seed {seed}, step {step}"
        assert consumers.all == present, f"seed {seed}, step {step}"
        if group is not None:
            highest = max(consumer.priority for consumer in able)
            assert group.priority == highest
            assert sorted(consumer.tag for consumer in group.active) == sorted(
                each.tag for each in able if each.priority == highest
            )
            assert 0 <= group.turn < len(group.active)


def test_thousands_of_priorities_come_and_go_quickly() -> None:
    """A connection with a consumer of each breaks: 2,000 times a look at 2,000 groups of 2,000 consumers would be
    minutes."""
    consumers = Consumers(False)
    known = [FakeConsumer(str(priority), priority=priority) for priority in range(2000)]
    began = time.monotonic()
    for consumer in known:
        consumers.add(consumer)
    assert [group.priority for group in consumers.groups] == list(range(1999, -1, -1))
    for consumer in known:
        consumers.remove(consumer)
    assert time.monotonic() - began < 5
    assert (consumers.count(), consumers.group(), consumers.groups) == (0, None, [])


def naive_group(consumers: Consumers) -> object:
    return next((group for group in consumers.groups if group.active), None)


@pytest.mark.parametrize("seed", range(20))
def test_the_group_whose_turn_it_is_is_found_whatever_happened_before(seed: int) -> None:
    chance = random.Random(seed)
    consumers = Consumers(False)
    known: list[FakeConsumer] = []
    for _ in range(600):
        action = chance.choice(["add", "remove", "block", "block", "unblock", "suspend"])
        if action == "add" or not known:
            known.append(FakeConsumer(priority=chance.randrange(12)))
            consumers.add(known[-1])
        elif action == "remove":
            consumers.remove(known.pop(chance.randrange(len(known))))
        elif action == "block":
            group = consumers.group()
            if group is not None:
                group.block(group.active[group.turn])
        elif action == "unblock":
            consumers.unblock(chance.choice(known))
        else:
            consumers.suspend(chance.choice(known))
        assert consumers.group() is naive_group(consumers)


def test_nobody_looks_through_thousands_of_priorities_for_each_message() -> None:
    consumers = Consumers(False)
    known = [FakeConsumer(priority=priority) for priority in range(3000)]
    for consumer in known:
        consumers.add(consumer)
    for consumer in known[1:]:
        block(consumers, consumer)
    looks = 0

    class Counted(list[Group]):
        def __getitem__(self, index: Any) -> Any:
            nonlocal looks
            looks += 1
            return super().__getitem__(index)

        def __iter__(self) -> Iterator[Group]:
            for index in range(len(self)):
                yield self[index]

    consumers.groups = Counted(consumers.groups)
    group = consumers.group()
    looks = 0  # those that have nobody left are forgotten once
    for _ in range(100):
        assert consumers.group() is group
    assert looks < 100 * 30


def test_priorities_that_come_and_go_leave_nothing_behind() -> None:
    consumers = Consumers(False)
    consumers.add(FakeConsumer(priority=1_000_000))
    for number in range(1000):
        consumer = FakeConsumer(priority=number)
        consumers.add(consumer)
        consumers.remove(consumer)
    assert len(consumers._heap) < 30


def test_all_leave_in_one_go() -> None:
    consumers, known = made("a", "b", "c")
    known["b"].exclusive = True
    assert consumers.dissolve() == list(known.values())
    assert (consumers.count(), consumers.group(), consumers.exclusive) == (0, None, None)
    for consumer in known.values():
        assert not consumer.registered
        consumers.remove(consumer)
    consumers.add(known["a"])
    assert rotation(consumers, 2) == "aa"
