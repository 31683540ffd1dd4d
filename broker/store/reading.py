"""Fetches batches back from the disk for the logs, on a thread of its own. Nothing is believed that its checksum does not vouch for."""

from broker.store.batch import Place
from broker.store.filesystem import DiskError, File, FileSystem
from broker.store.log import LogReader, Logs, Read, index_place
from broker.store.runner import Job, Runner
from broker.store.segment import payload_of, read_batch, read_stretches, segment_name
from broker.store.wal_file import file_name


class Fetcher(LogReader):
    """The files of one data directory, read."""

    def __init__(self, filesystem: FileSystem, wal_directory: str, segment_directory: str, logs: Logs, runner: Runner) -> None:
        self._filesystem = filesystem
        self._wal_directory = wal_directory
        self._segment_directory = segment_directory
        self._logs = logs
        self._runner = runner
        self._in_use: dict[str, int] = {}

    def in_use(self, generation: int) -> bool:
        """Whether a read needs this file of the write-ahead log: it must not be used for anything else now."""
        return file_name(generation) in self._in_use

    def segment_in_use(self, number: int) -> bool:
        """Whether a read needs this segment: it must not be removed now."""
        return segment_name(number) in self._in_use

    def fetch(self, read: Read) -> None:
        names = _names(read)
        for name in names:
            self._in_use[name] = self._in_use.get(name, 0) + 1
        self._runner.submit(_Fetch(self, read, names))

    def fetched(self, read: Read, names: set[str]) -> None:
        """It is done. Called by its job, on the owner's thread."""
        for name in names:
            left = self._in_use[name] - 1
            if left:
                self._in_use[name] = left
            else:
                del self._in_use[name]
        self._logs.fetched(read)

    def fetch_now(self, read: Read) -> None:
        if read.piece is not None:
            self._fetch_piece(read)
            return
        file: File | None = None
        generation = -1
        try:
            for place in read.payloads:
                if file is None or place.generation != generation:
                    if file is not None:
                        file.close()
                    file = self._open(f"{self._wal_directory}/{file_name(place.generation)}")
                    generation = place.generation
                read.payloads[place] = _payload(file, place)
        finally:
            if file is not None:
                file.close()

    def _fetch_piece(self, read: Read) -> None:
        piece = read.piece
        assert piece is not None
        file = self._open(f"{self._segment_directory}/{segment_name(piece.segment.number)}")
        if file is None:
            return
        try:
            if read.index is None:
                read.index = read_stretches(file, index_place(piece), read.log.number, piece.first)
                read.choose()
            for place in read.payloads:
                read.payloads[place] = _payload(file, place)
        finally:
            file.close()

    def _open(self, path: str) -> File | None:
        try:
            return self._filesystem.open("log.open", path)
        except DiskError:
            return None


def _names(read: Read) -> set[str]:
    """The files it needs."""
    piece = read.piece
    if piece is not None:
        return {segment_name(piece.segment.number)}
    return {file_name(place.generation) for place in read.payloads}


def _payload(file: File | None, place: Place) -> bytes | None:
    """The payload of the batch; None if it cannot be read or is not what was written."""
    data = None if file is None else read_batch(file, place)
    return None if data is None else payload_of(data)


class _Fetch(Job):
    def __init__(self, fetcher: Fetcher, read: Read, names: set[str]) -> None:
        self._fetcher = fetcher
        self._read = read
        self._names = names

    def run(self) -> None:
        self._fetcher.fetch_now(self._read)

    def finished(self) -> None:
        self._fetcher.fetched(self._read, self._names)
