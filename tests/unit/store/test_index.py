"""broker/store/index.py: which positions are live, against a plain set."""

import random

import pytest

from broker.store.index import Positions, decode_positions


def live_of(positions: Positions) -> set[int]:
    """All live positions, one by one."""
    return {position for position in range(int(positions.next) + 3) if positions.is_live(position)}


@pytest.mark.parametrize("seed", range(60))
def test_agrees_with_a_set(seed: int) -> None:
    """append, settle, is_live, next_live, live_between, live and encode say what a set of positions says."""
    chance = random.Random(seed)
    positions, model, top = Positions(), set[int](), 0
    for step in range(300):
        if chance.random() < 0.4:
            top += 0 if chance.random() < 0.8 else chance.randrange(5)
            positions.append(top)
            model.add(top)
            top += 1
        else:
            start = chance.randrange(top + 4)
            if chance.random() < 0.5:
                start = min(model, default=start)
            end = start + chance.choice([0, 0, 0, 1, 2, 5, 30])
            gone = {position for position in model if start <= position <= end}
            assert positions.settle(start, end) == len(gone), f"seed {seed}, step {step}"
            model -= gone
            top = max(top, end + 1)
        assert positions.next == top
        assert positions.live() == len(model), f"seed {seed}, step {step}"
        assert live_of(positions) == model, f"seed {seed}, step {step}"
        at, to = chance.randrange(top + 3), chance.randrange(top + 3)
        assert positions.next_live(at) == min(
            (each for each in model if each >= at), default=top if at <= top else positions.next
        )
        assert positions.live_between(at, to) == len([each for each in model if at <= each < to])
        again = decode_positions(positions.encode())
        assert (live_of(again), again.next, again.first, again.dead()) == (
            model,
            top,
            positions.first,
            positions.dead(),
        )


def test_in_order_costs_no_ranges() -> None:
    """A queue that settles in the order of delivery is two numbers; so are strides once they have met."""
    positions = Positions()
    for position in range(1000):
        positions.append(position)
    positions.settle(0, 499)
    assert (positions.first, positions.dead_ranges()) == (500, [])
    for position in [*range(501, 1000, 2), *range(500, 1000, 2)]:
        positions.settle(position, position)
    assert (positions.first, positions.next, positions.dead(), positions.dead_ranges()) == (1000, 1000, 0, [])


@pytest.mark.parametrize(
    "data", [b"", bytes(23), bytes(25), b"\xff" * 24, bytes(8) + bytes(7) + b"\x09" + bytes(7) + b"\x01"]
)
def test_refuses_what_it_has_not_written(data: bytes) -> None:
    """Recovery must not take damage for positions."""
    with pytest.raises(ValueError, match="no positions"):
        decode_positions(data)
