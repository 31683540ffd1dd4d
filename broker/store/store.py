"""Everything a node keeps on disk, opened and closed in the right order. No logic of its own."""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
from broker.store.page_files import PageFiles
from broker.store.recovery import Report
from broker.store.runner import Runner, WriterThread
from broker.store.store_parts import StoreParts
from broker.store.store_recovery import Recovered, recover
from broker.store.wal import WriteAheadLog
from broker.store.wal_writer import WalOptions
from broker.turn import Turn

_THREADS: Final = ("leveret-log", "leveret-read", "leveret-move", "leveret-page")


class Threads(NamedTuple):
    """Who works on the disk."""

    log: Runner
    read: Runner
    move: Runner
    page: Runner


class StoreOwner(NamedTuple):
    """Whose store it is: the node, on the thread of its event loop."""

    clock: Clock
    wake: Callable[[Callable[[], None]], object]
    """Lets the owner's thread call what it is given, soon; called by the others."""
    on_failure: Callable[[Exception], None]
    """Hears of the first error of a write: the node must end then."""


class StoreOptions(NamedTuple):
    """How a store uses the disk, and who works on it; None for what is usual."""

    wal: WalOptions | None = None
    compactor: CompactorOptions | None = None
    threads: Threads | None = None


class Store:
    """The disk of a running node."""

    def __init__(self, parts: StoreParts, found: Recovered, threads: Threads, options: CompactorOptions) -> None:
        """``found`` is what ``parts`` were made of.

        Raises: DiskError
        """
        self.wal = parts.wal
        self.logs = parts.logs
        self.log_recovery = found.log_recovery
        self.compactor = Compactor(parts, threads.move, found.restored.covers, options)
        self.changes = found.state.changes() + found.changes
        """What the journal has to say; taken by whoever brings back what was declared, before ``begin``."""
        self.report: Report = found.wal.report
        """What recovery of the write-ahead log has found."""
        self.findings = found.manifest.findings + found.restored.findings
        """What was found wrong with manifest and segments; and, after ``begin``, which records are lost. For people."""
        self.damage = Damage(parts.data_dir.filesystem, parts.data_dir.path, parts.clock, threads.move)
        """What was lost, now and earlier."""
        self._data_dir = parts.data_dir
        self._manifest = parts.manifest
        self._threads = threads
        self._new_salt = options.new_salt
        self._fetcher = Fetcher(parts.files, parts.logs, threads.read, parts.clock)
        self._page_files = PageFiles(parts, threads.page)
        self.damage.load()
        self.logs.reader = self._fetcher
        self.logs.pages.attach(self._page_files, parts.clock.wall_ms)
        for kind, body in found.changes:
            self.compactor.edits.declarations.add(kind, body)
        if found.restored.differs:
            self.compactor.edits.damaged_journal = found.state.journal

    @classmethod
    def open(
        cls,
        filesystem: FileSystem,
        path: str,
        owner: StoreOwner,
        options: StoreOptions | None = None,
    ) -> "Store":
        """The store in the directory ``path``, recovered.

        Raises: DataDirError if it is in use or of another format, DiskError if the disk does not take what a start has
        to write
        """
        options = options or StoreOptions()
        compactor_options = options.compactor or CompactorOptions()
        data_dir = DataDir.open(filesystem, path)
        try:
            with _without_looking_for_cycles():
                found = recover(data_dir, owner.clock, compactor_options)
                threads = options.threads or _start_threads(owner)
                wal = WriteAheadLog.open(data_dir, found.wal, threads.log, owner.on_failure, options.wal)
                wal.faults = owner.clock.faults
                if found.restored.differs or found.wal.report.damaged:
                    found.log_recovery.distrust(sum(each.lost_count for each in found.wal.report.damaged))
            found.logs.attach(wal.batch)
            files = DataFiles(filesystem, data_dir.wal, data_dir.segments, data_dir.pages)
            parts = StoreParts(data_dir, found.manifest, found.logs, wal, files, owner.clock)
            return cls(parts, found, threads, compactor_options)
        except BaseException:
            data_dir.close()
            raise

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
        return self._page_files.trouble

    def look_for_space(self) -> None:
        """Somebody else may have made space on the disk."""
        self.wal.look_for_space()

    def begin(self, log_numbers: set[int], turn: Turn) -> None:
        """What was declared is back: ``log_numbers`` are the logs that belong to something. From now on there are
        turns."""
        self.changes = []
        self.wal.batch.turn = turn
        if self.wal.batch.has_something():
            turn.schedule_sync(self.wal.batch)  # what was said while there were none
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
        self._fetcher.loader.close()
        self._page_files.close()
        self._manifest.close()
        self._data_dir.close()


def _start_threads(owner: StoreOwner) -> Threads:
    return Threads(*(WriterThread(owner.wake, name, owner.clock.faults) for name in _THREADS))


@contextmanager
def _without_looking_for_cycles() -> Iterator[None]:
    """Nothing of what is made here is garbage, and looking at all of it again and again takes as long as reading it."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()
