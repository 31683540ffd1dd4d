"""Copies of what recovery cuts or cannot read, for people. Never keeps a node from starting, nor fills the disk."""

from typing import Final

import xxhash

from broker.store.disk_error import DiskError
from broker.store.filesystem import FileSystem

QUARANTINE_COUNT_MAX: Final = 100
"""So many copies are kept: a node that crashes in a loop must not fill the disk with them."""


def keep_copy(filesystem: FileSystem, directory: str, name: str, data: bytes) -> str:
    """The path of a copy, named after where the bytes come from and their hash; "" if there is none."""
    try:
        return _copy(filesystem, directory, f"{name}-{xxhash.xxh3_64_hexdigest(data)}", data)
    except DiskError:
        return ""


def _copy(filesystem: FileSystem, directory: str, name: str, data: bytes) -> str:
    path = f"{directory}/{name}"
    names = filesystem.names("quarantine.list", directory)
    if name in names:
        return path
    if len(names) >= QUARANTINE_COUNT_MAX:
        return ""
    part = f"{path}.part"
    if f"{name}.part" in names:
        filesystem.unlink("quarantine.clean", part)
    file = filesystem.create("quarantine.create", part)
    try:
        file.write("quarantine.write", 0, [data])
        file.sync("quarantine.sync")
    finally:
        file.close()
    filesystem.rename("quarantine.rename", part, path)
    filesystem.sync_directory("quarantine.directory", directory)
    return path
