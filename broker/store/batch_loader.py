"""Fills reads with batches: from the cache, from the system's memory, or from the disk. Nothing is believed that its
checksum does not vouch for.

Batches hold records of many logs, and what was read last is kept for those that come for the rest (batch_cache.py).
"""

from typing import Final

from broker.clock import Clock
from broker.store.alarm import Alarm, Sleeper
from broker.store.batch import BLOCK, HEADER_SIZE, BatchLocation, StoredBatch
from broker.store.batch_cache import BatchCache, key_of
from broker.store.data_files import DataFiles, name_of
from broker.store.disk_error import DiskError
from broker.store.filesystem import File
from broker.store.kept_files import KeptFiles
from broker.store.read_request import Read
from broker.store.segment import read_cached, read_stored
from broker.store.survey import extents_of
from broker.store.wal_file import file_name

IDLE_MS: Final = 2000
"""After so long without a read nothing is kept any more."""


class BatchLoader:
    """Used by the owner's thread and by the one that reads."""

    def __init__(self, files: DataFiles, clock: Clock) -> None:
        self._files = files
        self.cache = BatchCache()
        """Batches that are kept for those who come for the rest."""
        self._cleaner = _Cleaner(clock, self.cache, files.kept)

    def used(self) -> None:
        """Somebody reads: what is kept stays for a while. Owner's thread."""
        self._cleaner.used()

    def take_cached(self, read: Read) -> bool:
        """Fill in what is in the cache; whether it is all."""
        used_up = _used_up(read)
        for location, batch in read.batches.items():
            if batch is None:
                self._take_cached(read, location, used_up)
        return None not in read.batches.values()

    def _take_cached(self, read: Read, location: BatchLocation, used_up: list[BatchLocation]) -> bool:
        """Fill in that batch if it is in the cache, where it does not stay if nobody else needs it; whether it is."""
        key = key_of(read.segment_extent is not None, location)
        batch = self.cache.get(key)
        if batch is None:
            return False
        read.batches[location] = batch
        if location in used_up:
            self.cache.drop(key)
        return True

    def take_quick(self, read: Read) -> bool:
        """Fill in what the system has in its memory; whether it was all."""
        used_up = _used_up(read)
        try:
            for name in names_of(read):
                file = self._files.kept.take(self._path(read, name))
                for location in _missing(read, name):
                    batch = read_cached(file, location)
                    if batch is None:
                        break
                    self._fill_in(read, location, batch, used_up)
                self._files.kept.keep(file)
        except DiskError:  # the other thread will see it, and try again
            return False
        return None not in read.batches.values()

    def load(self, read: Read) -> DiskError | None:
        """Fill in what is not there yet; the last error, if there was one."""
        error: DiskError | None = None
        if read.segment_extent is None and self.take_cached(read):
            return None
        for name in sorted(names_of(read)):
            try:
                file = self._files.kept.take(self._path(read, name))
            except DiskError as unopened:
                error = unopened
                continue
            unread = self._fill(read, file, name)
            if unread is None:
                self._files.kept.keep(file)
            else:
                file.close()
                error = unread
        return error

    def _fill(self, read: Read, file: File, name: str) -> DiskError | None:
        """Read from one of the files."""
        error: DiskError | None = None
        segment_extent = read.segment_extent
        try:
            if segment_extent is not None and read.index is None:
                read.index = extents_of(file, segment_extent, int(read.log.number))
                read.choose()
        except DiskError as unread:
            return unread
        used_up = _used_up(read)
        for location in _missing(read, name):
            try:
                if not self._take_cached(read, location, used_up):
                    self._fill_in(read, location, read_stored(file, location), used_up)
            except DiskError as unread:
                error = unread
        return error

    def _fill_in(
        self, read: Read, location: BatchLocation, batch: StoredBatch | None, used_up: list[BatchLocation]
    ) -> None:
        """This was read, None if it is damaged: kept for those who come for the rest."""
        read.batches[location] = batch
        if batch is not None and location not in used_up:
            self.cache.put(key_of(read.segment_extent is not None, location), batch)

    def _path(self, read: Read, name: str) -> str:
        segment_extent = read.segment_extent
        return self._files.wal_path(name) if segment_extent is None else self._files.path_of(segment_extent.segment)

    def close(self) -> None:
        """Nobody reads any more."""
        self._files.kept.close()


def names_of(read: Read) -> set[str]:
    """The files it needs."""
    if read.segment_extent is not None:
        return {name_of(read.segment_extent.segment)}
    return {file_name(location.generation) for location in read.batches}


def _missing(read: Read, name: str) -> list[BatchLocation]:
    """The batches of that file that are not filled in."""
    return [
        location
        for location, batch in read.batches.items()
        if batch is None and (read.segment_extent is not None or file_name(location.generation) == name)
    ]


def _used_up(read: Read) -> list[BatchLocation]:
    """The batches that nobody else needs: all of each is this log's, and the read goes on to its end."""
    sizes: dict[BatchLocation, int] = {}
    through: dict[BatchLocation, int] = {}
    for extent in read.extents:
        location = extent.location
        sizes[location] = sizes.get(location, 0) + int(extent.end - extent.start)
        through[location] = int(extent.first + extent.count)
    whole = [location for location, size in sizes.items() if size > int(location.size) - HEADER_SIZE - BLOCK]
    return [location for location in whole if int(read.end) >= through[location]]


class _Cleaner(Sleeper):
    """Empties the cache, and closes the file that is kept open, when nobody reads any more."""

    def __init__(self, clock: Clock, cache: BatchCache, kept: KeptFiles) -> None:
        self._alarm = Alarm(clock, self)
        self.cache = cache
        self._kept = kept
        self._used = False
        self._waits = False

    def used(self) -> None:
        """Somebody reads."""
        self._used = True
        if not self._waits:
            self._waits = True
            self._alarm.set(IDLE_MS)

    def wake(self) -> None:
        self._waits = self._used
        if self._used:
            self._used = False
            self._alarm.set(IDLE_MS)
        else:
            self.cache.clear()
            self._kept.close()
