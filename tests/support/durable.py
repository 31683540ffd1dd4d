"""A broker in memory with a disk: the real store on a simulated disk, its threads in the test's hands.

broker = DurableBroker()
broker.disk_is_stalled = True             # nothing reaches the disk: no promise may be heard
broker = broker.killed()                  # the process died, the system lives: what was written is there
broker = broker.lost_power(seed)          # one of the disks that a power failure can leave
broker = broker.stopped()                 # SIGTERM
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker import node
from broker.store import wal
from broker.store.store import Store, StoreOptions, StoreOwner, Threads
from broker.store.wal_writer import WalOptions
from tests.support.faulty_disk import FaultyDisk
from tests.support.hand_runner import HandRunner
from tests.support.memory import Broker

if TYPE_CHECKING:
    from broker.store.filesystem import FileSystem

DATA_DIR = "/data"
OPTIONS = WalOptions(file_size=1 << 18)
"""Small files: more of them, and less to fill with zeros."""


class DurableBroker(Broker):
    """A node whose data directory is on ``disk``."""

    writes_directly = True
    """Small batches are written within the turn, as on a quick disk; otherwise always by the thread.

    Of the class, so that a fixture reaches the nodes that come after a restart, too.
    """

    def __init__(self, disk: FaultyDisk | None = None, options: WalOptions = OPTIONS) -> None:
        self.disk: FileSystem = disk or FaultyDisk()
        self._runners: list[HandRunner] = []
        self._stalled = False
        self.failure: Exception | None = None
        self._options = options
        super().__init__()

    def set_up(self) -> None:
        self._runners = [HandRunner() for _ in Threads._fields]
        for runner in self._runners:
            runner.faults = self.clock.faults
        self.disk_is_stalled = False
        options = StoreOptions(self._options, threads=Threads(*self._runners))
        self.store = Store.open(self.disk, DATA_DIR, StoreOwner(self.clock, lambda told: None, self._failed), options)
        node.restore(self.server, self.store, "/")

    @property
    def disk_is_stalled(self) -> bool:
        """No disk work is done, though it was asked for."""
        return self._stalled

    @disk_is_stalled.setter
    def disk_is_stalled(self, stalled: bool) -> None:
        self._stalled = stalled
        for runner in self._runners:
            runner.direct = self.writes_directly and not stalled

    def _failed(self, error: Exception) -> None:
        self.failure = error

    def work(self) -> bool:
        if self.disk_is_stalled:
            return False
        for runner in self._runners:
            if runner.jobs:
                runner.step()
                return True
        return False

    def unwritten_bytes(self) -> int:
        """What the batches hold that wait for the disk, without headers and padding."""
        return sum(
            int(batch.payload_size)
            for job in self._runners[0].jobs
            if isinstance(job, wal._Commit)
            for batch in job._group.batches
        )

    def write_without_telling(self) -> None:
        """The disk does its work, but the node ends before it hears of it."""
        for job in self._runners[0].jobs:
            job.run()
        self._runners[0].jobs.clear()

    def settled(self) -> DurableBroker:
        """Let the time pass that settlements may wait, and everything reach the disk."""
        self.advance(20)
        return self

    def again(self, disk: FaultyDisk) -> DurableBroker:
        """The next node on a disk; time has not passed."""
        following = DurableBroker.__new__(DurableBroker)
        following.__init__(disk, self._options)  # type: ignore[misc]
        return following

    def killed(self) -> DurableBroker:
        """The process was killed: what it wrote is there, synced or not."""
        assert isinstance(self.disk, FaultyDisk)
        return self.again(self.disk.restarted())

    def lost_power(self, seed: int = 0) -> DurableBroker:
        """The machine went down: of what was not synced, anything may be missing."""
        assert isinstance(self.disk, FaultyDisk)
        return self.again(next(iter(self.disk.crash_states(seed, 1))))

    def stopped(self, *, at_once: bool = False) -> DurableBroker:
        """A clean end: clients are told to go, everything is written. ``at_once``: whatever is under way has no more
        turns."""
        assert isinstance(self.disk, FaultyDisk)
        for connection in list(self.server.connections.values()):
            connection.shut_down("broker forced connection closure with reason 'shutdown'")
        if not at_once:
            self.run_turn()
        node.on_shutdown(self.server)
        self.store.close()
        return self.again(self.disk.restarted())
