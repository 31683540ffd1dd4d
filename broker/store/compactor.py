"""Keeps the write-ahead log short and the segments dense: moves what is live out of old files, so that these can be
used again.

    move       the oldest full file of the log (wal_compaction.py): what is live in it goes to new segments; then the
               file is given back
    drop       segments in which nothing is live (segment_compaction.py)
    compact    segments with much that is dead, or small ones, into new ones
    declare    what was declared lately (manifest_edits.py); so do all the others, with their edits

Each is a task: a generator on the owner's thread, which looks at the state of the logs in slices and yields what it
needs next: work for the thread that moves (every touch of the disk, checksums), a pause, or that everything appended so
far is durable. One runs at a time.

The order is what makes it safe:
1. New segments: written, synced, named, directory synced. Nobody refers to them yet; a start removes them.
2. Everything that the choice of records and the states of the logs have seen is on the disk.
3. One edit of the manifest, synced: new segments, what they replace, states, what is declared.
4. Only then: the logs read from the new place, the file of the log is given back, old segments are removed, once nobody
   reads from them.

Space is needed to free space. Without any, a task is given up, what it has begun is removed, and it is tried again
later: files in which nothing is live go all the same. No error here ends the node.
"""

from typing import Final

from broker.store.alarm import Alarm, Sleeper
from broker.store.compactor_options import CompactorOptions
from broker.store.disk_error import DiskError
from broker.store.live_record_copy import LiveRecordCopy, ReadRate
from broker.store.manifest_edits import RETRY_MS, ManifestEdits
from broker.store.runner import Runner
from broker.store.segment_compaction import SegmentCompaction, worth_rewriting
from broker.store.store_parts import StoreParts
from broker.store.tasks import Durable, Step, Task, Work, nothing
from broker.store.wal_compaction import WalCompaction

LOOK_MS: Final = 250
"""How often segments are looked at."""
_STRICT_ATTEMPTS: Final = 3
"""So often a file that cannot be read is tried again; then what is in it is lost."""


class Compactor(Sleeper):
    """Chooses the tasks and drives them. One for each node; ``begin`` when there are turns."""

    def __init__(self, parts: StoreParts, runner: Runner, covers: int, options: CompactorOptions | None = None) -> None:
        """``covers``: the number of the last record that the manifest represents."""
        self._options = options or CompactorOptions()
        self.trouble: DiskError | None = None
        """The last error, until something works again."""
        self.edits = ManifestEdits(parts, covers, self._options.logs_per_slice, self.look, self._failed)
        self._parts = parts
        self._logs = parts.logs
        self._clock = parts.clock
        self._runner = runner
        self._wal = WalCompaction(parts, self.edits, self._options)
        self._segments = SegmentCompaction(parts, self.edits)
        self._rate = ReadRate(parts.clock, self._options.rate, self._wal.full_files)
        self._alarm = Alarm(parts.clock, self)
        self._task: Task | None = None
        self._pausing = False
        self._running = False
        self._attempts = 0

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
        self._parts.wal.on_new_file = self.look
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

    # ---- choosing ----------------------------------------------------------------------------------------------------

    def look(self) -> None:
        """Begin what there is to do, unless something runs already."""
        if self._task is not None or not self._running:
            return
        try:
            all_given_back = self._wal.give_back()
            task = self._choose()
        except Exception as mistake:
            self._clock.faults.caught("looking for what to move", None, mistake)
            self._try_later()
            return
        if task is not None:
            self._task = task
            self._logs.are_moving = True
            self._advance(None, None)
        elif self._has_files() or not all_given_back:
            self._alarm.set(LOOK_MS)

    def _choose(self) -> Task | None:
        if self.edits.damaged_journal is not None:
            return self.edits.rewrite(self.edits.damaged_journal)
        removable = self._segments.removable()
        if removable:
            return self._segments.remove(removable)
        if self.edits.declarations.due:
            return self.edits.declare()
        if len(self._wal.full_files()) > self._options.files_kept:
            return self._wal.move(self._new_copy())
        empty = self._logs.segments.take_empty()
        if empty:
            return self._segments.drop(empty)
        sources = worth_rewriting(self._logs, self._options, int(self._clock.monotonic_ms()))
        return self._segments.compact(sources, self._new_copy()) if sources else None

    def _new_copy(self) -> LiveRecordCopy:
        return LiveRecordCopy(self._parts, self._options, self._rate, self._attempts < _STRICT_ATTEMPTS)

    def _has_files(self) -> bool:
        """Whether there is something that will have to be looked at again."""
        logs = self._logs
        return bool(logs.segments.by_number or logs.pages.files) or self._segments.has_removable()

    # ---- driving -----------------------------------------------------------------------------------------------------

    def _advance(self, answer: object, error: Exception | None) -> None:
        """Run the task up to its next step."""
        task = self._task
        if task is None or not self._running:
            return
        try:
            step = task.send(answer) if error is None else task.throw(error)
        except StopIteration:
            self._task = None
            self._logs.are_moving = False
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

    def _failed(self, error: DiskError) -> None:
        """An edit is tried again."""
        self.trouble = error

    def _try_later(self) -> None:
        self._task = None
        self._logs.are_moving = False
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
