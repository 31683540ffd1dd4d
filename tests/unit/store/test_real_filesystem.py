"""broker/store/real_filesystem.py: the operating system's files, a bounded part of a large one with each call."""

from __future__ import annotations

import errno
import os
import random
from pathlib import Path

import pytest

from broker.store.disk_error import DiskError
from broker.store.real_filesystem import RealFile, RealFileSystem


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
