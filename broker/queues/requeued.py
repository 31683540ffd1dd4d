"""Delivered messages of one level that wait again: they come out in the order of their positions, in batches.

They stand where they always stood (message_table.py); what makes them wait is a flag for each position of a block.
Which consumer had them, and what came back first, makes no difference. Blocks in which something waits stand in a heap
by their numbers.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING, Final, final

from librt.strings import BytesWriter

from broker.flags import next_flag
from broker.message import ON_DISK, Message
from broker.native import i64
from broker.queues.block import (
    BLOCK_BITS,
    BLOCK_SIZE,
    MESSAGE_BYTES,
    PLACE_BYTES,
    Block,
    is_missing,
    memory_size,
)
from broker.queues.entry import Entry
from broker.queues.message_table import MessageTable
from broker.turn import SlicedWork

if TYPE_CHECKING:
    from broker.queues.message_backlog import MessageBacklog
    from broker.store.logs import GroupHold

_REACH: Final[i64] = 4096
"""What is read back in one go lies within so many positions."""
_NO_NUMBERS: Final[list[int]] = []
"""Shared, and never changed."""
_PER_LOOK: Final[i64] = 16
"""Ranges of positions that are settled between two looks at the clock; long ones count for more."""


@final
class Requeued:
    """The messages of one level that were delivered before and wait."""

    def __init__(self, table: MessageTable) -> None:
        self.count: i64 = 0
        """Messages."""
        self.expiring: i64 = 0
        """How many of them have a deadline."""
        self.body_bytes: i64 = 0
        """Sum of the bodies' sizes, as far as their content is in memory."""
        self.memory_bytes: i64 = 0
        """About what they cost in memory."""
        self._table = table
        self._numbers = _NO_NUMBERS
        """A heap of the blocks' numbers, and of some in which nothing waits any more."""
        self._block: Block | None = None
        """Where the next one stands; None if nobody has looked."""
        self._index: i64 = 0
        self._plain: i64 = 0
        """So many, from the next one on, stand behind each other, in memory; 0 if nobody has looked."""

    # ---- in ----------------------------------------------------------------------------------------------------------

    def add(self, first: i64, count: i64, stride: i64) -> None:
        """Messages from position ``first`` on, ``stride`` apart, wait again."""
        block = self._block
        if block is not None and first < block.first + self._index + self._plain:
            self._block = None
        position = first
        while count > 0:
            rest = (BLOCK_SIZE - 1 - (position & (BLOCK_SIZE - 1))) // stride + 1
            if rest > count:
                rest = count
            block = self._table.at(position)
            if block is not None:
                self._add_in(block, position - block.first, rest, stride)
            position += rest * stride
            count -= rest

    def _add_in(self, block: Block, index: i64, count: i64, stride: i64) -> None:
        flags = block.flags()
        items = block.items
        added: i64 = 0
        end = index + count * stride
        size: i64 = len(items)
        while index < end:
            item = items[index] if 0 <= index < size else None
            if item is not None:
                flags[index] = 1
                added += 1
                self._count(item, 1)
            index += stride
        block.requeued_count += added
        self.count += added
        if not block.listed and added > 0:
            block.listed = True
            if not self._numbers:
                self._numbers = []
            heappush(self._numbers, int(block.first >> BLOCK_BITS))

    def _count(self, item: Message | Entry, sign: i64) -> None:
        """It waits (1), or does not any more (-1)."""
        if isinstance(item, Message):
            message = item
        else:
            message = item.message
            if item.deadline_us > 0:
                self.expiring += sign
        if message is ON_DISK:
            self.memory_bytes += sign * PLACE_BYTES
            return
        self.body_bytes += sign * message.body_size
        self.memory_bytes += sign * (len(message.content) + MESSAGE_BYTES)

    # ---- what comes next ---------------------------------------------------------------------------------------------

    def _first(self) -> Block:
        """The block in which the next one stands, at ``_index``. There must be one."""
        block = self._block
        if block is not None:
            return block
        numbers = self._numbers
        self._plain = 0
        while True:
            block = self._table.at(numbers[0] << BLOCK_BITS)
            if block is not None and block.requeued_count > 0:
                self._block = block
                self._index = block.next_requeued(0)
                return block
            heappop(numbers)
            if block is not None:
                block.listed = False

    def next_item(self) -> Message | Entry | None:
        """The next message as it stands there; None if there is none."""
        if self.count == 0:
            return None
        return self._first().items[self._index]

    def next_position(self) -> i64:
        """The position of the first message that ``take`` would return."""
        return self._first().first + self._index

    def plain(self) -> i64:
        """How many ``take`` may take at once; 0 if the next one needs a look: it has a deadline, or its content is on
        disk only."""
        if self.count == 0:
            return 0
        block = self._first()
        if self._plain == 0:
            flags = block.flags()
            items = block.items
            index = self._index
            size: i64 = len(items)
            while index < size and flags[index] == 1:
                item = items[index]
                if item is ON_DISK or not isinstance(item, Message):
                    break
                index += 1
            self._plain = index - self._index
        return self._plain

    # ---- out ---------------------------------------------------------------------------------------------------------

    def take(self, count: i64) -> list[Message | Entry | None]:
        """The next ``count`` messages, which wait no more; at most ``plain()``."""
        block = self._first()
        taken = block.items[self._index : self._index + count]
        for item in taken:
            assert item is not None
            self._count(item, -1)
        self._pass(block, count)
        return taken

    def _pass(self, block: Block, count: i64) -> None:
        """The next ones, which are in this block, wait no more."""
        flags = block.flags()
        index = self._index
        end = index + count
        while index < end:
            flags[index] = 0
            index += 1
        self.count -= count
        block.requeued_count -= count
        self._plain = self._plain - count if self._plain > count else 0
        if block.requeued_count == 0:
            self._block = None
        else:
            self._index = block.next_requeued(end)

    def pop(self) -> Entry:
        """The next message, which waits no more, as an entry; its content may be on disk only."""
        block = self._first()
        position = block.first + self._index
        item = block.items[self._index]
        assert item is not None
        self._count(item, -1)
        self._pass(block, 1)
        entry = item if isinstance(item, Entry) else Entry(item, position, 0)
        entry.redelivered = True
        return entry

    def clear(self, backlog: MessageBacklog) -> None:
        """None of them waits any more: they are settled, in slices, as one commit group: purge-ok says that all of it
        is on the disk."""
        flagged: list[tuple[int, BytesWriter]] = []
        for number in self._numbers:
            block = self._table.at(number << BLOCK_BITS)
            if block is None:
                continue
            flags = block.requeued
            if block.requeued_count > 0 and flags is not None:
                flagged.append((int(block.first), flags))
            block.requeued = None
            block.requeued_count = 0
            block.listed = False
        self._numbers = _NO_NUMBERS
        self._block = None
        self.count = 0
        self.expiring = 0
        self.body_bytes = 0
        self.memory_bytes = 0
        if flagged:
            dropping = Dropping(backlog, flagged)
            if backlog.turn is None:
                dropping.step()
            else:
                backlog.turn.start(dropping)

    # ---- content that is on disk only --------------------------------------------------------------------------------

    def missing(self) -> list[int]:
        """The positions of those among the next ones whose content is on disk only."""
        found: list[int] = []
        if self.count == 0:
            return found
        block: Block | None = self._first()
        number = self.next_position() >> BLOCK_BITS
        end = number + (_REACH >> BLOCK_BITS)
        while number < end:
            block = self._table.at(number << BLOCK_BITS)
            index: i64 = -1 if block is None else block.next_requeued(0)
            while block is not None and index >= 0:
                if is_missing(block.items[index]):
                    found.append(int(block.first + index))
                index = block.next_requeued(index + 1)
            number += 1
        return found

    def _waiting(self, position: i64) -> Block | None:
        """The block of this position, if what stands there waits and its content is on disk only."""
        block = self._table.at(position)
        if block is None:
            return None
        index = position - block.first
        flags = block.requeued
        if flags is None or index < 0 or index >= len(block.items) or flags[index] == 0:
            return None
        return block if is_missing(block.items[index]) else None

    def reloaded(self, position: i64, message: Message) -> None:
        """The content of a message was read, if it still waits."""
        block = self._waiting(position)
        if block is None:
            return
        index = position - block.first
        item = block.items[index]
        if isinstance(item, Entry):
            item.message = message
        else:
            block.items[index] = message
        self.body_bytes += message.body_size
        self.memory_bytes += memory_size(message) - PLACE_BYTES

    def lose(self, position: i64) -> None:
        """The content of a message, if it still waits, cannot be read."""
        block = self._waiting(position)
        if block is None:
            return
        index = position - block.first
        item = block.items[index]
        assert item is not None
        self._count(item, -1)
        block.flags()[index] = 0
        block.requeued_count -= 1
        block.items[index] = None
        block.gone += 1
        self.count -= 1
        self._block = None
        if block.live() == 0:
            self._table.drop(block)


NOTHING_REQUEUED: Final = Requeued(MessageTable())
"""That of all levels to which nothing ever came back; nothing is put into it."""


@final
class Dropping(SlicedWork):
    """Settles what was dropped of a backlog."""

    def __init__(self, backlog: MessageBacklog, flagged: list[tuple[int, BytesWriter]]) -> None:
        self._backlog = backlog
        self._flagged = flagged
        """Position, and a flag for each from that one on: 1 if it was dropped."""
        self._index: i64 = 0
        """Flags of the last of these that are done."""
        disk = backlog.disk
        self._hold: GroupHold | None = None if disk is None else disk.kept.group_hold()

    def step(self) -> bool:
        done = True
        try:
            done = self._go_on()
        finally:
            if self._hold is not None:
                self._hold.set(not done)
        return done

    def _go_on(self) -> bool:
        flagged = self._flagged
        turn = self._backlog.turn
        while flagged:
            first, flags = flagged[-1]
            if self._settle(first, flags):
                flagged.pop()
                self._index = 0
            if turn is not None and turn.out_of_time():
                return not flagged
        return True

    def _settle(self, first: i64, flags: BytesWriter) -> bool:
        """Some of a block's; whether that was all."""
        left = _PER_LOOK
        index = self._index
        size: i64 = len(flags)
        start = next_flag(flags, 1, index, size)
        while start < size and left > 0:
            index = next_flag(flags, 0, start, size)
            self._backlog.settle(first + start, index - start, 1)
            left -= 1 + (index - start) // 64
            start = next_flag(flags, 1, index, size)
        self._index = start
        return start == size
