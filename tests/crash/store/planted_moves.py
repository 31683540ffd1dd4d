"""Mistakes planted in what outlives the write-ahead log, to see that the lives find them (tests of the tests)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import NamedTuple

from broker.store import live_record_copy, store_recovery
from broker.store.batch import Batch
from broker.store.compaction_io import unlink_all
from broker.store.compactor import Compactor
from broker.store.datadir import DataDir
from broker.store.declarations import Declarations
from broker.store.disk_error import DiskError
from broker.store.log import Log
from broker.store.logs import Logs
from broker.store.manifest_edits import ManifestEdits
from broker.store.manifest_file import ManifestFile
from broker.store.manifest_records import Edit
from broker.store.segment import segment_name
from broker.store.segment_builder import SegmentPart
from broker.store.segment_compaction import SegmentCompaction
from broker.store.segment_extent import Segment
from broker.store.tasks import Step, Task
from tests.crash.store.lives import FAULT_SITES, Build

Patch = tuple[object, str, object]


def waits_for_nothing(self: Compactor, step: Step) -> None:
    """The edit is written though settlements it has seen may be lost."""
    _start(self, 0 if step is None else step)


_start = Compactor._start


def retires_first(self: ManifestEdits, edit: Edit) -> Task:
    """The file of the log goes before the manifest says what was in it."""
    if edit.covers:
        wal = self._parts.wal
        wal.retire(max(file.generation for file in wal.files if file.first_sequence <= edit.covers))
    yield from _commit(self, edit)


def removes_first(self: SegmentCompaction, segments: list[Segment]) -> Task:
    """A segment goes before the manifest says so."""
    yield from self.remove([int(segment.number) for segment in segments])
    yield from _drop(self, segments)


_drop = SegmentCompaction.drop


def forgets_states(self: ManifestEdits, edit: Edit) -> Task:
    yield from _commit(self, edit._replace(states=[]))


def forgets_what_is_declared(self: Declarations) -> list[tuple[int, bytes]]:
    _take(self)
    return []


_take = Declarations.take


def forgets_what_is_replaced(self: ManifestEdits, edit: Edit) -> Task:
    """The segments that were rewritten stay in the manifest."""
    yield from _commit(self, edit._replace(dropped=[]) if edit.added else edit)


def covers_too_much(self: ManifestEdits, edit: Edit) -> Task:
    """The manifest claims the first records of the file that stays."""
    yield from _commit(self, edit._replace(covers=edit.covers + 1 if edit.covers else 0))


def gives_up_edits(self: ManifestEdits, edit: Edit) -> Task:
    """An edit that failed is taken for one that was not written: its segments go."""
    task = _commit(self, edit)
    data_dir = self._parts.data_dir
    answer: object = None
    while True:
        try:
            step = task.send(answer)
        except StopIteration:
            return
        try:
            answer = yield step
        except DiskError:
            paths = [f"{data_dir.segments}/{segment_name(int(builder.number))}" for builder, _ in edit.added]
            yield partial(unlink_all, data_dir.filesystem, paths)
            raise


_commit = ManifestEdits.commit


def syncs_again(self: ManifestFile, batch: Batch) -> None:
    """After an error another sync says nothing: the pages count as clean. The other file, which would have the edit, is
    passed over."""
    if self.copy != "a":
        self.end += int(batch.size())
        return
    try:
        _add(self, batch)
    except DiskError as error:
        if error.site != "manifest.sync":
            raise
        self.file.sync("manifest.sync")
        self.end += int(batch.size())


def passes_over_the_second_file(self: ManifestFile, batch: Batch) -> None:
    if self.copy == "a":
        _add(self, batch)
    else:
        self.end += int(batch.size())


_add = ManifestFile.add


def keeps_transient(data_dir: DataDir, logs: Logs) -> list[tuple[Log, int, int]]:
    """Records that need not outlive the node come back."""
    return []


def installs_one_too_few(part: SegmentPart, segment: Segment) -> None:
    """The last position of a segment extent belongs to nobody."""
    segment_extent = part.segment_extent(segment)
    segment_extent.last -= 1
    part.log.install(segment_extent, part.source)


def installs_what_was_chosen(part: SegmentPart, segment: Segment) -> None:
    """A record that was settled while it moved counts as live."""
    segment_extent = part.segment_extent(segment)
    part.log.install(segment_extent, part.source)
    if segment_extent in part.log.extents.segments:
        segment.live += segment_extent.count - segment_extent.live
        segment_extent.live = segment_extent.count


def build(forgotten: Iterable[str] = (), fault_sites: Sequence[str] = FAULT_SITES) -> Build:
    made = Build()
    made.forgotten, made.fault_sites = frozenset(forgotten), fault_sites
    return made


class Bug(NamedTuple):
    """What is replaced, and how many states are enough to find it."""

    build: Build
    patches: tuple[Patch, ...] = ()
    seed: int = 0
    """Where the lives begin: near one that finds it, if it takes something rare."""
    states: int = 20_000


FOUND_BY_LIVES: dict[str, Bug] = {
    "edits not synced": Bug(build(forgotten=["manifest.sync"])),
    "edit written before what it has seen is durable": Bug(build(), ((Compactor, "_start", waits_for_nothing),)),
    "file of the log given back before the edit": Bug(build(), ((ManifestEdits, "commit", retires_first),)),
    "segment not synced": Bug(build(forgotten=["segment.sync"])),
    "directory not synced after a segment got its name": Bug(build(forgotten=["segment.publish.directory"])),
    "directory not synced after a manifest got its name": Bug(build(forgotten=["manifest.publish.directory"])),
    "names found at the start not synced": Bug(
        build(forgotten=["manifest.start.directory"], fault_sites=["manifest.publish.directory"])
    ),
    "last edit not made durable at the start": Bug(
        build(forgotten=["manifest.rewrite.sync"], fault_sites=["manifest.sync"]), seed=7
    ),
    "segment removed before the edit": Bug(build(), ((SegmentCompaction, "drop", removes_first),)),
    "states not kept": Bug(build(), ((ManifestEdits, "commit", forgets_states),)),
    "what is declared not kept": Bug(build(), ((Declarations, "take", forgets_what_is_declared),)),
    "rewritten segments stay": Bug(build(), ((ManifestEdits, "commit", forgets_what_is_replaced),)),
    "one record too many covered": Bug(build(), ((ManifestEdits, "commit", covers_too_much),)),
    "an edit that failed taken for none": Bug(
        build(fault_sites=["manifest.sync"]), ((ManifestEdits, "commit", gives_up_edits),), seed=3
    ),
    "an edit synced again after an error": Bug(
        build(fault_sites=["manifest.sync"]), ((ManifestFile, "add", syncs_again),)
    ),
    "edits in one file alone": Bug(build(), ((ManifestFile, "add", passes_over_the_second_file),)),
    "TRANSIENT records come back": Bug(build(), ((store_recovery, "settle_transient", keeps_transient),)),
    "piece boundary off by one": Bug(build(), ((live_record_copy, "_install_part", installs_one_too_few),)),
    "settled while it moved, and live": Bug(build(), ((live_record_copy, "_install_part", installs_what_was_chosen),)),
}
"""By what is wrong."""
