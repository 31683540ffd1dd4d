"""broker/store/compactor.py: what is live leaves old files of the write-ahead log, and segments stay dense.

docs/durability-format.md, "What outlives the write-ahead log".
"""

from __future__ import annotations

import errno

import pytest

from broker.store.batch_reader import Fetcher
from broker.store.compaction_io import Source
from broker.store.log import Log
from broker.store.records import TRANSIENT
from broker.store.segment import segment_name
from tests.support.faulty_disk import Fault, FaultyDisk
from tests.support.store import Collected, Running, options, weighed


def test_what_is_live_moves_and_the_file_is_given_back() -> None:
    running = Running()
    log = running.declare()
    positions = running.fill(log, 30)
    before = running.read(log)
    running.settle(log, 0, 9)
    running.rest()
    assert len(running.files("wal")) == 2  # the one that is written, and one kept for later
    assert log.extents.segments
    assert set(running.read(log)) == set(positions[10:])
    assert running.read(log).items() <= before.items()
    assert (
        sum(int(segment_extent.live) for segment_extent in log.extents.segments)
        + sum(int(each.count) for each in log.extents.wal[log.extents.head :])
        == 20
    )


def test_it_is_there_after_a_restart() -> None:
    running = Running()
    log, other = running.declare(), running.declare()
    running.fill(log, 12)
    running.fill(other, 12, 300)
    running.settle(log, 3, 5)
    running.rest()
    found = running.killed()
    for number, kept in ((log.number, running.read(log)), (other.number, running.read(other))):
        again = found.logs.open(number)
        assert found.read(again) == kept
        assert again.positions.next == running.logs.open(number).positions.next
    assert found.store.findings == []


def test_a_file_with_nothing_live_is_not_even_read() -> None:
    running = Running()
    log = running.declare()
    running.rest()
    running.fill(log, 3)
    while len(running.store.wal.files) < 3:
        running.fill(log, 1)
        running.settle(log, 0, int(log.positions.next) - 1)
        assert isinstance(running.disk, FaultyDisk)
    running.rest()
    disk = running.disk
    assert isinstance(disk, FaultyDisk)
    disk.sites.clear()
    while len(running.store.wal.files) < 3:
        running.fill(log, 1)
        running.settle(log, 0, int(log.positions.next) - 1)
    running.rest()
    assert len(running.store.wal.files) == 1
    assert "move.open" not in disk.sites
    assert "segment.create" not in disk.sites


def test_a_large_log_gets_a_segment_of_its_own_and_small_ones_share_one() -> None:
    running = Running(moving=options(own_size=4000))
    large, filler = running.declare(), running.declare()
    small = [running.declare() for _ in range(5)]
    for _ in range(3):
        running.append(large, weighed(b"", 1500))
    for log in small:
        running.append(log, weighed(b"", 10))
    running.sync()
    first = running.fill(filler, 8)[0]
    running.settle(filler, first, first + 7)
    running.rest()
    (own,) = {int(segment_extent.segment.number) for segment_extent in large.extents.segments}
    (shared,) = {int(segment_extent.segment.number) for log in small for segment_extent in log.extents.segments}
    assert own != shared


def test_a_record_of_several_logs_is_whole_in_each() -> None:
    """REFERENCE records are resolved."""
    running = Running()
    first, second = running.declare(), running.declare()
    token = object()
    body = weighed(b"one body", 2000)
    for log in (first, second):
        running.append(log, body, token=token)
    running.sync()
    filler = running.declare()
    running.fill(filler, 20)
    running.settle(first, 0, 0)
    running.rest()
    assert running.read(second) == {0: body}
    assert second.extents.segments


def test_runs_of_records_are_copied_without_what_was_settled_between_them() -> None:
    """What stands behind each other is copied in one segment extent; a run ends at another log, at a gap, at a
    reference, with a block."""
    running = Running(moving=options(own_size=30_000)._replace(own_block_size=9000))
    large, first, second, filler = (running.declare() for _ in range(4))
    wanted: dict[Log, dict[int, bytes]] = {log: {} for log in (large, first, second)}
    for number in range(60):
        shared = object()
        for log in (large, first, second):
            token = shared if number % 4 == 3 and log is not large else None
            body = weighed(b"%d" % number, 40) if token else weighed(b"%d of %d" % (number, log.number), 40 + number)
            for _ in range(3 if log is large else 1):
                wanted[log][running.append(log, body, token=token)] = body
        if number % 20 == 19:
            running.sync()
    for log in wanted:
        for position in (0, 4, 7, 8, 30):
            running.settle(log, position, position)
            del wanted[log][position]
    at = running.fill(filler, 20)[0]
    running.settle(filler, at, at + 19)
    running.rest()
    assert all(log.extents.segments for log in wanted)
    assert {log: running.read(log) for log in wanted} == wanted
    for number in running.logs.segments.by_number:
        found = Source(running.disk, f"/data/segments/{segment_name(number)}", number, 1 << 30).read(True)
        assert not found.bad, "a block has more in it than its records"


def test_large_records_are_written_from_where_they_are() -> None:
    """Those of another log before, between and behind them, and references to one, are found where they were put."""
    running = Running(moving=options(own_size=1 << 30))
    first, second, filler = (running.declare() for _ in range(3))
    wanted: dict[Log, dict[int, bytes]] = {first: {}, second: {}}
    for number in range(4):
        large = weighed(b"%d" % number, (1 << 20) + 1000 * number)
        shared = object()
        for log, body, token in (
            (first, weighed(b"before", 100), None),
            (second, weighed(b"other", 100), None),
            (first, large, shared),
            (second, large, shared),
            (second, large, None),
            (first, weighed(b"behind", 100), None),
        ):
            wanted[log][running.append(log, body, token=token)] = body
        if number % 2:
            running.sync()
    at = running.fill(filler, 20)[0]
    running.settle(filler, at, at + 19)
    running.rest()
    assert all(log.extents.segments for log in wanted)
    assert {log: running.read(log) for log in wanted} == wanted


def test_transient_records_move_and_do_not_come_back() -> None:
    running = Running()
    log = running.declare()
    for index in range(30):
        running.fill(log, 1, 700, TRANSIENT if index % 3 == 0 else 1)
    running.rest()
    assert len(running.read(log)) == 30
    assert log.extents.segments
    assert any(segment_extent.messages < segment_extent.count for segment_extent in log.extents.segments)
    found = running.killed()
    again = found.logs.open(log.number)
    assert set(found.read(again)) == {position for position in range(30) if position % 3}
    assert again.positions.live() == 20
    found.rest()
    assert found.killed().logs.open(log.number).positions.live() == 20


def test_a_slow_queue_pins_nothing_of_others() -> None:
    running = Running()
    slow, fast = running.declare(), running.declare()
    running.fill(slow, 1)
    for _ in range(100):
        position = running.fill(fast, 1)[0]
        running.settle(fast, position, position)
    running.rest()
    assert len(running.store.wal.files) == 1
    assert len(running.files("segments")) == 1
    assert running.read(slow)


def test_a_segment_without_live_records_goes() -> None:
    running = Running()
    log = running.declare()
    running.fill(log, 20)
    running.rest()
    assert running.files("segments")
    running.settle(log, 0, 19)
    running.rest()
    assert running.files("segments") == []
    assert running.killed().logs.open(log.number).positions.live() == 0


def test_a_dropped_log_frees_its_segments() -> None:
    running = Running()
    log = running.declare()
    running.fill(log, 20)
    running.rest()
    running.drop(log)
    running.rest()
    assert running.files("segments") == []
    found = running.killed()
    assert found.logs.logs == {}
    assert found.store.findings == []


def test_segments_with_much_that_is_dead_are_rewritten() -> None:
    """No more than 1.2 times of what is live, beside a constant."""
    running = Running(moving=options(garbage_size=6000))
    logs = [running.declare() for _ in range(4)]
    for _ in range(12):
        for log in logs:
            running.fill(log, 1)
    running.rest()
    for log in logs[:3]:
        for position in range(0, 12, 2):
            running.settle(log, position, position)
    running.rest()
    count = sum(int(segment.count) for segment in running.logs.segments.by_number.values())
    live = sum(int(segment.live) for segment in running.logs.segments.by_number.values())
    assert live <= count <= 1.15 * live + 6
    assert [f"{number:016x}.seg" for number in sorted(running.logs.segments.by_number)] == running.files("segments")
    found = running.killed()
    for index, log in enumerate(logs):
        expected = set(range(1, 12, 2)) if index < 3 else set(range(12))
        assert set(running.read(log)) == expected
        assert set(found.read(found.logs.open(log.number))) == expected


def test_small_segments_are_merged() -> None:
    running = Running(moving=options(small_count=3, small_size=1 << 20))
    logs = [running.declare() for _ in range(30)]
    filler = running.declare()
    for log in logs:
        running.fill(log, 1, 20)
        first = running.fill(filler, 4, 4000)[0]
        running.settle(filler, first, first + 3)
    running.rest()
    assert 1 <= len(running.files("segments")) <= 4
    assert all(len(running.read(log)) == 1 for log in logs)
    found = running.killed()
    assert all(len(found.read(found.logs.open(log.number))) == 1 for log in logs)


def test_what_is_settled_while_it_moves_is_settled() -> None:
    running = Running()
    log = running.declare()
    running.fill(log, 12)
    position = 0
    while running.compactor.busy or position == 0:
        if position < 12:
            running.settle(log, position, position)
            position += 1
        if not running.step():
            running.rest()
            break
    running.rest()
    assert set(running.read(log)) == set(range(position, 12))
    assert set(running.killed().logs.open(log.number).positions.dead_ranges()) == set()


def test_nothing_is_given_back_before_the_edit_is_on_the_disk() -> None:
    running = Running()
    log = running.declare()
    running.fill(log, 12)
    running.rest()
    running.fill(log, 12)
    files = len(running.store.wal.files)
    disk = running.disk
    assert isinstance(disk, FaultyDisk)
    disk.sites.clear()
    while "manifest.sync" not in disk.sites:
        assert len(running.store.wal.files) == files
        assert running.step()
    steps = ("segment.sync", "segment.publish", "segment.publish.directory", "manifest.write", "manifest.sync")
    order = [disk.sites.index(site) for site in steps]
    assert order == sorted(order)


def test_a_file_that_is_being_read_stays() -> None:
    """Neither is a file of the log given back nor a segment removed while a read needs it."""
    running = Running()
    log = running.declare()
    running.fill(log, 12)
    log.user = user = Collected()
    running.logs.read(log, 0, 12, 100)
    oldest = running.store.wal.files[0].generation
    while running.step():
        pass
    assert running.store.wal.files[0].generation == oldest
    running.read_thread.drain()
    assert 0 in user.records
    running.rest()
    assert running.store.wal.files[0].generation > oldest
    assert log.extents.segments
    user.records.clear()
    running.logs.read(log, 0, 12, 100)
    running.settle(log, 1, 11)
    running.drop(log)
    running.rest()
    assert running.files("segments")
    running.read_thread.drain()
    running.rest()
    assert running.files("segments") == []
    assert running.logs.lost == []


@pytest.mark.parametrize(
    "site", ["segment.create", "segment.write", "segment.sync", "segment.publish.directory", "move.open"]
)
@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_an_error_while_moving_harms_nothing(site: str, number: int) -> None:
    """It is tried again later; no file is left over, and the node goes on."""
    running = Running()
    disk = running.disk
    assert isinstance(disk, FaultyDisk)
    log = running.declare()
    fault = Fault("error", site, arg=number)
    disk.faults.append(fault)
    running.fill(log, 12)
    while not fault.seen:
        assert running.step()
    while running.step():
        pass
    assert running.compactor.trouble is not None
    assert running.store.short_of_space == (number == errno.ENOSPC)
    running.rest()
    assert running.compactor.trouble is None
    assert not running.failures
    assert len(running.store.wal.files) == 1
    assert len(running.files("segments")) == len(running.logs.segments.by_number)
    assert len(running.read(log)) == 12
    assert len(running.killed().read(running.logs.open(log.number))) == 12


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_no_segment_comes_before_the_manifest(number: int) -> None:
    """Not even after the first attempt to make one failed: a segment that no manifest names is taken for a loss after a
    crash."""
    running = Running()
    disk = running.disk
    assert isinstance(disk, FaultyDisk)
    log = running.declare()
    disk.faults.append(Fault("error", "manifest.publish.directory", arg=number))
    running.fill(log, 24)
    states: list[FaultyDisk] = []
    disk.observer = lambda where, site: (
        states.extend(where.crash_states(len(states), 5)) if site.startswith("segment.publish") else None
    )
    running.rest()
    disk.observer = None
    assert states
    for state in states:
        found = Running(state)
        assert not found.store.findings
        assert len(found.read(found.logs.open(log.number))) == 24


def test_a_file_that_cannot_be_read_is_tried_again_and_then_given_up() -> None:
    """One error loses nothing; a block that stays unreadable is told, and does not hold up the rest for ever."""
    running = Running()
    disk = running.disk
    assert isinstance(disk, FaultyDisk)
    log = running.declare()
    running.fill(log, 12)
    disk.faults += [Fault("error", "move.read", skip=4) for _ in range(2)]
    running.rest()
    assert all(fault.seen for fault in disk.faults)
    assert len(running.read(log)) == 12
    running.fill(log, 12)
    name = f"/data/wal/{running.files('wal')[0]}"
    disk.damage(name, 3 * 4096, b"\0" * 4096)
    running.rest()
    assert not running.compactor.busy
    assert 0 < len(running.read(log)) < 24
    assert len(running.logs.lost) > 0
    assert not running.failures


@pytest.mark.parametrize("site", ["manifest.write", "manifest.sync"])
def test_an_edit_of_unknown_outcome_is_tried_until_it_succeeds(site: str) -> None:
    running = Running()
    disk = running.disk
    assert isinstance(disk, FaultyDisk)
    log = running.declare()
    running.fill(log, 12)
    running.rest()
    disk.faults += [Fault("error", site), Fault("error", site, skip=1)]
    running.fill(log, 12)
    while running.step():
        pass
    files = running.store.wal.files[0].generation
    segments = running.files("segments")
    assert running.compactor.trouble is not None
    for state in (disk.restarted(), *disk.crash_states(1, 5)):
        again = Running(state)
        assert len(again.read(again.logs.open(log.number))) == 24
    running.rest()
    assert running.store.wal.files[0].generation > files
    assert set(segments) <= set(running.files("segments"))
    assert running.compactor.trouble is None


def test_a_full_disk_keeps_nobody_from_freeing_space() -> None:
    """Files in which nothing is live are given back with no byte free; what is live moves when there is room again; a
    start works."""
    running = Running(spares=1)
    running.store.wal.idle()
    disk = running.disk
    assert isinstance(disk, FaultyDisk)
    log = running.declare()
    running.fill(log, 2)
    running.settle(log, 0, 1)
    running.rest()
    running.fill(log, 10)
    running.rest()
    disk.free = 0
    running.settle(log, 0, 11)
    while running.step():
        pass
    for _ in range(5):
        position = running.fill(log, 1, 1000)[0]
        running.settle(log, position, position)
        running.clock.advance(1000)
        while running.step():
            pass
    assert not running.failures
    assert len(running.store.wal.files) <= 2
    again = Running(disk.restarted())
    assert again.logs.open(log.number).positions.live() == 0
    disk.free = 0
    running.fill(log, 4)
    while running.step():
        pass
    assert not running.failures
    assert len(running.read(log)) == 4
    disk.free = 1 << 30
    running.rest()
    assert not running.store.short_of_space
    assert len(running.read(log)) == 4


def test_damage_in_a_segment_is_told_and_settled(monkeypatch: pytest.MonkeyPatch) -> None:
    running = Running()
    log = running.declare()
    running.fill(log, 12)
    running.rest()
    disk = running.disk
    assert isinstance(disk, FaultyDisk)
    name = running.files("segments")[0]
    disk.damage(f"/data/segments/{name}", 9000, b"\xff\xff\xff")
    found = running.read(log)
    assert 0 < len(found) < 12
    assert running.logs.lost
    running.sync()
    assert log.positions.live() == len(found)
    again = running.killed()
    assert set(again.read(again.logs.open(log.number))) == set(found)


def test_a_read_that_fails_is_tried_again() -> None:
    running = Running()
    log = running.declare()
    running.fill(log, 12)
    running.rest()
    disk = running.disk
    assert isinstance(disk, FaultyDisk)
    assert isinstance(running.logs.reader, Fetcher)
    disk.faults += [Fault("error", "log.open", arg=errno.EMFILE) for _ in range(5)] + [
        Fault("error", "log.read") for _ in range(2)
    ]
    log.user = user = Collected()
    running.logs.read(log, 0, 12, 100)
    for _ in range(10):
        running.read_thread.drain()
        running.clock.advance(1000)
    assert 0 in user.records
    assert running.logs.lost == []


def test_settlements_do_not_wait_for_each_other_without_limit() -> None:
    """Rule: what a batch has to write when it leaves takes little time, whatever was settled; 500,000 single positions
    took 490 ms."""
    running = Running()
    log = running.declare()
    for _ in range(120):
        for _ in range(100):
            running.append(log, weighed(b"m"))
        running.sync()
    for position in range(0, 12000, 2):
        log.settle(position, 1, 1)
        assert log._pending is not None
        assert len(log._pending._packed) <= 4096
    assert log.positions.live() > 6000
    running.sync()
    assert log.positions.live() == 6000
    running.rest()
    assert not running.failures
    log = running.killed().logs.logs[int(log.number)]
    assert (log.positions.live(), log.positions.is_live(1), log.positions.is_live(2)) == (6000, True, False)
