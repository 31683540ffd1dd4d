"""The messages of neighbouring positions of one level, from the time they come until they are settled.

A message stands at the index of its position: nothing is stored for it but the message itself, and nothing is moved
when it is delivered, settled or comes back.
"""

from __future__ import annotations

from typing import Final, final

from librt.strings import BytesWriter

from broker.flags import next_flag, zeros
from broker.message import ON_DISK, Message
from broker.native import i64
from broker.queues.entry import Entry

BLOCK_BITS: Final[i64] = 11
BLOCK_SIZE: Final[i64] = 1 << BLOCK_BITS
"""Positions of a block."""
MESSAGE_BYTES: Final[i64] = 160
"""About what a message costs in memory beside its content."""
PLACE_BYTES: Final[i64] = 8
"""The same, where the content is on disk only."""


def memory_size(message: Message) -> i64:
    """About what this message costs in memory."""
    return len(message.content) + MESSAGE_BYTES


def message_of(item: Message | Entry | None) -> Message | None:
    """The message, if there is one; it may be ``ON_DISK``."""
    return item.message if isinstance(item, Entry) else item


def is_missing(item: Message | Entry | None) -> bool:
    """Whether its content is on disk only."""
    return item is ON_DISK or (isinstance(item, Entry) and item.message is ON_DISK)


def body_size(item: Message | Entry | None) -> i64:
    """Of the content that is in memory."""
    if isinstance(item, Message):
        return item.body_size
    return item.message.body_size if isinstance(item, Entry) else 0


@final
class Block:
    """Some of the positions whose number (``block_number``) is the same."""

    def __init__(self, first: i64) -> None:
        self.first: i64 = first
        """The position of the first item."""
        self.items: list[Message | Entry | None] = []
        """None where it is settled, or where what waits there is on disk only; ``ON_DISK``, or an ``Entry`` with it,
        where a consumer has got it and its content is on disk only."""
        self.gone: i64 = 0
        """Items that are None."""
        self.uneven = False
        """Not all items are messages in memory: some were not when they came, or are not any more though they wait."""
        self.listed = False
        """It is among the blocks in which something waits again (requeued.py)."""
        self.requeued: BytesWriter | None = None
        """1 at the index of each that waits again, otherwise 0."""
        self.requeued_count: i64 = 0

    def live(self) -> i64:
        """Items that are not None."""
        return len(self.items) - self.gone

    def begin_at(self, position: i64) -> None:
        """Nothing in it is needed any more: it is used for what comes, from this position on."""
        self.first = position
        self.items = []
        self.gone = 0
        self.uneven = False
        self.listed = False
        self.requeued = None
        self.requeued_count = 0

    def end(self) -> i64:
        """The first position behind those that have its number."""
        return ((self.first >> BLOCK_BITS) + 1) << BLOCK_BITS

    def flags(self) -> BytesWriter:
        """``requeued``, from now on."""
        flags = self.requeued
        if flags is None:
            flags = zeros(BLOCK_SIZE)
            self.requeued = flags
        return flags

    def next_requeued(self, index: i64) -> i64:
        """The index of the first that waits again, at or behind ``index``; -1 if there is none."""
        flags = self.requeued
        if flags is None:
            return -1
        size: i64 = len(self.items)
        found = next_flag(flags, 1, index, size)
        return found if found < size else -1

    def reach_back(self, position: i64) -> None:
        """Begin at this position, which is before the first: nothing in it was delivered yet, then."""
        missing = self.first - position
        self.items[:0] = [None] * int(missing)
        self.gone += missing
        self.first = position
        self.uneven = True
