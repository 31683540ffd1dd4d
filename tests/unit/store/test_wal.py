"""broker/store/wal.py and wal_writer.py: group commit, files that come and go, the end after an error. Crashes:
tests/crash/store."""

from __future__ import annotations

import errno
import queue
from collections.abc import Callable
from pathlib import Path

import pytest

from broker.store.batch import BLOCK
from broker.store.commit_group import Listener
from broker.store.datadir import DataDir
from broker.store.disk_error import DiskError
from broker.store.lingering import LINGER_BUSY_SIZE, LINGER_MS, LINGER_SIZE_MAX
from broker.store.real_filesystem import RealFileSystem
from broker.store.recovery import Recovery
from broker.store.runner import Runner, WriterThread
from broker.store.wal import GROUPS_BETWEEN_CHORES, RETRY_MS, WriteAheadLog
from broker.store.wal_file import START
from broker.store.wal_writer import WalOptions
from broker.turn import Turn
from tests.support.fake_clock import FakeClock
from tests.support.faulty_disk import Fault, FaultyDisk
from tests.support.hand_runner import HandRunner

FILE_SIZE = START + 4 * BLOCK


class Told(Listener):
    def __init__(self, name: str, told: list[tuple[str, int]], then: Callable[[], object] | None = None) -> None:
        self.name = name
        self.told = told
        self.then = then

    def durable(self, through: int) -> None:
        self.told.append((self.name, int(through)))
        if self.then is not None:
            self.then()


class Node:
    """A log on a simulated disk whose writer works when the test says so."""

    def __init__(self, disk: FaultyDisk | None = None, spare_count: int = 1, file_size: int = FILE_SIZE) -> None:
        self.disk = disk or FaultyDisk()
        self.runner = HandRunner()
        self.failures: list[Exception] = []
        self.told: list[tuple[str, int]] = []
        self.data_dir = DataDir.open(self.disk, "/data")
        self.recovery = Recovery(self.data_dir)
        self.found = list(self.recovery.records())
        options = WalOptions(file_size, spare_count, lambda: 42)
        self.log = WriteAheadLog.open(self.data_dir, self.recovery, self.runner, self.failures.append, options)

    def append(self, name: str, size: int = 10) -> int:
        number = self.log.batch.append(1, 1, name.encode(), bytes(size))
        self.log.batch.listen(Told(name, self.told))
        return number

    def commit(self, name: str, size: int = 10) -> None:
        self.append(name, size)
        self.log.sync()
        self.runner.drain()

    def files(self) -> list[str]:
        return self.disk.names("wal.list", "/data/wal")

    def again(self) -> Node:
        return Node(self.disk.restarted())


def test_a_promise_is_given_after_the_sync_and_not_before() -> None:
    """docs/durability-format.md: a promise leaves only after the sync that covers it."""
    node = Node()
    assert node.append("a") == 1
    node.log.sync()
    assert node.told == []
    assert node.log.batch.durable_through == 0
    node.runner.step()
    assert node.told == [("a", 1)]
    assert node.log.batch.durable_through == 1


def test_nothing_is_written_without_a_sync() -> None:
    node = Node()
    node.append("a")
    assert not node.runner.jobs
    node.log.sync()
    assert len(node.runner.jobs) == 1


def test_what_comes_during_a_sync_is_one_batch() -> None:
    """docs/durability-format.md: what arrives during the sync is the next batch, and one batch is outstanding at a
    time."""
    node = Node()
    node.append("a")
    node.log.sync()
    for name in ("b", "c", "d"):
        node.append(name)
        node.log.sync()
        assert len(node.runner.jobs) == 1
    before = node.disk.sites.count("wal.sync")
    node.runner.step()
    assert node.told == [("a", 1)]
    node.runner.step()
    assert node.told == [("a", 1), ("b", 4), ("c", 4), ("d", 4)]
    assert node.disk.sites.count("wal.sync") == before + 2


def test_what_was_appended_without_a_sync_is_not_taken_along_by_the_end_of_another() -> None:
    """Its turn is not over."""
    node = Node()
    node.append("a")
    node.log.sync()
    node.append("b")
    node.runner.step()
    assert node.told == [("a", 1)]
    assert node.log.batch.record_count == 1


def test_a_listener_may_append_and_sync() -> None:
    """Order holds: the others of its batch are told first."""
    node = Node()

    def more() -> None:
        node.append("later")
        node.log.sync()

    node.log.batch.append(1, 1, b"x")
    node.log.batch.listen(Told("first", node.told, more))
    node.log.batch.listen(Told("second", node.told))
    node.log.sync()
    node.runner.drain()
    assert node.told == [("first", 1), ("second", 1), ("later", 2)]


def test_a_turn_hands_the_batch_over_at_its_end() -> None:
    """broker/turn.py: dispatch, sync, flush."""
    node = Node()
    turn = Turn(FakeClock())
    node.log.batch.turn = turn
    node.append("a")
    node.append("b")
    assert not node.runner.jobs
    turn.run()
    assert len(node.runner.jobs) == 1
    node.append("c")
    turn.run()
    node.runner.drain()
    assert node.told == [("a", 2), ("b", 2), ("c", 3)]


@pytest.mark.parametrize("site", ["wal.write", "wal.sync"])
def test_the_first_error_is_the_end(site: str) -> None:
    """docs/durability-format.md: the first error of an fsync ends the node: no promise after it, never a retry on the
    same descriptor."""
    node = Node()
    node.commit("a")
    node.disk.faults.append(Fault("error", site))
    node.append("b")
    node.log.sync()
    node.append("c")
    node.log.sync()
    node.runner.drain()
    (error,) = node.failures
    assert isinstance(error, DiskError)
    assert (error.site, error.errno) == (site, errno.EIO)
    assert node.log.failure is error
    operations = node.disk.operations
    for _ in range(3):
        node.commit("d")
        node.log.idle()
    node.log.close()
    assert node.disk.operations == operations, "nothing is tried again"
    assert node.told == [("a", 1)]
    assert len(node.failures) == 1


def test_an_error_of_the_program_ends_it_too() -> None:
    """Otherwise everyone would wait for ever."""
    node = Node()
    node.disk.faults.append(Fault("unknown kind", "wal.write"))
    node.append("a")
    node.log.sync()
    node.runner.drain()
    assert [type(error) for error in node.failures] == [AssertionError]


def test_a_listener_that_raises_costs_nobody_else_anything() -> None:
    """Rule: broker/faults.py. The batch is on the disk; what somebody makes of it is their own affair."""
    node = Node()

    def mistake() -> None:
        raise KeyError("ours")

    node.log.batch.append(1, 1, b"x")
    node.log.batch.listen(Told("first", node.told, mistake))
    node.log.batch.listen(Told("second", node.told))
    node.log.sync()
    node.runner.drain()
    assert (node.failures, node.log.faults.count, node.told) == ([], 1, [("first", 1), ("second", 1)])
    node.commit("more")
    assert node.log.batch.durable_through == 2


def test_a_full_file_is_followed_by_the_next() -> None:
    node = Node()
    for number in range(9):
        node.commit(str(number))
    assert [file.generation for file in node.log.files] == [1, 2, 3]
    assert [file.first_sequence for file in node.log.files] == [1, 5, 9]
    assert [node.log.generation_of(sequence) for sequence in (1, 4, 5, 8, 9, 99)] == [1, 1, 2, 2, 3, 3]
    again = node.again()
    assert [record[0] for record in again.found] == list(range(1, 10))


def test_a_batch_larger_than_a_file_gets_a_file_of_its_own_size() -> None:
    """No batch is ever split: a transaction is there as a whole or not at all."""
    node = Node()
    node.commit("a")
    node.commit("b", 5 * BLOCK)
    node.commit("c")
    assert [file.size for file in node.log.files] == [FILE_SIZE, START + 6 * BLOCK, FILE_SIZE]
    assert [len(record[3]) for record in node.again().found] == [11, 5 * BLOCK + 1, 11]
    node.log.retire(1)
    node.log.retire(2)
    node.runner.drain()
    assert [name for name in node.files() if name.endswith(".wal")] == ["0000000000000003.wal"]
    assert {len(node.disk.content(f"/data/wal/{name}")) for name in node.files()} == {FILE_SIZE}, (
        "it is not kept as a spare"
    )


def test_files_leave_oldest_first() -> None:
    node = Node(spare_count=0)
    for number in range(13):
        node.commit(str(number))
    node.log.retire(2)
    node.runner.drain()
    assert [file.generation for file in node.log.files] == [1, 2, 3, 4]
    node.log.retire(1)
    node.runner.drain()
    assert [file.generation for file in node.log.files] == [3, 4]
    assert [record[0] for record in node.again().found] == [9, 10, 11, 12, 13]


def test_the_file_being_written_cannot_be_retired() -> None:
    node = Node()
    with pytest.raises(ValueError, match="still being written"):
        node.log.retire(1)


def test_a_retired_file_is_used_again_and_its_old_content_never_read() -> None:
    node = Node(spare_count=0)
    for number in range(5):
        node.commit(str(number))
    inode = node.disk.inode("/data/wal/0000000000000001.wal")
    node.log.retire(1)
    node.runner.drain()
    for number in range(5, 9):
        node.commit(str(number))
    assert node.disk.inode("/data/wal/0000000000000003.wal") is inode
    assert inode.cache.count(b"LEVB") == 4, "one new batch and three old ones"
    assert [record[3][:1] for record in node.again().found] == [b"4", b"5", b"6", b"7", b"8"]


def test_a_spare_is_made_and_filled_when_there_is_time() -> None:
    """Overwriting what was written before changes no metadata: a sync takes half as long."""
    node = Node()
    node.log.idle()
    node.runner.drain()
    assert node.files() == ["0000000000000001.wal", "2.spare"]
    assert len(node.disk.content("/data/wal/2.spare")) == FILE_SIZE
    for number in range(5):
        node.commit(str(number))
    assert "0000000000000002.wal" in node.files()
    assert node.disk.sites.count("wal.allocate") == 3


def test_a_log_that_is_never_idle_still_gives_files_back() -> None:
    node = Node(spare_count=0)
    for number in range(5):
        node.commit(str(number))
    node.append("next")
    node.log.sync()
    node.log.retire(1)
    for number in range(GROUPS_BETWEEN_CHORES + 2):
        node.append(str(number))
        node.log.sync()
        node.runner.step()
    assert node.log.files[0].generation == 2


def test_no_room_for_a_spare_is_a_warning_only() -> None:
    node = Node()
    node.disk.free = 100
    node.log.idle()
    node.runner.drain()
    assert node.log.short_of_space
    assert node.files() == ["0000000000000001.wal"]
    node.commit("a")
    assert node.told == [("a", 1)]
    assert not node.failures


class Loaded:
    """A log under load: the group before was a large one."""

    def __init__(self) -> None:
        self.node = Node(file_size=START + 64 * LINGER_BUSY_SIZE)
        self.clock = FakeClock()
        self.node.log.batch.turn = self.turn = Turn(self.clock)
        self.node.commit("large", LINGER_BUSY_SIZE)
        self.run()

    def run(self) -> list[str]:
        """A turn, and what the disk has to do; who was told."""
        self.node.told.clear()
        self.turn.run()
        self.node.runner.drain()
        return [name for name, _ in self.node.told]


def test_under_load_a_group_that_nobody_waits_for_stays_open_for_a_moment() -> None:
    loaded = Loaded()
    node = loaded.node
    through = node.log.batch.durable_through
    for _ in range(5):
        node.log.batch.append(1, 1, b"nobody")
        loaded.run()
        loaded.clock.advance(LINGER_MS // 5)
    loaded.run()
    assert node.log.batch.durable_through == through + 5
    assert node.disk.sites.count("wal.write") == 2


def test_a_group_that_somebody_waits_for_goes_at_once() -> None:
    loaded = Loaded()
    node = loaded.node
    node.log.batch.append(1, 1, b"nobody")
    assert loaded.run() == []
    node.append("somebody")
    assert loaded.run() == ["somebody"]
    node.commit("large again", LINGER_BUSY_SIZE)
    node.log.batch.append(1, 1, b"nobody")
    loaded.run()
    node.log.batch.listen(Told("later", node.told))
    assert loaded.run() == ["later"]


def test_a_group_that_is_large_enough_goes_at_once() -> None:
    loaded = Loaded()
    node = loaded.node
    node.log.batch.append(1, 1, b"nobody")
    loaded.run()
    through = node.log.batch.durable_through
    node.log.batch.append(1, 1, b"", bytes(LINGER_SIZE_MAX))
    loaded.run()
    assert node.log.batch.durable_through == through + 2


def test_a_log_that_is_closed_waits_for_nothing() -> None:
    loaded = Loaded()
    loaded.node.log.batch.append(1, 1, b"nobody")
    loaded.run()
    loaded.node.log.close()
    assert loaded.node.log.batch.is_durable()


def test_a_file_that_is_given_back_takes_the_group_that_has_no_space() -> None:
    node = Node(spare_count=0)
    clock = FakeClock()
    node.log.batch.turn = Turn(clock)
    for number in range(8):
        node.commit(str(number))
    node.disk.free = 0
    node.commit("8")
    assert node.told[-1] == ("7", 8)
    assert node.log.short_of_space
    clock.advance(RETRY_MS)
    node.runner.drain()
    assert node.told[-1] == ("7", 8)
    node.log.retire(1)
    node.runner.drain()
    assert node.told[-1] == ("8", 9)
    assert node.log.files[0].generation == 2
    assert not node.log.short_of_space
    assert not node.failures


def test_closing_writes_what_is_left_and_marks_a_clean_end() -> None:
    node = Node()
    node.append("a")
    node.log.close()
    node.data_dir.close()
    assert node.told == [("a", 1)]
    again = node.again()
    assert again.recovery.report.clean
    assert again.disk.sites.count("wal.rewrite") == 0
    assert [record[0] for record in again.found] == [1]
    again.commit("b")
    interrupted = again.again()
    assert not interrupted.recovery.report.clean
    assert [record[0] for record in interrupted.found] == [1, 2]


def test_numbers_go_on_after_a_restart() -> None:
    node = Node()
    node.commit("a")
    again = node.again()
    assert again.log.batch.durable_through == 1
    assert again.append("b") == 2


@pytest.mark.parametrize("size", [0, START, START + 1, FILE_SIZE + 1])
def test_a_file_size_that_cannot_be_is_refused(size: int) -> None:
    data_dir = DataDir.open(FaultyDisk(), "/data")
    recovery = Recovery(data_dir)
    list(recovery.records())
    runner: Runner = HandRunner()
    with pytest.raises(ValueError, match="a log file of"):
        WriteAheadLog.open(data_dir, recovery, runner, [].append, WalOptions(size))  # type: ignore[arg-type]


def test_on_a_real_disk_with_a_real_thread(tmp_path: Path) -> None:
    """The whole of it: thread, fdatasync, file after file, restart."""
    calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
    expected: list[tuple[int, int, int, bytes]] = []
    for session in range(3):
        data_dir = DataDir.open(RealFileSystem(), str(tmp_path))
        recovery = Recovery(data_dir)
        assert list(recovery.records()) == expected
        thread = WriterThread(calls.put)
        failures: list[Exception] = []
        log = WriteAheadLog.open(data_dir, recovery, thread, failures.append, WalOptions(START + 16 * BLOCK))
        told: list[tuple[str, int]] = []
        log.idle()
        for number in range(200):
            body = bytes([number]) * number
            expected.append((log.batch.append(session, number, body), session, number, body))
            log.batch.listen(Told(str(number), told))
            log.sync()
            while log.batch.record_count > 10:
                calls.get(timeout=30)()
        log.close()
        thread.stop()
        data_dir.close()
        assert [name for name, _ in told] == [str(number) for number in range(200)]
        assert not failures
    assert recovery.report.clean
