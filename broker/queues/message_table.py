"""Position -> message, for one level of a queue: everything in it that is not settled and not on disk only, whether it
waits or a consumer has got it.

    number    0          1          2       ...      (position >> BLOCK_BITS)
    block     settled    | . . 7 8 . . |  | 9 10 ...

A block is there as long as something in it is. What is settled leaves the table at once; what consumers have got and do
not settle keeps its block, and nothing else.
"""

from __future__ import annotations

from typing import final

from broker.large_lists import list_is_full
from broker.message import Message
from broker.native import i64
from broker.queues.block import BLOCK_BITS, BLOCK_SIZE, Block
from broker.queues.entry import Entry


@final
class MessageTable:
    """The messages of one level."""

    def __init__(self) -> None:
        self._blocks: dict[int, Block] | None = None
        """All but the last one, by their numbers; None where there are no others."""
        self._last: Block | None = None
        """Where messages are appended. It is used again when all in it is settled: a queue whose messages leave it as
        fast as they come makes no blocks."""
        self._near: Block | None = None
        """Where somebody looked last."""

    def at(self, position: i64) -> Block | None:
        """The block that this position belongs to. The position may lie outside of its items."""
        number = position >> BLOCK_BITS
        last = self._last
        if last is not None and last.first >> BLOCK_BITS == number:
            return last
        near = self._near
        if near is not None and near.first >> BLOCK_BITS == number:
            return near
        blocks = self._blocks
        if blocks is None:
            return None
        near = blocks.get(int(number))
        if near is not None:
            self._near = near
        return near

    def blocks(self) -> list[Block]:
        """All of them in which something is."""
        found = [] if self._blocks is None else list(self._blocks.values())
        last = self._last
        if last is not None and last.live() > 0:
            found.append(last)
        return found

    def item(self, position: i64) -> Message | Entry | None:
        """What stands there."""
        block = self.at(position)
        if block is None:
            return None
        index = position - block.first
        return block.items[index] if 0 <= index < len(block.items) else None

    # ---- in ----------------------------------------------------------------------------------------------------------

    def append(self, position: i64, item: Message | Entry) -> Block:
        """A message comes, behind all others; the block that it stands in."""
        block = self._last
        if block is None or position - block.first != len(block.items) or position & (BLOCK_SIZE - 1) == 0:
            block = self._next_last(position)
        block.items.append(item)
        return block

    def _next_last(self, position: i64) -> Block:
        """The block of this position, up to which its items reach, is the last one from now on."""
        block = self._last
        if block is not None and block.first >> BLOCK_BITS != position >> BLOCK_BITS:
            if block.live() > 0:
                self._keep(block)
                list_is_full()
            self._last = None
        block = self.at(position)
        if block is None:
            block = Block(position)
        else:
            _reach(block, position)
            if block is not self._last:
                self._remove(block)
        self._last = block
        self._near = None
        return block

    def _keep(self, block: Block) -> None:
        """It is one of those before the last."""
        blocks = self._blocks
        if blocks is None:
            self._blocks = blocks = {}
        blocks[int(block.first >> BLOCK_BITS)] = block

    def _remove(self, block: Block) -> None:
        """It is none of them any more."""
        blocks = self._blocks
        if blocks is not None:
            del blocks[int(block.first >> BLOCK_BITS)]
            if not blocks:
                self._blocks = None

    def put(self, position: i64, item: Message | Entry) -> Block:
        """A message comes back from the disk; the block that it stands in."""
        block = self.at(position)
        if block is None:
            block = Block(position)
            self._keep(block)
        else:
            _reach(block, position)
        index = position - block.first
        if index < len(block.items):
            block.items[index] = item
            block.gone -= 1
        else:
            block.items.append(item)
        return block

    # ---- out ---------------------------------------------------------------------------------------------------------

    def release_one(self, position: i64) -> None:
        """This position, which does not wait, is settled."""
        block = self._last
        if block is None or block.first >> BLOCK_BITS != position >> BLOCK_BITS:
            block = self.at(position)
            if block is None:
                return
        items = block.items
        index = position - block.first
        if index < 0 or index >= len(items) or items[index] is None:
            return
        gone = block.gone + 1
        if gone == len(items):
            self.drop(block)
        else:
            items[index] = None
            block.gone = gone

    def release(self, first: i64, count: i64, stride: i64) -> None:
        """These positions, none of which waits, are settled."""
        position = first
        while count > 0:
            block = self.at(position)
            rest = (BLOCK_SIZE - 1 - (position & (BLOCK_SIZE - 1))) // stride + 1
            if rest > count:
                rest = count
            if block is not None:
                if rest == block.live():
                    self.drop(block)
                else:
                    _release_in(block, position, rest, stride)
                    if block.live() == 0:
                        self.drop(block)
            position += rest * stride
            count -= rest

    def drop(self, block: Block) -> None:
        """Nothing in it is needed any more."""
        if block is self._last:
            block.begin_at(block.first + len(block.items))
            return
        self._remove(block)
        block.items = []
        block.gone = 0
        if block is self._near:
            self._near = None

    def take_out(self, block: Block, start: i64, end: i64, lists: list[list[Message | Entry | None]]) -> None:
        """Let go of what stands from index ``start`` up to ``end``; ``lists`` gets what it stood in."""
        items = block.items
        size: i64 = len(items)
        if start < 0:
            start = 0
        if end > size:
            end = size
        count: i64 = 0
        index = start
        if start == 0 and end == size:
            count = block.live()
            index = end
        while index < end:
            if items[index] is not None:
                count += 1
            index += 1
        if count == 0:
            return
        if count == block.live():
            lists.append(items)
            self.drop(block)
            return
        lists.append(items[start:end])
        items[start:end] = [None] * int(end - start)
        block.gone += count
        block.uneven = True

    def take_out_range(self, first: i64, end: i64, lists: list[list[Message | Entry | None]]) -> None:
        """The same for these positions."""
        number = first >> BLOCK_BITS
        while number << BLOCK_BITS < end:
            block = self.at(number << BLOCK_BITS)
            if block is not None:
                self.take_out(block, first - block.first, end - block.first, lists)
            number += 1

    def clear(self, lists: list[list[Message | Entry | None]]) -> None:
        """Let go of everything."""
        for block in self.blocks():
            lists.append(block.items)
            block.items = []
            block.gone = 0
        self._blocks = None
        self._last = None
        self._near = None


def _reach(block: Block, position: i64) -> None:
    """Its items reach up to this position at least."""
    if position < block.first:
        block.reach_back(position)
    missing = position - block.first - len(block.items)
    if missing > 0:
        block.items += [None] * int(missing)
        block.gone += missing
        block.uneven = True


def _release_in(block: Block, position: i64, count: i64, stride: i64) -> None:
    items = block.items
    index = position - block.first
    end = index + count * stride
    size: i64 = len(items)
    while index < end:
        if 0 <= index < size and items[index] is not None:
            items[index] = None
            block.gone += 1
        index += stride
