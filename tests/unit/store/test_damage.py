"""broker/store/damage.py: what was lost is noted on the disk until somebody confirms it. docs/durability.md, "After
damage"."""

from __future__ import annotations

import errno

import pytest

from broker.store.damage import LOSSES_MAX, Damage
from broker.store.disk_error import DiskError
from tests.support.fake_clock import FakeClock
from tests.support.faulty_disk import Directory, Fault, FaultyDisk
from tests.support.hand_runner import HandRunner
from tests.support.store import Running


def opened(disk: FaultyDisk) -> tuple[Damage, HandRunner]:
    runner = HandRunner()
    made = Damage(disk, "/data", FakeClock(), runner)
    made.load()
    return made, runner


def new() -> FaultyDisk:
    disk = FaultyDisk()
    disk.make_directory("datadir.create", "/data")
    disk.sync_directory("datadir.create.directory", "/")
    return disk


def said(damage: Damage) -> list[str]:
    return [loss.what for loss in damage.unconfirmed()]


def test_a_loss_is_noted_once_and_is_there_after_a_restart() -> None:
    disk = new()
    damage, _ = opened(disk)
    damage.save()
    assert disk.names("datadir.list", "/data") == []
    damage.add(["a", "b", "a"])
    damage.add(["b"])
    damage.save()
    assert damage.trouble is None
    again, runner = opened(disk.restarted())
    assert said(again) == ["a", "b"]
    again.add(["b", "c"])
    again.save_later()
    again.add(["d"])
    runner.drain()
    assert said(opened(again._filesystem)[0])[:3] == ["a", "b", "c"]  # type: ignore[arg-type]
    again.save_later()
    runner.drain()
    assert said(opened(again._filesystem)[0]) == ["a", "b", "c", "d"]  # type: ignore[arg-type]


def test_what_was_confirmed_is_not_found_again() -> None:
    """Damage may stay on the disk for a while, and every start finds it."""
    disk = new()
    damage, runner = opened(disk)
    damage.add(["a", "b"])
    damage.save()
    told: list[DiskError | None] = []
    assert damage.confirm(told.append) == 2
    assert told == []
    runner.drain()
    assert told == [None]
    for state in (disk.restarted(), *disk.crash_states(1, 5)):
        again, _ = opened(state)
        assert said(again) == []
        assert again.news(["a", "c"]) == ["c"]


@pytest.mark.parametrize("site", ["damage.create", "damage.write", "damage.sync", "damage.rename", "damage.directory"])
def test_an_error_is_told_and_nothing_is_lost_by_it(site: str) -> None:
    disk = new()
    damage, runner = opened(disk)
    damage.add(["a"])
    damage.save()
    disk.faults += [Fault("error", site, arg=errno.ENOSPC), Fault("error", site, arg=errno.EIO)]
    told: list[DiskError | None] = []
    damage.confirm(told.append)
    runner.drain()
    assert isinstance(told[0], DiskError)
    assert said(damage) == ["a"]
    damage.add(["b"])
    damage.save_later()
    runner.drain()
    assert damage.trouble is not None
    damage.save_later()
    runner.drain()
    assert damage.trouble is None
    for state in (disk.restarted(), *disk.crash_states(1, 5)):
        assert said(opened(state)[0]) == ["a", "b"]


def test_a_file_that_is_damaged_or_none_is_a_loss_itself() -> None:
    disk = new()
    damage, _ = opened(disk)
    damage.add(["a", "b"])
    damage.save()
    size = len(disk.content("/data/DAMAGE"))
    for offset in range(size):
        state = disk.restarted()
        state.damage("/data/DAMAGE", offset, b"\0")
        assert said(opened(state)[0])
    state = disk.restarted()
    for entries in (state.directory("/data").cache, state.directory("/data").durable):
        entries["DAMAGE"] = Directory()
    again, _ = opened(state)
    assert len(said(again)) == 1
    again.save()
    assert said(opened(state.restarted())[0]) == said(again)


def test_the_list_is_bounded() -> None:
    disk = new()
    damage, _ = opened(disk)
    damage.add(str(number) for number in range(2 * LOSSES_MAX))
    assert len(damage.losses) == LOSSES_MAX


def test_a_store_notes_what_it_finds_at_the_start() -> None:
    running = Running()
    disk = running.disk
    assert isinstance(disk, FaultyDisk)
    log = running.declare()
    running.fill(log, 6)
    assert running.store.damage.losses == []
    disk.damage(f"/data/wal/{running.files('wal')[-1]}", 2 * 4096 + 100, b"??")
    again = running.killed()
    losses = said(again.store.damage)
    assert losses
    third = again.killed()
    assert said(third.store.damage) == losses
    third.store.damage.confirm(lambda error: None)
    third.move_thread.drain()
    fourth = third.killed()
    assert fourth.store.report.damaged
    assert said(fourth.store.damage) == []
