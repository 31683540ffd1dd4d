"""After damage: what is in logs that no queue owns is kept for people, since it may be the declaration of the queue
that is lost.

It is not brought back: the queue may have been deleted, too. A segment in which nothing else is live gets the name of
one that is kept; what else there is, is copied to a new one (``.lost``, in the format of segment.py;
``leveret data recover`` reads it).
"""

import contextlib
from collections.abc import Callable
from typing import Final

from librt.strings import read_i64_be, write_i32_be, write_i64_be

from broker.store.datadir import KEPT, DataDir
from broker.store.disk_error import DiskError
from broker.store.log import Log, LogUser
from broker.store.logs import Logs
from broker.store.records import MESSAGE
from broker.store.segment import SegmentFile, segment_name
from broker.store.segment_builder import SegmentBuilder, SegmentPart

_BLOCK_SIZE: Final = 1 << 18
_READ_SIZE: Final = 1 << 20


def keep_orphans(data_dir: DataDir, logs: Logs, known: set[int], new_salt: Callable[[], int]) -> list[str]:
    """Keep what is live in logs that are not ``known``: before these are dropped. What was kept where, for people."""
    orphans = [log for log in logs.logs.values() if int(log.number) not in known and log.positions.live() > 0]
    if not orphans:
        return []
    count = sum(int(log.positions.live()) for log in orphans)
    numbers = ", ".join(str(log.number) for log in orphans[:20]) + (" ..." if len(orphans) > 20 else "")
    said = f"{count} records of logs that belong to no queue ({numbers})"
    try:
        places = _keep(data_dir, logs, orphans, new_salt)
    except DiskError as error:
        return [f"{said} could not be kept: {error}"]
    return [f"{said} are kept in {', '.join(places)}"]


def _keep(data_dir: DataDir, logs: Logs, orphans: list[Log], new_salt: Callable[[], int]) -> list[str]:
    filesystem = data_dir.filesystem
    owned = {
        int(segment_extent.segment.number)
        for log in logs.logs.values()
        if log not in orphans
        for segment_extent in log.extents.segments
    }
    renamed = {int(segment_extent.segment.number) for log in orphans for segment_extent in log.extents.segments} - owned
    copied = [log for log in orphans if _elsewhere(log, renamed)]
    places: list[str] = []
    if copied:
        places.append(_copy(data_dir, logs, copied, renamed, new_salt))
    for number in sorted(renamed):
        with contextlib.suppress(DiskError):  # it may be gone; then its records are told as lost
            place = f"{data_dir.segments}/{segment_name(number, KEPT)}"
            filesystem.rename("segment.keep", f"{data_dir.segments}/{segment_name(number)}", place)
            places.append(place)
    filesystem.sync_directory("segment.publish.directory", data_dir.segments)
    return places


def _elsewhere(log: Log, renamed: set[int]) -> bool:
    """Whether some of it is not in these segments."""
    return bool(log.extents.wal) or any(
        int(segment_extent.segment.number) not in renamed for segment_extent in log.extents.segments
    )


def _copy(data_dir: DataDir, logs: Logs, orphans: list[Log], renamed: set[int], new_salt: Callable[[], int]) -> str:
    builder = SegmentBuilder(logs.segments.new_number(), _BLOCK_SIZE)
    file = SegmentFile(data_dir.filesystem, data_dir.segments, builder, new_salt)
    try:
        for log in orphans:
            ranges = [
                (int(each.first), int(each.last) + 1)
                for each in log.extents.segments
                if int(each.segment.number) not in renamed
            ]
            if log.extents.wal:
                ranges.append((int(log.extents.wal[0].first), int(log.positions.next)))
            keeper = _Keeper(log, builder)
            for start, end in ranges:
                keeper.through = start
                while keeper.through < end:
                    logs.read_now(log, keeper.through, end, _READ_SIZE, keeper)
                    file.write(builder.take())
        builder.cut()
        file.write(builder.take())
        builder.parts = [part for part in builder.parts if part.count]
        file.seal(KEPT)
    except DiskError:
        file.discard()
        raise
    return f"{data_dir.segments}/{segment_name(int(builder.number), KEPT)}"


class _Keeper(LogUser):
    """Writes what is read of a log to the segment."""

    def __init__(self, log: Log, builder: SegmentBuilder) -> None:
        self.through = 0
        self._log = log
        self._builder = builder
        self._part = SegmentPart(log, builder, None, -1)
        builder.parts.append(self._part)

    def durable(self) -> None:
        """Nobody promises anything."""

    def record(self, position: int, data: bytes, start: int, end: int) -> None:
        writer = self._builder.writer
        begin = len(writer)
        write_i64_be(writer, self._log.number)
        write_i32_be(writer, end - start + 8)
        writer.append(int(MESSAGE))
        write_i64_be(writer, position)
        writer.write(data[start:end])
        self._part.add(position, MESSAGE, read_i64_be(data, start), begin, len(writer))
        self._builder.record_added()

    def loaded(self, through: int) -> None:
        self.through = max(through, self.through + 1)
