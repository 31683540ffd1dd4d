"""The node's one write-ahead log, as seen by the thread that owns it: group commit.

    append ... append      into the open commit group (``batch``), which is memory
    sync                   at the end of the turn: the commit group goes to the writer if that is free; otherwise it
                           stays open and grows, and so it does for a moment under load if nobody waits for it
    (write, fdatasync)     wal_writer.py, on the writer's thread (runner.py)
    listeners              those of the group, in the order they were registered; then the next group goes

One group is outstanding at a time, so only the last one in the log can be torn. A group is taken in ``sync`` or when
the one before it is done: what is appended without returning to the event loop is in one group, and recovered whole or
not at all.

A group for which no file can be begun for want of space or of a descriptor waits until there is some; nothing of it was
written. Files that are retired meanwhile are used again for it. Any other error, the first one, is the end: no listener
is called after it, nothing is tried again, ``on_failure`` is told once. What the disk then holds of the outstanding
group is for recovery to see. A mistake of ours while a group is taken is such an error, since nobody knows what is in
it; one in a listener is not: it is told (faults.py), and the others are called.
"""

from collections.abc import Callable
from typing import Final

from mypy_extensions import mypyc_attr

from broker.clock import Clock
from broker.faults import Faults
from broker.store.alarm import Alarm, Sleeper
from broker.store.commit_group import CommitGroup, CommitGroupHost, CommitGroupWriter
from broker.store.datadir import DataDir
from broker.store.direct_writes import DirectWrites
from broker.store.lingering import Lingering
from broker.store.recovery import Recovery
from broker.store.runner import Job, Runner
from broker.store.wal_writer import LogEnd, LogFile, WalOptions, WalWriter, is_postponable

RETRY_MS: Final = 100
"""How long a group waits that could not be written for want of a descriptor or of space."""
GROUPS_BETWEEN_CHORES: Final = 16
"""A log that is never idle still gives its retired files back, one after so many commit groups."""


@mypyc_attr(allow_interpreted_subclasses=True)
class WriteAheadLog(CommitGroupHost):
    """The log of a node. ``on_failure`` is told the first error, on the owner's thread; the node ends then."""

    def __init__(
        self, writer: WalWriter, runner: Runner, next_sequence: int, on_failure: Callable[[Exception], None]
    ) -> None:
        self.batch: Final = CommitGroupWriter(next_sequence, self, writer.options.batch_size)
        """Where records go; hot code appends to it directly. With a ``turn`` it calls ``sync`` by itself."""
        self.failure: Exception | None = None
        self.files: list[LogFile] = list(writer.files)
        """The files of the log, oldest first; the last one is being written."""
        self.short_of_space = False
        """There was no space for a spare file: once the last file is full, nothing more is promised. Time to block
        publishers."""
        self.on_new_file: Callable[[], None] | None = None
        """Called when a file is full and the next one was begun, if set."""
        self.on_short_of_space: Callable[[], object] | None = None
        """Told when ``short_of_space`` has changed."""
        self.on_direct: Callable[[], object] | None = None
        """Told after each group that the owner's thread has written itself."""
        self.faults = Faults()
        """Where mistakes of listeners are told."""
        self._writer = writer
        self._runner = runner
        self._on_failure = on_failure
        self._again = _Again(self)
        self._postponed: CommitGroup | None = None
        """What waits for a descriptor or for space."""
        self._retired: set[int] = set()
        self._busy = False
        self._wanted = False
        """``sync`` was called while a group was outstanding."""
        self._chores_left = True
        self._direct = DirectWrites()
        self._closing = False
        self._groups_since_chore = 0
        self._lingering = Lingering(self.overdue)

    @classmethod
    def open(
        cls,
        data_dir: DataDir,
        recovery: Recovery,
        runner: Runner,
        on_failure: Callable[[Exception], None],
        options: WalOptions | None = None,
    ) -> "WriteAheadLog":
        """The log behind what ``recovery`` has read to its end, all of which is durable now and may be promised.

        Raises: DiskError; the disk takes no writes, and the node cannot start
        """
        end = recovery.finish()
        writer = cls.make_writer(data_dir, options or WalOptions(), end)
        try:
            writer.start(end)
        except BaseException:
            writer.close()
            raise
        return cls(writer, runner, end.next_sequence, on_failure)

    @staticmethod
    def make_writer(data_dir: DataDir, options: WalOptions, end: LogEnd) -> WalWriter:
        """The half that touches the disk."""
        return WalWriter(data_dir.filesystem, data_dir.wal, options, end)

    def sync(self) -> None:
        self._wanted = True
        if not self._busy:
            self._next_job()

    def retire(self, generation: int) -> None:
        """Nothing in the file of this generation is needed any more. It leaves the log when the same holds for all
        older ones.

        Until then, and if the node dies first, recovery shows its records again; and perhaps the last batch before a
        restart, of which a later file has a copy.
        """
        if generation >= self.files[-1].generation:
            raise ValueError(f"generation {generation} is still being written")
        self._retired.add(generation)
        if not self._busy:
            self._next_job()

    def generation_of(self, sequence: int) -> int:
        """The generation of the file that this durable record needs: while it is not retired, recovery finds the
        record."""
        found = self.files[0]
        for file in self.files:
            if file.first_sequence > sequence:
                break
            found = file
        return found.generation

    def look_for_space(self) -> None:
        """Somebody else may have made space: try again for a spare file."""
        if self.short_of_space and not self._busy and self._postponed is None:
            self._chores_left = True
            self._writer.look_for_space()
            self._next_job()

    def idle(self) -> None:
        """Let the writer make files ready while there is nothing else to do; it goes on by itself from here."""
        if not self._busy:
            self._next_job()

    def close(self) -> None:
        """Write what was appended, wait for it, mark the log as closed. The runner is the caller's to stop."""
        if self.batch.has_something():
            self._wanted = True
        self._closing = True
        self.try_again()
        if self._wanted and not self._busy:
            self._next_job()
        self._runner.drain()
        if self.failure is None:
            # Empty, behind a sync: the next start knows that nothing is in doubt and has nothing to write again.
            self._submit(self.batch.take())
            self._runner.drain()
        self._writer.close()

    def _next_job(self) -> None:
        try:
            self._begin_next_job()
        except Exception as error:
            self.faults.caught("taking a commit group", None, error)
            self.fail(error)

    def _begin_next_job(self) -> None:
        if self.failure is not None:
            self.batch.take()  # nobody will ever be told
            return
        if self._postponed is not None:
            if self._oldest_is_retired() and not self._closing:
                self._busy = True
                self._runner.submit(_Chore(self, self._writer, True))
            return
        chore_is_due = self._groups_since_chore >= GROUPS_BETWEEN_CHORES
        if self._wanted and self.batch.holders == 0 and not (chore_is_due and self._has_chores()):
            if not self._closing and self._lingering.goes_on(self.batch):
                self.batch.linger()
                return  # no time for chores: zeros in a file that is filled with records soon are work for nothing
            self._wanted = False
            if self.batch.has_something():
                self._groups_since_chore += 1
                self._submit(self.batch.take())
                return
        if self._has_chores():
            self._groups_since_chore = 0
            self._busy = True
            self._runner.submit(_Chore(self, self._writer, self._oldest_is_retired()))

    def overdue(self) -> None:
        """The open group has been open for long enough."""
        if not self._busy:
            self._next_job()

    def _submit(self, group: CommitGroup) -> None:
        self._busy = True
        self._lingering.begin(group.size())
        job = _Commit(self, self._writer, group)
        if not self._run_directly(job, group):
            self._runner.submit(job)

    def _run_directly(self, job: Job, group: CommitGroup) -> bool:
        """Whether the owner's thread has written the group itself."""
        turn = self.batch.turn
        if turn is None:
            return False
        started_ms = turn.clock.monotonic_ms()
        if not self._direct.may_write(group.size(), turn, started_ms) or not self._runner.run_now(job):
            return False
        ended_ms = turn.clock.monotonic_ms()
        self._direct.wrote(ended_ms - started_ms, ended_ms)
        if self.on_direct is not None:
            self.faults.run("after a commit group", None, self.on_direct)
        return True

    def _has_chores(self) -> bool:
        return not self._closing and (self._chores_left or self._oldest_is_retired())

    def _oldest_is_retired(self) -> bool:
        return self.files[0].generation in self._retired

    def committed(self, group: CommitGroup) -> None:
        """The group is on the disk. Called by its job."""
        if self.files[-1].generation != self._writer.files[-1].generation:
            self.files = list(self._writer.files)
            self._chores_left = True
            if self.on_new_file is not None:
                self.faults.run("new log file", None, self.on_new_file)
        self.batch.committed()
        group.tell(self.batch.durable_through, self.faults)
        self._busy = False
        self._next_job()

    def tidied(self, more: bool) -> None:
        """A chore is done. Called by its job."""
        self.files = list(self._writer.files)
        self._retired = {generation for generation in self._retired if generation >= self.files[0].generation}
        self._chores_left = more
        self._busy = False
        if self._postponed is not None:
            self.try_again()
            return
        changed = self.short_of_space != self._writer.short_of_space
        self.short_of_space = self._writer.short_of_space
        self._next_job()
        if changed and self.on_short_of_space is not None:
            self.faults.run("space for the log", None, self.on_short_of_space)

    def postpone(self, group: CommitGroup, error: Exception) -> None:
        """There is no descriptor or no space for a new file, and nothing of the group is written: it waits, like all
        behind it. Called by its job.
        """
        turn = self.batch.turn
        if turn is None or self._closing:
            self.fail(error)
            return
        self._postponed = group
        self._busy = False
        self._again.set(turn.clock)
        self._next_job()
        if not self.short_of_space:
            self.short_of_space = True
            if self.on_short_of_space is not None:
                self.faults.run("space for the log", None, self.on_short_of_space)

    def try_again(self) -> None:
        """Write the group that was postponed, if one was."""
        group = self._postponed
        if group is not None and not self._busy:
            self._postponed = None
            self._busy = True
            self._runner.submit(_Commit(self, self._writer, group))

    def fail(self, error: Exception) -> None:
        """The end of the log. Called by the job that failed."""
        self.failure = error
        self._busy = False
        self._on_failure(error)


class _Commit(Job):
    """A commit group on its way."""

    def __init__(self, log: WriteAheadLog, writer: WalWriter, group: CommitGroup) -> None:
        self._log = log
        self._writer = writer
        self._group = group
        self._error: Exception | None = None

    def run(self) -> None:
        try:
            self._writer.write(self._group)
        except Exception as error:  # whatever it is, the owner must hear of it, or it would wait for ever
            self._error = error

    def finished(self) -> None:
        error = self._error
        if error is None:
            self._log.committed(self._group)
        elif is_postponable(error):
            self._log.postpone(self._group, error)
        else:
            self._log.fail(error)


class _Again(Sleeper):
    """Wakes a log whose group was postponed."""

    def __init__(self, log: WriteAheadLog) -> None:
        self._log = log
        self._alarm: Alarm | None = None

    def set(self, clock: Clock) -> None:
        """Once, in a while."""
        if self._alarm is None:
            self._alarm = Alarm(clock, self)
        self._alarm.set(RETRY_MS)

    def wake(self) -> None:
        self._log.try_again()


class _Chore(Job):
    """One retired file taken out of the log, or one step towards files that are ready."""

    def __init__(self, log: WriteAheadLog, writer: WalWriter, retires: bool) -> None:
        self._log = log
        self._writer = writer
        self._retires = retires
        self._more = True
        self._error: Exception | None = None

    def run(self) -> None:
        try:
            if self._retires:
                self._writer.retire()
            else:
                self._more = self._writer.prepare()
        except Exception as error:  # as above
            self._error = error

    def finished(self) -> None:
        if self._error is None:
            self._log.tidied(self._more)
        else:
            self._log.fail(self._error)
