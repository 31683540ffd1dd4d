"""Delivery tags and what stands behind them (broker/protocol/unacked.py); a dictionary is the model."""

from __future__ import annotations

import random
import tracemalloc
from functools import partial

import pytest

from broker.errors import PRECONDITION_FAILED, ChannelException
from broker.protocol.delivery_run import Run
from broker.protocol.unacked import Unacked
from tests.support.fake_clock import FakeClock
from tests.support.fakes import FakeConsumer, FakeQueue

UNKNOWN = "RabbitMQ docs, Consumer Acknowledgements: acknowledging an unknown delivery tag is a channel error 406"


def ack(unacked: Unacked, tag: int, multiple: bool) -> int:
    """Settles one delivery, or all up to `tag` (0: all), as a channel does it; how many."""
    if multiple:
        return int(unacked.ack_up_to(tag))
    unacked.ack_one(tag)
    return 1


def take(unacked: Unacked, tag: int, multiple: bool) -> list[Run]:
    """Removes one delivery, or all up to `tag` (0: all), as a channel does it."""
    if not multiple:
        return [unacked.take(tag)]
    through = unacked.through(tag)
    runs: list[Run] = []
    while part := unacked.take_some(through):
        runs += part
    return runs


class Setting:
    """One channel's ledger, a queue with its line, and a consumer."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.unacked = Unacked(self.clock)
        self.queue = FakeQueue()
        self.consumer = FakeConsumer()
        self.serial = 0

    def deliver(self, count: int, stride: int = 1) -> int:
        """Delivers messages to the consumer; gives the first tag."""
        first = self.serial
        self.serial += count * stride
        return int(self.unacked.add(self.consumer, self.queue.link, 0, count, first, stride))

    def get(self) -> int:
        """A basic.get: no consumer."""
        self.serial += 1
        return int(self.unacked.add(None, self.queue.link, 0, 1, self.serial - 1, 1))

    @property
    def counts(self) -> tuple[int, int]:
        return int(self.unacked.count), int(self.unacked.consumer_count)

    def refuses(self, tag: int, multiple: bool = False) -> bool:
        """Whether ack and take both answer that the tag is unknown, and change nothing."""
        before = self.counts
        for settle in (partial(ack, self.unacked), partial(take, self.unacked)):
            with pytest.raises(ChannelException) as raised:
                settle(tag, multiple)
            assert raised.value.code == PRECONDITION_FAILED
            assert raised.value.text == f"PRECONDITION_FAILED - unknown delivery tag {tag % (1 << 64)}", (
                "unsigned, as it came"
            )
        return self.counts == before


def places(runs: list[Run]) -> list[int]:
    """The positions of what runs hold."""
    return [
        int(run.first_position + index * run.stride)
        for run in runs
        for first, count in run.ranges(run.size)
        for index in range(first, first + count)
    ]


def test_tags_count_from_one_over_all_deliveries() -> None:
    """AMQP 0-9-1 §1.6.5, delivery-tag: per channel, from 1; AMQP 0-9-1 §1.1, delivery-tag: shared by get and
    consume."""
    setting = Setting()
    assert setting.deliver(3) == 1
    assert setting.get() == 4
    assert setting.unacked.skip(2) == 5
    assert setting.deliver(1) == 7
    assert setting.counts == (5, 4)


def test_a_settled_delivery_is_gone() -> None:
    setting = Setting()
    setting.deliver(3)
    assert ack(setting.unacked, 2, False) == 1
    assert setting.counts == (2, 2)
    assert (setting.queue.settled_count, setting.consumer.settled_count) == (1, 1)
    assert setting.refuses(2), UNKNOWN


@pytest.mark.parametrize("tag", [0, 4, 5, 1 << 40, -1, -(1 << 63), (1 << 63) - 1])
def test_an_unknown_tag_is_refused(tag: int) -> None:
    setting = Setting()
    setting.deliver(3)
    assert setting.refuses(tag), UNKNOWN


@pytest.mark.parametrize("tag", [4, 1 << 40])
def test_multiple_up_to_an_unknown_tag_is_refused(tag: int) -> None:
    setting = Setting()
    setting.deliver(3)
    assert setting.refuses(tag, multiple=True), UNKNOWN


def test_a_tag_that_was_never_to_be_acknowledged_is_unknown() -> None:
    """no_ack deliveries use up tags but are not outstanding."""
    setting = Setting()
    setting.deliver(1)
    setting.unacked.skip(1)
    setting.deliver(1)
    assert setting.refuses(2), UNKNOWN
    assert ack(setting.unacked, 3, True) == 2


def test_multiple_with_tag_zero_is_everything() -> None:
    """AMQP 0-9-1 basic.ack: multiple with delivery-tag 0 settles all outstanding deliveries; none is no error."""
    setting = Setting()
    assert ack(setting.unacked, 0, True) == 0
    assert take(setting.unacked, 0, True) == []
    setting.deliver(3)
    setting.get()
    assert ack(setting.unacked, 0, True) == 4
    assert setting.counts == (0, 0)
    assert (setting.queue.settled_count, setting.consumer.settled_count) == (4, 3)


def test_multiple_settles_up_to_and_including_its_tag() -> None:
    setting = Setting()
    setting.deliver(5)
    assert ack(setting.unacked, 3, True) == 3
    assert setting.refuses(3), UNKNOWN
    assert ack(setting.unacked, 4, False) == 1
    assert ack(setting.unacked, 5, True) == 1
    assert setting.counts == (0, 0)


def test_multiple_counts_what_was_settled_before_only_once() -> None:
    setting = Setting()
    setting.deliver(5)
    ack(setting.unacked, 2, False)
    assert ack(setting.unacked, 4, True) == 3
    assert setting.queue.settled_positions == [1, 0, 2, 3]


def test_multiple_leaves_alone_what_waits_in_its_queue_again() -> None:
    """A requeued message is the queue's; that its neighbours are acknowledged must not settle it."""
    setting = Setting()
    setting.deliver(5, stride=2)
    take(setting.unacked, 2, False)
    take(setting.unacked, 4, False)
    assert ack(setting.unacked, 0, True) == 3
    assert setting.queue.settled_positions == [0, 4, 8]


def test_a_multiple_ack_may_not_name_a_settled_tag() -> None:
    """RabbitMQ `rabbit_channel:collect_acks`: the tag itself must be outstanding, whatever stands before it."""
    setting = Setting()
    setting.deliver(3)
    ack(setting.unacked, 2, False)
    assert setting.refuses(2, multiple=True), UNKNOWN


def test_taken_deliveries_know_their_places() -> None:
    """They go back where they stood, also when consumers took turns (every third message here)."""
    setting = Setting()
    setting.deliver(3, stride=3)
    assert places(take(setting.unacked, 2, False)) == [3]
    assert places(take(setting.unacked, 0, True)) == [0, 6]


def test_taking_does_not_tell_the_queue() -> None:
    """Whether they are requeued or rejected is decided by whoever took them."""
    setting = Setting()
    setting.deliver(2)
    take(setting.unacked, 0, True)
    assert (setting.queue.settled_count, setting.consumer.settled_count) == (0, 0)
    assert setting.counts == (0, 0)


def test_a_rolled_back_transaction_restores_what_it_settled() -> None:
    """AMQP 0-9-1 tx.rollback: acknowledgements are undone, deliveries stay outstanding under their tags."""
    setting = Setting()
    setting.deliver(6)
    first = take(setting.unacked, 2, False)
    second = take(setting.unacked, 4, True)
    assert setting.counts == (2, 2)
    setting.unacked.restore(second)
    setting.unacked.restore(first)
    assert setting.counts == (6, 6)
    for tag in (3, 1, 2, 4, 6, 5):
        assert ack(setting.unacked, tag, False) == 1
    assert setting.counts == (0, 0)


def test_a_get_is_not_counted_for_the_consumers_window() -> None:
    """RabbitMQ docs, Consumer Prefetch: basic.get ignores the prefetch limits."""
    setting = Setting()
    setting.get()
    assert setting.counts == (1, 0)
    ack(setting.unacked, 1, False)
    assert setting.counts == (0, 0)


class Model:
    """What is outstanding, by tag: its position."""

    def __init__(self) -> None:
        self.outstanding: dict[int, int] = {}

    def chosen(self, tag: int, multiple: bool) -> list[int] | None:
        """The tags a settlement means, in order; None when it is refused."""
        if multiple and tag == 0:
            return sorted(self.outstanding)
        if tag not in self.outstanding:
            return None
        return [each for each in sorted(self.outstanding) if each <= tag] if multiple else [tag]


@pytest.mark.parametrize("seed", range(60))
def test_random_settlements_agree_with_a_dictionary(seed: int) -> None:
    """Deliveries in batches, turns and gets; ack and take of single tags and of all up to one."""
    settle_at_random(seed, ["deliver", "deliver", "get", "skip", "ack", "ack", "take"])


@pytest.mark.parametrize("seed", range(60))
def test_random_settlements_with_rollbacks_agree_with_a_dictionary(seed: int) -> None:
    """The same, and now and then what was taken comes back, as a rolled-back transaction brings it."""
    settle_at_random(seed, ["deliver", "deliver", "get", "skip", "ack", "ack", "take", "restore"])


@pytest.mark.parametrize("seed", range(20))
def test_random_settlements_of_many_single_deliveries_agree_with_a_dictionary(seed: int) -> None:
    """Each delivery is a run of its own, and there are hundreds: what is settled among them is not moved at once."""
    settle_at_random(seed, ["single"] * 3 + ["ack", "ack", "take", "restore"], steps=1500, often_multiple=0.01)


@pytest.mark.parametrize("order", ["forwards", "backwards", "random"])
def test_many_single_deliveries_leave_nothing_behind(order: str) -> None:
    setting = Setting()
    tags = [setting.deliver(1, stride=2) for _ in range(1000)]
    if order == "backwards":
        tags.reverse()
    elif order == "random":
        random.Random(1).shuffle(tags)
    for settled, tag in enumerate(tags, 1):
        assert ack(setting.unacked, tag, False) == 1
        assert setting.counts == (1000 - settled, 1000 - settled)
        live = sum(run.live > 0 for run in setting.unacked._runs)
        assert live == 1000 - settled
        assert len(setting.unacked._runs) <= max(2 * live, live + 64)
    assert setting.unacked._runs == []


def test_a_million_deliveries_cost_next_to_nothing() -> None:
    """Their content is with the queue; that some are settled out of order takes a byte each."""
    unacked, consumer, queue = Unacked(FakeClock()), FakeConsumer(), FakeQueue()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for start in range(0, 1_000_000, 1000):
        unacked.add(consumer, queue.link, 0, 1000, start, 1)
    assert tracemalloc.get_traced_memory()[0] - before < 200_000
    for tag in range(500, 1_000_000, 1000):
        ack(unacked, tag, False)
    assert tracemalloc.get_traced_memory()[0] - before < 2_000_000
    tracemalloc.stop()
    assert ack(unacked, 0, True) == 999_000
    assert unacked._runs == []


def test_how_long_the_oldest_is_outstanding() -> None:
    """To a second: what is delivered while a run is younger than that belongs to it."""
    setting = Setting()
    assert setting.unacked.oldest_ms() == 0
    for _ in range(10):
        setting.deliver(1)
        setting.clock.advance(600)
    assert setting.unacked.oldest_ms() == 6000
    ack(setting.unacked, 1, False)
    assert setting.unacked.oldest_ms() == 6000, "the second one is 600 ms younger"
    ack(setting.unacked, 8, True)
    assert setting.unacked.oldest_ms() == 1200
    setting.unacked.restore(take(setting.unacked, 9, False))
    assert setting.unacked.oldest_ms() == 1200
    other = FakeQueue("other")
    setting.clock.advance(500)
    setting.unacked.add(setting.consumer, other.link, 0, 1, 0, 1)
    assert (setting.unacked.oldest_ms(other.link), setting.unacked.oldest_ms(setting.queue.link)) == (0, 1700)
    ack(setting.unacked, 0, True)
    assert setting.unacked.oldest_ms() == 0


def settle_at_random(seed: int, actions: list[str], steps: int = 300, often_multiple: float = 0.3) -> None:
    chance = random.Random(seed)
    unacked, model = Unacked(FakeClock()), Model()
    queues = [FakeQueue("a"), FakeQueue("b")]
    consumers = [FakeConsumer("c1"), FakeConsumer("c2")]
    positions = [0, 0]
    owner: dict[int, int] = {}
    settled: list[list[int]] = [[], []]
    taken: list[tuple[list[int], list[int], list[Run]]] = []
    tag = 0
    for step in range(steps):
        where = f"seed {seed}, step {step}"
        action = chance.choice(actions)
        which = chance.randrange(2)
        if action in ("deliver", "single"):
            count, stride = chance.choice([1, 1, 2, 5, 20]), chance.choice([1, 1, 1, 2, 3])
            if action == "single":
                count, stride = 1, 2
            first = positions[which]
            positions[which] += count * stride
            got = unacked.add(consumers[chance.randrange(2)], queues[which].link, 0, count, first, stride)
            assert got == tag + 1, where
            for index in range(count):
                tag += 1
                owner[tag] = which
                model.outstanding[tag] = first + index * stride
        elif action == "get":
            tag = int(unacked.add(None, queues[which].link, 0, 1, positions[which], 1))
            owner[tag] = which
            model.outstanding[tag] = positions[which]
            positions[which] += 1
        elif action == "skip":
            count = chance.randrange(1, 4)
            assert unacked.skip(count) == tag + 1, where
            tag += count
        elif action == "restore":
            if taken:
                tags, found, runs = taken.pop(chance.randrange(len(taken)))
                unacked.restore(runs)
                model.outstanding.update(zip(tags, found, strict=True))
        else:
            known = sorted(model.outstanding)
            wanted = chance.choice(known) if known and chance.random() < 0.85 else chance.randrange(0, tag + 3)
            multiple = chance.random() < often_multiple
            expected = model.chosen(wanted, multiple)
            settle = partial(ack, unacked) if action == "ack" else partial(take, unacked)
            if expected is None:
                with pytest.raises(ChannelException, match="unknown delivery tag"):
                    settle(wanted, multiple)
            elif action == "ack":
                assert ack(unacked, wanted, multiple) == len(expected), where
                for each in expected:
                    settled[owner[each]].append(model.outstanding.pop(each))
            else:
                runs = take(unacked, wanted, multiple)
                found = [model.outstanding.pop(each) for each in expected]
                assert places(runs) == found, where
                assert sum(run.live for run in runs) == len(found), where
                taken.append((expected, found, runs))
        assert unacked.count == len(model.outstanding), where
        assert [sorted(queue.settled_positions) for queue in queues] == [sorted(each) for each in settled], where
    assert places(take(unacked, 0, True)) == [model.outstanding[each] for each in sorted(model.outstanding)], (
        f"seed {seed}"
    )
    assert (unacked.count, unacked.consumer_count) == (0, 0), f"seed {seed}"
