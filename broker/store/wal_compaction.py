"""Empties full files of the write-ahead log: what is live in them goes to new segments."""

from functools import partial

from broker.store.compactor_options import CompactorOptions
from broker.store.live_record_copy import LiveRecordCopy
from broker.store.log import Log, LogState, states
from broker.store.manifest_edits import ManifestEdits
from broker.store.manifest_records import Edit
from broker.store.store_parts import StoreParts
from broker.store.tasks import Task
from broker.store.wal_file import BadRange, file_name
from broker.store.wal_writer import LogFile


class WalCompaction:
    """The full files of the log. Its tasks run in the compactor (compactor.py), one at a time."""

    def __init__(self, parts: StoreParts, edits: ManifestEdits, options: CompactorOptions) -> None:
        self._parts = parts
        self._edits = edits
        self._per_slice = options.logs_per_slice
        self._moved = -1  # generation of the newest file whose records have moved
        self._free: list[int] = []  # generations of files that go when nobody reads from them

    def full_files(self) -> list[LogFile]:
        """Those in which something may be live, oldest first."""
        return [file for file in self._parts.wal.files[:-1] if file.generation > self._moved]

    def move(self, copy: LiveRecordCopy) -> Task:
        """Empty the oldest full file."""
        generation = self.full_files()[0].generation
        files = self._parts.wal.files
        covers = next(file for file in files if file.generation > generation).first_sequence - 1
        logs = list(self._parts.logs.by_file.get(generation, ()))
        for log in logs:
            owner = log.group.owner if log.group is not None else None
            if owner is not None and not log.dropped:
                owner.compact()
                yield 0
        live = 0
        for index in range(0, len(logs), self._per_slice):
            live += sum(copy.filter.plan(log, generation) for log in logs[index : index + self._per_slice])
            yield 0
        try:
            if not self._parts.manifest.exists:
                yield partial(self._parts.manifest.append, Edit())
            if live:
                name = file_name(generation)
                bad = yield from copy.read(self._parts.files.wal_path(name), generation)
                for each in bad:
                    self._lose(logs, generation, each)
            added = yield from copy.seal()
        except Exception:
            yield from copy.discard()
            raise
        found: list[LogState] = []
        for index in range(0, len(logs), self._per_slice):
            found += states(logs, index, index + self._per_slice)
            yield 0
        yield from self._edits.commit(Edit(added, states=found, covers=covers))
        copy.filter.turn_to(None)
        while found:
            del found[-self._per_slice :]  # 100,000 of them at once would hold up the loop
            yield 0
        yield from copy.install(added)
        yield from self._forget(logs, generation)

    def _forget(self, logs: list[Log], generation: int) -> Task:
        """Nothing reads from the file any more but what has begun to."""
        for index in range(0, len(logs), self._per_slice):
            for log in logs[index : index + self._per_slice]:
                log.extents.forget(generation)
            yield 0
        self._parts.logs.forget_file(generation)
        self._moved = generation
        self._free.append(generation)
        self.give_back()

    def give_back(self) -> bool:
        """Let the files go from which everything has moved and nobody reads. Whether all such files have gone."""
        while self._free and not self._parts.files.in_use(file_name(self._free[0])):
            self._parts.wal.retire(self._free.pop(0))
        return not self._free

    def _lose(self, logs: list[Log], generation: int, bad: BadRange) -> None:
        """Settle and tell what is live in a range of a file."""
        for log in logs:
            for extent in list(log.extents.wal):
                location = extent.location
                if location.generation == generation and bad.offset <= location.offset < bad.offset + bad.size:
                    self._parts.logs.lose(log, extent.first, extent.first + extent.count - 1, location)
