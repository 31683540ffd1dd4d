"""Keeps the write-ahead log short and the segments dense: moves what is live out of old files, so that these can be
used again.

    move       the oldest full file of the log: what is live in it goes to new segments; then the file is given back
    drop       segments in which nothing is live
    compact    segments with much that is dead, or small ones, into new ones
    declare    what was declared lately (declarations.py); so do all the others, with their edits

Each is a task: a generator on the owner's thread, which looks at the state of the logs in slices and yields what it
needs next: work for the thread that moves (every touch of the disk, checksums), a pause, or that everything appended so
far is durable. One runs at a time.

The order is what makes it safe:
1. New segments: written, synced, named, directory synced. Nobody refers to them yet; a start removes them.
2. Everything that the choice of records and the states of the logs have seen is on the disk, settlements above all: a
   transaction whose settlements were taken from memory, and its messages lost, would be half a transaction.
3. One edit of the manifest, synced: new segments, what they replace, states, what is declared.
4. Only then: the logs read from the new place, the file of the log is given back, old segments are removed, once nobody
   reads from them.

Space is needed to free space. Without any, a task is given up, what it has begun is removed, and it is tried again
later: files in which nothing is live go all the same. No error here ends the node. An edit whose outcome is unknown is
tried until it succeeds: until then nothing it refers to may go.
"""

from collections.abc import Callable, Generator
from functools import partial
from typing import Final

from broker.clock import Clock
from broker.store.batch import location_at
from broker.store.compaction import Alarm, LiveRecordFilter, SegmentBuilder, SegmentPart, Sleeper, gaps, states
from broker.store.compaction_io import Chunk, SegmentBuilders, Source, unlink_all
from broker.store.compactor_options import CompactorOptions, worth_rewriting
from broker.store.data_files import DataFiles
from broker.store.datadir import DataDir
from broker.store.declarations import Declarations
from broker.store.disk_error import DiskError
from broker.store.log import Log
from broker.store.logs import Logs
from broker.store.manifest import Manifest, ManifestLostError
from broker.store.manifest_records import Edit, edit_records
from broker.store.rewriting import whole_state
from broker.store.runner import Runner
from broker.store.segment import segment_name
from broker.store.segment_extent import Extent, Segment, SegmentExtent
from broker.store.tasks import Durable, Step, Task, Work, nothing
from broker.store.wal import WriteAheadLog
from broker.store.wal_file import BadRange, file_name
from broker.store.wal_writer import LogFile

RETRY_MS: Final = 1000
"""After an error."""
LOOK_MS: Final = 250
"""How often segments are looked at."""
_FILES_MAX: Final = 8
"""With more full files than this in the log, the rate does not count."""
_STRICT_ATTEMPTS: Final = 3
"""So often a file that cannot be read is tried again; then what is in it is lost."""


class Compactor(Sleeper):
    """One for each node; ``begin`` when there are turns."""

    def __init__(
        self,
        data_dir: DataDir,
        logs: Logs,
        wal: WriteAheadLog,
        manifest: Manifest,
        files: DataFiles,
        runner: Runner,
        clock: Clock,
        covers: int,
        options: CompactorOptions | None = None,
    ) -> None:
        self.trouble: DiskError | None = None
        """The last error, until something works again."""
        self._data_dir = data_dir
        self._filesystem = data_dir.filesystem
        self._logs = logs
        self._wal = wal
        self._manifest = manifest
        self._files = files
        self._runner = runner
        self._clock = clock
        self._covers = covers
        self.declarations = Declarations(clock, self.look)
        """Told of every record of log 0."""
        self.damaged_journal: dict[bytes, bytes] | None = None
        """What a manifest has said of log 0 that does not say any more what the logs do: it is replaced first of
        all."""
        self.declared: Callable[[], dict[bytes, bytes]] | None = None
        """Tells what is declared now, as the journal would: key -> body of the PUT."""
        self.findings: list[str] = []
        """What was found wrong with the manifest; for people. Whoever tells it takes it out."""
        self._options = options or CompactorOptions()
        self._alarm = Alarm(clock, self)
        self._task: Task | None = None
        self._pausing = False
        self._running = False
        self._attempts = 0
        self._moved = -1  # generation of the newest file whose records have moved
        self._free: list[int] = []  # generations of files that go when nobody reads from them
        self._removable: list[int] = []  # segments, the same
        self._read_bytes = 0
        self._read_from_ms = 0

    @property
    def short_of_space(self) -> bool:
        """Nothing can be moved for want of space: the log grows, and will not shrink before something is settled."""
        return self.trouble is not None and self.trouble.is_full

    @property
    def busy(self) -> bool:
        """Whether a task runs."""
        return self._task is not None

    def begin(self) -> None:
        """Look after the files from now on."""
        self._running = True
        self._wal.on_new_file = self.look
        self._logs.pages.on_full_file = self.look
        self.look()

    def stop(self) -> None:
        """Begin nothing more. What was begun is left to the next start; the runner is the caller's to stop."""
        self._running = False
        self._alarm.cancel()

    def wake(self) -> None:
        if self._pausing:
            self._pausing = False
            self._advance(None, None)
        else:
            self.look()

    # ---- tasks -------------------------------------------------------------------------------------------------------

    def look(self) -> None:
        """Begin what there is to do, unless something runs already."""
        if self._task is not None or not self._running:
            return
        try:
            self._give_back()
            task = self._choose()
        except Exception as mistake:
            self._clock.faults.caught("looking for what to move", None, mistake)
            self._try_later()
            return
        if task is not None:
            self._task = task
            self._advance(None, None)
        elif self._logs.segments.by_number or self._logs.pages.files or self._free or self._removable:
            self._alarm.set(LOOK_MS)

    def _choose(self) -> Task | None:
        if self.damaged_journal is not None:
            return self._rewrite(self.damaged_journal)
        removable = [number for number in self._removable if not self._files.in_use(segment_name(number))]
        if removable:
            return self._remove(removable)
        if self.declarations.due:
            return self._declare()
        if len(self._full_files()) > self._options.files_kept:
            return self._move()
        empty = self._empty()
        if empty:
            return self._drop(empty)
        sources = worth_rewriting(self._logs, self._options, int(self._clock.monotonic_ms()))
        return self._compact(sources) if sources else None

    def _full_files(self) -> list[LogFile]:
        return [file for file in self._wal.files[:-1] if file.generation > self._moved]

    def _empty(self) -> list[Segment]:
        return self._logs.segments.take_empty()

    def _advance(self, answer: object, error: Exception | None) -> None:
        """Run the task up to its next step."""
        task = self._task
        if task is None or not self._running:
            return
        try:
            step = task.send(answer) if error is None else task.throw(error)
        except StopIteration:
            self._task = None
            self._attempts = 0
            self.trouble = None
            self.look()
        except DiskError as given_up:
            self.trouble = given_up
            if not given_up.wants_descriptor:  # it says nothing about the file
                self._attempts += 1
            self._try_later()
        except Exception as mistake:  # of ours: the node goes on, and the task is tried again like any other
            self._clock.faults.caught("moving", None, mistake)
            self._try_later()
        else:
            self._start(step)

    def _try_later(self) -> None:
        self._task = None
        self._alarm.set(RETRY_MS)

    def _start(self, step: Step) -> None:
        if step is None:
            if self._logs.batch.is_durable():
                self._runner.submit(Work(self._advance, nothing))
            else:
                self._logs.batch.listen(Durable(self._advance))
        elif not isinstance(step, int):
            self._runner.submit(Work(self._advance, step))
        elif step:
            self._pausing = True
            self._alarm.set(step)
        else:
            self._runner.submit(Work(self._advance, nothing))

    # ---- the log -----------------------------------------------------------------------------------------------------

    def _move(self) -> Task:
        """Empty the oldest full file of the log."""
        generation = self._full_files()[0].generation
        covers = next(file for file in self._wal.files if file.generation > generation).first_sequence - 1
        logs = list(self._logs.by_file.get(generation, ()))
        live_filter = self._live_filter()
        files = SegmentBuilders(self._data_dir, self._options.new_salt)
        live = 0
        for index in range(0, len(logs), self._options.logs_per_slice):
            live += sum(live_filter.plan(log, generation) for log in logs[index : index + self._options.logs_per_slice])
            yield 0
        try:
            if not self._manifest.exists:
                yield partial(self._manifest.append, Edit())
            if live:
                source = Source(
                    self._filesystem,
                    self._files.wal_path(file_name(generation)),
                    generation,
                    self._options.chunk_size,
                )
                bad = yield from self._sift(live_filter, files, source)
                for each in bad:
                    self._lose(logs, generation, each)
            added = yield from _sealed(live_filter, files)
        except Exception:
            yield files.discard
            raise
        found: list[tuple[int, int, bytes]] = []
        for index in range(0, len(logs), self._options.logs_per_slice):
            found += states(logs, index, index + self._options.logs_per_slice)
            yield 0
        yield from self._commit(Edit(added, states=found, covers=covers))
        live_filter.turn_to(None)
        while found:
            del found[-self._options.logs_per_slice :]  # 100,000 of them at once would hold up the loop
            yield 0
        yield from self._install(added)
        for index in range(0, len(logs), self._options.logs_per_slice):
            for log in logs[index : index + self._options.logs_per_slice]:
                log.extents.forget(generation)
            yield 0
        self._logs.by_file.pop(generation, None)
        self._moved = generation
        self._free.append(generation)
        self._give_back()

    def _lose(self, logs: list[Log], generation: int, bad: BadRange) -> None:
        """Settle and tell what is live in a range of a file of the write-ahead log."""
        for log in logs:
            for extent in list(log.extents.wal):
                location = extent.location
                if location.generation == generation and bad.offset <= location.offset < bad.offset + bad.size:
                    self._logs.lose(log, extent.first, extent.first + extent.count - 1, location)

    def _give_back(self) -> None:
        """Let the files go from which everything has moved and nobody reads."""
        while self._free and not self._files.in_use(file_name(self._free[0])):
            self._wal.retire(self._free.pop(0))

    def _sift(
        self, live_filter: LiveRecordFilter, files: SegmentBuilders, source: Source
    ) -> Generator[Step, object, list[BadRange]]:
        """Everything in a file through the filter; what of the file was unreadable."""
        bad: list[BadRange] = []
        strict = self._attempts < _STRICT_ATTEMPTS
        count = self._options.records_per_slice
        while True:
            chunk = yield partial(source.read, strict)
            assert isinstance(chunk, Chunk)
            bad += chunk.bad
            for found in chunk.found:
                live_filter.begin(found.header, found.data)
                count = live_filter.work(count)
                while count == 0:
                    yield 0
                    count = live_filter.work(self._options.records_per_slice)
            yield from _flush(live_filter, files)
            if chunk.is_last:
                return bad
            pause = self._pause_ms(chunk.size)
            if pause > 0:
                yield pause

    def _pause_ms(self, size: int) -> int:
        """How long to wait after reading so many bytes."""
        rate = self._options.rate
        if rate == 0 or len(self._full_files()) > _FILES_MAX:
            return 0
        now = int(self._clock.monotonic_ms())
        due = self._read_from_ms + self._read_bytes * 1000 // rate
        if due < now:
            self._read_from_ms, self._read_bytes, due = now, 0, now
        self._read_bytes += size
        return due - now

    # ---- segments ----------------------------------------------------------------------------------------------------

    def _compact(self, sources: list[Segment]) -> Task:
        """Write what is live in some segments to new ones."""
        live_filter = self._live_filter()
        files = SegmentBuilders(self._data_dir, self._options.new_salt)
        for segment in sources:
            segment.leaving = True
        try:
            for segment in sources:
                live_filter.turn_to(segment)
                source = Source(
                    self._filesystem, self._files.path_of(segment), segment.number, self._options.chunk_size
                )
                bad = yield from self._sift(live_filter, files, source)
                if bad:
                    self._lose_from(segment, live_filter)
            added = yield from _sealed(live_filter, files)
        except Exception:
            for segment in sources:
                segment.leaving = False
                if not segment.on_pages:
                    self._logs.segments.look_at(segment)
            yield files.discard
            raise
        dropped = [int(segment.number) for segment in sources if not segment.on_pages]
        yield from self._commit(Edit(added, dropped))
        yield from self._install(added)
        self._gone(dropped)
        for segment in sources:
            if segment.on_pages:
                self._logs.pages.emptied(segment)

    def _drop(self, segments: list[Segment]) -> Task:
        """Take segments out in which nothing is live."""
        for segment in segments:
            segment.leaving = True
        dropped = [int(segment.number) for segment in segments]
        yield from self._commit(Edit(dropped=dropped))
        self._gone(dropped)

    def _gone(self, numbers: list[int]) -> None:
        for number in numbers:
            del self._logs.segments.by_number[number]
        self._removable += numbers

    def _remove(self, numbers: list[int]) -> Task:
        """Remove files that nothing refers to."""
        self._removable = [number for number in self._removable if number not in numbers]
        paths = [f"{self._data_dir.segments}/{segment_name(number)}" for number in numbers]
        try:
            yield partial(unlink_all, self._filesystem, paths)
        except DiskError:
            self._removable += numbers
            raise

    def _lose_from(self, segment: Segment, live_filter: LiveRecordFilter) -> None:
        """Settle and tell what is live in a segment and did not come through the filter."""
        extents: dict[SegmentExtent, list[Extent]] = {}
        for builder in live_filter.builders:
            for part in builder.parts:
                if part.source is not None:
                    extents.setdefault(part.source, []).extend(part.extents)
        location = location_at(segment.number)
        for log in list(self._logs.logs.values()):
            for segment_extent in [
                segment_extent for segment_extent in log.extents.segments if segment_extent.segment is segment
            ]:
                for first, last in gaps(extents.get(segment_extent, []), segment_extent.first, segment_extent.last):
                    self._logs.lose(log, first, last, location)

    def _live_filter(self) -> LiveRecordFilter:
        options = self._options
        return LiveRecordFilter(
            self._logs, options.segment_size, options.own_size, options.block_size, options.own_block_size
        )

    # ---- both --------------------------------------------------------------------------------------------------------

    def _commit(self, edit: Edit) -> Task:
        """Make the edit durable, and what was declared, however often that must be tried."""
        logs = self._logs
        covers = max(edit.covers, self._covers)
        declared = self.declarations.take()
        edit = edit._replace(
            dropped_logs=logs.take_dropped(),
            journal=declared.values(),
            declared=int(logs.batch.next_sequence) - 1,
            covers=covers,
            next_log=int(logs.next_number),
            next_segment=int(logs.segments.next_number),
        )
        yield None
        try:
            yield from self._insist(partial(self._manifest.append, edit))
        except ManifestLostError as lost:
            assert self.declared is not None
            self.findings.append(f"{lost}: it is written again from what the node knows")
            yield from self._put_together(self.declared(), edit)
        self._covers = covers
        while declared:  # 100,000 of them at once would hold up the loop
            for _ in range(min(self._options.logs_per_slice, len(declared))):
                declared.popitem()
            yield 0

    def _declare(self) -> Task:
        """Let the manifest know what was declared; not with the last space that there is for edits: that is for those
        that free some."""
        if (yield partial(self._manifest.has_space, self.declarations.size())):
            yield from self._commit(Edit())
        else:
            self.declarations.postpone()

    def _insist(self, call: Callable[[], object]) -> Task:
        while True:
            try:
                yield call
                return
            except DiskError as error:
                if isinstance(error, ManifestLostError) and self.declared is not None:
                    raise
                self.trouble = error
                yield RETRY_MS
            except Exception as mistake:  # what became of the edit is not known: it is tried until it succeeds
                self._clock.faults.caught("an edit of the manifest", None, mistake)
                yield RETRY_MS

    def _rewrite(self, journal: dict[bytes, bytes]) -> Task:
        """Put the manifest together again, from what the logs have been brought back to."""
        declared = self.declarations.take()
        edit = Edit(journal=declared.values(), declared=int(self._logs.batch.next_sequence) - 1, covers=self._covers)
        yield from self._put_together(journal, edit)
        self.damaged_journal = None

    def _put_together(self, journal: dict[bytes, bytes], edit: Edit) -> Task:
        """Let the manifest say what the logs do now, that this is declared, and then the edit."""
        logs = self._logs
        state = yield from whole_state(logs, journal, self._options.logs_per_slice)
        for number, kind, body in edit_records(edit):
            state.apply(number, kind, body)
        state.next_log, state.next_segment = int(logs.next_number), int(logs.segments.next_number)
        yield None
        yield from self._insist(partial(self._manifest.replace, state))

    def _install(self, added: list[tuple[SegmentBuilder, int]]) -> Task:
        """Let the logs read from the new segments; of which only a summary is left then."""
        for builder, size in added:
            segment = Segment(builder.number, size)
            segment.count = builder.count
            self._logs.segments.by_number[int(builder.number)] = segment
            while builder.parts:
                for part in builder.parts[-self._options.logs_per_slice :]:
                    _install_part(part, segment)
                del builder.parts[-self._options.logs_per_slice :]
                yield 0
            self._logs.segments.look_at(segment)


def _install_part(part: SegmentPart, segment: Segment) -> None:
    part.log.install(part.segment_extent(segment), part.source)


def _flush(live_filter: LiveRecordFilter, files: SegmentBuilders) -> Task:
    """Write the blocks that are full."""
    blocks = [(builder, builder.take()) for builder in live_filter.builders if builder.full]
    if blocks:
        yield partial(files.write, blocks)


def _sealed(
    live_filter: LiveRecordFilter, files: SegmentBuilders
) -> Generator[Step, object, list[tuple[SegmentBuilder, int]]]:
    """Finish the new segments; which they are, and their sizes."""
    for builder in live_filter.builders:
        builder.cut()
    yield from _flush(live_filter, files)
    added: list[tuple[SegmentBuilder, int]] = []
    if live_filter.builders:
        yield partial(files.seal, added)
    return added
