"""`leveret data check`: what files there are, and every damage in them."""

from __future__ import annotations

import contextlib
from typing import NamedTuple

from broker.offline.opening import open_store
from broker.offline.overlay import Overlay
from broker.store.batch import BLOCK
from broker.store.datadir import FORMAT_FILES, read_format
from broker.store.disk_error import DiskError
from broker.store.filesystem import File, FileSystem
from broker.store.manifest_file import SUFFIX as MANIFEST_SUFFIX
from broker.store.manifest_file import parse_name
from broker.store.segment import SUFFIX as SEGMENT_SUFFIX
from broker.store.segment import number_of
from broker.store.wal_file import BadRange, Scan, generation_of, read_file_header

DIRECTORIES = ("wal", "segments", "manifest", "quarantine")


class Checked(NamedTuple):
    """What was found."""

    files: list[tuple[str, int]]
    """Names, relative to the directory, and bytes."""
    damage: list[str]
    notes: list[str]
    """What is no damage and yet worth saying."""


def check(path: str) -> Checked:
    """Look at every file of the data directory.

    Raises: DataDirError, DiskError if it cannot be opened at all
    """
    store = open_store(path)
    try:
        store.log_recovery.settle_missing()
        report = store.report
        damage = [*map(str, report.damaged), *store.repaired, *store.findings]
        missing = store.log_recovery.missing
        damage += [f"records {first} to {last} of log {log.number} are lost" for log, first, last in missing]
        notes = [f"an unfinished write is cut off: {cut}" for cut in [*map(str, report.cut), *store.manifest_cut]]
        notes += [f"found earlier, not confirmed: {loss.what}" for loss in store.damage.unconfirmed()]
        notes.append(
            f"{report.record_count} records in the log, {len(store.logs.logs)} logs, "
            f"{len(store.logs.segments.by_number)} segments"
        )
        untouched = Overlay()
        files = _files(untouched, path)
        damage += _check_format(untouched, path)
        for name, _ in files:
            damage += _check_file(untouched, f"{path}/{name}")
    finally:
        store.close()
    return Checked(files, list(dict.fromkeys(damage)), notes)


def _files(filesystem: FileSystem, path: str) -> list[tuple[str, int]]:
    found: list[tuple[str, int]] = []
    for directory in ("", *DIRECTORIES):
        try:
            names = filesystem.names("datadir.list", f"{path}/{directory}".rstrip("/"))
        except DiskError:
            continue
        for name in names:
            relative = f"{directory}/{name}".lstrip("/")
            try:
                found.append((relative, filesystem.open("datadir.list", f"{path}/{relative}").size("datadir.list")))
            except DiskError:
                continue  # a directory
    return found


def _check_format(filesystem: FileSystem, path: str) -> list[str]:
    damage: list[str] = []
    for name in FORMAT_FILES:
        with contextlib.suppress(DiskError):  # what is missing has been found by the start
            _, lines = read_format(filesystem, f"{path}/{name}")
            if lines < 3:
                damage.append(f"{path}/{name}: only {lines} of its 3 lines can be read")
    return damage


def _check_file(filesystem: FileSystem, path: str) -> list[str]:
    """What is wrong with the headers of a file, and with what stands in a segment, of which a start reads the summary
    only."""
    name = path.rpartition("/")[2]
    parsed = parse_name(name)
    number = generation_of(name)
    is_segment = name.endswith(SEGMENT_SUFFIX)
    if is_segment:
        number = number_of(name)
    elif parsed is not None and parsed[2] == MANIFEST_SUFFIX:
        number = parsed[0]
    if number is None:
        return []
    file = filesystem.open("segment.read", path)
    blocks = [file.read("segment.read", at, BLOCK) for at in (0, BLOCK)]
    damage = [] if blocks[0] == blocks[1] else [f"{path}: one of the two blocks of its header is damaged"]
    return damage + (_check_segment(file, number) if is_segment else [])


def _check_segment(file: File, number: int) -> list[str]:
    header = read_file_header(file, number, "segment.read")
    if header is None:
        return [f"{file.path}: no header"]
    scan = Scan(file, header, "segment.read")
    damage = [f"{file.path}: {bad.size} bytes at {bad.offset} are damaged" for bad in scan if isinstance(bad, BadRange)]
    if scan.end != file.size("segment.read"):
        damage.append(f"{file.path}: nothing can be read from {scan.end} on")
    return damage
