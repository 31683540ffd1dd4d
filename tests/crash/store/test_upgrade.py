"""The first start on an older release's data directory may be interrupted anywhere: nothing is lost.

docs/durability-format.md, "Upgrades and downgrades". Starts that nothing interrupts: tests/spec/test_upgrade.py.
"""

from __future__ import annotations

import copy

import pytest

from tests.support.durable import DATA_DIR, DurableBroker
from tests.support.faulty_disk import FaultyDisk
from tests.upgrade import check, fixtures
from tests.upgrade.in_memory import InMemory, set_clock


@pytest.mark.parametrize("name", fixtures.names())
def test_whenever_the_power_fails_the_next_start_finds_all(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before and after each operation of the start. Every other time only the process dies: what it wrote is there."""
    world = fixtures.world_of(name)
    set_clock(world, monkeypatch, 1000)
    disk = fixtures.simulated(name, DATA_DIR)
    states: list[FaultyDisk] = []

    def look(where: FaultyDisk, _site: str) -> None:
        states.append(where.restarted() if len(states) % 2 else next(where.crash_states(len(states), 1)))

    disk.observer = look
    DurableBroker(disk).settled()
    disk.observer = None
    assert len(states) > 20
    for number, state in enumerate(states):
        broker = DurableBroker(state)
        assert broker.store.findings == [], f"state {number}"
        check.compare(InMemory(broker), copy.deepcopy(world))
