"""An entry of the log of a Raft group, and the log's own kinds of entries."""

from __future__ import annotations

from typing import Final, final

from broker.native import i64

NORMAL: Final[i64] = 0
"""A command of the state machine; without data, the entry that a new leader begins its term with."""
CONF_CHANGE: Final[i64] = 1
"""A change of who belongs to the group; its data are the bytes of a ``ConfChange``."""


@final
class Entry:
    """One entry. Nothing of it changes once it stands in a log, so that members in one process may share it."""

    def __init__(self, kind: i64, data: object, size: i64, term: i64 = 0, index: i64 = 0) -> None:
        self.kind: i64 = kind
        self.data = data
        """Never looked at here, unless it is a change of the configuration: bytes, or where the bytes are."""
        self.size: i64 = size
        """Bytes of the data, for the limits on what is in flight."""
        self.term: i64 = term
        """0 until a leader has appended it."""
        self.index: i64 = index
        """0 until a leader has appended it."""

    def __repr__(self) -> str:
        kind = "" if self.kind == NORMAL else " configuration"
        return f"<Entry {self.term}/{self.index}{kind} {self.size} bytes>"


def total_size(entries: list[Entry]) -> i64:
    """Bytes of the data of all of them."""
    size: i64 = 0
    for entry in entries:
        size += entry.size
    return size


def within(entries: list[Entry], max_bytes: i64) -> list[Entry]:
    """As many of the first ones as have ``max_bytes`` together; one at least."""
    size: i64 = 0
    count: i64 = 0
    for entry in entries:
        size += entry.size
        if size > max_bytes and count > 0:
            return entries[:count]
        count += 1
    return entries
