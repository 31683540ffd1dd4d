"""The data directories that older releases have written are opened by today's node without loss, and go on working.

docs/durability-format.md, "Upgrades and downgrades". The directories: tests/transcripts/disk/README.md.
With a real process: tests/integration/test_upgrade.py; with power failures: tests/crash/store/test_upgrade.py.
"""

from __future__ import annotations

import pytest

from tests.upgrade import check, fixtures
from tests.upgrade.in_memory import InMemory, opened
from tests.upgrade.world import TTL_MS

DAY_MS = 86_400_000


@pytest.mark.parametrize("name", fixtures.names())
def test_it_opens_without_loss_and_goes_on_working(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same after a clean end and after a kill: both write the directory on in today's format."""
    world = fixtures.world_of(name)
    broker = opened(name, world, monkeypatch, DAY_MS)
    assert broker.store.findings == []
    broker.settled()
    check.expire(world, world.ended_ms + DAY_MS)
    check.compare(InMemory(broker), world)
    broker = broker.stopped()
    check.compare(InMemory(broker), world)
    check.work(InMemory(broker), world)
    broker = broker.stopped()
    check.compare(InMemory(broker), world)
    broker = broker.killed()
    check.compare(InMemory(broker), world)
    assert broker.store.findings == []


@pytest.mark.parametrize("name", fixtures.names())
def test_a_start_that_is_killed_leaves_it_as_it_was(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing has expired yet; nobody is connected."""
    world = fixtures.world_of(name)
    broker = opened(name, world, monkeypatch, 1000).killed().killed()
    check.expire(world, world.ended_ms + 1000)
    check.compare(InMemory(broker), world)
    broker.advance(TTL_MS)
    check.expire(world, world.ended_ms + TTL_MS + 1)
    check.compare(InMemory(broker), world)


@pytest.mark.parametrize("name", fixtures.names())
def test_every_part_of_the_directory_holds_something(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise these tests would show less than they say."""
    files = fixtures.files_of(name)
    for kind, count in (("wal/", 3), ("segments/", 3), ("manifest/", 1)):
        assert sum(file.startswith(kind) and not file.endswith(".spare") for file in files) >= count, kind
    world = fixtures.world_of(name)
    logs = opened(name, world, monkeypatch, 1000).store.logs
    moved = sum(int(piece.live) for log in logs.logs.values() for piece in log.extents.segments)
    assert 20 < moved < sum(map(len, world.messages.values())) - 20
