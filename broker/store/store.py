"""Everything a node keeps on disk, opened and closed in the right order. No logic of its own."""

import gc
from collections.abc import Callable
from typing import Final, NamedTuple

from broker.clock import Clock
from broker.store.batch_reader import Fetcher
from broker.store.compactor import Compactor
from broker.store.compactor_options import CompactorOptions
from broker.store.damage import Damage
from broker.store.data_files import DataFiles
from broker.store.datadir import DataDir
from broker.store.disk_error import DiskError
from broker.store.filesystem import FileSystem
from broker.store.keeping import keep_orphans
from broker.store.log_recovery import LogRecovery
from broker.store.logs import Logs
from broker.store.manifest import Manifest
from broker.store.manifest_recovery import Restoration, settle_transient, was_there
from broker.store.page_files import PageFiles
from broker.store.recovery import Recovery, Report
from broker.store.runner import Runner, WriterThread
from broker.store.wal import WriteAheadLog
from broker.store.wal_writer import WalOptions
from broker.turn import Turn

Wake = Callable[[Callable[[], None]], object]

_THREADS: Final = ("leveret-log", "leveret-read", "leveret-move", "leveret-page")


class Threads(NamedTuple):
    """Who works on the disk."""

    log: Runner
    read: Runner
    move: Runner
    page: Runner


class Store:
    """The disk of a running node."""

    def __init__(
        self,
        data_dir: DataDir,
        wal: WriteAheadLog,
        logs: Logs,
        manifest: Manifest,
        compactor: Compactor,
        recovery: Recovery,
        threads: Threads,
        damage: Damage,
    ) -> None:
        self.wal = wal
        self.logs = logs
        self.log_recovery = LogRecovery(logs)
        self.compactor = compactor
        self.changes: list[tuple[int, bytes]] = []
        """What the journal has to say; taken by whoever brings back what was declared, before ``begin``."""
        self.report: Report = recovery.report
        """What recovery of the write-ahead log has found."""
        self.findings: list[str] = []
        """What was found wrong with manifest and segments; and, after ``begin``, which records are lost. For people."""
        self.damage = damage
        """What was lost, now and earlier."""
        self._data_dir = data_dir
        self._manifest = manifest
        self._threads = threads
        self._new_salt = CompactorOptions().new_salt
        self._fetcher: Fetcher | None = None
        self._page_files: PageFiles | None = None

    @classmethod
    def open(
        cls,
        filesystem: FileSystem,
        path: str,
        clock: Clock,
        wake: Wake,
        on_failure: Callable[[Exception], None],
        options: WalOptions | None = None,
        compactor_options: CompactorOptions | None = None,
        threads: Threads | None = None,
        make_compactor: type[Compactor] = Compactor,
    ) -> "Store":
        """The store in the directory ``path``, recovered. ``on_failure`` hears of the first error of a write: the node
        must end then.

        Raises: DataDirError if it is in use or of another format, DiskError if the disk does not take what a start has
        to write
        """
        compactor_options = compactor_options or CompactorOptions()
        data_dir = DataDir.open(filesystem, path)
        collecting = gc.isenabled()
        # Nothing of what is made here is garbage, and looking at all of it again and again takes as long as reading it.
        gc.disable()
        try:
            manifest = Manifest(data_dir, compactor_options.new_salt, compactor_options.manifest_size)
            state = manifest.recover()
            logs = Logs(clock)
            log_recovery = LogRecovery(logs)
            lost = manifest.damaged or (not manifest.exists and was_there(data_dir))
            restored = Restoration(data_dir, state, logs, lost).run()
            changes: list[tuple[int, bytes]] = []
            recovery = Recovery(data_dir, restored.replayed_from, restored.resume_at)
            for generation, found in recovery.batches():
                header = found.header
                known = not lost and header.first_sequence + header.record_count - 1 <= state.declared
                log_recovery.replay(header, found.data, generation, found.offset, [] if known else changes)
            log_recovery.settled_transient(settle_transient(data_dir, logs))
            if threads is None:
                threads = Threads(*(WriterThread(wake, name, clock.faults) for name in _THREADS))
            wal = WriteAheadLog.open(data_dir, recovery, threads.log, on_failure, options)
            wal.faults = clock.faults
            if restored.differs or recovery.report.damaged:
                log_recovery.distrust()
        except BaseException:
            data_dir.close()
            raise
        finally:
            if collecting:
                gc.enable()
        logs.attach(wal.batch)
        files = DataFiles(filesystem, data_dir.wal, data_dir.segments, data_dir.pages)
        fetcher = Fetcher(files, logs, threads.read, clock)
        logs.reader = fetcher
        page_files = PageFiles(filesystem, data_dir.pages, logs.pages, files, threads.page, clock)
        logs.pages.attach(page_files, clock.wall_ms)
        compactor = make_compactor(
            data_dir, logs, wal, manifest, files, threads.move, clock, restored.covers, compactor_options
        )
        damage = Damage(filesystem, data_dir.path, clock, threads.move)
        damage.load()
        store = cls(data_dir, wal, logs, manifest, compactor, recovery, threads, damage)
        store.changes = state.changes() + changes
        for kind, body in changes:
            compactor.declarations.add(kind, body)
        store.findings = manifest.findings + restored.findings
        if restored.differs:
            compactor.damaged_journal = state.journal
        store._new_salt = compactor_options.new_salt
        store._fetcher = fetcher
        store._page_files = page_files
        store.log_recovery = log_recovery
        return store

    @property
    def manifest_cut(self) -> list[str]:
        """Edits of the manifest that were never finished, as far as anyone can tell; for people."""
        return self._manifest.cut

    @property
    def repaired(self) -> list[str]:
        """Damage to what is there twice, which has lost nothing; for people."""
        return self._data_dir.repaired + self._manifest.repaired

    @property
    def short_of_space(self) -> bool:
        """The disk is full, and soon nothing more can be written: time to block publishers."""
        pages = self.page_trouble
        return self.wal.short_of_space or self.compactor.short_of_space or (pages is not None and pages.is_full)

    @property
    def page_trouble(self) -> DiskError | None:
        """Why page files cannot be written, until they can."""
        return None if self._page_files is None else self._page_files.trouble

    def look_for_space(self) -> None:
        """Somebody else may have made room on the disk."""
        self.wal.look_for_space()

    def begin(self, log_numbers: set[int], turn: Turn) -> None:
        """What was declared is back: ``log_numbers`` are the logs that belong to something. From now on there are
        turns."""
        self.changes = []
        self.wal.batch.turn = turn
        if self.damage.news(self._losses()):
            self.findings += keep_orphans(self._data_dir, self.logs, log_numbers, self._new_salt)
        self.log_recovery.finish(log_numbers)
        self.findings += [
            f"records {first} to {last} of log {log.number} are lost" for log, first, last in self.log_recovery.missing
        ]
        self.log_recovery.missing = []
        self.damage.add(self._losses())
        self.damage.save()
        self.wal.idle()
        if self._page_files is not None:
            self._page_files.begin()
        self.compactor.begin()

    def _losses(self) -> list[str]:
        return [*map(str, self.report.damaged), *self.findings]

    def close(self) -> None:
        """Write what waits, if the disk still takes it, and let the directory go."""
        self.compactor.stop()
        if self.wal.failure is None:
            self.logs.settle()
        self.wal.close()
        for thread in self._threads:
            thread.stop()
        if self._fetcher is not None:
            self._fetcher.loader.close()
        if self._page_files is not None:
            self._page_files.close()
        self._manifest.close()
        self._data_dir.close()
