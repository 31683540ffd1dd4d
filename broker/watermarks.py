"""Watches memory and disk, and raises and clears their alarms (RabbitMQ docs, Memory Alarms; Free Disk Space Alarms).

              memory                      disk
    raised    used > limit                free < limit, or the log has found no space for its next file
    cleared   used < 95 % of the limit    free > limit and a tenth more (at most 50 MB), and the log has found space

Between the two an alarm stays as it is, so that publishers are not stopped and let go again with every message. Looks
come once per interval, and sooner where a limit is so near that it could be reached before, at a gigabyte a second: a
node was seen to fill 260 MB of disk, and to end with it, between two looks of one second. Bodies on their way are
counted (alarms.py): when there are as many more as there was room at the last look, the next one comes at once.

Used is what the process has in memory (resident set size). An allocator keeps much of what a program gives back, so an
alarm could outlive its cause: while there is one, each look asks the allocator to return what it does not need.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final, NamedTuple

from broker.alarms import DISK, MEMORY, NO_LIMIT, Alarms
from broker.logsetup import get_logger
from broker.periodic import Periodic
from broker.store.disk_error import DiskError
from broker.store.filesystem import FileSystem

if TYPE_CHECKING:
    from broker.config import Config
    from broker.store.store import Store

UNKNOWN: Final = -1
"""A figure that this system does not tell."""
MEMORY_SHARE: Final = 0.4
"""RabbitMQ 3.13's ``vm_memory_high_watermark.relative``."""
_CLEAR_MEMORY_PERCENT: Final = 95
_RECEIVING_MIN: Final = 1 << 20
_RECEIVING_MARGIN: Final = 8
"""With more than a MiB of bodies on their way the alarm comes this part of the limit earlier: what comes meanwhile has
to fit, too."""
_DISK_MARGIN_MAX: Final = 50_000_000
_BYTES_PER_MS: Final = 1_000_000
"""The fastest that memory or disk are filled."""
_WAIT_MIN_MS: Final = 10
"""A look costs some 30 microseconds."""
_PROC: Final = Path("/proc")
_CGROUP: Final = Path("/sys/fs/cgroup")

_log = get_logger("alarms")


# ---- the system


def resident_bytes(proc: Path = _PROC) -> int:
    """Memory that this process uses; ``UNKNOWN`` where there is no /proc.

    The standard library's other source, getrusage, tells the largest amount there ever was: an alarm made of it would
    not end.
    """
    try:
        return int((proc / "self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return UNKNOWN


def total_memory(proc: Path = _PROC, cgroup: Path = _CGROUP) -> int:
    """Memory that this process could use at most: the machine's, or less where its control groups (containers) allow
    less."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([machine, *_allowed(proc, cgroup)])


def _allowed(proc: Path, cgroup: Path) -> Iterable[int]:
    try:
        lines = (proc / "self/cgroup").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, own = line.split(":", 2)
        if controllers == "":
            root, name = cgroup, "memory.max"
        elif "memory" in controllers.split(","):
            root, name = cgroup / "memory", "memory.limit_in_bytes"
        else:
            continue
        path = PurePosixPath(own.lstrip("/"))
        # a group has what all groups above it have, too; in a container its own is the root
        for group in (path, *path.parents):
            try:
                yield int((root / group / name).read_text(encoding="ascii"))
            except (OSError, ValueError):
                continue  # "max", or not to be seen from here


def return_memory() -> None:
    """Ask the C library to give back to the system what it keeps of freed memory; nothing where it cannot."""
    import ctypes  # needed by the rare node whose memory is full

    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError):  # not the GNU C library
        return


class Probe:
    """Where the figures of a running node come from."""

    def __init__(self, filesystem: FileSystem, directory: str, store: Store) -> None:
        self._filesystem = filesystem
        self._directory = directory
        self._store = store

    def memory_used(self) -> int:
        """Bytes of memory that the process uses; ``UNKNOWN`` if the system does not say."""
        return resident_bytes()

    def return_memory(self) -> None:
        """Give back what is not needed."""
        return_memory()

    def disk_free(self) -> int:
        """Bytes that may still be written; ``UNKNOWN`` if the system does not say."""
        try:
            return self._filesystem.free_bytes("alarms.free", self._directory)
        except DiskError:
            return UNKNOWN

    def short_of_space(self) -> bool:
        """Whether the store has found no space for its next file; it looks again."""
        short = self._store.short_of_space
        if short:
            self._store.look_for_space()
        return short


# ---- the limits


class Watermarks(NamedTuple):
    """Where the alarms are raised, in bytes."""

    memory: int
    disk_free: int


def watermarks(config: Config, total: int) -> Watermarks:
    """The limits of a node that has ``total`` bytes of memory. A relative limit goes before an absolute one, as in
    RabbitMQ."""
    total = config.total_memory_available_override_value or total
    share = config.vm_memory_high_watermark_relative
    absolute = config.vm_memory_high_watermark_absolute
    memory = absolute if share is None and absolute else int(total * (MEMORY_SHARE if share is None else share))
    return Watermarks(memory, int(total * config.disk_free_limit_relative) or config.disk_free_limit_absolute)


def queue_memory(config: Config, total: int) -> int:
    """Bytes that messages waiting in queues may take (RabbitMQ's ``vm_memory_high_watermark_paging_ratio``)."""
    return int(watermarks(config, total).memory * config.vm_memory_high_watermark_paging_ratio)


# ---- the watch


class Watcher(Periodic):
    """Looks at memory and disk again and again."""

    def __init__(self, alarms: Alarms, limits: Watermarks, probe: Probe, interval_ms: int) -> None:
        super().__init__(alarms.faults)
        self._alarms = alarms
        self._limits = limits
        self._probe = probe
        self._interval_ms = interval_ms
        alarms.figures.memory_limit = limits.memory
        alarms.figures.disk_free_limit = limits.disk_free
        alarms.look_at_memory = self._look_at_memory

    def start(self, later: Callable[[float, Callable[[], None]], object]) -> None:
        _log.info("Watching memory and disk", memory_limit=self._limits.memory, disk_free_limit=self._limits.disk_free)
        super().start(later)

    def look(self) -> int:
        """Raise and clear alarms; when to look again, in milliseconds."""
        room = min(self._look_at_memory(), self._look_at_disk())
        return max(_WAIT_MIN_MS, min(self._interval_ms, room // _BYTES_PER_MS))

    def _look_at_memory(self) -> int:
        """How many bytes more would raise the alarm."""
        limit = self._limits.memory
        used = self._probe.memory_used()
        raised = self._alarms.is_raised(MEMORY)
        if raised:
            self._probe.return_memory()
            used = self._probe.memory_used()
        if used == UNKNOWN:
            return NO_LIMIT
        if used > limit - (limit // _RECEIVING_MARGIN if self._alarms.receiving > _RECEIVING_MIN else 0):
            self._set(MEMORY, True, used=used, limit=limit)
        elif used < limit * _CLEAR_MEMORY_PERCENT // 100:
            self._set(MEMORY, False, used=used, limit=limit)
        if self._alarms.is_raised(MEMORY):
            self._alarms.receiving_max = NO_LIMIT
            # No hurry while the alarm stands: nobody publishes, and to return memory costs some milliseconds.
            return NO_LIMIT
        self._alarms.receiving_max = self._alarms.receiving + limit - used
        return limit - used

    def _look_at_disk(self) -> int:
        """How many bytes more would raise the alarm."""
        limit = self._limits.disk_free
        free = self._probe.disk_free()
        short = self._probe.short_of_space()
        if free != UNKNOWN:
            self._alarms.figures.disk_free = free
        if short or (free != UNKNOWN and free < limit):
            self._set(DISK, True, free=free, limit=limit, log_is_short=short)
        elif free >= limit + min(limit // 10, _DISK_MARGIN_MAX):
            self._set(DISK, False, free=free, limit=limit)
        return NO_LIMIT if free == UNKNOWN or self._alarms.is_raised(DISK) else free - limit

    def _set(self, resource: str, raised: bool, **figures: int) -> None:
        if self._alarms.is_raised(resource) == raised:
            return
        self._alarms.set(resource, raised)
        if raised:
            _log.warning("Alarm raised: connections that publish are blocked", resource=resource, **figures)
        else:
            _log.warning("Alarm cleared", resource=resource, blocked_by=self._alarms.reason, **figures)
