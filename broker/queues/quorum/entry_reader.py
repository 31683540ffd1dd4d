"""Reads the commands of an entry of a quorum queue's log (commands.py has their bytes)."""

from __future__ import annotations

from typing import Final, final

from broker.native import i64
from broker.queues.quorum.commands import (
    ACCEPT,
    ATTACH,
    COUNT_FOLLOWS,
    COUNT_MAX,
    DEAD_CONFIRMED,
    DEAD_LETTER,
    DEFAULT_LEVEL,
    DELAY,
    DETACH,
    DROP,
    ENTRY_VERSION,
    EXPIRE_SESSION,
    LEVEL_FOLLOWS,
    LEVELS,
    NO_SESSION,
    RETURN,
    SESSION_FOLLOWS,
    SETTINGS,
    STRIDE_FOLLOWS,
    STRIDED_MAX,
)
from broker.queues.quorum.values import EXPIRED, LAST_CAUSE, TAKEN, is_dead_letter
from broker.store.run_map import POSITION_MAX
from broker.store.varint import VarintReader

_FLAGS: Final[i64] = LEVEL_FOLLOWS | COUNT_FOLLOWS | STRIDE_FOLLOWS


@final
class EntryReader:
    """One command after the other: ``next``, then the attributes that its kind has."""

    def __init__(self, data: bytes) -> None:
        """
        Raises: ValueError if the data are no entry of a version that is known
        """
        self._reader = VarintReader(data)
        if self._reader.byte() != ENTRY_VERSION:
            raise ValueError("an entry of an unknown version")
        self.time_ms: i64 = self._reader.number()
        """The leader's wall time."""
        self.kind: i64 = 0
        self.level: i64 = 0
        self.first: i64 = 0
        """The first position of a range; in an ACCEPT with a session, the first sequence number."""
        self.count: i64 = 0
        self.stride: i64 = 1
        self.detail: i64 = 0
        """Cause or reason."""
        self.until_ms: i64 = 0
        self.id: i64 = 0
        """A session's or a consumer's; in an ACCEPT ``NO_SESSION`` if there is none."""
        self.priority: i64 = 0
        self.settings: dict[int, int] = {}

    def next(self) -> bool:
        """Read the next command; False if there is none.

        Raises: ValueError if it is not a command that is known
        """
        reader = self._reader
        if reader.at == reader.end:
            return False
        tag = reader.byte()
        kind = tag & 31
        self.kind = kind
        if ACCEPT <= kind <= DEAD_CONFIRMED:
            self._read_range(tag)
        elif tag & _FLAGS or kind == 0 or kind > EXPIRE_SESSION:
            raise ValueError("an unknown command")
        elif kind == SETTINGS:
            self._read_settings()
        else:
            self.id = reader.number()
            if kind == ATTACH:
                self.priority = reader.signed()
            if self.id == 0 and kind in (ATTACH, DETACH):
                raise ValueError("a consumer without an id")
        return True

    def _read_range(self, tag: i64) -> None:
        reader = self._reader
        kind = self.kind
        level = DEFAULT_LEVEL
        if tag & LEVEL_FOLLOWS:
            level = reader.number()
            if level >= LEVELS or level == DEFAULT_LEVEL:
                raise ValueError("not a level")
        self.level = level
        count: i64 = 1
        if tag & COUNT_FOLLOWS:
            count = reader.number()
            if count > COUNT_MAX or count == 1:
                raise ValueError("not a count")
        self.count = count
        if kind == ACCEPT:
            self._read_session(tag)
            return
        stride: i64 = 1
        if tag & STRIDE_FOLLOWS:
            stride = reader.number()
            if stride < 2 or stride > COUNT_MAX or count < 2 or count > STRIDED_MAX:
                raise ValueError("not a stride")
        self.stride = stride
        first = reader.number()
        self.first = first
        if count == 0 or (count - 1) > (POSITION_MAX - first) // stride:
            raise ValueError("not a range of positions")
        if kind in (RETURN, DELAY):
            self._read_cause()
        elif kind in (DROP, DEAD_LETTER):
            self._read_reason()

    def _read_session(self, tag: i64) -> None:
        reader = self._reader
        self.id = NO_SESSION
        self.first = 0
        if tag & SESSION_FOLLOWS:
            self.id = reader.number()
            self.first = reader.number()
            if self.first > POSITION_MAX - self.count:
                raise ValueError("not a sequence number")
        if self.count == 0:
            raise ValueError("not a count")

    def _read_cause(self) -> None:
        reader = self._reader
        self.detail = reader.byte()
        if self.detail > LAST_CAUSE:
            raise ValueError("an unknown cause")
        if self.kind == DELAY:
            self.until_ms = reader.number()
            if self.until_ms == 0:
                raise ValueError("a delay that never ends")

    def _read_reason(self) -> None:
        self.detail = self._reader.byte()
        if self.detail < EXPIRED or self.detail > TAKEN:
            raise ValueError("an unknown reason")
        if self.kind == DEAD_LETTER and not is_dead_letter(self.detail):
            raise ValueError("not a reason for a dead letter")

    def _read_settings(self) -> None:
        reader = self._reader
        count = reader.number()
        settings: dict[int, int] = {}
        before: i64 = -1
        while count > 0:
            key = reader.byte()
            if key <= before:
                raise ValueError("settings out of order")
            settings[int(key)] = int(reader.signed())
            before = key
            count -= 1
        self.settings = settings


def check_entry(data: bytes) -> None:
    """
    Raises: ValueError if the data are no entry that ``Ledger.apply`` can apply
    """
    reader = EntryReader(data)
    while reader.next():
        pass
