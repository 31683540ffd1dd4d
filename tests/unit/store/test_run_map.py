"""Runs of equal values (broker/store/run_map.py); a dict is the model."""

from __future__ import annotations

import itertools
import random

import pytest
from librt.strings import BytesWriter, read_i64_le

from broker.store.run_map import BLOCK_SIZE, POSITION_MAX, RUN_SIZE, RunCursor, RunEdit, RunMap, read_run_map
from broker.store.varint import VarintReader, write_varint

Run = tuple[int, int, int]


def runs_of(model: dict[int, int]) -> list[Run]:
    """First and last position and value of each run of a dict."""
    found: list[Run] = []
    for position in sorted(model):
        if found and found[-1][1] == position - 1 and found[-1][2] == model[position]:
            found[-1] = (found[-1][0], position, found[-1][2])
        else:
            found.append((position, position, model[position]))
    return found


def runs_from(runs: RunMap, position: int = 0) -> list[Run]:
    """All runs that have a value, from a position on."""
    cursor = RunCursor(runs)
    cursor.seek(position)
    found: list[Run] = []
    while cursor.step():
        if cursor.value:
            found.append((cursor.start, cursor.end, cursor.value))
    return found


def is_sound(runs: RunMap) -> bool:
    """No block is empty or too long, the runs are in order, and neighbours differ."""
    assert all(0 < len(block) <= BLOCK_SIZE and len(block) % RUN_SIZE == 0 for block in runs.blocks)
    data = b"".join(runs.blocks)
    starts = [read_i64_le(data, at) for at in range(0, len(data), RUN_SIZE)]
    values = [0] + [read_i64_le(data, at + 8) for at in range(0, len(data), RUN_SIZE)]
    assert all(low < high for low, high in itertools.pairwise(starts))
    assert all(left != right for left, right in itertools.pairwise(values))
    assert values[-1] == 0
    return True


def encoded(runs: RunMap) -> bytes:
    writer = BytesWriter()
    runs.write(writer)
    return writer.getvalue()


def decoded(data: bytes) -> RunMap:
    reader = VarintReader(data)
    runs = read_run_map(reader)
    if reader.at != reader.end:
        raise ValueError("more than a map")
    return runs


def agrees(runs: RunMap, model: dict[int, int]) -> bool:
    """The map holds what the dict holds, whichever way one looks, also when it was written and read."""
    assert is_sound(runs)
    assert runs.size == len(model)
    assert runs_from(runs) == runs_of(model)
    assert (runs.first(), runs.last()) == ((min(model), max(model)) if model else (-1, -1))
    again = decoded(encoded(runs))
    assert is_sound(again)
    assert (again.size, runs_from(again), encoded(again)) == (runs.size, runs_from(runs), encoded(runs))
    return True


def test_nothing_is_in_it_at_first() -> None:
    runs = RunMap()
    assert agrees(runs, {})
    assert (runs.value_at(0), runs.runs(), encoded(runs)) == (0, 0, b"\x00")
    runs.remove(3, 1000)
    assert agrees(runs, {})


def test_neighbours_of_equal_value_are_one_run() -> None:
    runs = RunMap()
    runs.assign(10, 19, 5)
    runs.assign(20, 29, 5)
    runs.assign(31, 31, 5)
    assert runs_from(runs) == [(10, 29, 5), (31, 31, 5)]
    runs.assign(30, 30, 5)
    assert runs_from(runs) == [(10, 31, 5)]
    assert runs.runs() == 2, "where it begins and where it ends"
    runs.assign(15, 16, 6)
    assert runs_from(runs) == [(10, 14, 5), (15, 16, 6), (17, 31, 5)]
    assert [runs.value_at(position) for position in (9, 10, 14, 15, 16, 17, 31, 32)] == [0, 5, 5, 6, 6, 5, 5, 0]
    assert runs_from(runs, 16) == [(16, 16, 6), (17, 31, 5)], "a cursor begins within a run"
    runs.remove(0, POSITION_MAX)
    assert agrees(runs, {})


def test_the_largest_position_has_a_value_like_any_other() -> None:
    runs = RunMap()
    runs.assign(POSITION_MAX, POSITION_MAX, 1)
    assert (runs.first(), runs.last(), runs.value_at(POSITION_MAX)) == (POSITION_MAX, POSITION_MAX, 1)
    assert runs_from(decoded(encoded(runs))) == [(POSITION_MAX, POSITION_MAX, 1)]


def test_a_million_alternating_runs_have_bounded_size() -> None:
    """17 bytes each in memory, 2 when written; a change in the middle rewrites one block."""
    runs = RunMap()
    edit = RunEdit(runs)
    edit.open(0, 999_999)
    assert edit.step()
    for position in range(1_000_000):
        edit.put(position, 1 + position % 2)
    edit.close()
    assert is_sound(runs)
    assert runs.runs() == 1_000_001
    assert runs.memory_bytes() < 17_500_000
    assert len(encoded(runs)) < 2_000_016
    blocks = list(runs.blocks)
    runs.assign(500_000, 500_000, 7)
    assert runs.value_at(500_000) == 7
    assert sum(old is not new for old, new in zip(blocks, runs.blocks, strict=True)) == 1
    for position in range(0, 1_000_000, 64):
        runs.assign(position, position + 60, 3)
    assert is_sound(runs)
    assert runs.memory_bytes() < 20 * runs.runs()


def test_an_edit_that_changes_nothing_leaves_the_blocks_alone() -> None:
    runs = RunMap()
    runs.assign(5, 9, 1)
    blocks = runs.blocks[0]
    edit = RunEdit(runs)
    edit.open(0, 20)
    seen = []
    while edit.step():
        seen.append((edit.start, edit.end, edit.value))
        edit.put(edit.end, edit.value)
    edit.close()
    assert seen == [(0, 4, 0), (5, 9, 1), (10, 20, 0)]
    assert runs.blocks[0] is blocks


@pytest.mark.parametrize("seed", range(30))
def test_random_operations_agree_with_a_dict(seed: int) -> None:
    chance = random.Random(seed)
    runs, model = RunMap(), dict[int, int]()
    edit = RunEdit(runs)
    span = chance.choice([50, 500, 4000])
    values = chance.choice([2, 3, 10])
    for step in range(2000):
        first = chance.randrange(span)
        last = first + chance.choice([0, 0, 0, 1, 3, 40, span // 4 if chance.random() < 0.02 else 0])
        action = chance.random()
        if action < 0.6:
            value = chance.randrange(values)
            runs.assign(first, last, value)
            model |= dict.fromkeys(range(first, last + 1), value)
        elif action < 0.7:
            runs.remove(first, last)
            model |= dict.fromkeys(range(first, last + 1), 0)
        elif action < 0.9:
            edit.open(first, last)
            while edit.step():
                while edit.start <= edit.end:
                    end = chance.randint(edit.start, edit.end)
                    value = (edit.value + chance.randrange(2)) % values
                    model |= dict.fromkeys(range(edit.start, end + 1), value)
                    edit.put(end, value)
            edit.close()
        else:
            assert runs.value_at(first) == model.get(first, 0), f"seed {seed}, step {step}"
        if step % 100 == 0:
            model = {position: value for position, value in model.items() if value}
            assert agrees(runs, model), f"seed {seed}, step {step}"
    model = {position: value for position, value in model.items() if value}
    assert agrees(runs, model)
    assert runs_from(runs, span // 2) == runs_of({key: value for key, value in model.items() if key >= span // 2})


@pytest.mark.parametrize("seed", range(20))
def test_junk_is_refused_or_read_as_what_writes_the_same(seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(200):
        data = bytes(chance.choice([0, 1, 2, 3, 127, 128, 255]) for _ in range(chance.randrange(24)))
        try:
            runs = decoded(data)
        except ValueError:
            continue
        assert is_sound(runs)
        assert encoded(runs) == data


def test_what_cannot_be_a_map_is_refused() -> None:
    for numbers in (
        [1, 0],
        [2, 0, 0, 5],
        [3, 0, 1, 5, 1, 5],
        [2, 0, 1, 0],
        [2, POSITION_MAX, 1, 2],
        [3, 0, 1, 5, 0, 5],
    ):
        writer = BytesWriter()
        for number in numbers:
            write_varint(writer, number)
        with pytest.raises(ValueError, match="no runs"):
            decoded(writer.getvalue())
    with pytest.raises(ValueError, match="no number"):
        decoded(b"")


@pytest.mark.parametrize("stride", [1, 2, 7])
def test_positions_at_equal_distances_get_a_value(stride: int) -> None:
    runs = RunMap()
    runs.assign(0, 99, 5)
    runs.assign_each(10, 6, stride, 3)
    changed = range(10, 10 + 6 * stride, stride)
    assert [int(runs.value_at(at)) for at in range(100)] == [3 if at in changed else 5 for at in range(100)]
