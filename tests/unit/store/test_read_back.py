"""broker/store/read_back.py: which batches a read asks for."""

from __future__ import annotations

from broker.store.batch import place_at
from broker.store.log import Log
from broker.store.logs import Logs
from broker.store.piece import Stretch
from broker.store.read_back import Read
from tests.support.fake_clock import FakeClock


def stretches(*batches: tuple[int, int]) -> list[Stretch]:
    """Stretches of one position each: for every batch, how many it has and how many bytes it is."""
    made: list[Stretch] = []
    for number, (count, size) in enumerate(batches):
        place = place_at(1, 100 * number, size)
        made += [Stretch(len(made) + index, place, 0) for index in range(count)]
    return made


def chosen(budget: int, *batches: tuple[int, int]) -> tuple[int, int]:
    """How many stretches and how many batches a read of this budget takes."""
    read = Read(Log(1, Logs(FakeClock())), 0, 1000, budget, None)
    read.add(stretches(*batches), 0)
    return len(read.stretches), len(read.payloads)


def test_a_batch_larger_than_the_budget_is_read_once_for_all_that_is_in_it() -> None:
    """Otherwise every record of a large batch would cost a read of the whole batch."""
    assert chosen(100, (50, 1000), (50, 1000)) == (50, 1)


def test_the_budget_bounds_how_many_batches_are_read() -> None:
    assert chosen(100, (2, 40), (2, 40), (2, 40), (2, 40)) == (6, 3)
