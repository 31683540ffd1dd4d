"""The simulated disk itself: it loses what a disk may lose, and keeps what was synced."""

from __future__ import annotations

import errno

import pytest

from broker.store.disk_error import DiskError
from tests.support.faulty_disk import SECTOR, Fault, FaultyDisk, PowerLoss

SECTORS = 8


def disk_with_file() -> FaultyDisk:
    disk = FaultyDisk()
    file = disk.create("wal.create", "/a")
    file.write("wal.write", 0, [b"o" * SECTOR * SECTORS])
    file.sync("wal.sync")
    disk.sync_directory("wal.publish.directory", "/")
    return disk


def after_crashes(disk: FaultyDisk, count: int = 300) -> list[bytes | None]:
    return [bytes(state.content("/a")) if "a" in state.root.cache else None for state in disk.crash_states(1, count)]


def test_what_was_synced_survives_every_crash() -> None:
    assert set(after_crashes(disk_with_file())) == {b"o" * SECTOR * SECTORS}


def test_an_unsynced_write_is_lost_kept_torn_at_sectors_or_zeroed() -> None:
    disk = disk_with_file()
    disk.open("wal.open", "/a").write("wal.write", 0, [b"n" * SECTOR * SECTORS])
    states = after_crashes(disk)
    kinds = {
        "".join(
            chr(content[at]) if set(content[at : at + SECTOR]) == {content[at]} else "?"
            for at in range(0, len(content), SECTOR)
        )
        for content in states
        if content is not None
    }
    assert {"o" * SECTORS, "n" * SECTORS, "\0" * SECTORS} <= kinds
    assert not any("?" in kind for kind in kinds)
    assert any(kind.endswith("n") and "o" in kind for kind in kinds), "a later sector may arrive before an earlier one"
    assert len(kinds) > 20


def test_later_writes_may_survive_earlier_ones() -> None:
    disk = disk_with_file()
    file = disk.open("wal.open", "/a")
    file.write("wal.write", 0, [b"1" * SECTOR])
    file.write("wal.write", SECTOR, [b"2" * SECTOR])
    found = {(content[0:1], content[SECTOR : SECTOR + 1]) for content in after_crashes(disk) if content is not None}
    assert {(b"o", b"2"), (b"1", b"o"), (b"1", b"2"), (b"o", b"o")} <= found


def test_names_survive_only_a_sync_of_their_directory() -> None:
    disk = FaultyDisk()
    file = disk.create("wal.create", "/a")
    file.write("wal.write", 0, [b"x"])
    file.sync("wal.sync")
    assert set(after_crashes(disk)) == {None, b"x"}
    disk.sync_directory("wal.publish.directory", "/")
    disk.rename("wal.publish", "/a", "/b")
    disk.create("wal.create", "/c")
    found = {tuple(sorted(state.root.cache)) for state in disk.crash_states(2, 200)}
    assert found == {("a",), ("b",), ("a", "c"), ("b", "c")}
    disk.unlink("wal.remove", "/b")
    assert ("c",) in {tuple(sorted(state.root.cache)) for state in disk.crash_states(2, 200)}


def test_a_failed_sync_loses_the_writes_for_ever_and_says_so_once() -> None:
    """fsyncgate: the next sync succeeds, programs read the new bytes, the platter has the old ones."""
    disk = disk_with_file()
    file = disk.open("wal.open", "/a")
    file.write("wal.write", 0, [b"n" * SECTOR])
    disk.faults.append(Fault("error", "wal.sync", arg=errno.EIO))
    with pytest.raises(DiskError):
        file.sync("wal.sync")
    file.sync("wal.sync")
    assert file.read("wal.read", 0, 1) == b"n"
    killed = disk.restarted()
    assert killed.content("/a")[:1] == b"n"
    killed.open("wal.open", "/a").sync("wal.sync")
    for state in (disk, killed):
        assert set(after_crashes(state)) == {b"o" * SECTOR * SECTORS}


def test_a_killed_process_leaves_the_cache_and_no_lock() -> None:
    disk = disk_with_file()
    disk.open("wal.open", "/a").write("wal.write", 0, [b"n"])
    assert disk.try_lock("datadir.lock", "/l") is not None
    killed = disk.restarted()
    assert killed.content("/a")[:1] == b"n"
    assert killed.try_lock("datadir.lock", "/l") is not None
    assert b"o" * SECTOR * SECTORS in after_crashes(killed)


def test_the_disk_fills_up() -> None:
    disk = FaultyDisk(free=10)
    file = disk.create("wal.create", "/a")
    with pytest.raises(DiskError) as raised:
        file.allocate("wal.allocate", 11)
    assert raised.value.is_full
    with pytest.raises(DiskError):
        file.write("wal.write", 0, [b"x" * 11])
    assert disk.content("/a") == b"x" * 10, "what fitted was written"
    file.write("wal.write", 0, [b"y"])
    disk.unlink("wal.remove", "/a")
    assert disk.free == 10


@pytest.mark.parametrize(("kind", "content"), [("crash", b""), ("crash after", b"x")])
def test_power_fails_before_or_behind_an_operation(kind: str, content: bytes) -> None:
    disk = FaultyDisk()
    file = disk.create("wal.create", "/a")
    disk.faults.append(Fault(kind, "wal.write"))
    with pytest.raises(PowerLoss):
        file.write("wal.write", 0, [b"x"])
    assert disk.content("/a") == content


def test_the_observer_sees_the_disk_before_and_behind_every_change() -> None:
    disk = FaultyDisk()
    seen: list[tuple[str, bytes]] = []
    file = disk.create("wal.create", "/a")
    disk.observer = lambda where, site: seen.append((site, bytes(where.content("/a"))))
    file.write("wal.write", 0, [b"x"])
    file.read("wal.read", 0, 1)
    assert seen == [("wal.write", b""), ("wal.write", b"x")]


def test_a_forgotten_sync_does_nothing() -> None:
    disk = disk_with_file()
    disk.forgotten = frozenset({"wal.sync"})
    file = disk.open("wal.open", "/a")
    file.write("wal.write", 0, [b"n"])
    file.sync("wal.sync")
    assert b"o" * SECTOR * SECTORS in after_crashes(disk)
