"""The files that records are read from (of the write-ahead log, segments, page files): where they are, which of them
stay open, and which must not go now because a read needs them."""

from collections.abc import Iterable

from broker.store.filesystem import FileSystem
from broker.store.kept_files import KeptFiles
from broker.store.segment import segment_name
from broker.store.segment_extent import Segment


def page_name(number: int) -> str:
    """The name of a page file (page_files.py)."""
    return f"{number:016x}.page"


def name_of(segment: Segment) -> str:
    """The name of a segment's file, or of a page file."""
    return page_name(segment.number) if segment.on_pages else segment_name(segment.number)


class DataFiles:
    """The files of one data directory. On the owner's thread, but for ``kept``."""

    def __init__(self, filesystem: FileSystem, wal_directory: str, segment_directory: str, page_directory: str) -> None:
        self.kept = KeptFiles(filesystem)
        """Those that stay open."""
        self._wal_directory = wal_directory
        self._segment_directory = segment_directory
        self._page_directory = page_directory
        self._uses: dict[str, int] = {}

    def wal_path(self, name: str) -> str:
        """The file of this name in the write-ahead log."""
        return f"{self._wal_directory}/{name}"

    def path_of(self, segment: Segment) -> str:
        """The file of a segment, or of a page file."""
        return f"{self._page_directory if segment.on_pages else self._segment_directory}/{name_of(segment)}"

    def use(self, names: Iterable[str]) -> None:
        """A read needs these files, until they are released."""
        for name in names:
            self._uses[name] = self._uses.get(name, 0) + 1

    def release(self, names: Iterable[str]) -> None:
        """It needs them no more."""
        for name in names:
            left = self._uses[name] - 1
            if left:
                self._uses[name] = left
            else:
                del self._uses[name]

    def in_use(self, name: str) -> bool:
        """Whether a read needs the file of this name: it must neither be removed nor used for anything else now."""
        return name in self._uses
