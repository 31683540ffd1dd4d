"""Whole members of a Raft group under all kinds of faults: seeds that find nothing.

`scripts/soak raft` runs as many more as one likes; LEVERET_RAFT_SEED moves the seeds of these tests.
"""

from __future__ import annotations

import os
from collections import Counter
from typing import Final

import pytest

from tests.simulation.simulation import Simulation

FIRST: Final = int(os.environ.get("LEVERET_RAFT_SEED", "1"))
PER_TEST: Final = 100
TESTS: Final = 10


@pytest.mark.parametrize("part", range(TESTS))
def test_no_fault_breaks_a_group(part: int) -> None:
    first = FIRST + part * PER_TEST
    counts: Counter[str] = Counter()
    for seed in range(first, first + PER_TEST):
        counts.update(Simulation(seed).run())
    # or the seeds would show nothing
    for what in ("elections", "commits", "crashes", "snapshots installed", "membership changes", "reads"):
        assert counts[what] >= PER_TEST // 5, counts
    assert counts["elections"] >= 2 * PER_TEST


def test_a_seed_is_a_history() -> None:
    assert Simulation(7).run() == Simulation(7).run()


@pytest.mark.parametrize("seed", [605592])
def test_seeds_that_have_found_something(seed: int) -> None:
    """605592: a damaged member of a later term, which neither stood for election nor told the leader of it."""
    Simulation(seed).run()
