"""The classic queue (broker/queues/classic.py) with a host and consumers of the test's own: batches, turns, places,
counts."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from broker.message import ACCEPTED, REJECTED
from broker.queues.classic import ClassicQueue
from broker.queues.refusal import GIVEN_BACK
from broker.turn import Turn
from tests.support.fake_clock import FakeClock, HurriedClock
from tests.support.fakes import (
    FakeConsumer,
    FakeHost,
    arguments,
    declared,
    environment,
    make_message,
    numbered,
    text_of,
)


class Setting:
    """A queue, its host, and the turn it marks itself in."""

    def __init__(self, auto_delete: bool = False, clock: FakeClock | None = None, **given: object) -> None:
        self.clock = clock or FakeClock()
        self.turn = Turn(self.clock)
        self.host = FakeHost()
        made = declared("q", arguments(**given), auto_delete=auto_delete)
        self.queue = ClassicQueue(made, environment(self.host, self.turn, self.clock))
        self.serial = 0

    def publish(self, count: int = 1) -> list[int]:
        outcomes = [self.queue.enqueue(message) for message in numbered(count, self.serial)]
        self.serial += count
        return outcomes

    def consumer(self, tag: str = "c", **options: object) -> FakeConsumer:
        consumer = FakeConsumer(tag, **options)  # type: ignore[arg-type]
        self.queue.add_consumer(consumer)
        return consumer

    def drain(self) -> list[str]:
        bodies = []
        while (entry := self.queue.get(True)) is not None:
            bodies.append(text_of(entry.message))
        return bodies


def numbers(*values: int) -> list[str]:
    return [str(value) for value in values]


def test_nothing_moves_before_the_end_of_the_turn() -> None:
    setting = Setting()
    consumer = setting.consumer()
    setting.publish(3)
    assert consumer.got == []
    setting.turn.run()
    assert consumer.got == numbers(0, 1, 2)


def test_a_batch_for_a_single_consumer() -> None:
    """One call for all it can take."""
    setting = Setting()
    consumer = setting.consumer(room=5)
    setting.publish(10)
    setting.turn.run()
    assert (consumer.batches, consumer.got) == ([5], numbers(0, 1, 2, 3, 4))
    assert (setting.queue.ready_count(), setting.queue.unacked) == (5, 5)
    consumer.room = 3
    setting.queue.unblock(consumer)
    setting.turn.run()
    assert consumer.got[5:] == numbers(5, 6, 7)


def test_a_consumer_without_room_is_not_asked_again() -> None:
    """A queue with a thousand busy consumers costs nothing per message."""
    setting = Setting()
    consumer = setting.consumer(room=0)
    setting.publish()
    setting.turn.run()
    asked = consumer.asked
    for _ in range(10):
        setting.publish()
        setting.turn.run()
    assert consumer.asked == asked
    assert consumer.blocked


def test_no_ack_is_not_counted_as_unacknowledged() -> None:
    setting = Setting()
    setting.consumer(no_ack=True)
    setting.publish(3)
    setting.turn.run()
    assert (setting.queue.ready_count(), setting.queue.unacked) == (0, 0)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 9, 10, 11, 100])
@pytest.mark.parametrize("consumers", [1, 2, 3, 4])
def test_equal_consumers_get_every_nth(count: int, consumers: int) -> None:
    """RabbitMQ docs, Consumers: message by message, from whoever's turn it is; positions say where each message
    stood."""
    setting = Setting()
    all_of_them = [setting.consumer(str(number)) for number in range(consumers)]
    setting.publish(count)
    setting.turn.run()
    setting.publish(count)
    setting.turn.run()
    for number, consumer in enumerate(all_of_them):
        assert consumer.got == [str(each) for each in range(2 * count) if each % consumers == number]
        assert consumer.places == [int(text) for text in consumer.got]


@pytest.mark.parametrize("seed", range(40))
def test_random_rooms_are_filled_in_turns(seed: int) -> None:
    """A plain loop over consumers is the model: the next message to the next one with room."""
    chance = random.Random(seed)
    setting = Setting()
    rooms = [chance.choice([0, 1, 2, 3, 5, 20]) for _ in range(chance.randrange(1, 6))]
    consumers = [setting.consumer(str(number), room=room) for number, room in enumerate(rooms)]
    expected: list[list[str]] = [[] for _ in rooms]
    count = chance.randrange(1, 40)
    setting.publish(count)
    setting.turn.run()
    left = list(rooms)
    rotation = list(range(len(rooms)))
    for number in range(count):
        while rotation and left[rotation[0]] == 0:
            rotation.pop(0)
        if not rotation:
            break
        who = rotation.pop(0)
        expected[who].append(str(number))
        left[who] -= 1
        rotation.append(who)
    assert [consumer.got for consumer in consumers] == expected, f"seed {seed}"
    assert setting.queue.ready_count() == count - sum(map(len, expected)), f"seed {seed}"


def test_large_messages_are_bounded_by_the_room_in_octets() -> None:
    """A batch of large bodies must not run over the connection's outbox."""
    setting = Setting()
    consumer = setting.consumer()
    consumer.bytes_room = 100_000
    for _ in range(50):
        setting.queue.enqueue(make_message(b"x" * 10_000))
    setting.turn.run()
    assert max(consumer.batches) <= 11
    assert len(consumer.got) == 50


def test_higher_priority_consumers_first() -> None:
    setting = Setting()
    low, high = setting.consumer("low"), setting.consumer("high", priority=1, room=2)
    setting.publish(4)
    setting.turn.run()
    assert (high.got, low.got) == (numbers(0, 1), numbers(2, 3))


def test_requeued_messages_go_back_to_their_places() -> None:
    """RabbitMQ docs, Queues, Message Ordering."""
    setting = Setting()
    setting.publish(4)
    entries = [setting.queue.get(False) for _ in range(3)]
    returned = [entry for entry in entries if entry is not None]
    level = returned[0].level
    setting.queue.requeue(level, returned[2].position, 1, 1, GIVEN_BACK)
    setting.queue.requeue(level, returned[0].position, 1, 1, GIVEN_BACK)
    assert setting.queue.unacked == 1
    found = [
        entry
        for entry in (setting.queue.get(True), setting.queue.get(True), setting.queue.get(True))
        if entry is not None
    ]
    assert [(text_of(entry.message), entry.redelivered) for entry in found] == [("0", True), ("2", True), ("3", False)]


def test_a_consumer_hears_that_a_message_was_delivered_before() -> None:
    setting = Setting()
    setting.publish(2)
    entry = setting.queue.get(False)
    assert entry is not None
    setting.queue.requeue(entry.level, entry.position, 1, 1, GIVEN_BACK)
    consumer = setting.consumer()
    setting.turn.run()
    assert consumer.got == numbers(0, 1)
    assert consumer.redelivered == [True, False]


def test_rejected_messages_are_dead_lettered() -> None:
    setting = Setting(x_dead_letter_exchange="")
    setting.publish(2)
    entries = [entry for entry in (setting.queue.get(False), setting.queue.get(False)) if entry is not None]
    assert setting.queue.reject(entries[0].level, entries[0].position, 2, 1) == 2
    assert setting.host.dead == [("0", "rejected"), ("1", "rejected")]
    assert setting.queue.unacked == 0


def test_settling_counts_down() -> None:
    setting = Setting()
    setting.consumer()
    setting.publish(5)
    setting.turn.run()
    setting.queue.settle(0, 0, 3, 1)
    assert setting.queue.unacked == 2


def test_expired_messages_are_dead_lettered_from_the_head() -> None:
    setting = Setting(x_message_ttl=100)
    setting.publish(2)
    setting.clock.advance(50)
    setting.publish(1)
    setting.clock.advance(51)
    setting.turn.run()
    assert setting.host.dead == [("0", "expired"), ("1", "expired")]
    setting.clock.advance(50)
    setting.turn.run()
    assert setting.host.dead[2:] == [("2", "expired")]


def test_drop_head_and_reject_publish() -> None:
    dropping, refusing = Setting(x_max_length=2), Setting(x_max_length=2, x_overflow="reject-publish")
    assert dropping.publish(4) == [ACCEPTED] * 4
    assert refusing.publish(4) == [ACCEPTED, ACCEPTED, REJECTED, REJECTED]
    assert (dropping.drain(), refusing.drain()) == (numbers(2, 3), numbers(0, 1))
    assert dropping.host.dead == [("0", "maxlen"), ("1", "maxlen")]
    assert refusing.host.dead == []


def test_a_limit_looks_at_consumers_first() -> None:
    setting = Setting(x_max_length=1)
    consumer = setting.consumer(room=2)
    setting.publish(4)
    setting.turn.run()
    assert (consumer.got, setting.host.dead) == (numbers(0, 1), [("2", "maxlen")])


def test_an_unused_queue_asks_to_be_removed() -> None:
    setting = Setting(x_expires=100)
    setting.clock.advance(99)
    assert setting.host.removed == []
    setting.clock.advance(1)
    assert setting.host.removed == ["q"]


def test_an_auto_delete_queue_asks_to_be_removed_with_its_last_consumer() -> None:
    setting = Setting(auto_delete=True)
    one, two = setting.consumer("1"), setting.consumer("2")
    setting.queue.remove_consumer(one)
    setting.queue.remove_consumer(one)
    assert setting.host.removed == []
    setting.queue.remove_consumer(two)
    assert setting.host.removed == ["q"]


def test_closing_cancels_consumers_and_timers() -> None:
    setting = Setting(x_expires=1000, x_message_ttl=100)
    setting.publish(3)
    consumer = setting.consumer(room=0)
    assert setting.queue.close() == 3
    assert (consumer.cancels, setting.queue.deleted) == (1, True)
    setting.clock.advance(10_000)
    setting.turn.run()
    assert (setting.host.dead, setting.host.removed, consumer.got) == ([], [], [])


def test_what_comes_back_to_a_closed_queue_is_dropped() -> None:
    setting = Setting()
    setting.publish(2)
    entry = setting.queue.get(False)
    other = setting.queue.get(False)
    assert entry is not None
    assert other is not None
    setting.queue.close()
    setting.queue.requeue(entry.level, entry.position, 1, 1, GIVEN_BACK)
    assert setting.queue.reject(other.level, other.position, 1, 1) == 1
    assert (setting.queue.unacked, setting.queue.ready_count(), setting.host.dead) == (0, 0, [])


def test_purge() -> None:
    setting = Setting(x_max_priority=3)
    for priority in (0, 1, 2, 3):
        setting.queue.enqueue(make_message(b"x", priority=priority))
    assert setting.queue.purge() == 4
    assert setting.queue.ready_count() == 0


def test_each_priority_is_a_line_of_its_own() -> None:
    setting = Setting(x_max_priority=3)
    for place, priority in enumerate((0, 3, 1, 200, -1, 3)):
        setting.queue.enqueue(make_message(f"{place}".encode(), priority=priority))
    assert setting.drain() == numbers(1, 3, 5, 2, 0, 4)


def test_a_long_backlog_is_delivered_in_bounded_batches() -> None:
    setting = Setting()
    setting.publish(5000)
    consumer = setting.consumer()
    setting.turn.run()
    assert sum(consumer.batches) == 5000
    assert max(consumer.batches) <= 1024
    assert consumer.got == [str(number) for number in range(5000)]


@pytest.mark.parametrize("count", [2, 3, 256, 257, 1000])
def test_what_consumers_get_in_turns_between_two_looks_at_the_clock_is_bounded(count: int) -> None:
    """2,000 consumers and a long queue: two million deliveries were one step."""
    setting = Setting(clock=HurriedClock())
    setting.publish(5000)
    consumers = [setting.consumer(f"c{number}") for number in range(count)]
    got = [0]
    while setting.turn.scheduled:
        setting.turn.run()
        got.append(sum(len(consumer.got) for consumer in consumers))
        assert len(got) < 5000
    assert got[-1] == 5000
    assert max(after - before for before, after in pairwise(got)) <= 1024 + count
    if count <= 256:
        assert max(len(consumer.got) for consumer in consumers) - min(len(consumer.got) for consumer in consumers) <= 1


def test_thousands_of_consumers_are_told_in_several_turns_that_their_queue_is_gone() -> None:
    setting = Setting()
    consumers = [setting.consumer(f"c{number}") for number in range(1000)]
    setting.turn.drain()
    setting.queue.close()
    told = [sum(consumer.cancels for consumer in consumers)]
    assert not any(consumer.registered for consumer in consumers)
    while setting.turn.scheduled:
        setting.turn.run()
        told.append(sum(consumer.cancels for consumer in consumers))
    assert told[-1] == 1000
    assert max(after - before for before, after in pairwise([0, *told])) <= 128


def test_the_sizes_of_what_comes_back_are_summed_up_as_it_comes() -> None:
    """Not when somebody asks: it may be a million by then."""
    setting = Setting(x_max_length_bytes=1_000_000)
    setting.publish(100)
    consumer = setting.consumer(room=50)
    setting.turn.drain()
    assert len(consumer.got) == 50
    queue = setting.queue
    queue.hold(0)
    queue.requeue(0, 0, 50, 1, GIVEN_BACK)
    assert queue._backlog.requeued.body_bytes == sum(len(str(number)) for number in range(50))
    queue.release(0)
    assert queue._backlog.body_bytes == sum(len(str(number)) for number in range(100))


def test_a_dispatch_of_many_levels_looks_at_the_clock_as_often_as_one_of_one() -> None:
    """255 priorities with 2,000 messages each were one step of 13 ms."""
    clock = HurriedClock()
    setting = Setting(clock=clock, x_max_priority=255)
    consumer = setting.consumer("c", room=1_000_000)
    for priority in range(255):
        for _ in range(100):
            setting.queue.enqueue(make_message(b"x", priority=priority))
    turns = 0
    while len(consumer.got) < 25_500:
        setting.turn.run()
        turns += 1
    assert turns >= 25_500 // 1024, "with every look the time is over"
