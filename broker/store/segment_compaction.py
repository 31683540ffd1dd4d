"""Keeps segments dense: rewrites those with much that is dead, or small ones, and removes those in which nothing is
live."""

from functools import partial

from broker.store.batch import location_at
from broker.store.compaction_io import unlink_all
from broker.store.compactor_options import CompactorOptions
from broker.store.disk_error import DiskError
from broker.store.live_record_copy import LiveRecordCopy
from broker.store.live_record_filter import LiveRecordFilter
from broker.store.logs import Logs
from broker.store.manifest_edits import ManifestEdits
from broker.store.manifest_records import Edit
from broker.store.segment import segment_name
from broker.store.segment_extent import Extent, Segment, SegmentExtent
from broker.store.store_parts import StoreParts
from broker.store.tasks import Task


class SegmentCompaction:
    """The segments of a node. Its tasks run in the compactor (compactor.py), one at a time."""

    def __init__(self, parts: StoreParts, edits: ManifestEdits) -> None:
        self._parts = parts
        self._edits = edits
        self._removable: list[int] = []

    def has_removable(self) -> bool:
        """Whether there are files that nothing refers to, perhaps still being read."""
        return bool(self._removable)

    def removable(self) -> list[int]:
        """The segments that nothing refers to, and nobody reads from: they can be removed."""
        return [number for number in self._removable if not self._parts.files.in_use(segment_name(number))]

    def remove(self, numbers: list[int]) -> Task:
        """Remove files that nothing refers to."""
        self._removable = [number for number in self._removable if number not in numbers]
        paths = [f"{self._parts.data_dir.segments}/{segment_name(number)}" for number in numbers]
        try:
            yield partial(unlink_all, self._parts.data_dir.filesystem, paths)
        except DiskError:
            self._removable += numbers
            raise

    def drop(self, segments: list[Segment]) -> Task:
        """Take segments out in which nothing is live."""
        for segment in segments:
            segment.leaving = True
        dropped = [int(segment.number) for segment in segments]
        yield from self._edits.commit(Edit(dropped=dropped))
        self._gone(dropped)

    def compact(self, sources: list[Segment], copy: LiveRecordCopy) -> Task:
        """Write what is live in some segments to new ones."""
        logs = self._parts.logs
        for segment in sources:
            segment.leaving = True
        try:
            for segment in sources:
                copy.filter.turn_to(segment)
                bad = yield from copy.read(self._parts.files.path_of(segment), segment.number)
                if bad:
                    self._lose_from(segment, copy.filter)
            added = yield from copy.seal()
        except Exception:
            for segment in sources:
                segment.leaving = False
                if not segment.on_pages:
                    logs.segments.look_at(segment)
            yield from copy.discard()
            raise
        dropped = [int(segment.number) for segment in sources if not segment.on_pages]
        yield from self._edits.commit(Edit(added, dropped))
        yield from copy.install(added)
        self._gone(dropped)
        for segment in sources:
            if segment.on_pages:
                logs.pages.emptied(segment)

    def _gone(self, numbers: list[int]) -> None:
        for number in numbers:
            self._parts.logs.segments.remove(number)
        self._removable += numbers

    def _lose_from(self, segment: Segment, live_filter: LiveRecordFilter) -> None:
        """Settle and tell what is live in a segment and did not come through the filter."""
        logs = self._parts.logs
        extents: dict[SegmentExtent, list[Extent]] = {}
        for builder in live_filter.builders:
            for part in builder.parts:
                if part.source is not None:
                    extents.setdefault(part.source, []).extend(part.extents)
        location = location_at(segment.number)
        for log in list(logs.logs.values()):
            for segment_extent in [each for each in log.extents.segments if each.segment is segment]:
                come = extents.get(segment_extent, [])
                for first, last in _gaps(come, int(segment_extent.first), int(segment_extent.last)):
                    logs.lose(log, first, last, location)


def _gaps(extents: list[Extent], first: int, last: int) -> list[tuple[int, int]]:
    """What of the positions from ``first`` to ``last`` is in none of these extents."""
    found: list[tuple[int, int]] = []
    at = first
    for extent in extents:
        if extent.first > at:
            found.append((at, int(extent.first) - 1))
        at = int(extent.first + extent.count)
    if at <= last:
        found.append((at, last))
    return found


def worth_rewriting(logs: Logs, options: CompactorOptions, now_ms: int) -> list[Segment]:
    """Segments, or page files, to be rewritten now."""
    segments = [segment for segment in logs.segments.by_number.values() if segment.live > 0 and not segment.leaving]
    chosen = _sparse(segments, options)
    if chosen is None:
        small = sorted(
            (segment for segment in segments if segment.size < options.small_size), key=lambda each: each.number
        )
        chosen = small[: options.small_count] if len(small) > options.small_count else []
    if not chosen:
        chosen = _sparse(logs.pages.still_files(now_ms), options)
    return chosen or []


def _sparse(segments: list[Segment], options: CompactorOptions) -> list[Segment] | None:
    """Those that are best rewritten, if too much of all these is dead; None if it is not."""
    live = sum(int(segment.live_size()) for segment in segments)
    garbage = sum(int(segment.size) for segment in segments) - live
    allowed = int(options.garbage_share * live) + options.garbage_size
    chosen: list[Segment] = []
    if garbage > allowed:
        size = 0
        for segment in sorted(segments, key=_live_share):
            if segment.live == segment.count or garbage <= allowed // 2 or size >= options.segment_size:
                break
            chosen.append(segment)
            size += segment.live_size()
            garbage -= segment.size - segment.live_size()
        return chosen
    return None


def _live_share(segment: Segment) -> float:
    return int(segment.live) / int(segment.count)
