"""What the manifest says, brought back into the logs at the start; and what stands in the directory of the segments,
compared with it."""

import contextlib
import errno
from typing import NamedTuple

from broker.store.adopting import Adoption, LogContents, add_part, look_through
from broker.store.batch_reader import ATTEMPTS_MAX
from broker.store.datadir import KEPT, DataDir, put_aside
from broker.store.disk_error import DiskError
from broker.store.index import decode_positions
from broker.store.log import Log
from broker.store.logs import Logs
from broker.store.manifest_records import ManifestState, segment_parts, segment_size, state_of
from broker.store.records import TRANSIENT
from broker.store.segment import SUFFIX, number_of, segment_name
from broker.store.segment_extent import Extent, Segment, SegmentExtent
from broker.store.survey import Survey, extents_of, survey
from broker.store.wal_file import generation_of


class Restored(NamedTuple):
    """What was brought back."""

    findings: list[str]
    """What was found wrong, for people."""
    differs: bool
    """The manifest does not say what the logs say now: it has to be written anew."""
    replayed_from: int | None
    """The log is replayed behind this record; None: from its beginning, which nobody knows."""
    covers: int
    """What the manifest says represents all records up to this one."""
    resume_at: int
    """No new record has a number before this: all before it were on the disk once."""


class Restoration:
    """One start."""

    def __init__(self, data_dir: DataDir, state: ManifestState, logs: Logs, lost: bool) -> None:
        """``lost``: the manifest does not know everything, or is gone."""
        self._data_dir = data_dir
        self._filesystem = data_dir.filesystem
        self._state = state
        self._logs = logs
        self._lost = lost
        self._findings: list[str] = []
        self._differs = lost
        self._known: set[int] = set()
        self._kept: set[int] = set()
        """Segments that an earlier start has put aside, and has told of."""
        self._adoption: Adoption | None = None

    def run(self) -> Restored:
        """Give the logs their segment extents and states.

        Raises: DiskError
        """
        state, logs = self._state, self._logs
        unnamed = self._list()
        logs.segments.skip_to(state.next_segment)
        logs.skip_to(state.next_log)
        self._restore_states()
        replayed_from: int | None = state.covers
        covers = state.covers
        if self._lost:
            self._findings.append(
                "the manifest is gone or has lost edits: it is put together again from segments and log"
            )
            contents = look_through(self._data_dir)
            self._adoption = Adoption(logs, self._known, contents)
            replayed_from = self._replayed_from(contents)
            covers = replayed_from if replayed_from is not None else contents.first - 1
        for number, body in state.segments.items():
            self._restore_segment(number, body)
        for number in unnamed:
            self._adopt(number)
        if self._adoption is not None:
            self._findings += self._adoption.finish()
        for log in logs.logs.values():
            log.extents.sort()
        return Restored(self._findings, self._differs, replayed_from, covers, max(state.covers, state.declared) + 1)

    def _list(self) -> list[int]:
        """The segments that the manifest does not name. Without damage, they are of a task that was never finished, and
        go."""
        unnamed = []
        for name in self._filesystem.names("segment.list", self._data_dir.segments):
            number = number_of(name)
            if number is None:
                continue
            self._logs.segments.skip_to(number + 1)
            if name.endswith(KEPT):
                self._kept.add(number)
                continue
            if number not in self._state.segments or not name.endswith(SUFFIX):
                if self._lost and name.endswith(SUFFIX):
                    unnamed.append(number)
                else:
                    with contextlib.suppress(DiskError):
                        self._filesystem.unlink("segment.discard", f"{self._data_dir.segments}/{name}")
        return unnamed

    def _restore_states(self) -> None:
        for number, body in self._state.logs.items():
            note, positions = state_of(body)
            try:
                self._logs.open(number).restored(note, decode_positions(positions))
                self._known.add(number)
            except ValueError:
                self._findings.append(f"the manifest says nothing sensible of log {number}")
        for number, body in self._state.groups.items():
            try:
                self._logs.open(number).group_state().restored(body)
            except ValueError:
                self._findings.append(f"the manifest says nothing sensible of the group of log {number}")

    def _replayed_from(self, contents: LogContents) -> int | None:
        """Everything that is in the log is replayed: what a damaged manifest says of records before S cannot be relied
        on."""
        if contents.covered is not None and contents.covered > self._state.covers:
            first, last = self._state.covers + 1, contents.covered
            self._findings.append(
                f"what records {first} to {last} of the log said may be lost: neither it nor the manifest has them"
            )
        return contents.covered if contents.last else self._state.covers

    def _restore_segment(self, number: int, body: bytes) -> None:
        """A segment that the manifest names."""
        segment = Segment(number, segment_size(body))
        size = self._size_of(segment)
        if size == segment.size:
            self._logs.segments.add(segment)
            self._add_segment_extents(segment, body)
        elif size >= 0:
            found = self._survey(number)
            self._findings.append(
                f"{self._path(number)} has {size} bytes instead of {segment.size}; what can be read of it is used"
            )
            self._differs = True
            if found is not None:
                segment = Segment(number, found.size)
                self._logs.segments.add(segment)
                for part in found.parts:
                    add_part(self._logs, segment, part)
                    if self._adoption is not None:
                        self._adoption.see(part)
        else:
            self._logs.segments.add(segment)  # in which nothing is live

    def _add_segment_extents(self, segment: Segment, body: bytes) -> None:
        unknown = False
        for number, first, last, count, messages, body_bytes, flags, index_offset, index_size in segment_parts(body):
            log = self._logs.open(number)
            segment_extent = SegmentExtent(segment, first, last, count)
            segment_extent.messages, segment_extent.body_bytes = messages, body_bytes
            segment_extent.index_offset, segment_extent.index_size = index_offset, index_size
            log.found(flags)
            log.extents.add_segment(segment_extent)
            segment.count += count
            unknown = unknown or number not in self._known or last >= log.positions.next
        if unknown and self._adoption is not None:
            found = self._survey(int(segment.number))
            for part in found.parts if found is not None else ():
                self._adoption.see(part)

    def _adopt(self, number: int) -> None:
        """A segment that no manifest names, after damage."""
        found = self._survey(number)
        path = self._path(number)
        if found is None or self._adoption is None:
            return
        used, refused = self._adoption.adopt(number, found)
        if used:
            self._findings.append(f"{path}: no manifest names it, or a damaged one; what is in it is used")
        for part in refused:
            self._findings.append(
                f"{path}: records {part.first} to {part.last} of log {part.log} are partly elsewhere; these are not "
                "used"
            )
        if not used:
            with contextlib.suppress(DiskError):
                if refused:
                    self._filesystem.rename("segment.keep", path, path.removesuffix(SUFFIX) + KEPT)
                else:
                    self._filesystem.unlink("segment.discard", path)  # everything in it is somewhere else

    def _survey(self, number: int) -> Survey | None:
        """What is in a segment; None, and put aside, if nothing can be found in it."""
        path = self._path(number)
        try:
            file = self._filesystem.open("segment.read", path)
            try:
                found = survey(file, number)
            finally:
                file.close()
        except DiskError as error:
            self._findings.append(str(error))
            return None
        if found is None or not found.parts:
            self._findings.append(f"{path}: nothing in it can be read; it is kept, as {KEPT}")
            with contextlib.suppress(DiskError):
                self._filesystem.rename("segment.keep", path, path.removesuffix(SUFFIX) + KEPT)
            return None
        return found

    def _size_of(self, segment: Segment) -> int:
        """Bytes of its file; -1 if there is none."""
        path = self._path(int(segment.number))
        try:
            file = self._filesystem.open("segment.size", path)
            try:
                return file.size("segment.size")
            finally:
                file.close()
        except DiskError as error:
            if error.errno not in (errno.ENOENT, errno.EISDIR):
                return int(segment.size)  # perhaps it can be read later
            if int(segment.number) not in self._kept:
                self._findings.append(str(error))
            if error.errno == errno.EISDIR:
                put_aside(self._filesystem, "segment.keep", path)
            return -1

    def _path(self, number: int) -> str:
        return f"{self._data_dir.segments}/{segment_name(number)}"


def was_there(data_dir: DataDir) -> bool:
    """Whether there must have been a manifest once: it comes before the first segment, and before the first file leaves
    the log.

    Raises: DiskError
    """
    filesystem = data_dir.filesystem
    generations = [
        generation
        for name in filesystem.names("wal.list", data_dir.wal)
        if (generation := generation_of(name)) is not None
    ]
    if generations and min(generations) > 1:
        return True
    return any(name.endswith(SUFFIX) for name in filesystem.names("segment.list", data_dir.segments))


def settle_transient(data_dir: DataDir, logs: Logs) -> list[tuple[Log, int, int]]:
    """Settle what is in segments and need not survive a restart: log, first and last position. Where an extent has both
    kinds, only the index says which."""
    settled: list[tuple[Log, int, int]] = []
    for log in logs.logs.values():
        for segment_extent in log.extents.segments:
            if segment_extent.messages == 0:
                settled.append((log, int(segment_extent.first), int(segment_extent.last)))
            elif segment_extent.messages < segment_extent.count:
                settled += _transient_of(data_dir, log, segment_extent)
    settled = [(log, first, last) for log, first, last in settled if log.positions.live_between(first, last + 1) > 0]
    for log, first, last in settled:
        log.positions.settle(first, last)
    return settled


def _transient_of(data_dir: DataDir, log: Log, segment_extent: SegmentExtent) -> list[tuple[Log, int, int]]:
    extents: list[Extent] | None = None
    for _ in range(ATTEMPTS_MAX):
        with contextlib.suppress(DiskError):  # what stays unreadable will be found by whoever reads the segment extent
            extents = _read_index(data_dir, log, segment_extent)
            break
    return [
        (log, int(extent.first), int(extent.first + extent.count - 1))
        for extent in extents or ()
        if extent.kind == TRANSIENT
    ]


def _read_index(data_dir: DataDir, log: Log, segment_extent: SegmentExtent) -> list[Extent] | None:
    file = data_dir.filesystem.open("log.open", f"{data_dir.segments}/{segment_name(segment_extent.segment.number)}")
    try:
        return extents_of(file, segment_extent, int(log.number))
    finally:
        file.close()
