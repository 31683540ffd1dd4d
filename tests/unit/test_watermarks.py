"""Memory and disk limits (broker/watermarks.py). Rules: RabbitMQ docs, Memory Alarms and Free Disk Space Alarms;
docs/alarms.md."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from broker.alarms import DISK, MEMORY, Alarms, Blockable
from broker.clock import NEVER, Timed
from broker.turn import Turn
from broker.watermarks import UNKNOWN, Probe, Watcher, Watermarks, resident_bytes, return_memory, total_memory
from tests.support.fake_clock import FakeClock
from tests.support.fakes import needs_traits
from tests.support.faulty_disk import Fault, FaultyDisk

LIMITS = Watermarks(memory=1000, disk_free=1000)
INTERVAL_MS = 1000
MB = 1_000_000
GB = 1000 * MB
PAGE = os.sysconf("SC_PAGE_SIZE")


class Readings(Probe):
    """Figures that the test sets."""

    def __init__(self, used: int = 0, free: int = 10_000) -> None:
        self.used = used
        self.free = free
        self.short = False
        self.kept = 0
        """Memory that nobody needs and the allocator keeps until it is asked."""
        self.returned = 0
        self.looks = 0

    def memory_used(self) -> int:
        return self.used + self.kept

    def return_memory(self) -> None:
        self.kept = 0
        self.returned += 1

    def disk_free(self) -> int:
        self.looks += 1
        return self.free

    def short_of_space(self) -> bool:
        return self.short


class Call(Timed):
    def __init__(self, call: Callable[[], None]) -> None:
        self.call = call

    def on_timer(self, now_ms: int) -> None:
        self.call()


def caller(clock: FakeClock) -> Callable[[float, Callable[[], None]], object]:
    """An event loop's call_later, on the test's clock."""
    return lambda seconds, call: clock.call_at(clock.now_ms + round(seconds * 1000), Call(call))


class Publisher(Blockable):
    def __init__(self) -> None:
        self.unblocked = 0

    def unblock(self) -> None:
        self.unblocked += 1


class Setting:
    def __init__(self, limits: Watermarks = LIMITS) -> None:
        self.turn = Turn(FakeClock())
        self.alarms = Alarms(self.turn)
        self.readings = Readings()
        self.watcher = Watcher(self.alarms, limits, self.readings, INTERVAL_MS)

    def memory(self, used: int) -> bool:
        self.readings.used = used
        self.watcher.look()
        return self.alarms.is_raised(MEMORY)

    def disk(self, free: int) -> bool:
        self.readings.free = free
        self.watcher.look()
        return self.alarms.is_raised(DISK)


def test_memory_is_raised_above_its_limit_and_cleared_well_below() -> None:
    setting = Setting()
    seen = [(used, setting.memory(used)) for used in (0, 1000, 1001, 1000, 950, 949, 950, 1000, 1001)]
    assert seen == [
        (0, False), (1000, False), (1001, True), (1000, True), (950, True), (949, False), (950, False), (1000, False),
        (1001, True),
    ]  # fmt: skip


def test_each_look_says_with_how_many_bytes_on_their_way_the_next_is_due() -> None:
    """As many more as there is room; none while the alarm stands, since nobody is read then."""
    setting = Setting()
    alarms = setting.alarms
    alarms.received(300)
    setting.memory(400)
    assert alarms.receiving_max == 300 + 600
    setting.readings.used = 1001
    alarms.received(600)
    assert not alarms.is_raised(MEMORY)
    alarms.received(1)
    assert alarms.is_raised(MEMORY)
    assert alarms.receiving_max > 1 << 60
    setting.memory(100)
    assert alarms.receiving_max == 901 + 900


def test_disk_is_raised_below_its_limit_and_cleared_well_above() -> None:
    setting = Setting()
    seen = [(free, setting.disk(free)) for free in (5000, 1000, 999, 1000, 1099, 1100, 1000, 999, 0)]
    assert seen == [
        (5000, False), (1000, False), (999, True), (1000, True), (1099, True), (1100, False), (1000, False),
        (999, True), (0, True),
    ]  # fmt: skip


def test_a_large_disk_limit_has_no_large_margin() -> None:
    """A tenth of it may be more than the disk can ever have free."""
    setting = Setting(Watermarks(memory=1000, disk_free=10**12))
    assert setting.disk(10**12 - 1)
    assert setting.disk(10**12 + 49_999_999)
    assert not setting.disk(10**12 + 50_000_000)


def test_publishers_go_on_when_both_alarms_are_cleared() -> None:
    setting, publisher = Setting(), Publisher()
    setting.memory(2000)
    setting.disk(0)
    assert setting.alarms.reason == "low on memory & low on disk"
    setting.alarms.block(publisher)
    setting.memory(0)
    setting.turn.run()
    assert (setting.alarms.reason, publisher.unblocked) == ("low on disk", 0)
    setting.disk(10_000)
    setting.turn.run()
    assert (setting.alarms.reason, publisher.unblocked) == ("", 1)


def test_a_log_that_is_short_of_space_is_a_disk_alarm_whatever_is_free() -> None:
    """A quota does not show in what is free; and the log needs a whole file's space at once."""
    setting = Setting()
    setting.readings.short = True
    assert setting.disk(1 << 40)
    setting.readings.short = False
    assert not setting.disk(1 << 40)
    setting.readings.short = True
    assert setting.disk(999)
    setting.readings.short = False
    assert setting.disk(1050), "the log has space again, and the limit's margin still counts"


def test_a_disk_limit_of_zero_watches_the_log_alone() -> None:
    setting = Setting(Watermarks(memory=1000, disk_free=0))
    assert not setting.disk(0)
    setting.readings.short = True
    assert setting.disk(0)
    setting.readings.short = False
    assert not setting.disk(0)


def test_a_memory_limit_of_zero_blocks_publishers_for_good() -> None:
    """RabbitMQ docs, Memory Alarms: a threshold of 0 raises the alarm at once, to stop all publishing."""
    setting = Setting(Watermarks(memory=0, disk_free=0))
    assert setting.memory(1)
    assert setting.memory(0)


def test_an_unknown_figure_changes_nothing() -> None:
    setting = Setting()
    assert not setting.disk(UNKNOWN)
    assert not setting.memory(UNKNOWN)
    assert setting.alarms.figures.disk_free == UNKNOWN
    assert setting.memory(2000)
    assert setting.disk(0)
    assert setting.memory(UNKNOWN)
    assert setting.disk(UNKNOWN)
    assert setting.alarms.figures.disk_free == 0


def test_an_alarm_does_not_outlive_its_cause_because_the_allocator_keeps_memory() -> None:
    setting = Setting()
    setting.readings.kept = 500
    assert setting.memory(600)
    assert setting.readings.returned == 0, "costs time, so only while publishers wait"
    assert not setting.memory(600)
    assert setting.readings.returned == 1


def test_the_figures_are_kept_for_who_shows_them() -> None:
    setting = Setting()
    setting.disk(4321)
    figures = setting.alarms.figures
    assert (figures.memory_limit, figures.disk_free, figures.disk_free_limit) == (1000, 4321, 1000)


@pytest.mark.parametrize(
    ("used", "free", "wait_ms"),
    [
        (0, 1 << 40, 1000),
        (4 * GB, 1 << 40, 1000),
        (5 * GB - 300 * MB, 1 << 40, 300),
        (5 * GB - 20 * MB, 1 << 40, 20),
        (5 * GB - 1, 1 << 40, 10),
        (0, 2 * GB, 1000),
        (0, 1 * GB + 300 * MB, 300),
        (0, 1 * GB, 10),
        (5 * GB - 300 * MB, 1 * GB + 200 * MB, 200),
        (5 * GB - 200 * MB, 1 * GB + 300 * MB, 200),
        (UNKNOWN, 1 * GB + 300 * MB, 300),
        (0, UNKNOWN, 1000),
    ],
)
def test_it_looks_again_before_a_limit_can_be_reached(used: int, free: int, wait_ms: int) -> None:
    """A gigabyte a second is what a fast disk, and a broker, can take."""
    setting = Setting(Watermarks(memory=5 * GB, disk_free=1 * GB))
    setting.readings.used, setting.readings.free = used, free
    assert setting.watcher.look() == wait_ms


@pytest.mark.parametrize(("used", "free"), [(6 * GB, 1 << 40), (0, 0), (6 * GB, 0)])
def test_a_standing_alarm_is_looked_at_once_per_interval(used: int, free: int) -> None:
    setting = Setting(Watermarks(memory=5 * GB, disk_free=1 * GB))
    setting.readings.used, setting.readings.free = used, free
    assert setting.watcher.look() == INTERVAL_MS


@needs_traits
@pytest.mark.parametrize("speed", [1 * MB, 100 * MB, 280 * MB, 1000 * MB])
def test_a_disk_that_is_filled_fast_is_noticed_in_time(speed: int) -> None:
    """Bytes per second, on a disk with 260 MB free: the alarm comes before the log's reserve, a file, is touched."""
    clock, setting = FakeClock(), Setting(Watermarks(memory=5 * GB, disk_free=50 * MB))
    setting.readings.free = 260 * MB
    setting.watcher.start(caller(clock))
    while not setting.alarms.is_raised(DISK):
        clock.advance(1)
        setting.readings.free -= speed // 1000
    assert 39 * MB < setting.readings.free < 50 * MB


@needs_traits
def test_it_looks_again_and_again_until_it_is_stopped() -> None:
    clock, setting = FakeClock(), Setting(Watermarks(memory=5 * GB, disk_free=1 * GB))
    setting.readings.free = 1 << 40
    looks = setting.readings.looks
    setting.watcher.start(caller(clock))
    clock.advance(10_000)
    assert setting.readings.looks - looks == 11
    setting.readings.used = 6 * GB
    clock.advance(INTERVAL_MS)
    assert setting.alarms.is_raised(MEMORY)
    setting.watcher.stop()
    setting.readings.used = 0
    clock.advance(5000)
    assert setting.alarms.is_raised(MEMORY)
    assert clock.next_deadline() == NEVER


# ---- the system


def test_resident_memory_is_that_of_this_process() -> None:
    before = resident_bytes()
    with mmap.mmap(-1, 64 << 20) as fresh:  # the allocator might have kept as much
        fresh.write(b"x" * (64 << 20))
        assert resident_bytes() - before > 48 << 20


def test_resident_memory_is_in_pages(tmp_path: Path) -> None:
    (tmp_path / "self").mkdir()
    (tmp_path / "self/statm").write_text("9000 123 45 6 0 7 0\n")
    assert resident_bytes(tmp_path) == 123 * PAGE
    assert resident_bytes(tmp_path / "none") == UNKNOWN


def test_memory_can_be_returned_on_every_system() -> None:
    return_memory()


def machine() -> int:
    return PAGE * os.sysconf("SC_PHYS_PAGES")


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("0::/\n", {}, None),
        ("0::/\n", {"memory.max": "max\n"}, None),
        ("0::/\n", {"memory.max": "104857600\n"}, 104857600),
        ("0::/a/b\n", {"a/b/memory.max": "max\n", "a/memory.max": "2000\n"}, 2000),
        ("0::/a/b\n", {"a/b/memory.max": "1000\n", "a/memory.max": "2000\n"}, 1000),
        ("0::/a/b\n", {"memory.max": "3000\n"}, 3000),
        ("0::/../x\n", {"memory.max": "3000\n"}, 3000),
        ("5:cpu,memory:/d\n0::/\n", {"memory/d/memory.limit_in_bytes": "4000\n"}, 4000),
        ("5:memory:/docker/x\n", {"memory/memory.limit_in_bytes": "5000\n"}, 5000),
        ("5:memory:/\n", {"memory/memory.limit_in_bytes": "9223372036854771712\n"}, None),
        ("5:cpu:/\n", {"memory/memory.limit_in_bytes": "5000\n"}, None),
        ("", {"memory.max": "1000\n"}, None),
    ],
)
def test_a_container_has_the_memory_of_its_group(
    tmp_path: Path, groups: str, files: dict[str, str], expected: int | None
) -> None:
    """Linux kernel docs, Control Group v2: memory.max; v1: memory.limit_in_bytes. A group has what the groups above it
    have, too."""
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(groups)
    for name, text in files.items():
        file = tmp_path / "cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    assert total_memory(tmp_path / "proc", tmp_path / "cgroup") == (machine() if expected is None else expected)


def test_without_control_groups_it_is_the_machine(tmp_path: Path) -> None:
    assert total_memory(tmp_path, tmp_path) == machine()


class ShortStore:
    short_of_space = False
    looks = 0

    def look_for_space(self) -> None:
        self.looks += 1


def test_the_probe_asks_the_file_system_of_the_data() -> None:
    disk, store = FaultyDisk(free=12345), ShortStore()
    probe = Probe(disk, "/", store)  # type: ignore[arg-type]
    assert (probe.disk_free(), probe.short_of_space()) == (12345, False)
    store.short_of_space = True
    assert probe.short_of_space()
    disk.faults.append(Fault("error", "alarms.free"))
    assert probe.disk_free() == UNKNOWN
    assert probe.disk_free() == 12345
