"""Delivered messages that wait again (broker/queues/requeued.py); a sorted list of places is the model."""

from __future__ import annotations

import random
import time
import tracemalloc
from collections.abc import Iterator

import pytest

from broker import build
from broker.message import ON_DISK, Message
from broker.queues.block import BLOCK_SIZE
from broker.queues.entry import Entry
from broker.queues.message_backlog import MessageBacklog
from broker.queues.message_table import MessageTable
from broker.queues.requeued import Requeued
from tests.support.fakes import make_message, text_of, texts

MIB = 1 << 20


class Setting:
    """A table with messages whose bodies say where they stand; all of them were delivered."""

    def __init__(self, count: int, *, expiring: tuple[int, ...] = (), on_disk: tuple[int, ...] = ()) -> None:
        self.table = MessageTable()
        self.requeued = Requeued(self.table)
        for position in range(count):
            message = ON_DISK if position in on_disk else make_message(str(position).encode())
            self.table.append(position, Entry(message, position, 900) if position in expiring else message)

    def drained(self) -> Iterator[tuple[int, list[str]]]:
        """What comes out: first position, bodies."""
        while count := self.requeued.plain():
            position = int(self.requeued.next_position())
            yield position, texts(self.requeued.take(count))


def test_nothing_is_there_at_first() -> None:
    requeued = Setting(3).requeued
    assert (requeued.count, requeued.plain(), requeued.body_bytes, requeued.memory_bytes) == (0, 0, 0, 0)
    assert requeued.next_item() is None
    requeued.add(0, 0, 1)
    requeued.add(5000, 3, 1)
    assert (requeued.count, requeued.plain(), requeued.missing()) == (0, 0, [])


def test_messages_come_out_as_they_came_in() -> None:
    setting = Setting(20)
    setting.requeued.add(7, 5, 1)
    assert setting.requeued.count == 5
    assert list(setting.drained()) == [(7, ["7", "8", "9", "10", "11"])]
    assert (setting.requeued.count, setting.requeued.body_bytes, setting.requeued.memory_bytes) == (0, 0, 0)


def test_equal_distances() -> None:
    setting = Setting(20)
    setting.requeued.add(1, 3, 5)
    assert list(setting.drained()) == [(1, ["1"]), (6, ["6"]), (11, ["11"])]


def test_what_was_settled_meanwhile_is_left_out() -> None:
    setting = Setting(10)
    setting.table.release(0, 1, 1)
    setting.table.release(3, 2, 1)
    setting.requeued.add(0, 10, 1)
    assert setting.requeued.count == 7
    assert list(setting.drained()) == [(1, ["1", "2"]), (5, ["5", "6", "7", "8", "9"])]


def test_what_was_one_run_or_two_comes_out_together() -> None:
    setting = Setting(500)
    for first in (100, 300, 200):
        setting.requeued.add(first, 100, 1)
    assert [position for position, _ in setting.drained()] == [100]


@pytest.mark.parametrize("consumers", [2, 3, 10])
def test_runs_of_consumers_that_took_turns_come_out_in_order(consumers: int) -> None:
    """RabbitMQ docs, Queues, Message Ordering: back to the original places."""
    setting = Setting(300 * consumers)
    for which in range(consumers):
        setting.requeued.add(which, 300, consumers)
    found = list(setting.drained())
    assert [text for _, bodies in found for text in bodies] == [str(each) for each in range(300 * consumers)]
    assert len(found) == -(-300 * consumers // BLOCK_SIZE), "together, not one by one"


def test_what_comes_back_while_a_batch_is_prepared_goes_first() -> None:
    setting = Setting(30)
    requeued = setting.requeued
    requeued.add(10, 10, 1)
    assert requeued.plain() == 10
    requeued.add(3, 1, 1)
    assert (requeued.plain(), requeued.next_position()) == (1, 3)
    requeued.take(1)
    requeued.take(requeued.plain() - 8)
    assert requeued.next_position() == 12
    requeued.add(11, 1, 1)
    assert (requeued.plain(), requeued.next_position()) == (9, 11)
    requeued.add(25, 1, 1)
    assert [position for position, _ in setting.drained()] == [11, 25]


def test_what_needs_a_look_is_taken_one_by_one() -> None:
    """A deadline, or content that is on disk only."""
    setting = Setting(4, expiring=(1,), on_disk=(2,))
    requeued = setting.requeued
    requeued.add(0, 4, 1)
    expiring = setting.table.item(1)
    assert (requeued.plain(), requeued.expiring) == (1, 1)
    requeued.take(1)
    assert requeued.plain() == 0
    assert requeued.next_item() is expiring
    entry = requeued.pop()
    assert entry is expiring
    assert entry.redelivered
    assert (requeued.plain(), requeued.expiring) == (0, 0)
    lost = requeued.pop()
    assert (lost.message is ON_DISK, lost.position, lost.redelivered) == (True, 2, True)
    last = requeued.pop()
    assert (text_of(last), last.position, last.deadline_us) == ("3", 3, 0)
    assert (requeued.count, requeued.expiring) == (0, 0)


def test_content_that_was_read_is_put_in_its_place() -> None:
    setting = Setting(8, expiring=(4,), on_disk=(0, 4, 6))
    requeued = setting.requeued
    requeued.add(0, 4, 2)
    assert (requeued.count, requeued.body_bytes) == (4, 1)
    assert requeued.missing() == [0, 4, 6]
    for position in (0, 4):
        requeued.reloaded(position, make_message(b"read back"))
    requeued.lose(6)
    assert (requeued.count, requeued.body_bytes) == (3, 19)
    assert texts(requeued.take(requeued.plain())) == ["read back"]
    assert texts(requeued.take(requeued.plain())) == ["2"]
    assert text_of(requeued.pop()) == "read back"
    requeued.reloaded(0, make_message(b"too late"))
    requeued.lose(4)
    requeued.lose(5)
    assert (requeued.count, requeued.body_bytes, requeued.memory_bytes, requeued.missing()) == (0, 0, 0, [])


def test_what_is_lost_leaves_its_block() -> None:
    setting = Setting(BLOCK_SIZE + 1, on_disk=tuple(range(BLOCK_SIZE)))
    setting.requeued.add(0, BLOCK_SIZE + 1, 1)
    for position in setting.requeued.missing():
        setting.requeued.lose(position)
    assert setting.table.at(0) is None
    assert (setting.requeued.count, setting.requeued.pop().position) == (1, BLOCK_SIZE)


def test_what_is_missing_is_looked_for_among_those_that_are_near() -> None:
    far = 10 * BLOCK_SIZE
    setting = Setting(far + 1, on_disk=(5, 6, BLOCK_SIZE + 3, far))
    setting.requeued.add(5, 1, 1)
    setting.requeued.add(BLOCK_SIZE, 10, 1)
    setting.requeued.add(far, 1, 1)
    assert setting.requeued.missing() == [5, BLOCK_SIZE + 3]


def test_clearing_settles_what_waits_and_nothing_else() -> None:
    backlog = MessageBacklog()
    for position in range(3000):
        backlog.append(make_message(str(position).encode()))
    while backlog.plain() > 0:
        backlog.take(backlog.plain())
    backlog.requeue(0, 500, 2)
    backlog.requeue(2000, 1000, 1)
    backlog.requeued.clear(backlog)
    requeued = backlog.requeued
    assert (requeued.count, requeued.body_bytes, requeued.memory_bytes, requeued.plain()) == (0, 0, 0, 0)
    left = [position for position in range(3000) if backlog.table.item(position) is not None]
    assert left == [*range(1, 1000, 2), *range(1000, 2000)]
    backlog.requeue(3, 1, 1)
    assert text_of(backlog.pop()) == "3"


class Model:
    """Everything that waits, and everything that somebody has, in order."""

    def __init__(self) -> None:
        self.table = MessageTable()
        self.waiting: list[tuple[int, Message | Entry]] = []
        self.outside: dict[int, Message | Entry] = {}
        self.next = 0

    def deliver(self, chance: random.Random) -> None:
        """Some more messages are delivered for the first time."""
        for _ in range(chance.choice([1, 3, 30, 200, 1500])):
            message = make_message(str(self.next).encode())
            item = Entry(message, self.next, 1000) if chance.random() < 0.02 else message
            self.table.append(self.next, item)
            self.outside[self.next] = item
            self.next += 1

    def give_back(self, chance: random.Random) -> Iterator[tuple[int, int, int]]:
        """Runs of what is outside, as first position, count and stride."""
        places = sorted(self.outside)
        way = chance.choice(["one", "backwards", "stretch", "turns"])
        if way == "one":
            yield self.run(chance.sample(places, 1), 1)
        elif way == "backwards":
            for position in reversed(places[-chance.randrange(1, 150) :]):
                yield self.run([position], chance.choice([1, 2, 7]))
        else:
            stride = 1 if way == "stretch" else chance.choice([2, 3, 5])
            positions = [chance.choice(places)]
            while len(positions) < chance.choice([2, 10, 2000]) and positions[-1] + stride in self.outside:
                positions.append(positions[-1] + stride)
            yield self.run(positions, stride)

    def run(self, positions: list[int], stride: int) -> tuple[int, int, int]:
        for position in positions:
            self.waiting.append((position, self.outside.pop(position)))
        self.waiting.sort(key=lambda pair: pair[0])
        return positions[0], len(positions), stride

    def take(self, count: int) -> list[tuple[int, Message | Entry]]:
        taken, self.waiting = self.waiting[:count], self.waiting[count:]
        self.outside.update(taken)
        return taken

    @property
    def body_bytes(self) -> int:
        return sum((item.message if isinstance(item, Entry) else item).body_size for _, item in self.waiting)


@pytest.mark.parametrize("seed", range(40))
def test_random_operations_agree_with_a_sorted_list(seed: int) -> None:
    """Runs of all shapes come back, batches and single ones are taken, over and over."""
    chance = random.Random(seed)
    model = Model()
    requeued = Requeued(model.table)
    for step in range(150):
        where = f"seed {seed}, step {step}"
        action = chance.choice(["deliver", "add", "add", "take", "take", "pop", "settle"])
        if action == "deliver":
            model.deliver(chance)
        elif action == "add" and model.outside:
            for run in model.give_back(chance):
                requeued.add(*run)
        elif action == "take":
            for _ in range(chance.randrange(1, 40)):
                plain = int(requeued.plain())
                if plain == 0:
                    break
                count = chance.choice([1, plain, chance.randrange(1, plain + 1)])
                position = int(requeued.next_position())
                found = [(position + index, item) for index, item in enumerate(requeued.take(count))]
                assert found == model.take(count), where
        elif action == "pop" and model.waiting:
            entry = requeued.pop()
            ((position, item),) = model.take(1)
            expected = item.message if isinstance(item, Entry) else item
            assert (entry.position, entry.message) == (position, expected), where
        elif action == "settle":
            for position in chance.sample(sorted(model.outside), min(len(model.outside), chance.choice([1, 100]))):
                del model.outside[position]
                model.table.release(position, 1, 1)
        assert (requeued.count, requeued.body_bytes) == (len(model.waiting), model.body_bytes), where
        plain = requeued.plain()
        assert plain <= len(model.waiting), where
        assert (plain == 0) == (not model.waiting or isinstance(model.waiting[0][1], Entry)), where
        assert requeued.expiring == sum(isinstance(item, Entry) for _, item in model.waiting), where
    while requeued.count:
        entry = requeued.pop()
        assert entry.position == model.take(1)[0][0], f"seed {seed}, at the end"
    assert (requeued.body_bytes, requeued.memory_bytes, requeued.expiring) == (0, 0, 0)


def delivered(count: int) -> Requeued:
    """So many deliveries of one message."""
    table, message = MessageTable(), make_message(b"m")
    for position in range(count):
        table.append(position, message)
    return Requeued(table)


@pytest.mark.skipif(not build.loaded().compiled, reason="a matter of the compiled build")
def test_a_run_that_comes_back_is_a_small_step() -> None:
    """A channel gives its runs back one by one, and looks at the clock between them; the best of several, because other
    processes want the core too."""
    taken_ms = []
    for _ in range(7):
        requeued = delivered(4096)
        started = time.perf_counter_ns()
        requeued.add(0, 4096, 1)
        taken_ms.append((time.perf_counter_ns() - started) / 1e6)
        assert requeued.count == 4096
    assert min(taken_ms) < 0.2


@pytest.mark.parametrize("order", ["runs", "forwards", "backwards", "random"])
def test_a_million_cost_little_memory(order: str) -> None:
    """Beyond the messages themselves, however they come back: at most 3 MiB."""
    count = 1_000_000 if order == "runs" or build.loaded().compiled else 100_000
    requeued = delivered(count)
    places = list(range(count))
    if order == "backwards":
        places.reverse()
    elif order == "random":
        random.Random(1).shuffle(places)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    if order == "runs":
        for first in range(0, count, 4000):
            requeued.add(first, 4000, 1)
    else:
        for place in places:
            requeued.add(place, 1, 1)
    used = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert requeued.count == count
    assert used < 3 * MIB * count / 1_000_000
