"""broker/store/direct_writes.py: which batches the owner's thread writes itself (docs/durability-format.md, "Why
so")."""

from __future__ import annotations

import pytest

from broker.store.datadir import DataDir
from broker.store.direct_writes import DIRECT_PAUSE_MS_MAX, DIRECT_PAUSE_MS_MIN, DIRECT_SIZE_MAX, DIRECT_STALL_MS
from broker.store.recovery import Recovery
from broker.store.runner import Job
from broker.store.wal import WriteAheadLog
from broker.store.wal_writer import WalOptions
from broker.turn import Turn
from tests.support.fake_clock import FakeClock
from tests.support.faulty_disk import FaultyDisk
from tests.support.hand_runner import HandRunner


class Direct(HandRunner):
    """Takes jobs on the owner's thread, and lets `took_ms` pass for each."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__()
        self.clock = clock
        self.took_ms = 0
        self.done = 0

    def run_now(self, job: Job) -> bool:
        if self.jobs:
            return False
        self.done += 1
        job.run()
        self.clock.advance(self.took_ms)
        job.finished()
        return True


class Node:
    """A log whose batches are counted by who wrote them."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.turn = Turn(self.clock)
        self.runner = Direct(self.clock)
        disk = DataDir.open(FaultyDisk(), "/data")
        recovery = Recovery(disk)
        assert list(recovery.records()) == []
        self.log = WriteAheadLog.open(disk, recovery, self.runner, lambda error: None, WalOptions(1 << 22, 0))
        self.log.batch.turn = self.turn

    def write(self, size: int = 100, input_bytes: int = 100) -> bool:
        """One batch in a turn of its own; whether the owner's thread wrote it."""
        before = self.runner.done
        self.turn.admit(input_bytes)
        self.log.batch.append(1, 1, bytes(size))
        self.turn.run()
        direct = self.runner.done > before
        self.runner.drain()
        assert self.log.batch.is_durable()
        return direct


def test_one_message_at_a_time_is_written_at_once() -> None:
    node = Node()
    assert all(node.write() for _ in range(50))


@pytest.mark.parametrize(("size", "input_bytes"), [(DIRECT_SIZE_MAX, 100), (100, DIRECT_SIZE_MAX + 1)])
def test_under_load_the_thread_writes(size: int, input_bytes: int) -> None:
    """A large batch takes long; and a loop that has much to do must not wait for a disk."""
    assert not Node().write(size, input_bytes)


def test_not_while_the_thread_has_work() -> None:
    """The file has one writer at a time."""
    node = Node()
    node.log.idle()
    assert node.runner.jobs
    node.log.batch.append(1, 1, b"x")
    node.turn.run()
    assert node.runner.done == 0
    node.runner.drain()
    assert node.log.batch.is_durable()


def test_a_slow_disk_is_left_to_the_thread() -> None:
    """A disk that takes 4 ms each time is asked a few times, then less and less often."""
    node = Node()
    node.runner.took_ms = 4
    started_ms, direct = node.clock.time_ms, 0
    while node.clock.time_ms < started_ms + 60_000:
        direct += node.write()
        node.clock.advance(5)
    assert 5 < direct < 60, f"{direct} of 10,000 batches"


def test_one_long_stall_is_enough() -> None:
    node = Node()
    node.runner.took_ms = DIRECT_STALL_MS
    assert node.write()
    assert not node.write()
    node.runner.took_ms = 0
    node.clock.advance(DIRECT_PAUSE_MS_MIN)
    assert node.write()


def test_a_disk_that_is_quick_again_is_trusted_again() -> None:
    node = Node()
    node.runner.took_ms = DIRECT_STALL_MS
    for _ in range(20):
        node.clock.advance(DIRECT_PAUSE_MS_MAX)
        node.write()
    node.runner.took_ms = 0
    node.clock.advance(DIRECT_PAUSE_MS_MAX)
    for _ in range(100):
        assert node.write()
        node.clock.advance(DIRECT_PAUSE_MS_MAX // 20)
    node.runner.took_ms = DIRECT_STALL_MS
    assert node.write()
    node.clock.advance(DIRECT_PAUSE_MS_MIN)
    assert node.write()
