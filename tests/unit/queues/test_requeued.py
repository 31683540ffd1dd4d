"""Delivered messages that wait again (broker/queues/requeued.py); a sorted list of places is the model."""

from __future__ import annotations

import random
import time
import tracemalloc
from collections.abc import Iterator

import pytest

from broker import build
from broker.message import ON_DISK, Message
from broker.queues.entry import Entry
from broker.queues.message_backlog import MessageBacklog
from broker.queues.requeued import BATCH_MAX, Requeued
from broker.queues.returned_run import ReturnedRun
from tests.support.fakes import make_message, numbered, text_of, texts

MIB = 1 << 20
Items = list[Message | Entry | None]


def run_of(items: Items, first: int, stride: int = 1, expiring: bool = False) -> ReturnedRun:
    """A run of what is not None."""
    return ReturnedRun(items, first, stride, 0, sum(item is not None for item in items), expiring)


def at(*positions: int) -> Items:
    """Messages whose bodies say where they stood."""
    return [make_message(str(position).encode()) for position in positions]


def drained(requeued: Requeued) -> Iterator[tuple[int, int, list[str]]]:
    """What comes out: first position, stride, bodies."""
    while count := requeued.plain():
        position, stride = int(requeued.next_position()), int(requeued.next_stride())
        yield position, stride, texts(requeued.take(count))


def test_nothing_is_there_at_first() -> None:
    requeued = Requeued()
    assert (requeued.count, requeued.plain(), requeued.body_bytes(), requeued.memory_bytes()) == (0, 0, 0, 0)
    assert requeued.next_item() is None
    requeued.push(ReturnedRun([None, None], 5, 1, 2, 0, False), 100)
    assert (requeued.count, requeued.plain()) == (0, 0)


@pytest.mark.parametrize("stride", [1, 3])
def test_a_run_comes_out_as_it_came_in(stride: int) -> None:
    requeued = Requeued()
    requeued.push(run_of(at(*range(7, 7 + 5 * stride, stride)), 7, stride), 100)
    assert requeued.count == 5
    assert list(drained(requeued)) == [(7, stride, [str(each) for each in range(7, 7 + 5 * stride, stride)])]
    assert (requeued.count, requeued.body_bytes()) == (0, 0)


def test_what_was_settled_meanwhile_is_left_out() -> None:
    requeued = Requeued()
    requeued.push(run_of([None, *at(1, 2), None, None, *at(5), None], 0), 100)
    assert requeued.count == 3
    assert list(drained(requeued)) == [(1, 1, ["1", "2"]), (5, 1, ["5"])]


def test_a_run_is_cut_where_another_one_comes_first() -> None:
    requeued = Requeued()
    requeued.push(run_of(at(*range(100, 200)), 100), 100)
    requeued.push(run_of(at(*range(300, 400)), 300), 100)
    requeued.push(run_of(at(*range(200, 300)), 200), 100)
    assert [position for position, _, _ in drained(requeued)] == [100, 200, 300]


@pytest.mark.parametrize("consumers", [2, 3, 10])
def test_runs_of_consumers_that_took_turns_come_out_in_order(consumers: int) -> None:
    """RabbitMQ docs, Queues, Message Ordering: back to the original places."""
    requeued = Requeued()
    for which in range(consumers):
        places = range(which, 100 * consumers, consumers)
        requeued.push(run_of(at(*places), which, consumers), 100)
    found = list(drained(requeued))
    assert [text for _, _, bodies in found for text in bodies] == [str(each) for each in range(100 * consumers)]
    assert len(found) <= -(-100 * consumers // BATCH_MAX) + 1, "together, not one by one"


def test_what_comes_back_while_a_batch_is_prepared_goes_first() -> None:
    requeued = Requeued()
    requeued.push(run_of(at(*range(10, 20)), 10), 100)
    assert requeued.plain() == 10
    requeued.push(run_of(at(3), 3), 100)
    assert (requeued.plain(), requeued.next_position()) == (1, 3)
    requeued.take(1)
    requeued.take(requeued.plain() - 8)
    assert requeued.next_position() == 12
    requeued.push(run_of(at(11), 11), 100)
    assert (requeued.plain(), requeued.next_position()) == (1, 11)


def test_what_needs_a_look_is_taken_one_by_one() -> None:
    """A deadline, or content that is on disk only."""
    requeued = Requeued()
    expiring = Entry(make_message(b"1"), 1, 500)
    items: Items = [*at(0), expiring, ON_DISK, *at(3)]
    requeued.push(run_of(items, 0, expiring=True), 100)
    assert (requeued.plain(), requeued.expiring) == (1, 1)
    requeued.take(1)
    assert requeued.plain() == 0
    assert requeued.next_item() is expiring
    assert requeued.pop() is expiring
    assert expiring.redelivered
    assert requeued.plain() == 0
    lost = requeued.pop()
    assert (lost.message is ON_DISK, lost.position, lost.redelivered) == (True, 2, True)
    last = requeued.pop()
    assert (text_of(last), last.position, last.deadline_us) == ("3", 3, 0)
    assert (requeued.count, requeued.expiring) == (0, 0)


def test_content_that_was_read_is_put_in_its_place() -> None:
    requeued = Requeued()
    entry = Entry(ON_DISK, 4, 900)
    items: Items = [ON_DISK, *at(2), entry, ON_DISK]
    requeued.push(run_of(items, 0, 2, True), 100)
    assert requeued.body_bytes() == 1
    missing = requeued.missing()
    assert sorted(missing) == [0, 4, 6]
    for position in (0, 4):
        requeued.reloaded(missing[position], position, make_message(b"read back"))
    requeued.lose(missing[6], 6)
    assert requeued.body_bytes() == 19
    assert requeued.count == 3
    assert texts(requeued.take(requeued.plain())) == ["read back", "2"]
    assert requeued.pop() is entry
    assert text_of(entry) == "read back"
    requeued.reloaded(missing[0], 0, make_message(b"too late"))
    requeued.lose(missing[4], 4)
    assert (requeued.count, requeued.body_bytes(), requeued.missing()) == (0, 0, {})


def test_a_run_that_is_lost_as_a_whole_is_gone() -> None:
    requeued = Requeued()
    for first in (0, 10, 20):
        requeued.push(run_of([ON_DISK], first), 100)
    for position, run in requeued.missing().items():
        if position != 20:
            requeued.lose(run, position)
    assert (requeued.count, requeued.pop().position) == (1, 20)


def test_what_is_missing_is_looked_for_in_all_runs_that_are_near() -> None:
    requeued = Requeued()
    for which in range(3):
        requeued.push(run_of([ON_DISK] * 4, which, 3), 100)
    requeued.push(run_of([ON_DISK], 1_000_000), 100)
    assert sorted(requeued.missing()) == list(range(12))


def test_clearing_gives_the_lists_away() -> None:
    requeued = Requeued()
    items = at(*range(5))
    requeued.push(run_of(items, 0), 100)
    requeued.push(run_of(at(9), 9), 100)
    dropped: list[Items] = []
    requeued.clear(MessageBacklog(), dropped)
    assert sorted(map(len, dropped)) == [1, 5]
    assert (requeued.count, requeued.body_bytes(), requeued.plain()) == (0, 0, 0)
    requeued.push(run_of(at(3), 3), 100)
    assert [bodies for _, _, bodies in drained(requeued)] == [["3"]]


class Model:
    """Everything that waits, in order."""

    def __init__(self) -> None:
        self.waiting: list[tuple[int, Message | Entry]] = []
        self.outside: dict[int, Message | Entry] = {}
        self.next = 0

    def deliver(self, chance: random.Random) -> None:
        """Some more messages are delivered for the first time."""
        for message in numbered(chance.choice([1, 3, 30, 200]), self.next):
            item: Message | Entry = message
            if chance.random() < 0.02:
                item = Entry(message, self.next, 1000)
            self.outside[self.next] = item
            self.next += 1

    def give_back(self, chance: random.Random) -> Iterator[ReturnedRun]:
        """Runs of what is outside: whole stretches with gaps, several strides, or single ones."""
        places = sorted(self.outside)
        way = chance.choice(["one", "backwards", "stretch", "turns"])
        if way == "one":
            yield self.run(chance.sample(places, 1), 1)
        elif way == "backwards":
            for position in reversed(places[-chance.randrange(1, 150) :]):
                yield self.run([position], chance.choice([1, 2, 7]))
        elif way == "stretch":
            first = chance.choice(places)
            yield self.run([each for each in places if first <= each < first + chance.choice([2, 10, 500])], 1)
        else:
            stride = chance.choice([2, 3, 5])
            first = chance.choice(places)
            window = [each for each in places if first <= each < first + chance.choice([20, 300])]
            for which in chance.sample(range(stride), chance.randrange(1, stride + 1)):
                part = [each for each in window if each % stride == which]
                if part:
                    yield self.run(part, stride)

    def run(self, positions: list[int], stride: int) -> ReturnedRun:
        first = positions[0]
        items: Items = [None] * ((positions[-1] - first) // stride + 1)
        expiring = False
        for position in positions:
            item = self.outside.pop(position)
            expiring = expiring or isinstance(item, Entry)
            items[(position - first) // stride] = item
            self.waiting.append((position, item))
        self.waiting.sort(key=lambda pair: pair[0])
        return run_of(items, first, stride, expiring)

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
    requeued, model = Requeued(), Model()
    for step in range(150):
        where = f"seed {seed}, step {step}"
        action = chance.choice(["deliver", "push", "push", "take", "take", "pop", "bytes", "clear"])
        if action == "deliver":
            model.deliver(chance)
        elif action == "push" and model.outside:
            for run in model.give_back(chance):
                requeued.push(run, 100)
        elif action == "take":
            for _ in range(chance.randrange(1, 40)):
                plain = int(requeued.plain())
                if plain == 0:
                    break
                count = chance.choice([1, plain, chance.randrange(1, plain + 1)])
                position, stride = int(requeued.next_position()), int(requeued.next_stride())
                found = [(position + index * stride, item) for index, item in enumerate(requeued.take(count))]
                assert found == model.take(count), where
        elif action == "pop" and model.waiting:
            entry = requeued.pop()
            ((position, item),) = model.take(1)
            assert (entry.position, entry.message) == (position, item.message if isinstance(item, Entry) else item), (
                where
            )
        elif action == "bytes":
            assert requeued.body_bytes() == model.body_bytes, where
        elif action == "clear" and chance.random() < 0.1:
            dropped: list[Items] = []
            requeued.clear(MessageBacklog(), dropped)
            assert sum(item is not None for items in dropped for item in items) == len(model.waiting), where
            model.waiting = []
        assert requeued.count == len(model.waiting), where
        plain = requeued.plain()
        assert plain <= len(model.waiting), where
        assert (plain == 0) == (not model.waiting or isinstance(model.waiting[0][1], Entry)), where
        assert requeued.expiring > 0 or not any(isinstance(item, Entry) for _, item in model.waiting), where
    while requeued.count:
        entry = requeued.pop()
        assert entry.position == model.take(1)[0][0], f"seed {seed}, at the end"
    assert (requeued.body_bytes(), requeued.expiring) == (0, 0)


def million(length: int) -> list[ReturnedRun]:
    """A million deliveries of one message each, as runs of this length."""
    message = make_message(b"m")
    return [run_of([message] * length, first) for first in range(0, 1_000_000, length)]


@pytest.mark.skipif(not build.loaded().compiled, reason="a matter of the compiled build")
def test_a_million_come_back_in_no_time() -> None:
    """No slice over 5 ms: it costs the same whatever a run holds. The best of several, because other processes want the
    core too."""
    taken_ms = []
    for _ in range(7):
        runs = million(4000)
        requeued = Requeued()
        started = time.perf_counter_ns()
        for run in runs:
            requeued.push(run, 100)
        taken_ms.append((time.perf_counter_ns() - started) / 1e6)
        assert requeued.count == 1_000_000
    assert min(taken_ms) < 3


@pytest.mark.parametrize("order", ["runs", "forwards", "backwards", "random"])
def test_a_million_cost_little_memory(order: str) -> None:
    """Beyond the messages themselves, however they come back: at most 50 MiB."""
    count = 1_000_000 if order == "runs" or build.loaded().compiled else 100_000
    message = make_message(b"m")
    places = list(range(count))
    if order == "backwards":
        places.reverse()
    elif order == "random":
        random.Random(1).shuffle(places)
    requeued = Requeued()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    if order == "runs":
        for run in million(4000):
            requeued.push(run, 100)
    else:
        for place in places:
            requeued.push(ReturnedRun([message], place, 1, 0, 1, False), 100)
    used = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert requeued.count == count
    assert used < 50 * MIB * count / 1_000_000
