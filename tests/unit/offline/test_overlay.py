"""broker/offline/overlay.py: a file system of which nothing on the disk changes."""

from __future__ import annotations

import errno
import fcntl
import os
import random
from pathlib import Path

import pytest

from broker.offline.overlay import Overlay
from broker.store.disk_error import DiskError


def test_what_is_written_is_read_and_the_disk_stays_as_it_is(tmp_path: Path) -> None:
    chance = random.Random(3)
    content = bytearray(chance.randbytes(20_000))
    (tmp_path / "a").write_bytes(content)
    before = bytes(content)
    overlay = Overlay()
    file = overlay.open("wal.open", f"{tmp_path}/a")
    for _ in range(200):
        offset, size = chance.randrange(25_000), chance.randrange(9000)
        if chance.random() < 0.3:
            data = chance.randbytes(size)
            file.write("wal.write", offset, [data[:100], data[100:]])
            content.extend(bytes(max(0, offset + size - len(content))))
            content[offset : offset + size] = data
        assert file.read("wal.read", offset, size) == content[offset : offset + size]
        assert file.size("wal.read") == len(content)
    assert (tmp_path / "a").read_bytes() == before


def test_names_come_and_go_in_memory(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a")
    (tmp_path / "folder").mkdir()
    overlay = Overlay()
    root = str(tmp_path)
    overlay.create("wal.create", f"{root}/b").write("wal.write", 0, [b"bbb"])
    overlay.rename("wal.recycle", f"{root}/a", f"{root}/c")
    overlay.unlink("wal.remove", f"{root}/c")
    assert overlay.make_directory("datadir.create", f"{root}/new")
    assert not overlay.make_directory("datadir.create", f"{root}/folder")
    assert overlay.names("wal.list", root) == ["b", "folder", "new"]
    assert overlay.names("wal.list", f"{root}/new") == []
    assert overlay.open("wal.open", f"{root}/b").read("wal.read", 0, 9) == b"bbb"
    for path, number in ((f"{root}/a", errno.ENOENT), (f"{root}/folder", errno.EISDIR)):
        with pytest.raises(DiskError) as raised:
            overlay.open("wal.open", path)
        assert raised.value.errno == number
    with pytest.raises(DiskError):
        overlay.create("wal.create", f"{root}/b")
    assert sorted(os.listdir(root)) == ["a", "folder"]


def test_a_lock_is_seen_and_kept(tmp_path: Path) -> None:
    overlay = Overlay()
    path = f"{tmp_path}/LOCK"
    free = overlay.try_lock("datadir.lock", path)
    assert free is not None
    free.close()
    assert not os.path.exists(path)
    Path(path).write_text("1\n")
    held = overlay.try_lock("datadir.lock", path)
    assert held is not None
    with open(path) as other:
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        held.close()
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert overlay.try_lock("datadir.lock", path) is None
