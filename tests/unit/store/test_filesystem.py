"""broker/store/filesystem.py: the same face over the real disk and the simulated one; sites; interrupted calls and
short writes."""

from __future__ import annotations

import ast
import errno
import os
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from broker.store import filesystem
from broker.store.filesystem import SITES, DiskError, File, FileSystem, RealFile, RealFileSystem
from tests.support.faulty_disk import Fault, FaultyDisk

STORE = Path(filesystem.__file__).parent
OPERATIONS = frozenset(name for kind in (File, FileSystem) for name in vars(kind) if f"do_{name}" in vars(kind))


def sites_in_the_source() -> set[str]:
    """The first argument of every operation, where it is a literal, and every literal that is a site."""
    found = set()
    for path in STORE.glob("*.py"):
        if path.name == "filesystem.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in OPERATIONS
                and node.args
            ):
                if isinstance(node.args[0], ast.Constant) and isinstance(node.args[0].value, str):
                    found.add(node.args[0].value)
            elif isinstance(node, ast.Constant) and node.value in SITES:
                found.add(str(node.value))
    return found


def test_every_site_is_in_the_source_and_every_call_has_a_site() -> None:
    """ARCHITECTURE.md: the only file that opens, writes, syncs, renames, unlinks; a crash can be armed at each place
    that calls it."""
    assert sites_in_the_source() == set(SITES)


def test_nothing_else_in_the_store_touches_files() -> None:
    for path in STORE.glob("*.py"):
        if path.name == "filesystem.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id != "open", path
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os":
                assert node.attr in ("path", "getpid"), f"{path}: os.{node.attr}"


@pytest.fixture(params=["real", "simulated"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[FileSystem, str]]:
    if request.param == "real":
        yield RealFileSystem(), str(tmp_path)
    else:
        disk = FaultyDisk()
        disk.do_make_directory("datadir.create", "/d")
        yield disk, "/d"


BatchLocation = tuple[FileSystem, str]


def test_a_file_holds_what_was_written_where_it_was_written(place: BatchLocation) -> None:
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


def test_many_pieces_are_one_write(place: BatchLocation) -> None:
    """The system takes 1024 pieces at a time."""
    files, root = place
    file = files.create("wal.create", f"{root}/a")
    pieces = [bytes([number % 251]) * (number % 7) for number in range(5000)]
    file.write("wal.write", 5, pieces)
    assert file.read("wal.read", 5, 100_000) == b"".join(pieces)
    file.write("wal.write", 0, [])
    file.write("wal.write", 0, [b""])
    file.close()


def test_allocated_space_reads_as_zeros_and_keeps_what_was_there(place: BatchLocation) -> None:
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


def test_names_are_made_changed_and_removed(place: BatchLocation) -> None:
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


def test_errors_say_what_was_tried_and_on_which_file(place: BatchLocation) -> None:
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


def test_a_lock_is_held_by_one(place: BatchLocation) -> None:
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


def test_the_real_disk_reports_a_full_file_system_and_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The part written before the error stays; the caller is told (reliability.md, section 2: 1000 of 1500 bytes, then
    EFBIG)."""
    file = RealFileSystem().create("wal.create", str(tmp_path / "a"))

    def full(descriptor: int, pieces: object, offset: int) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwritev", full)
    with pytest.raises(DiskError) as raised:
        file.write("wal.write", 0, [b"x"])
    assert raised.value.is_full
    file.close()


def test_where_preallocation_is_unknown_zeros_take_the_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(descriptor: int, offset: int, size: int) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(os, "posix_fallocate", unknown)
    file = RealFileSystem().create("wal.create", str(tmp_path / "a"))
    file.write("wal.write", 0, [b"abc"])
    file.allocate("wal.allocate", (1 << 20) + 77)
    assert file.size("wal.read") == (1 << 20) + 77
    assert file.read("wal.read", 0, 5) == b"abc\0\0"
    file.close()


def test_much_is_read_and_written_a_part_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rule: no call to the system keeps others from the processor for long, which may be as long as it takes."""
    sizes: list[int] = []
    read, read_into, write = os.pread, os.preadv, os.pwritev

    def counted_pread(descriptor: int, size: int, offset: int) -> bytes:
        sizes.append(size)
        return read(descriptor, size, offset)

    def counted_preadv(descriptor: int, buffers: list[memoryview], offset: int) -> int:
        sizes.append(sum(map(len, buffers)))
        return read_into(descriptor, buffers, offset)

    def counted_pwritev(descriptor: int, buffers: list[bytes | memoryview], offset: int) -> int:
        sizes.append(sum(map(len, buffers)))
        return write(descriptor, buffers, offset)

    monkeypatch.setattr(os, "pread", counted_pread)
    monkeypatch.setattr(os, "preadv", counted_preadv)
    monkeypatch.setattr(os, "pwritev", counted_pwritev)
    file = RealFileSystem().create("wal.create", f"{tmp_path}/f")
    pieces = [b"head", random.Random(1).randbytes((5 << 20) + 3), b"", b"tail"]
    whole = b"".join(pieces)
    file.write("wal.write", 7, pieces)
    file.write("wal.write", 0, [])
    assert file.read("log.read", 7, len(whole)) == whole
    assert file.read("log.read", 7, len(whole) + 100) == whole
    assert file.read("log.read", 1 << 30, 9 << 20) == b""
    assert max(sizes) <= 2 << 20


def test_a_real_file_is_closed_by_its_descriptor(tmp_path: Path) -> None:
    file = RealFileSystem().create("wal.create", str(tmp_path / "a"))
    assert isinstance(file, RealFile)
    file.close()
    with pytest.raises(DiskError) as raised:
        file.write("wal.write", 0, [b"x"])
    assert raised.value.errno == errno.EBADF


def test_what_the_system_has_in_its_memory_is_read_without_waiting(tmp_path: Path) -> None:
    """Or not at all: where the file system cannot say, and behind the end."""
    path = f"{tmp_path}/file"
    made = RealFileSystem().create("wal.create", path)
    content = bytes(range(256)) * 1000
    made.write("wal.write", 0, [content])
    assert made.read_cached("log.read", 100, 1000) in (content[100:1100], None)
    assert made.read_cached("log.read", len(content) - 10, 20) is None
    made.close()
