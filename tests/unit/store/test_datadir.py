"""broker/store/datadir.py: layout, lock, format version."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.store import datadir
from broker.store.datadir import DataDir, DataDirError
from broker.store.filesystem import FileSystem
from broker.store.real_filesystem import RealFileSystem
from tests.support.faulty_disk import Directory, Fault, FaultyDisk, PowerLoss
from tests.upgrade import fixtures


def make(disk: FaultyDisk) -> DataDir:
    return DataDir.open(disk, "/data")


def test_a_new_directory_gets_its_layout_and_survives_a_crash() -> None:
    disk = FaultyDisk()
    made = make(disk)
    assert (made.path, made.wal, made.quarantine) == ("/data", "/data/wal", "/data/quarantine")
    for state in disk.crash_states(1, 20):
        assert set(state.names("datadir.list", "/data")) >= {"FORMAT", "wal", "quarantine"}
        make(state)


def test_it_is_made_on_a_real_disk_too(tmp_path: Path) -> None:
    made = DataDir.open(RealFileSystem(), f"{tmp_path}/data/")
    names = ["FORMAT", "FORMAT.copy", "LOCK", "manifest", "pages", "quarantine", "segments", "wal"]
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == names
    for name in names[:2]:
        assert (tmp_path / "data" / name).read_text() == "leveret data format 3 7cc989a6\n" * 3
    made.close()
    DataDir.open(RealFileSystem(), f"{tmp_path}/data").close()


def test_a_second_node_is_refused_and_told_whose_it_is(tmp_path: Path) -> None:
    made = DataDir.open(RealFileSystem(), str(tmp_path))
    with pytest.raises(DataDirError, match=r"is in use by another node \(process \d+\)"):
        DataDir.open(RealFileSystem(), str(tmp_path))
    made.close()
    DataDir.open(RealFileSystem(), str(tmp_path)).close()


def test_a_directory_that_is_refused_is_not_left_locked() -> None:
    disk = FaultyDisk()
    make(disk).close()
    disk.damage("/data/FORMAT", 0, b"leveret data format 9 9c1c60b8\n".ljust(200, b"\0"))
    for _ in range(2):
        with pytest.raises(DataDirError, match="written by a newer release"):
            make(disk)


def test_one_damaged_line_of_the_format_does_no_harm() -> None:
    disk = FaultyDisk()
    make(disk)
    size = len(disk.content("/data/FORMAT"))
    for offset in range(size):
        for bit in range(8):
            state = disk.restarted()
            state.damage("/data/FORMAT", offset, bytes([disk.content("/data/FORMAT")[offset] ^ 1 << bit]))
            make(state)


def test_a_newer_format_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = FaultyDisk()
    monkeypatch.setattr(datadir, "FORMAT", 7)
    make(disk)
    monkeypatch.undo()
    with pytest.raises(DataDirError, match=r"newer release \(format 7, this one knows 3\)"):
        make(disk.restarted())


def test_of_every_format_data_directories_are_kept() -> None:
    """A new format is not finished without them: docs/durability-format.md, "Upgrades and downgrades", says how they
    are written."""
    kept = [folder.name for folder in fixtures.folders()]
    for version in range(1, datadir.FORMAT + 1):
        assert any(name.startswith(f"format-{version}-") for name in kept), (
            f"none of format {version} in {fixtures.KEPT}"
        )
        for kind in ("format", "store-format"):
            assert (fixtures.KEPT.parent / f"{kind}-{version}").is_dir(), f"{kind}-{version}"


@pytest.mark.parametrize("name", fixtures.names())
def test_a_kept_data_directory_is_of_the_format_in_its_name(name: str) -> None:
    world = fixtures.world_of(name)
    disk = fixtures.simulated(name, "/data")
    assert name == f"format-{world.format}-{world.release}/{world.end}"
    assert datadir.read_format(disk, "/data/FORMAT") == (world.format, 3)
    assert world.messages


@pytest.mark.parametrize("name", fixtures.names())
def test_only_the_version_of_an_older_directory_changes(name: str) -> None:
    """Whatever stands in it is read as it is: batches, records and manifests of every format have one layout."""
    disk = fixtures.simulated(name, "/data")
    make(disk)
    assert datadir.read_format(disk, "/data/FORMAT") == (datadir.FORMAT, 3)
    for path, content in fixtures.files_of(name).items():
        if path not in datadir.FORMAT_FILES:
            assert bytes(disk.content(f"/data/{path}")) == content, path


def without(disk: FaultyDisk, name: str, how: str) -> FaultyDisk:
    state = disk.restarted()
    directory = state.directory("/data")
    for entries in (directory.cache, directory.durable):
        node = entries.pop(name)
        if how == "a directory":
            entries[name] = Directory()
        elif how == "zeros":
            entries[name] = node
    if how == "zeros":
        state.damage(f"/data/{name}", 0, bytes(len(state.content(f"/data/{name}"))))
    return state


@pytest.mark.parametrize("how", ["gone", "a directory", "zeros"])
@pytest.mark.parametrize("name", ["FORMAT", "FORMAT.copy", "LOCK"])
def test_no_single_file_keeps_a_node_from_starting(name: str, how: str) -> None:
    disk = FaultyDisk()
    make(disk)
    state = without(disk, name, how)
    found = make(state)
    assert bool(found.repaired) == (name == "FORMAT" or (name == "FORMAT.copy" and how != "gone"))
    assert (
        bytes(state.content("/data/FORMAT"))
        == bytes(state.content("/data/FORMAT.copy"))
        == bytes(disk.content("/data/FORMAT"))
    )
    assert make(state.restarted()).repaired == []


def test_where_the_format_is_gone_the_copy_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = FaultyDisk()
    monkeypatch.setattr(datadir, "FORMAT", 7)
    make(disk)
    monkeypatch.undo()
    with pytest.raises(DataDirError, match=r"newer release \(format 7, this one knows 3\)"):
        make(without(disk, "FORMAT", "zeros"))


@pytest.mark.parametrize("version", [1, 9])
def test_where_both_are_gone_the_log_tells_whether_it_is_known(version: int) -> None:
    disk = FaultyDisk()
    make(disk)
    file = disk.create("wal.create", "/data/wal/0000000000000001.wal")
    file.write("wal.write", 0, [b"LEVW" + version.to_bytes(2, "big") + bytes(4090)])
    state = without(without(disk, "FORMAT", "gone"), "FORMAT.copy", "zeros")
    if version == 1:
        assert make(state).repaired
    else:
        with pytest.raises(DataDirError, match="newer release"):
            make(state)


def test_migrations_run_in_order_and_again_after_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each may be interrupted anywhere; the version changes as a whole, after it."""
    disk = FaultyDisk()
    monkeypatch.setattr(datadir, "FORMAT", 1)
    make(disk)
    ran: list[int] = []

    def first(filesystem: FileSystem, path: str) -> None:
        ran.append(1)

    def second(filesystem: FileSystem, path: str) -> None:
        ran.append(2)

    monkeypatch.setattr(datadir, "FORMAT", 3)
    monkeypatch.setitem(datadir.MIGRATIONS, 1, first)
    monkeypatch.setitem(datadir.MIGRATIONS, 2, second)
    interrupted = disk.restarted()
    interrupted.faults.append(Fault("crash", "datadir.format.rename", skip=1))
    with pytest.raises(PowerLoss):
        make(interrupted)
    again = interrupted.restarted()
    make(again)
    assert ran == [1, 2, 2]
    make(again.restarted())
    assert ran == [1, 2, 2]
    assert "FORMAT.new" not in again.names("datadir.list", "/data")


def test_an_interrupted_first_start_is_finished_by_the_next() -> None:
    """At every operation, whatever the crash leaves."""
    reference = FaultyDisk()
    make(reference)
    for index in range(reference.operations):
        for kind in ("crash", "crash after"):
            disk = FaultyDisk()
            disk.faults.append(Fault(kind, skip=index))
            try:
                make(disk)
            except PowerLoss:
                pass
            for state in [disk.restarted(), *disk.crash_states(index, 10)]:
                make(state)
                for later in state.crash_states(index, 3):
                    make(later)
