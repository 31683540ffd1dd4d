"""The files of a data directory that were read last, kept open."""

import threading
from typing import Final

from broker.store.filesystem import File, FileSystem

KEPT_OPEN_MAX: Final = 4
"""Files that stay open for the next read."""


class KeptFiles:
    """The files that were read last stay open for the next reads, which mostly go on in them: each open and close may
    have to wait for its turn to run Python, as long as the loop is busy. Used by the owner's thread and by the one that
    reads: who has taken one has it alone.
    """

    def __init__(self, filesystem: FileSystem) -> None:
        self._filesystem = filesystem
        self._files: dict[str, File] = {}  # by path; the one that was read last stands last
        self._lock = threading.Lock()

    def take(self, path: str) -> File:
        """That file, open.

        Raises: DiskError
        """
        with self._lock:
            file = self._files.pop(path, None)
        return self._filesystem.open("log.open", path) if file is None else file

    def keep(self, file: File) -> None:
        """It was read without an error."""
        with self._lock:
            others = [self._files.pop(file.path, None)]
            self._files[file.path] = file
            if len(self._files) > KEPT_OPEN_MAX:
                others.append(self._files.pop(next(iter(self._files))))
        for other in others:
            if other is not None:
                other.close()

    def forget(self, path: str) -> None:
        """That file is removed: it must not take space any longer."""
        with self._lock:
            file = self._files.pop(path, None)
        if file is not None:
            file.close()

    def close(self) -> None:
        """Close what is kept."""
        with self._lock:
            files, self._files = self._files, {}
        for file in files.values():
            file.close()
