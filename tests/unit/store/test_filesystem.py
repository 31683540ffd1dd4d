"""broker/store/filesystem.py: the same interface over the real disk and the simulated one; interrupted calls and short
writes."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from broker.store.disk_error import DiskError
from broker.store.filesystem import File, FileSystem
from broker.store.real_filesystem import RealFileSystem
from tests.support.faulty_disk import Fault, FaultyDisk


@pytest.fixture(params=["real", "simulated"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[FileSystem, str]]:
    if request.param == "real":
        yield RealFileSystem(), str(tmp_path)
    else:
        disk = FaultyDisk()
        disk.do_make_directory("datadir.create", "/d")
        yield disk, "/d"


Place = tuple[FileSystem, str]


def test_a_file_holds_what_was_written_where_it_was_written(place: Place) -> None:
    files, root = place
    file = files.create("wal.create", f"{root}/a")
    file.write("wal.write", 3, [b"one", b"", b"two"])
    file.write("wal.write", 0, [b"x"])
    file.sync("wal.sync")
    assert file.read("wal.read", 0, 100) == b"x\0\0onetwo"
    assert file.read("wal.read", 4, 2) == b"ne"
    assert file.read("wal.read", 9, 5) == b""
    assert file.size("wal.read") == 9
    file.close()
    file.close()
    again = files.open("wal.open", f"{root}/a")
    assert again.read("wal.read", 0, 9) == b"x\0\0onetwo"
    again.close()


def test_many_pieces_are_one_write(place: Place) -> None:
    """The system takes 1024 pieces at a time."""
    files, root = place
    file = files.create("wal.create", f"{root}/a")
    pieces = [bytes([number % 251]) * (number % 7) for number in range(5000)]
    file.write("wal.write", 5, pieces)
    assert file.read("wal.read", 5, 100_000) == b"".join(pieces)
    file.write("wal.write", 0, [])
    file.write("wal.write", 0, [b""])
    file.close()


def test_allocated_space_reads_as_zeros_and_keeps_what_was_there(place: Place) -> None:
    files, root = place
    file = files.create("wal.create", f"{root}/a")
    file.write("wal.write", 0, [b"abc"])
    file.allocate("wal.allocate", 10_000)
    assert file.read("wal.read", 0, 20_000) == b"abc" + bytes(9997)
    file.allocate("wal.allocate", 100)
    assert file.size("wal.read") == 10_000
    file.truncate("wal.allocate", 2)
    file.truncate("wal.allocate", 4)
    assert file.read("wal.read", 0, 10) == b"ab\0\0"
    file.close()


def test_names_are_made_changed_and_removed(place: Place) -> None:
    files, root = place
    assert files.make_directory("datadir.create", f"{root}/sub")
    assert not files.make_directory("datadir.create", f"{root}/sub")
    for name in ("b", "a"):
        files.create("wal.create", f"{root}/sub/{name}").close()
    files.rename("wal.publish", f"{root}/sub/b", f"{root}/sub/a")
    files.create("wal.create", f"{root}/sub/0").close()
    files.sync_directory("wal.publish.directory", f"{root}/sub")
    assert files.names("wal.list", f"{root}/sub") == ["0", "a"]
    files.unlink("wal.remove", f"{root}/sub/a")
    assert files.names("wal.list", f"{root}/sub") == ["0"]
    assert files.names("wal.list", root) == ["sub"]
    assert files.free_bytes("wal.list", root) > 0


def test_errors_say_what_was_tried_and_on_which_file(place: Place) -> None:
    files, root = place
    files.create("wal.create", f"{root}/a").close()
    with pytest.raises(DiskError) as taken:
        files.create("wal.create", f"{root}/a")
    assert (taken.value.errno, taken.value.site, taken.value.is_full) == (errno.EEXIST, "wal.create", False)
    with pytest.raises(DiskError) as missing:
        files.open("wal.open", f"{root}/none")
    assert str(missing.value) == f"cannot open a file of the log: {root}/none: No such file or directory"
    for call in (files.unlink, files.sync_directory, files.names, files.make_directory):
        with pytest.raises(DiskError):
            call("wal.list", f"{root}/none/none")
    with pytest.raises(DiskError):
        files.rename("wal.publish", f"{root}/none", f"{root}/other")


def test_a_lock_is_held_by_one(place: Place) -> None:
    files, root = place
    lock = files.try_lock("datadir.lock", f"{root}/LOCK")
    assert lock is not None
    assert files.try_lock("datadir.lock", f"{root}/LOCK") is None
    lock.close()
    again = files.try_lock("datadir.lock", f"{root}/LOCK")
    assert again is not None
    again.close()


def test_a_short_write_is_continued_and_an_interrupted_call_repeated() -> None:
    """POSIX: write may take a part; reliability.md, section 2: loop on short writes."""
    disk = FaultyDisk()
    file = disk.create("wal.create", "/a")
    disk.faults += [Fault("short", "wal.write", arg=2), Fault("short", "wal.write", arg=3)]
    disk.faults += [Fault("interrupted", "wal.write"), Fault("interrupted", "wal.sync")]
    file.write("wal.write", 1, [b"ab", b"cdef", b"g", b"hij"])
    file.sync("wal.sync")
    assert file.read("wal.read", 0, 20) == b"\0abcdefghij"
    assert all(fault.seen for fault in disk.faults)


class Stubborn(File):
    """A file that takes nothing."""

    def do_write(self, site: str, offset: int, pieces: Sequence[bytes | memoryview]) -> int:
        return 0


def test_a_write_that_makes_no_progress_is_an_error() -> None:
    with pytest.raises(DiskError, match="writes nothing"):
        Stubborn("/a").write("wal.write", 0, [b"x"])
