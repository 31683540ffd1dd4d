"""Mistakes that programs like this one have really made, planted to see that the histories find them (tests of the
tests).

Each is a `Build`: a subclass of a part, or a sync that is forgotten. Functions that have no class are replaced for the
time of the test.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import xxhash

from broker.store import filesystem, wal_file
from broker.store.batch import BLOCK, HEADER_SIZE, Batch, BatchHeader, read_header
from broker.store.commit_group import CommitGroup
from broker.store.disk_error import DiskError
from broker.store.filesystem import File
from broker.store.recovery import Recovery
from broker.store.wal import WriteAheadLog
from broker.store.wal_file import Found, Scan
from broker.store.wal_writer import LogEnd, WalWriter
from tests.crash.store.histories import Build

Patch = tuple[object, str, object]


class PromisesEarly(WriteAheadLog):
    def _submit(self, group: CommitGroup) -> None:
        for listener in group.listeners:
            listener.durable(group.through())
        super()._submit(CommitGroup(group.batches, [], group.ordinal))


class GoesOnAfterErrors(WriteAheadLog):
    def fail(self, error: Exception) -> None:
        if isinstance(error, DiskError) and error.site == "wal.sync":
            self._busy = False
            self._next_job()
        else:
            super().fail(error)


class CutsTooMuch(Recovery):
    def finish(self) -> LogEnd:
        if self._torn:
            self._position -= BLOCK
        return super().finish()


class PromisesWhatItReads(WalWriter):
    """A sync of the same file says nothing: after an error its pages count as clean."""

    def start(self, end: LogEnd) -> None:
        super().start(end._replace(last_group=None))
        if self._file is not None:
            self._file.sync("wal.rewrite.sync")


class SyncsAgain(WalWriter):
    def _put(self, group: CommitGroup, write_site: str, sync_site: str) -> None:
        try:
            super()._put(group, write_site, sync_site)
        except DiskError:
            assert self._file is not None
            self._file.sync(sync_site)
            self.position += group.size()


def halves(group: CommitGroup) -> list[CommitGroup]:
    """The group as two, each with half of the records; as it is if there is only one."""
    (batch,) = group.batches
    data = b"".join(batch.pieces)
    ends = []
    at = 0
    for _ in range(batch.record_count):
        at += 13 + int.from_bytes(data[at + 8 : at + 12], "big")
        ends.append(at)
    if len(ends) < 2:
        return [group]
    count = len(ends) // 2
    cut = ends[count - 1]
    first = Batch([data[:cut]], batch.first_sequence, count, cut)
    second = Batch([data[cut:]], batch.first_sequence + count, len(ends) - count, len(data) - cut)
    return [CommitGroup([first], [], 0), CommitGroup([second], [], 0)]


def parts(group: CommitGroup) -> list[CommitGroup]:
    """Each batch as a group of its own."""
    if len(group.batches) == 1:
        return halves(group)
    for batch in group.batches:
        batch.flags, batch.group_offset = 0, 0
    return [CommitGroup([batch], [], 0) for batch in group.batches]


class Splits(WalWriter):
    def write(self, group: CommitGroup) -> None:
        for part in parts(group):
            super().write(part)


class SwapsBatches(WalWriter):
    def write(self, group: CommitGroup) -> None:
        for part in reversed(parts(group)):
            super().write(part)


class RetiresTheNewest(WalWriter):
    def retire(self) -> None:
        if len(self.files) > 2:
            self.files.insert(0, self.files.pop(len(self.files) - 2))
        super().retire()


def ignores_the_checksum(header: BatchHeader, data: bytes) -> bool:
    return len(data) >= HEADER_SIZE + header.payload_size


def checks_the_payload_only(header: BatchHeader, data: bytes) -> bool:
    end = HEADER_SIZE + header.payload_size
    return len(data) >= end and xxhash.xxh3_64_digest(data[HEADER_SIZE:end]) == data[HEADER_SIZE - 8 : HEADER_SIZE]


class SealsThePayloadOnly(WalWriter):
    def _put(self, group: CommitGroup, write_site: str, sync_site: str) -> None:
        unsealed: list[Batch] = [_Unsealed(batch) for batch in group.batches]  # type: ignore[misc]
        super()._put(CommitGroup(unsealed, [], 0), write_site, sync_site)


class _Unsealed:
    """A batch whose checksum leaves the header out."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.location = batch.location

    def size(self) -> int:
        return self.batch.size()

    def seal(self, generation: int, salt: int) -> list[bytes | memoryview]:
        head, *rest = self.batch.seal(generation, salt)
        payload = b"".join(rest)[: self.batch.payload_size]
        return [bytes(head[: HEADER_SIZE - 8]) + xxhash.xxh3_64_digest(payload), *rest]


def takes_any_generation(self: Scan, block: bytes) -> BatchHeader | None:
    return read_header(block)


class TakesAnyNumber(Recovery):
    def _take(self, generation: int, found: Found, whole: bool) -> Iterator[tuple[int, Found]]:
        if not self._open:
            self._expected = found.header.group_first()
        return super()._take(generation, found, whole)


class TakesGroupsWithoutEnd(Recovery):
    without_end: Sequence[tuple[int, Found]] = ()

    def batches(self) -> Iterator[tuple[int, Found]]:
        yield from super().batches()
        yield from self.without_end

    def _cut_open_group(self) -> None:
        self.without_end = list(self._accept_open_group())


class TakesGroupsWithHoles(Recovery):
    def _take(self, generation: int, found: Found, whole: bool) -> Iterator[tuple[int, Found]]:
        yield from super()._take(generation, found, whole)
        if self._open and not found.header.more:
            yield from self._accept_open_group()


def writes_once(self: File, site: str, offset: int, pieces: Sequence[bytes]) -> None:
    filesystem._checked(site, self.path, self.do_write, site, offset, pieces)


class Bug(NamedTuple):
    """What is replaced, and how many states are enough to find it."""

    build: Build
    patches: tuple[Patch, ...] = ()
    states: int = 40_000


def build(
    *,
    log: type[WriteAheadLog] = WriteAheadLog,
    writer: type[WalWriter] = WalWriter,
    recovery: type[Recovery] = Recovery,
    forgotten: Iterable[str] = (),
) -> Build:
    made = Build()
    made.log, made.writer, made.recovery, made.forgotten = log, writer, recovery, frozenset(forgotten)
    return made


FOUND_BY_CRASHES: dict[str, Bug] = {
    "promised before the sync": Bug(build(log=PromisesEarly)),
    "no sync at all": Bug(build(forgotten=["wal.sync"])),
    "directory not synced after a file was made": Bug(build(forgotten=["wal.publish.directory"])),
    "header of a new file not synced before it gets its name": Bug(build(forgotten=["wal.header.sync"])),
    "rename of a retired file not synced before it is used again": Bug(build(forgotten=["wal.retire.directory"])),
    "names found at the start not synced": Bug(build(forgotten=["wal.start.directory"])),
    "directories of the layout not synced": Bug(build(forgotten=["datadir.create.directory"])),
    "checksum ignored": Bug(build(), ((wal_file, "is_whole", ignores_the_checksum),)),
    "earlier use of a file taken for new": Bug(
        build(recovery=TakesAnyNumber), ((Scan, "_own_header", takes_any_generation),)
    ),
    "cut one block too early": Bug(build(recovery=CutsTooMuch)),
    "nothing synced after a cut before the first promise": Bug(build(forgotten=["wal.cut.sync", "wal.rewrite.sync"])),
    "what was read is promised after a sync of the same file": Bug(build(writer=PromisesWhatItReads)),
    "sync tried again after an error": Bug(build(writer=SyncsAgain)),
    "goes on after an error": Bug(build(log=GoesOnAfterErrors)),
    "batches swapped": Bug(build(writer=SwapsBatches)),
    "a commit group split": Bug(build(writer=Splits)),
    "a commit group without its end counts": Bug(build(recovery=TakesGroupsWithoutEnd)),
    "a commit group with a hole counts": Bug(build(recovery=TakesGroupsWithHoles)),
    "files leave the log in any order": Bug(build(writer=RetiresTheNewest)),
    "short write not continued": Bug(build(), ((File, "write", writes_once),)),
}
"""By what is wrong."""

FOUND_BY_ROT: dict[str, Bug] = {
    "checksum without the header": Bug(
        build(writer=SealsThePayloadOnly), ((wal_file, "is_whole", checks_the_payload_only),)
    ),
    "checksum ignored": Bug(build(), ((wal_file, "is_whole", ignores_the_checksum),)),
}
