"""The commands in an entry of a quorum queue's log, and how one is written: facts about ranges of positions.

An entry is a version (1 byte), the leader's wall time in milliseconds (varint), then commands up to its end:

    1 byte: kind (5 bits), LEVEL_FOLLOWS, COUNT_FOLLOWS, STRIDE_FOLLOWS
    level (varint) if it is not 4, count (varint) if it is not 1, stride (varint) if it is not 1; then

    ACCEPT          [session, first sequence number if SESSION_FOLLOWS]: the next ``count`` positions of the level
    DELIVER         first: waiting -> out
    SETTLE          first: out -> gone
    RETURN          first, cause (1 byte): out -> waiting
    DROP            first, reason (1 byte): gone; from which states the reason says (values.py)
    DELAY           first, cause (1 byte), until (ms): out -> delayed
    DUE             first: delayed -> waiting
    DEAD_LETTER     first, reason (1 byte): as DROP, but dead, until DEAD_CONFIRMED
    DEAD_CONFIRMED  first: dead -> gone
    ATTACH          id, priority (signed): a consumer, last in the order
    DETACH          id: a consumer goes
    ACTIVATE        id: the consumer that is the single active one; 0 for none
    SETTINGS        number, then a key (1 byte) and a signed value for each, ascending: they replace those before
    EXPIRE_SESSION  id: nothing of this publisher will be sent again

``first`` and ids are varints. A range is ``count`` positions from ``first`` on, ``stride`` apart.
"""

from __future__ import annotations

from typing import Final, final

from librt.strings import BytesWriter

from broker.native import i64
from broker.queues.quorum.weaving import STRIDE_MAX, woven
from broker.store.varint import write_signed, write_varint

ENTRY_VERSION: Final[i64] = 1
LEVELS: Final[i64] = 32
"""Strict priorities 0 to 31."""
DEFAULT_LEVEL: Final[i64] = 4
"""That of a message without priority."""
NO_SESSION: Final[i64] = -1
"""A publisher that sends nothing again."""

LEVEL_FOLLOWS: Final[i64] = 0x20
COUNT_FOLLOWS: Final[i64] = 0x40
STRIDE_FOLLOWS: Final[i64] = 0x80
SESSION_FOLLOWS: Final[i64] = 0x80
"""The same bit in an ACCEPT, which has no stride."""

ACCEPT: Final[i64] = 1
DELIVER: Final[i64] = 2
SETTLE: Final[i64] = 3
RETURN: Final[i64] = 4
DROP: Final[i64] = 5
DELAY: Final[i64] = 6
DUE: Final[i64] = 7
DEAD_LETTER: Final[i64] = 8
DEAD_CONFIRMED: Final[i64] = 9
ATTACH: Final[i64] = 10
DETACH: Final[i64] = 11
ACTIVATE: Final[i64] = 12
SETTINGS: Final[i64] = 13
EXPIRE_SESSION: Final[i64] = 14

COUNT_MAX: Final[i64] = 1 << 40
"""The largest count and the largest stride of a range, and the most that one ACCEPT accepts."""
STRIDED_MAX: Final[i64] = 1 << 16
"""The largest count of a range whose stride is not 1: each of its positions may become a run."""


@final
class Delay:
    """For which cause messages came back, and until when (wall time in milliseconds) they are delayed."""

    def __init__(self, cause: i64, until_ms: i64) -> None:
        self.cause: i64 = cause
        self.until_ms: i64 = until_ms


@final
class EntryWriter:
    """Writes one entry after the other. What one command says behind the other about ranges of the same level becomes
    as few ranges as possible; the order of different commands stays."""

    def __init__(self) -> None:
        self._writer = BytesWriter()
        # the command that may still grow: its kind and detail (cause or reason), -1 if there is none
        self._command: i64 = -1
        self._level: i64 = 0
        self._until: i64 = 0
        # an ACCEPT: how many, of whom; any other: its last range
        self._first: i64 = 0
        self._count: i64 = 0
        self._stride: i64 = 0
        self._session: i64 = NO_SESSION
        self._ranges: list[int] = []
        """Ranges of the same command before the last one: first, count and stride of each."""
        self.empty = True
        """Whether no command was written since ``begin``."""

    def begin(self, time_ms: i64) -> None:
        """A new entry, decided at this wall time in milliseconds; what was written before is forgotten."""
        self._writer.truncate(0)
        self._command = -1
        if self._ranges:
            self._ranges = []
        self.empty = True
        self._writer.append(int(ENTRY_VERSION))
        write_varint(self._writer, time_ms)

    def size(self) -> i64:
        """About how many bytes the entry has."""
        return len(self._writer) + 8 + 2 * len(self._ranges)

    def take(self) -> bytes:
        """The entry; only ``begin`` may follow."""
        self._flush()
        return self._writer.getvalue()

    # ---- messages ----------------------------------------------------------------------------------------------------

    def accept(self, level: i64, count: i64, session: i64 = NO_SESSION, sequence: i64 = 0) -> None:
        """The next ``count`` positions of the level are messages, the publisher's ``sequence`` and those that follow
        it."""
        if self._command == ACCEPT and level == self._level and session == self._session:
            if session < 0 or sequence == self._first + self._count:
                self._count += count
                return
        self._flush()
        self.empty = False
        self._command = ACCEPT
        self._level = level
        self._count = count
        self._session = session
        self._first = sequence

    def deliver(self, level: i64, first: i64, count: i64, stride: i64) -> None:
        """They are on their way to consumers, or to a basic.get."""
        self._add(DELIVER, level, first, count, stride)

    def settle(self, level: i64, first: i64, count: i64, stride: i64) -> None:
        """They are acknowledged."""
        self._add(SETTLE, level, first, count, stride)

    def requeue(self, level: i64, first: i64, count: i64, stride: i64, cause: i64) -> None:
        """They wait again."""
        self._add(RETURN | (cause << 5), level, first, count, stride)

    def drop(self, level: i64, first: i64, count: i64, stride: i64, reason: i64) -> None:
        """They are gone."""
        self._add(DROP | (reason << 5), level, first, count, stride)

    def delay(self, level: i64, first: i64, count: i64, stride: i64, delay: Delay) -> None:
        """They came back, and wait later."""
        if delay.until_ms != self._until:
            self._flush()
            self._until = delay.until_ms
        self._add(DELAY | (delay.cause << 5), level, first, count, stride)

    def due(self, level: i64, first: i64, count: i64, stride: i64) -> None:
        """Their delay is over."""
        self._add(DUE, level, first, count, stride)

    def dead_letter(self, level: i64, first: i64, count: i64, stride: i64, reason: i64) -> None:
        """They are dead letters, and stay until ``dead_confirmed``."""
        self._add(DEAD_LETTER | (reason << 5), level, first, count, stride)

    def dead_confirmed(self, level: i64, first: i64, count: i64, stride: i64) -> None:
        """All targets of the dead letters have confirmed them."""
        self._add(DEAD_CONFIRMED, level, first, count, stride)

    # ---- everything else ---------------------------------------------------------------------------------------------

    def attach(self, consumer: i64, priority: i64) -> None:
        """A consumer; its id is at least 1."""
        self._put(ATTACH, consumer)
        write_signed(self._writer, priority)

    def detach(self, consumer: i64) -> None:
        """A consumer is gone."""
        self._put(DETACH, consumer)

    def activate(self, consumer: i64) -> None:
        """It is the single active one from now on; 0 for none."""
        self._put(ACTIVATE, consumer)

    def settings(self, values: dict[int, int]) -> None:
        """They replace all settings; keys are 0 to 255."""
        self._put(SETTINGS, len(values))
        for key in sorted(values):
            self._writer.append(key)
            write_signed(self._writer, values[key])

    def expire_session(self, session: i64) -> None:
        """A publisher is gone, and nothing of it is waited for."""
        self._put(EXPIRE_SESSION, session)

    # ---- bytes -------------------------------------------------------------------------------------------------------

    def _put(self, kind: i64, number: i64) -> None:
        self._flush()
        self.empty = False
        self._writer.append(int(kind))
        write_varint(self._writer, number)

    def _add(self, command: i64, level: i64, first: i64, count: i64, stride: i64) -> None:
        """A range, which may continue the last one."""
        if command == self._command and level == self._level:
            end = self._first + self._count * self._stride
            apart = first - self._first
            if self._count == 1 and 0 < apart <= STRIDE_MAX and (count == 1 or stride == apart):
                self._stride = apart
                self._count += count
                return
            if first == end and (stride == self._stride or count == 1):
                self._count += count
                return
            self._keep_range()
        else:
            self._flush()
            self.empty = False
            self._command = command
            self._level = level
        self._first = first
        self._count = count
        self._stride = stride

    def _keep_range(self) -> None:
        self._ranges.append(int(self._first))
        self._ranges.append(int(self._count))
        self._ranges.append(int(self._stride))

    def _flush(self) -> None:
        """Write the command that could have grown."""
        command = self._command
        if command < 0:
            return
        self._command = -1
        if command == ACCEPT:
            self._write_accept()
        elif not self._ranges:
            self._write_range(command, self._first, self._count, self._stride)
        else:
            self._keep_range()
            ranges = woven(self._ranges)
            self._ranges = []
            at: i64 = 0
            while at < len(ranges):
                self._write_range(command, ranges[at], ranges[at + 1], ranges[at + 2])
                at += 3

    def _write_accept(self) -> None:
        session = self._session
        _write_head(self._writer, ACCEPT | (SESSION_FOLLOWS if session >= 0 else 0), self._level, self._count)
        if session >= 0:
            write_varint(self._writer, session)
            write_varint(self._writer, self._first)

    def _write_range(self, command: i64, first: i64, count: i64, stride: i64) -> None:
        while stride != 1 and count > STRIDED_MAX:
            self._write_range(command, first, STRIDED_MAX, stride)
            first += STRIDED_MAX * stride
            count -= STRIDED_MAX
        if count == 1:
            stride = 1
        kind = command & 31
        writer = self._writer
        _write_head(writer, kind | (STRIDE_FOLLOWS if stride != 1 else 0), self._level, count)
        if stride != 1:
            write_varint(writer, stride)
        write_varint(writer, first)
        if kind in (RETURN, DROP, DELAY, DEAD_LETTER):
            writer.append(int(command >> 5))
            if kind == DELAY:
                write_varint(writer, self._until)


def _write_head(writer: BytesWriter, kind: i64, level: i64, count: i64) -> None:
    """The first byte with its flags, level and count."""
    flags: i64 = 0
    if level != DEFAULT_LEVEL:
        flags |= LEVEL_FOLLOWS
    if count != 1:
        flags |= COUNT_FOLLOWS
    writer.append(int(kind | flags))
    if level != DEFAULT_LEVEL:
        write_varint(writer, level)
    if count != 1:
        write_varint(writer, count)
