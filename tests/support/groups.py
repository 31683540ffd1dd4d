"""Groups of one on a store in memory, with a state machine that remembers what it was told."""

from __future__ import annotations

from broker.cluster.group import Group
from broker.cluster.group_environment import REST_MS, GroupEnvironment
from broker.cluster.machine import Machine
from broker.promises import PromiseSource, PromiseWaiter
from broker.raft.configuration import Configuration
from broker.raft.raft import Options
from broker.store.compactor_options import CompactorOptions
from tests.support.raft_group import Constant
from tests.support.store import Running


class Remembering(Machine):
    """Applies lines of text."""

    def __init__(self) -> None:
        self.gathered: list[bytes] = []
        self.lines: list[bytes] = []
        self.snapshots = 0
        self.small = False

    def take(self) -> bytes:
        gathered, self.gathered = self.gathered, []
        return b"\n".join(gathered)

    def apply(self, data: bytes) -> None:
        self.lines += data.split(b"\n")

    def snapshot(self) -> bytes:
        self.snapshots += 1
        return b"\n".join(self.lines)

    def is_small(self) -> bool:
        return self.small

    def restore(self, data: bytes) -> None:
        self.lines = data.split(b"\n") if data else []


class Waiting(PromiseWaiter):
    """Remembers whether it was told."""

    def __init__(self) -> None:
        self.told = ""

    def kept(self, source: PromiseSource) -> None:
        assert not self.told
        self.told = "kept"

    def lost(self, source: PromiseSource) -> None:
        assert not self.told
        self.told = "lost"


class OneGroup:
    """A group of one on a running store."""

    def __init__(self, running: Running, number: int | None = None) -> None:
        self.running = running
        self.number = int(running.declare().number) if number is None else number
        self.machine = Remembering()
        environment = GroupEnvironment(running.logs, running.clock, Options(), Constant())
        log = running.logs.open(self.number)
        self.group = Group(environment, log, 1, Configuration([1]), self.machine)

    def write(self, line: bytes) -> Waiting:
        """To be kept; who waits for that."""
        self.machine.gathered.append(line)
        self.group.written()
        waiting = Waiting()
        self.group.promises.when(self.group.promises.ticket(), waiting)
        return waiting

    def rest(self) -> None:
        """Nothing is written for a while."""
        for _ in range(3):
            self.running.clock.advance(REST_MS)

    def again(self, moving: CompactorOptions | None = None) -> OneGroup:
        """After the process was killed."""
        found = OneGroup(self.running.killed(moving), self.number)
        found.group.recover()
        return found
