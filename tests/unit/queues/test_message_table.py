"""Position -> message (broker/queues/message_table.py); a dictionary is the model."""

from __future__ import annotations

import random

import pytest

from broker.message import Message
from broker.queues.block import BLOCK_SIZE
from broker.queues.entry import Entry
from broker.queues.message_table import MessageTable
from tests.support.fakes import make_message, numbered, text_of

Lists = list[list[Message | Entry | None]]


def filled(count: int, first: int = 0) -> MessageTable:
    table = MessageTable()
    for position, message in enumerate(numbered(count, first), first):
        table.append(position, message)
    return table


def test_a_block_is_there_as_long_as_something_in_it_is() -> None:
    table = filled(2 * BLOCK_SIZE)
    table.release(0, BLOCK_SIZE - 1, 1)
    assert len(table.blocks()) == 2
    table.release(BLOCK_SIZE - 1, 1, 1)
    assert len(table.blocks()) == 1
    table.release(BLOCK_SIZE, BLOCK_SIZE, 1)
    assert not table.blocks()


def test_positions_go_on_in_the_middle_of_a_block_that_is_gone() -> None:
    table = filled(10)
    table.release(0, 10, 1)
    table.append(10, make_message(b"10"))
    block = table.at(10)
    assert block is not None
    assert (block.first, len(block.items)) == (10, 1)
    table.put(4, make_message(b"4"))
    assert [None if (item := table.item(each)) is None else text_of(item) for each in range(3, 12)] == [
        None,
        "4",
        *[None] * 5,
        "10",
        None,
    ]


def test_what_is_taken_out_may_come_again() -> None:
    table = filled(3 * BLOCK_SIZE)
    lists: Lists = []
    first, end = BLOCK_SIZE // 2, 2 * BLOCK_SIZE + 5
    table.take_out_range(first, end, lists)
    assert sum(item is not None for items in lists for item in items) == end - first
    assert table.at(BLOCK_SIZE) is None
    for position in range(first, end, 2):
        table.put(position, make_message(b"%d" % position))
    there = [position for position in range(3 * BLOCK_SIZE) if table.item(position) is not None]
    assert there == [*range(first), *range(first, end, 2), *range(end, 3 * BLOCK_SIZE)]
    table.append(3 * BLOCK_SIZE, make_message(b"next"))
    assert table.item(3 * BLOCK_SIZE) is not None


@pytest.mark.parametrize("seed", range(30))
def test_random_operations_agree_with_a_dictionary(seed: int) -> None:
    """Messages come at the end and are settled in runs; some leave for the disk and come back."""
    chance = random.Random(seed)
    table, model = MessageTable(), dict[int, Message]()
    next_position = chance.choice([0, 700, 5000])
    on_disk: dict[int, Message] = {}
    for step in range(200):
        where = f"seed {seed}, step {step}"
        match chance.choice(["append", "append", "release", "turns", "out", "back"]):
            case "append":
                for message in numbered(chance.choice([1, 10, 1000]), next_position):
                    table.append(next_position, message)
                    model[next_position] = message
                    next_position += 1
            case "release" if model:
                for position in chance.sample(sorted(model), min(len(model), chance.choice([1, 50]))):
                    table.release(position, 1, 1)
                    del model[position]
            case "turns" if model:
                first, stride = chance.choice(sorted(model)), chance.choice([1, 1, 2, 3, 700])
                positions = [first]
                while positions[-1] + stride in model and len(positions) < 3000:
                    positions.append(positions[-1] + stride)
                table.release(first, len(positions), stride)
                for position in positions:
                    del model[position]
            case "out" if model:
                first = chance.choice(sorted(model))
                end = first + chance.choice([1, 20, 2500])
                lists: Lists = []
                table.take_out_range(first, end, lists)
                gone = [each for each in sorted(model) if first <= each < end]
                assert sum(item is not None for items in lists for item in items) == len(gone), where
                on_disk |= {each: model.pop(each) for each in gone}
            case "back":
                for position in sorted(on_disk)[: chance.choice([1, 30, 1000])]:
                    model[position] = on_disk.pop(position)
                    table.put(position, model[position])
        assert sum(int(block.live()) for block in table.blocks()) == len(model), where
        assert all(block.live() > 0 for block in table.blocks()), where
    for position, message in model.items():
        assert table.item(position) is message, f"seed {seed}"
    dropped: Lists = []
    table.clear(dropped)
    assert sum(item is not None for items in dropped for item in items) == len(model), f"seed {seed}"
