"""Messages that consumers have for long leave the memory, as far as they are on the disk.

A consumer without a prefetch limit gets a whole backlog; it must not bring into the memory what paging has kept out of
it. Of such a message only the position is kept, and ``ON_DISK`` stands in its place; if it comes back, it is read again
before anybody gets it (reload.py).
"""

from __future__ import annotations

from typing import Final, final

from broker.message import ON_DISK
from broker.native import i64
from broker.queues.block import BLOCK_BITS, Block
from broker.queues.entry import Entry
from broker.queues.message_table import MessageTable
from broker.store.log import Log

_LOOKED_AT_MIN: Final[i64] = 256
"""So many earlier messages are looked at when a delivery finds the memory short, or twice what is delivered."""


@final
class Eviction:
    """Of one level."""

    def __init__(self) -> None:
        self._through: i64 = 0
        """Below this position, nothing that can be read back is kept in memory for consumers."""

    def came_back(self, position: i64) -> None:
        """Something waits again, at this position or behind it: it may be delivered again, with its content."""
        if position < self._through:
            self._through = position

    def go_on(self, table: MessageTable, log: Log, head_position: i64, delivered: i64) -> None:
        """So many messages are being delivered: look at twice as many that were earlier."""
        left = 2 * delivered if 2 * delivered > _LOOKED_AT_MIN else _LOOKED_AT_MIN
        end = log.durable_next if log.durable_next < head_position else head_position
        position = self._through if self._through > log.positions.first else log.positions.first
        while left > 0 and position < end:
            block = table.at(position)
            behind = ((position >> BLOCK_BITS) + 1) << BLOCK_BITS
            if block is None:
                left -= 1
            else:
                if behind > position + left:
                    behind = position + left
                if behind > end:
                    behind = end
                _evict(block, position, behind, log)
                left -= behind - position
            position = behind
        self._through = position if position < end else end


def _evict(block: Block, position: i64, end: i64, log: Log) -> None:
    """Keep no content of those from this position up to ``end`` that consumers have and the disk has too."""
    index = position - block.first
    if index < 0:
        index = 0
    stop = end - block.first
    if stop > len(block.items):
        stop = len(block.items)
    flags = block.requeued
    while index < stop:
        item = block.items[index]
        if item is not None and (flags is None or flags[index] == 0) and log.positions.is_live(block.first + index):
            if isinstance(item, Entry):
                item.message = ON_DISK
            else:
                block.items[index] = ON_DISK
            block.uneven = True
        index += 1
