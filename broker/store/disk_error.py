"""How an operation on the disk fails: what it was for (its *site*), on which file, and what the system said."""

import errno
from typing import Final

SITES: Final[dict[str, str]] = {
    "datadir.create": "make a directory of the layout",
    "datadir.create.directory": "sync the directory above it",
    "datadir.keep": "open a directory in which names will be made durable",
    "datadir.lock": "take the lock of the data directory",
    "datadir.lock.write": "leave the process id in it",
    "datadir.lock.read": "read whose it is",
    "datadir.list": "look what the data directory holds",
    "datadir.format.read": "read the format version",
    "datadir.format.clean": "remove what an interrupted replacement left",
    "datadir.format.create": "create its replacement",
    "datadir.format.write": "write it",
    "datadir.format.sync": "sync it",
    "datadir.format.rename": "put it in place",
    "datadir.format.directory": "sync the directory that names it",
    "damage.read": "read what was lost before",
    "damage.clean": "remove what an interrupted replacement left, or what is no such file",
    "damage.create": "create the file that says what was lost",
    "damage.write": "write it",
    "damage.sync": "sync it",
    "damage.rename": "put it in place",
    "damage.directory": "sync the directory that names it",
    "quarantine.open": "open a file that holds a range that is cut or damaged",
    "quarantine.list": "look what is kept already",
    "quarantine.clean": "remove a copy that was never finished",
    "quarantine.create": "create the copy of such a range",
    "quarantine.write": "write it",
    "quarantine.sync": "sync it",
    "quarantine.rename": "give it its name",
    "quarantine.directory": "sync the directory that names it",
    "wal.list": "find the files of the log",
    "wal.open": "open a file of the log",
    "wal.read": "read it",
    "wal.start.directory": "sync the directory that names the files found",
    "wal.cut": "overwrite the head of a torn batch",
    "wal.cut.sync": "sync that",
    "wal.rewrite": "write the last batch again, which no sync may have covered",
    "wal.rewrite.sync": "sync that",
    "wal.create": "create a file",
    "wal.allocate": "take its space",
    "wal.fill": "fill it with zeros",
    "wal.fill.sync": "sync that",
    "wal.header": "write its header",
    "wal.header.sync": "sync that",
    "wal.publish": "give it its name",
    "wal.publish.directory": "sync the directory that names it",
    "wal.write": "write a batch",
    "wal.sync": "sync it",
    "wal.recycle": "take a file out of the log, for another use",
    "wal.remove": "take a file out of the log",
    "wal.retire.directory": "sync the directory that named it",
    "wal.discard": "remove a spare file that is not whole or not wanted",
    "log.open": "open a file to read a backlog",
    "log.read": "read it",
    "move.open": "open a file whose live records move",
    "move.read": "read it",
    "segment.list": "find the segments",
    "segment.size": "see whether a segment is all there",
    "segment.read": "read a segment of which the manifest or its index does not tell",
    "segment.create": "create a segment",
    "segment.write": "write it",
    "segment.sync": "sync it",
    "segment.publish": "give it its name",
    "segment.publish.directory": "sync the directory that names it",
    "segment.discard": "remove a segment that was never finished or that nothing refers to",
    "segment.keep": "put aside a segment that a damaged manifest does not name",
    "segment.remove": "remove a segment in which nothing is live",
    "manifest.list": "find the manifest",
    "manifest.open": "open it",
    "manifest.read": "read it",
    "manifest.start.directory": "sync the directory that names it",
    "manifest.rewrite": "write its last edit again, which no sync may have covered",
    "manifest.rewrite.sync": "sync that",
    "manifest.create": "create a new manifest",
    "manifest.allocate": "take space for it",
    "manifest.write": "write an edit",
    "manifest.sync": "sync it",
    "manifest.publish": "give it its name",
    "manifest.publish.directory": "sync the directory that names it",
    "manifest.remove": "remove the manifest before it",
    "manifest.discard": "remove one that was never finished",
    "page.list": "look which page files there are",
    "page.create": "create a page file",
    "page.write": "write messages to it that are too many for the memory",
    "page.reuse": "give it another name, for another use",
    "page.remove": "remove a page file in which nothing is live, or that an earlier run has left",
}
"""Every place that touches the disk, and why. A test compares it with the calls."""


class DiskError(OSError):
    """An operation failed. ``errno`` as the system gave it, ``filename`` the file, ``site`` a key of ``SITES``."""

    def __init__(self, number: int, reason: str, path: str, site: str) -> None:
        super().__init__(number, reason, path)
        self.site = site

    def __str__(self) -> str:
        return f"cannot {SITES.get(self.site, self.site)}: {self.filename}: {self.strerror}"

    @property
    def is_full(self) -> bool:
        """Whether there is no space left, or no descriptor, which somebody can make, as against a broken disk: to be
        tried again."""
        return self.errno in (errno.ENOSPC, errno.EDQUOT) or self.wants_descriptor

    @property
    def wants_descriptor(self) -> bool:
        """Whether there was no descriptor for it: nothing was begun, so nothing is in doubt."""
        return self.errno in (errno.EMFILE, errno.ENFILE)
