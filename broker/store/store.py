"""Everything a node keeps on disk, opened and closed in the right order. No logic of its own."""

import gc
from collections.abc import Callable
from typing import NamedTuple

from broker.clock import Clock
from broker.store.datadir import DataDir
from broker.store.filesystem import FileSystem
from broker.store.logs import Logs
from broker.store.manifest import Manifest
from broker.store.mover import Mover, MoverOptions
from broker.store.reading import Fetcher
from broker.store.recovery import Recovery, Report
from broker.store.restoring import restore, settle_transient
from broker.store.runner import Runner, WriterThread
from broker.store.wal import WriteAheadLog
from broker.store.wal_writer import WalOptions
from broker.turn import Turn

Wake = Callable[[Callable[[], None]], object]


class Threads(NamedTuple):
    """Who works on the disk."""

    log: Runner
    read: Runner
    move: Runner


class Store:
    """The disk of a running node."""

    def __init__(
        self, data_dir: DataDir, wal: WriteAheadLog, logs: Logs, manifest: Manifest, mover: Mover, recovery: Recovery, threads: Threads
    ) -> None:
        self.wal = wal
        self.logs = logs
        self.mover = mover
        self.changes: list[tuple[int, bytes]] = []
        """What the journal has to say; taken by whoever brings back what was declared, before ``begin``."""
        self.report: Report = recovery.report
        """What recovery of the write-ahead log has found."""
        self.findings: list[str] = []
        """What was found wrong with manifest and segments; and, after ``begin``, which records are lost. For people."""
        self._data_dir = data_dir
        self._manifest = manifest
        self._threads = threads

    @classmethod
    def open(
        cls,
        filesystem: FileSystem,
        path: str,
        clock: Clock,
        wake: Wake,
        on_failure: Callable[[Exception], None],
        options: WalOptions | None = None,
        mover_options: MoverOptions | None = None,
        threads: Threads | None = None,
        make_mover: type[Mover] = Mover,
    ) -> "Store":
        """The store in the directory ``path``, recovered. ``on_failure`` hears of the first error of a write: the node must end then.

        Raises: DataDirError if it is in use or of another format, DiskError if the disk does not take what a start has to write
        """
        mover_options = mover_options or MoverOptions()
        data_dir = DataDir.open(filesystem, path)
        collecting = gc.isenabled()
        gc.disable()  # nothing of what is made here is garbage, and looking at all of it again and again takes as long as reading it
        try:
            manifest = Manifest(data_dir, mover_options.new_salt, mover_options.manifest_size)
            state = manifest.recover()
            logs = Logs(clock)
            findings = restore(data_dir, state, logs, manifest.damaged or not manifest.exists)
            changes = state.changes()
            recovery = Recovery(data_dir, state.covers)
            for generation, found in recovery.batches():
                logs.replay(found.header, found.data, generation, found.offset, changes)
            settle_transient(data_dir, logs)
            if threads is None:
                threads = Threads(*(WriterThread(wake, name, clock.faults) for name in ("leveret-log", "leveret-read", "leveret-move")))
            wal = WriteAheadLog.open(data_dir, recovery, threads.log, on_failure, options)
            wal.faults = clock.faults
        except BaseException:
            data_dir.close()
            raise
        finally:
            if collecting:
                gc.enable()
        logs.attach(wal.batch)
        fetcher = Fetcher(filesystem, data_dir.wal, data_dir.segments, logs, threads.read, clock)
        logs.reader = fetcher
        mover = make_mover(data_dir, logs, wal, manifest, fetcher, threads.move, clock, state.covers, mover_options)
        store = cls(data_dir, wal, logs, manifest, mover, recovery, threads)
        store.changes = changes
        store.findings = manifest.findings + findings
        return store

    @property
    def manifest_cut(self) -> list[str]:
        """Edits of the manifest that were never finished, as far as anyone can tell; for people."""
        return self._manifest.cut

    @property
    def short_of_space(self) -> bool:
        """The disk is full, and soon nothing more can be written: time to block publishers."""
        return self.wal.short_of_space or self.mover.short_of_space

    def look_for_space(self) -> None:
        """Somebody else may have made room on the disk."""
        self.wal.look_for_space()

    def begin(self, log_numbers: set[int], turn: Turn) -> None:
        """What was declared is back: ``log_numbers`` are the logs that belong to something. From now on there are turns."""
        self.changes = []
        self.wal.batch.turn = turn
        self.logs.recovered(log_numbers)
        self.findings += [f"records {first} to {last} of log {log.number} are lost" for log, first, last in self.logs.missing]
        self.logs.missing = []
        self.wal.idle()
        self.mover.begin()

    def close(self) -> None:
        """Write what waits, if the disk still takes it, and let the directory go."""
        self.mover.stop()
        if self.wal.failure is None:
            self.logs.settle()
        self.wal.close()
        for thread in self._threads:
            thread.stop()
        self._manifest.close()
        self._data_dir.close()
