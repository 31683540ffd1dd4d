"""What waits on one level of a queue, in order, and what consumers have got of it.

    settled, delivered or requeued | ready, in memory | on disk only     | tail
                                   head                 (disk_backlog.py)  (tail.py)             next

Messages stand in a table by their positions (message_table.py) from the time they come until they are settled: a
delivery moves the head and nothing else, and what comes back waits again where it stands (requeued.py), in front of the
head, because every position that was ever taken is smaller than the head's. A queue with priorities has one
``MessageBacklog`` per level.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from broker.message import ON_DISK, Message
from broker.native import i64
from broker.queues.block import BLOCK_SIZE, MESSAGE_BYTES, Block, body_size, is_missing, memory_size
from broker.queues.entry import Entry
from broker.queues.message_table import MessageTable
from broker.queues.requeued import NOTHING_REQUEUED, Requeued
from broker.turn import Turn

if TYPE_CHECKING:
    from broker.queues.disk_backlog import DiskBacklog
    from broker.queues.tail import Part

_NO_BLOCKS: Final[list[Block]] = []
"""Shared, and never changed."""


@final
class MessageBacklog:
    """The messages of one queue, or of one priority level of it."""

    def __init__(self, level: i64 = 0, turn: Turn | None = None) -> None:
        self.level: i64 = level
        """Its number in the queue."""
        self.turn = turn
        """Where work that takes long is done in slices."""
        self.head_position: i64 = 0
        """The position of the first message that was never taken, or a smaller one that nothing stands at."""
        self.next: i64 = 0
        """The position of the message that comes next."""
        self.holds: i64 = 0
        """Nothing may be delivered while somebody holds the backlog, because earlier messages are about to come
        back."""
        self.table = MessageTable()
        self.requeued = NOTHING_REQUEUED
        """What was delivered before and waits."""
        self.memory_bytes: i64 = 0
        """About what the ready messages behind the head cost in memory."""
        self.disk: DiskBacklog | None = None
        """Keeps what must survive, and what is too much for the memory, on disk; None for a backlog that lives in
        memory only."""
        self._body_bytes: i64 = 0
        self._ready: i64 = 0
        """Messages from the head on, in memory."""
        self._entries: i64 = 0
        """How many of these are an ``Entry``."""
        self._block: Block | None = None
        """Where the head stands, or stood."""
        self._ahead = _NO_BLOCKS
        """Those behind it in which ready messages are."""
        self._open: Block | None = None
        """Where what comes is added, if nothing is on disk only: the last block."""
        self._plain_end: i64 = 0
        """Between the head and this position there are messages in memory, if it is greater."""

    # ---- how much ----------------------------------------------------------------------------------------------------

    def count(self) -> i64:
        """Messages waiting."""
        disk = self.disk
        count = self._ready + self.requeued.count
        return count if disk is None else count + disk.count()

    def in_memory(self) -> i64:
        """Messages waiting that can be taken without a look at the disk, but for the content of those that came
        back."""
        return self._ready + self.requeued.count

    @property
    def body_bytes(self) -> i64:
        """Sum of the bodies' sizes, on disk or not; of what came back, only what is in memory."""
        disk = self.disk
        size = self._body_bytes + self.requeued.body_bytes
        return size if disk is None else size + disk.body_bytes()

    @property
    def expiring(self) -> bool:
        """Whether any waiting message may have a deadline."""
        disk = self.disk
        return self._entries > 0 or self.requeued.expiring > 0 or (disk is not None and disk.expiring)

    def available(self) -> i64:
        """How many messages may be delivered now; 0 also while their content, or the mark that they were, is on its
        way."""
        count = self.at_hand()
        disk = self.disk
        if disk is None or count == 0 or not disk.kept.durable or self.requeued.count > 0:
            return count
        self._head_block()
        return disk.kept.allowed_of(self.head_position, count)

    def at_hand(self) -> i64:
        """How many messages are next in memory. 0 also while their content is on its way: this asks for it."""
        if self.holds:
            return 0
        requeued = self.requeued
        disk = self.disk
        if requeued.count > 0:
            if disk is not None and is_missing(requeued.next_item()):
                disk.reload().begin()
                return 0
            return requeued.count
        if disk is not None and disk.paging:
            disk.refill(self._ready == 0)
        return self._ready

    def plain(self) -> i64:
        """How many of the ``available`` ones can be taken with ``take``; 0 when the next one needs a look."""
        if self.requeued.count > 0:
            return self.requeued.plain()
        if self._ready == 0:
            return 0
        block = self._head_block()
        end = block.first + len(block.items)
        disk = self.disk
        if disk is not None and disk.paging:
            on_disk = disk.on_disk
            if on_disk is not None and on_disk.first < end:
                end = on_disk.first
        if block.uneven:
            if self._plain_end <= self.head_position:
                self._plain_end = _plain_end(block, self.head_position, end)
            end = self._plain_end
        count = end - self.head_position
        if disk is None or count == 0 or not disk.kept.durable:
            return count
        return disk.kept.allowed_of(self.head_position, count)

    def _head_block(self) -> Block:
        """The block of the next one of those that were never taken. There must be one in memory."""
        block = self._block
        while True:
            if block is not None:
                items = block.items
                index = self.head_position - block.first
                size: i64 = len(items)
                while index < size and items[index] is None:
                    index += 1
                if index < size:
                    self.head_position = block.first + index
                    return block
            block = self._ahead.pop(0)
            self._block = block
            if block.first > self.head_position:
                self.head_position = block.first

    # ---- in ----------------------------------------------------------------------------------------------------------

    def append(self, message: Message) -> bool:
        """Add at the end of the backlog; whether a promise about it depends on the open batch of the log."""
        disk = self.disk
        block = self._open
        if (
            block is None
            or self.next & (BLOCK_SIZE - 1) == 0
            or (self._ready == 0 and block is not self._block)
            or (disk is not None and disk.paging)
        ):
            return self.add(message, message)
        stored = disk is not None and disk.is_durable and disk.kept.store(message, self.next, False)
        block.items.append(message)
        self.next += 1
        self._ready += 1
        self._body_bytes += message.body_size
        self.memory_bytes += len(message.content) + MESSAGE_BYTES
        if disk is not None and self.memory_bytes > disk.share.check_above:
            disk.check()
        return stored

    def add(self, item: Message | Entry, message: Message) -> bool:
        """The same for one that may need more than its place: as an ``Entry`` for the position that comes next, if it
        has a deadline."""
        disk = self.disk
        stored = False
        position = self.next
        if disk is not None and disk.kept.durable:
            stored = disk.kept.store(message, position, disk.paging)
        self.next = position + 1
        block = self.table.append(position, item)
        if disk is not None and disk.paging:
            self._open = None
            block.uneven = block.uneven or isinstance(item, Entry)
            disk.keep(item, message, position)
            return stored
        self._note(block, position)
        self._open = block
        if isinstance(item, Entry):
            self._entries += 1
            block.uneven = True
        self._ready += 1
        self._body_bytes += message.body_size
        self.memory_bytes += memory_size(message)
        if disk is not None and self.memory_bytes > disk.share.check_above:
            disk.check()
        return stored

    def _note(self, block: Block, position: i64) -> None:
        """What stands at this position, in this block, is going to be ready, behind everything that is."""
        ahead = self._ahead
        if self._ready == 0:
            self._block = block
            self.head_position = position
        elif block is not self._block and (not ahead or ahead[-1] is not block):
            if ahead:
                ahead.append(block)
            else:
                self._ahead = [block]

    def bring(self, position: i64, item: Message | Entry, memory_bytes: i64) -> None:
        """A message has come from the disk, behind all others that are ready."""
        block = self.table.put(position, item)
        self._open = None
        self._note(block, position)
        self._ready += 1
        self._body_bytes += body_size(item)
        self.memory_bytes += memory_bytes
        if isinstance(item, Entry):
            self._entries += 1
            block.uneven = True

    def take_part(self, part: Part) -> None:
        """The next part of the tail is ready."""
        self._open = None
        position = part.first
        while position < part.end():
            block = self.table.at(position)
            assert block is not None
            self._note(block, position)
            count = block.end() - position if block.end() < part.end() else part.end() - position
            self._ready += count
            position += count
        self._entries += part.entries
        self._body_bytes += part.body_bytes
        self.memory_bytes += part.memory_bytes

    def start_at(self, first: i64, next_position: i64) -> None:
        """Nothing is in memory; what is on disk begins at position ``first``."""
        self.head_position = first
        self.next = next_position

    # ---- out ---------------------------------------------------------------------------------------------------------

    def next_position(self) -> i64:
        """The position of the first message that ``take`` would return, after ``plain``."""
        return self.requeued.next_position() if self.requeued.count > 0 else self.head_position

    def next_item(self) -> Message | Entry | None:
        """The next message as it stands in the table; None if there is none in memory."""
        if self.requeued.count > 0:
            return self.requeued.next_item()
        if self._ready == 0:
            return None
        block = self._head_block()
        return block.items[self.head_position - block.first]

    def take(self, count: i64) -> list[Message | Entry | None]:
        """The next ``count`` messages, which are not ready any more, at neighbouring positions; at most ``plain()``.
        The list is only to be read."""
        if self.requeued.count > 0:
            again = self.requeued.take(count)
            if self.disk is not None:
                self.disk.report()
            return again
        block = self._head_block()
        index = self.head_position - block.first
        taken = block.items
        if index != 0 or count != len(taken):
            taken = taken[index : index + count]
        self.head_position += count
        self._ready -= count
        total: i64 = 0
        memory: i64 = count * MESSAGE_BYTES
        for item in taken:
            if isinstance(item, Message):
                total += item.body_size
                memory += len(item.content)
        self._body_bytes -= total
        self.memory_bytes -= memory
        disk = self.disk
        if disk is not None and self.memory_bytes < disk.share.check_below:
            disk.report()
        return taken

    def pop(self, read: bool = True) -> Entry:
        """The next message, which is not ready any more, as an entry. There must be one in memory, or one that was
        there before.

        Of the latter the content is read at once, unless ``read`` is false; when it is lost, the entry comes back
        without it.
        """
        if self.requeued.count > 0:
            entry = self.requeued.pop()
            disk = self.disk
            if disk is not None:
                if read and entry.message is ON_DISK:
                    disk.reload().now([entry])
                disk.report()
            return entry
        block = self._head_block()
        position = self.head_position
        item = block.items[position - block.first]
        self.head_position += 1
        self._ready -= 1
        if isinstance(item, Entry):
            self._entries -= 1
            entry = item
        else:
            assert item is not None
            entry = Entry(item, position, 0)
        self._body_bytes -= entry.message.body_size
        self.memory_bytes -= memory_size(entry.message)
        disk = self.disk
        if disk is not None and self.memory_bytes < disk.share.check_below:
            disk.report()
        return entry

    def head_deadline(self) -> i64:
        """The deadline of the next message in microseconds; 0 when it does not expire, there is none, or it is on its
        way."""
        if self.holds:
            return 0  # what comes back stands before it, and expires before it
        if self.requeued.count == 0:
            disk = self.disk
            if self._ready == 0 and disk is not None and disk.paging:
                disk.refill(True)
            if self._entries == 0:
                return 0
        item = self.next_item()
        return item.deadline_us if isinstance(item, Entry) else 0

    # ---- back --------------------------------------------------------------------------------------------------------

    def requeue(self, first: i64, count: i64, stride: i64) -> None:
        """``count`` messages from position ``first`` on, ``stride`` apart, which were taken, wait again."""
        requeued = self.requeued
        if requeued is NOTHING_REQUEUED:
            self.requeued = requeued = Requeued(self.table)
        requeued.add(first, count, stride)
        disk = self.disk
        if disk is not None:
            if disk.eviction is not None:
                disk.eviction.came_back(first)
            disk.report()

    def settle(self, first: i64, count: i64, stride: i64) -> None:
        """``count`` messages from position ``first`` on, ``stride`` apart, which were taken, will not come back."""
        if count == 1:
            self.table.release_one(first)
        else:
            self.table.release(first, count, stride)
        disk = self.disk
        if disk is not None and disk.has_log:
            log = disk.kept.log
            if log is not None:
                log.settle(first, count, stride)

    def clear(self, dropped: list[list[Message | Entry | None]]) -> i64:
        """Drop everything that waits; returns how many. Positions go on behind it.

        ``dropped`` gets the lists that it stood in: whoever lets go of them lets go of all the messages.
        """
        count = self.count()
        self.requeued.clear(self)
        disk = self.disk
        if disk is not None:
            if self.next > self.head_position:
                log = disk.kept.log
                if log is not None:
                    log.settle(self.head_position, self.next - self.head_position, 1)
            disk.clear(dropped)
        for block in self._ahead:
            self.table.take_out(block, self.head_position - block.first, BLOCK_SIZE, dropped)
        head = self._block
        if head is not None:
            self.table.take_out(head, self.head_position - head.first, BLOCK_SIZE, dropped)
        self._forget()
        if disk is not None:
            disk.report()
        return count

    def rest(self) -> None:
        """Nothing has come for a while: if nothing is here any more, what only messages need need not be either. With
        the next message there is another half on the disk."""
        disk = self.disk
        if disk is None or self.count() > 0 or self.table.blocks():
            return
        disk.detach()
        self.disk = None
        self.table.clear([])
        self.requeued = NOTHING_REQUEUED
        self._forget()

    def close(self, dropped: list[list[Message | Entry | None]]) -> None:
        """The queue is gone, and with it what consumers have got; ``dropped`` as for ``clear``."""
        self.disk = None
        self.table.clear(dropped)
        self.requeued = NOTHING_REQUEUED
        self._forget()

    def _forget(self) -> None:
        """Nothing that was never taken waits."""
        self._block = None
        self._open = None
        self._ahead = _NO_BLOCKS
        self.head_position = self.next
        self._ready = 0
        self._entries = 0
        self._body_bytes = 0
        self.memory_bytes = 0


def _plain_end(block: Block, position: i64, end: i64) -> i64:
    """Where the messages that stand behind each other from this position on end, in this block and before ``end``."""
    index = position - block.first
    size = end - block.first
    while index < size and isinstance(block.items[index], Message):
        index += 1
    return block.first + index
