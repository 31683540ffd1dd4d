"""What waits in a queue (broker/queues/message_backlog.py): order, places, returns; a plain list is the model."""

from __future__ import annotations

import random

import pytest

from broker.message import Message
from broker.queues.block import BLOCK_SIZE, body_size
from broker.queues.entry import Entry
from broker.queues.message_backlog import MessageBacklog
from tests.support.fakes import make_message, numbered, text_of, texts

ORDER = "RabbitMQ docs, Queues, Message Ordering: a requeued message goes back to its original place if possible"


def filled(count: int) -> MessageBacklog:
    backlog = MessageBacklog()
    for message in numbered(count):
        backlog.append(message)
    return backlog


def expiring(backlog: MessageBacklog, message: Message, deadline_us: int) -> None:
    backlog.add(Entry(message, backlog.next, deadline_us), message)


def back(backlog: MessageBacklog, *entries: Entry) -> None:
    """Messages come back as a channel gives them back one by one."""
    for entry in entries:
        backlog.requeue(entry.position, 1, 1)


def taken(backlog: MessageBacklog, count: int) -> list[Entry]:
    """Messages that were taken, with the places they had."""
    first = int(backlog.next_position())
    for_consumer = backlog.take(count)
    return [
        item if isinstance(item, Entry) else Entry(item, position, 0)
        for position, item in enumerate(for_consumer, first)
        if item is not None
    ]


def rest(backlog: MessageBacklog) -> list[str]:
    return [text_of(backlog.pop()) for _ in range(backlog.count())]


def test_a_new_backlog_is_empty() -> None:
    backlog = MessageBacklog()
    assert (backlog.count(), backlog.plain(), backlog.body_bytes, backlog.next_position()) == (0, 0, 0, 0)
    assert (backlog.head_deadline(), body_size(backlog.next_item()), backlog.expiring) == (0, 0, False)
    assert backlog.clear([]) == 0


def test_first_in_first_out() -> None:
    """AMQP 0-9-1 §4.7: messages are taken in the order in which they came."""
    backlog = filled(5)
    assert texts(backlog.take(2)) == ["0", "1"]
    assert text_of(backlog.pop()) == "2"
    assert texts(backlog.take(2)) == ["3", "4"]
    assert backlog.count() == 0


def test_positions_go_on_from_one_message_to_the_next() -> None:
    backlog = filled(4)
    assert backlog.next_position() == 0
    backlog.take(3)
    assert backlog.next_position() == 3
    assert backlog.pop().position == 3
    backlog.append(make_message(b"later"))
    assert backlog.pop().position == 4


def test_positions_go_on_behind_what_was_cleared() -> None:
    """A delivery from before a purge that comes back must stand in front of what came after the purge."""
    backlog = filled(3)
    first = backlog.pop()
    assert backlog.clear([]) == 2
    backlog.append(make_message(b"new"))
    back(backlog, first)
    assert rest(backlog) == ["0", "new"]


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0], [1, 2, 0], [2, 0, 1]])
def test_returned_messages_go_back_to_their_places(order: list[int]) -> None:
    backlog = filled(5)
    out = taken(backlog, 3)
    for index in order:
        back(backlog, out[index])
    assert rest(backlog) == ["0", "1", "2", "3", "4"], ORDER


def test_several_messages_return_at_once_whatever_their_order() -> None:
    backlog = filled(6)
    out = taken(backlog, 5)
    back(backlog, out[1], out[3])
    back(backlog, out[4], out[0], out[2])
    assert rest(backlog) == ["0", "1", "2", "3", "4", "5"], ORDER


def test_what_returned_is_taken_apart_from_what_did_not() -> None:
    """The flag redelivered is one for all that `take` hands out."""
    backlog = filled(5)
    out = taken(backlog, 3)
    assert (backlog.plain(), (backlog.requeued.count > 0)) == (2, False)
    back(backlog, out[1])
    assert (backlog.count(), backlog.plain(), (backlog.requeued.count > 0)) == (3, 1, True)
    assert (backlog.next_position(), backlog.head_position) == (1, 3)
    assert texts(backlog.take(1)) == ["1"]
    assert (backlog.plain(), (backlog.requeued.count > 0), backlog.next_position()) == (2, False, 3)


def test_several_that_returned_are_taken_at_once() -> None:
    backlog = filled(6)
    backlog.take(4)
    backlog.requeue(0, 4, 1)
    assert backlog.plain() == 4
    assert texts(backlog.take(3)) == ["0", "1", "2"]
    assert rest(backlog) == ["3", "4", "5"]


def test_a_backlog_that_is_held_delivers_nothing() -> None:
    """What comes back in several steps must not be overtaken by what stands behind it."""
    backlog = filled(3)
    backlog.holds += 1
    assert (backlog.available(), backlog.count()) == (0, 3)
    backlog.holds -= 1
    assert backlog.available() == 3


def test_what_expires_is_taken_one_by_one() -> None:
    backlog = filled(1)
    expiring(backlog, make_message(b"1"), 500)
    assert (backlog.count(), backlog.plain(), backlog.expiring) == (2, 1, True)
    assert backlog.head_deadline() == 0
    backlog.pop()
    assert backlog.plain() == 0
    assert backlog.head_deadline() == 500
    assert backlog.pop().position == 1
    assert not backlog.expiring


def test_a_returned_message_keeps_its_deadline() -> None:
    """RabbitMQ docs, Time-To-Live: a requeued message keeps its original deadline."""
    backlog = MessageBacklog()
    expiring(backlog, make_message(b"0"), 500)
    entry = backlog.pop()
    back(backlog, entry)
    assert backlog.head_deadline() == 500
    assert backlog.expiring


def test_the_size_is_the_sum_of_the_bodies() -> None:
    """RabbitMQ docs, Queue Length Limit: the bodies of ready messages count, without properties or overhead."""
    backlog = MessageBacklog()
    for size in (10, 20, 30, 40):
        backlog.append(make_message(b"x" * size))
    expiring(backlog, make_message(b"x" * 50), 1)
    assert backlog.body_bytes == 150
    assert body_size(backlog.next_item()) == 10
    first = backlog.pop()
    assert backlog.body_bytes == 140
    back(backlog, first)
    assert (backlog.body_bytes, body_size(backlog.next_item())) == (150, 10)
    backlog.pop()
    backlog.pop()
    backlog.pop()
    assert (backlog.body_bytes, body_size(backlog.next_item())) == (90, 40)
    backlog.pop()
    assert body_size(backlog.next_item()) == 50
    backlog.clear([])
    assert backlog.body_bytes == 0


def test_a_long_backlog_lets_go_of_what_left_it() -> None:
    """Positions survive the moments at which a block of it is given back."""
    backlog = filled(5000)
    expected = 0
    while backlog.count() > 0:
        assert backlog.next_position() == expected
        count = min(50, int(backlog.plain()))
        assert texts(backlog.take(count)) == [str(number) for number in range(expected, expected + count)]
        backlog.settle(expected, count, 1)
        expected += count
        assert len(backlog.table.blocks()) <= -(-(5000 - expected) // BLOCK_SIZE) + 1
    assert expected == 5000
    assert not backlog.table.blocks()


class Model:
    """The same in the plainest words: (position, body) pairs, sorted by position."""

    def __init__(self) -> None:
        self.waiting: list[tuple[int, str]] = []
        self.next = 0
        self.outside: dict[int, str] = {}

    def append(self, text: str) -> None:
        self.waiting.append((self.next, text))
        self.next += 1

    def take(self, count: int) -> list[tuple[int, str]]:
        taken, self.waiting = self.waiting[:count], self.waiting[count:]
        self.outside.update(taken)
        return taken

    def put_back(self, positions: list[int]) -> None:
        self.waiting = sorted(self.waiting + [(position, self.outside.pop(position)) for position in positions])


@pytest.mark.parametrize("seed", range(40))
def test_random_operations_agree_with_a_sorted_list(seed: int) -> None:
    """Append, take, pop, return and clear in any order give what a sorted list of (place, body) gives."""
    chance = random.Random(seed)
    backlog, model = MessageBacklog(), Model()
    out: dict[int, Entry] = {}
    serial = 0
    for step in range(400):
        match chance.choice(
            ["append", "append", "expiring", "take", "pop", "put_back", "settle", "clear"] if step % 97 else ["clear"]
        ):
            case "append":
                for _ in range(chance.randrange(1, 8)):
                    backlog.append(make_message(str(serial).encode()))
                    model.append(str(serial))
                    serial += 1
            case "expiring":
                if chance.random() < 0.3:
                    expiring(backlog, make_message(str(serial).encode()), 1 + serial)
                    model.append(str(serial))
                    serial += 1
            case "take":
                count = chance.randrange(0, int(backlog.plain()) + 1)
                if count:
                    entries = taken(backlog, count)
                    found = [(int(entry.position), text_of(entry)) for entry in entries]
                    assert found == model.take(count), f"seed {seed}, step {step}"
                    out.update({int(entry.position): entry for entry in entries})
            case "pop":
                if model.waiting:
                    entry = backlog.pop()
                    assert [(entry.position, text_of(entry))] == model.take(1), f"seed {seed}, step {step}"
                    out[int(entry.position)] = entry
            case "put_back":
                chosen = chance.sample(sorted(out), chance.randrange(0, min(len(out), 6) + 1))
                back(backlog, *(out.pop(position) for position in chosen))
                model.put_back(chosen)
            case "settle":
                for position in chance.sample(sorted(out), chance.randrange(0, min(len(out), 6) + 1)):
                    del out[position]
                    backlog.settle(position, 1, 1)
                    assert backlog.table.item(position) is None, f"seed {seed}, step {step}"
            case "clear":
                if chance.random() < 0.1:
                    assert backlog.clear([]) == len(model.waiting)
                    model.waiting = []
        assert backlog.count() == len(model.waiting), f"seed {seed}, step {step}"
        assert backlog.body_bytes == sum(len(text) for _, text in model.waiting), f"seed {seed}, step {step}"
        for position, entry in out.items():
            item = backlog.table.item(position)
            assert (item.message if isinstance(item, Entry) else item) is entry.message, f"seed {seed}, step {step}"
    assert rest(backlog) == [text for _, text in model.waiting], f"seed {seed}"
    backlog.settle(0, backlog.next, 1)
    assert not backlog.table.blocks(), f"seed {seed}"
