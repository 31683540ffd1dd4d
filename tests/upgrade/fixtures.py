"""The kept data directories: where they stand, packed and unpacked, on a real disk or a simulated one."""

from __future__ import annotations

import io
import lzma
import tarfile
from pathlib import Path
from typing import Final

from tests.support.faulty_disk import FaultyDisk
from tests.upgrade.expected import World

KEPT: Final = Path(__file__).resolve().parents[1] / "transcripts" / "disk" / "nodes"
ENDS: Final = ("stopped", "killed")
SIZE_MAX: Final = 1 << 20
DIRECTORIES: Final = ("wal", "segments", "manifest", "quarantine", "pages")


def folders() -> list[Path]:
    """``format-<version of the format>-<release>``, for every release."""
    return sorted(path for path in KEPT.iterdir() if path.is_dir())


def names() -> list[str]:
    """Of all kept directories: folder and end."""
    return [f"{folder.name}/{end}" for folder in folders() for end in ENDS]


def world_of(name: str) -> World:
    """What must be in the directory of this name."""
    return World.load(KEPT / f"{name}.json")


def pack(data_dir: Path, archive: Path) -> None:
    """Keep a data directory; the same files make the same archive. The lock says nothing."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for path in sorted(data_dir.rglob("*")):
            if path.is_file() and path.name != "LOCK":
                member = tarfile.TarInfo(path.relative_to(data_dir).as_posix())
                member.size = path.stat().st_size
                tar.addfile(member, io.BytesIO(path.read_bytes()))
    packed = lzma.compress(stream.getvalue(), preset=9 | lzma.PRESET_EXTREME)
    assert len(packed) <= SIZE_MAX, f"{archive.name} has {len(packed)} bytes"
    archive.write_bytes(packed)


def files_of(name: str) -> dict[str, bytes]:
    """The files of a kept directory."""
    found: dict[str, bytes] = {}
    with tarfile.open(KEPT / f"{name}.tar.xz") as tar:
        for member in tar:
            content = tar.extractfile(member)
            assert content is not None
            found[member.name] = content.read()
    return found


def unpack(name: str, data_dir: Path) -> None:
    """A copy of a kept directory on the disk."""
    for file, content in files_of(name).items():
        path = data_dir / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def simulated(name: str, data_dir: str) -> FaultyDisk:
    """A copy of a kept directory on a simulated disk, all of it synced."""
    disk = FaultyDisk()
    for directory in (data_dir, *(f"{data_dir}/{each}" for each in DIRECTORIES)):
        disk.make_directory("datadir.create", directory)
    for path, content in files_of(name).items():
        file = disk.create("wal.create", f"{data_dir}/{path}")
        file.write("wal.write", 0, [content])
        file.sync("wal.sync")
        file.close()
    for directory in ("/", data_dir, *(f"{data_dir}/{each}" for each in DIRECTORIES)):
        disk.sync_directory("datadir.create.directory", directory)
    return disk.restarted()
