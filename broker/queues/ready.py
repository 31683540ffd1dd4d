"""What waits in a queue, in order. A requeued message goes back to its place.

    returned | current chunk | chunks read ahead | on disk only | tail
    sorted     from the head                       (paging.py)    (paging.py)

The line is a list of messages with a moving head; the position of a message is the head's position plus its index, so nothing
is stored per message. Messages that expire stand in the line as an ``Entry``; messages that were delivered before and came back
stand in front of it, sorted, because every position that was ever taken is smaller than the head's.
A line that has been on disk has gaps: it is several chunks then, each without one.
A queue with priorities has one ``Ready`` per level.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from broker.message import ON_DISK, Message
from broker.native import i64
from broker.queues.entry import Entry

if TYPE_CHECKING:
    from broker.queues.paging import Pager
    from broker.queues.recall import Recall

MESSAGE_BYTES: Final[i64] = 160
"""About what a waiting message costs in memory beside its content."""
_COMPACT_AT: Final[i64] = 1024


def memory_size(message: Message) -> i64:
    """About what this message costs in memory while it waits."""
    return len(message.content) + MESSAGE_BYTES


def _behind(entry: Entry) -> int:
    return -entry.position


@final
class Chunk:
    """Messages of a line without a gap between them."""

    def __init__(self, first: i64) -> None:
        self.first: i64 = first
        """The position of the first of them."""
        self.items: list[Message | Entry | None] = []
        self.entries: i64 = 0
        """How many of the items are an ``Entry``."""
        self.memory_bytes: i64 = 0
        """About what they cost in memory. Of chunks in the tail and of those that come from the disk."""
        self.body_bytes: i64 = 0
        """Sum of the bodies' sizes, of the same."""


@final
class Ready:
    """The messages of one queue, or of one priority level of it, that wait for a consumer."""

    def __init__(self) -> None:
        self._items: list[Message | Entry | None] = []
        self._head: i64 = 0
        self._head_position: i64 = 0
        self._returned: list[Entry] = []  # descending positions: the next one is the last
        self._entries: i64 = 0
        self._chunks: list[Chunk] = []
        self._chunks_count: i64 = 0
        self.next: i64 = 0
        """The position of the message that comes next."""
        self.body_bytes: i64 = 0
        """Sum of the bodies' sizes, on disk or not."""
        self.memory_bytes: i64 = 0
        """About what the messages in the chunks cost in memory."""
        self.pager: Pager | None = None
        """Keeps what must survive, and what is too much for the memory, on disk; None for a line that lives in memory only."""

    def count(self) -> i64:
        """Messages waiting."""
        count = self.in_memory()
        pager = self.pager
        if pager is not None:
            count += pager.count()
        return count

    def in_memory(self) -> i64:
        """Messages waiting whose content is at hand, without those in the tail."""
        return len(self._items) - self._head + len(self._returned) + self._chunks_count

    def available(self) -> i64:
        """How many messages may be delivered now; 0 also while their content, or the mark that they were, is on its way."""
        returned = self._returned
        if returned:
            if returned[-1].message is ON_DISK:
                self._recall().begin(returned)
                return 0
            return len(returned)
        count: i64 = len(self._items) - self._head
        pager = self.pager
        if pager is None:
            return count
        if count == 0:
            count = self._next_chunk(pager)
        elif pager.active:
            pager.read_ahead()
        return self._allowed(pager, count) if count > 0 else count

    def _allowed(self, pager: Pager, count: i64) -> i64:
        """How many of the next ``count`` messages may be delivered before a mark that they were is on the disk."""
        allowance = pager.allowance(self._head_position)
        return allowance if allowance < count else count

    def _next_chunk(self, pager: Pager) -> i64:
        if not self._chunks and pager.active:
            pager.refill()
        if not self._chunks:
            return 0
        chunk = self._chunks.pop(0)
        self._items = chunk.items
        self._head = 0
        self._head_position = chunk.first
        self._entries = chunk.entries
        count: i64 = len(chunk.items)
        self._chunks_count -= count
        if pager.active:
            pager.read_ahead()
        return count

    def plain(self) -> i64:
        """How many of the ``available`` ones can be taken with ``take``; 0 when some need a look one by one."""
        if self._entries or self._returned:
            return 0
        count: i64 = len(self._items) - self._head
        pager = self.pager
        return count if pager is None else self._allowed(pager, count)

    @property
    def expiring(self) -> bool:
        """Whether any waiting message may have a deadline."""
        if self._entries > 0 or len(self._returned) > 0:
            return True
        for chunk in self._chunks:
            if chunk.entries > 0:
                return True
        pager = self.pager
        return pager is not None and pager.expiring

    # ---- in -----------------------------------------------------------------------------------------------------------

    def append(self, message: Message) -> bool:
        """Add at the end of the line; whether a promise about it depends on the open batch of the log."""
        return self._append(message, message, 0)

    def append_expiring(self, message: Message, deadline_ms: i64) -> bool:
        """Add at the end of the line a message that is not delivered after ``deadline_ms``; the answer is as that of ``append``."""
        return self._append(Entry(message, self.next, deadline_ms), message, 1)

    def _append(self, item: Message | Entry, message: Message, entries: i64) -> bool:
        pager = self.pager
        stored = False
        self.body_bytes += message.body_size
        if pager is not None:
            stored = pager.store(message, self.next)
            if pager.active:
                if entries > 0:
                    pager.expiring = True
                pager.keep(item, message)
                self.next += 1
                return stored
        self._add(item, entries)
        self.memory_bytes += memory_size(message)
        self.next += 1
        if pager is not None and self.memory_bytes > pager.check_above:
            pager.check()
        return stored

    def _add(self, item: Message | Entry, entries: i64) -> None:
        chunks = self._chunks
        if not chunks:
            if self._head_position + len(self._items) - self._head == self.next:
                self._items.append(item)
                self._entries += entries
                return
            if len(self._items) == self._head:
                self._items = [item]
                self._head = 0
                self._head_position = self.next
                self._entries = entries
                return
        if not chunks or chunks[-1].first + len(chunks[-1].items) != self.next:
            chunks.append(Chunk(self.next))
        last = chunks[-1]
        last.items.append(item)
        last.entries += entries
        self._chunks_count += 1

    def add_chunk(self, chunk: Chunk) -> None:
        """Messages from the disk or from the tail, behind all others that are in memory; their bodies are counted already."""
        self._chunks.append(chunk)
        self._chunks_count += len(chunk.items)
        self.memory_bytes += chunk.memory_bytes

    def start_at(self, position: i64) -> None:
        """The line is empty and goes on at this position."""
        self._head_position = position
        self.next = position

    # ---- out ----------------------------------------------------------------------------------------------------------

    def next_position(self) -> i64:
        """The position of the first message that ``take`` would return."""
        return self._head_position

    def head_body_size(self) -> i64:
        """Body size of the next message; 0 when there is none."""
        if self._returned:
            return self._returned[-1].message.body_size
        if self._head < len(self._items):
            item = self._items[self._head]
            if isinstance(item, Message):
                return item.body_size
            if isinstance(item, Entry):
                return item.message.body_size
        return 0

    def take(self, count: i64) -> list[Message | Entry | None]:
        """Remove and return the next ``count`` messages; at most ``plain()``. Their positions are consecutive."""
        items = self._items
        head = self._head
        size: i64 = len(items)
        if head == 0 and count == size:
            taken = items
            self._items = []
            self._head_position += count
        else:
            taken = items[head : head + count]
            self._advance(count)
        total: i64 = 0
        memory: i64 = count * MESSAGE_BYTES
        for item in taken:
            if isinstance(item, Message):
                total += item.body_size
                memory += len(item.content)
        self.body_bytes -= total
        self.memory_bytes -= memory
        pager = self.pager
        if pager is not None and self.memory_bytes < pager.check_below:
            pager.report()
        return taken

    def _advance(self, count: i64) -> None:
        items = self._items
        head = self._head
        self._head_position += count
        size: i64 = len(items)
        if head + count == size:
            self._items = []
            self._head = 0
            return
        at = head
        head += count
        while at < head:  # release the messages now, the slots later
            items[at] = None
            at += 1
        if head >= _COMPACT_AT and head * 2 >= size:
            del items[:head]
            head = 0
        self._head = head

    def pop(self, read: bool = True) -> Entry:
        """Remove and return the next message, as an entry. There must be one in memory, or one that was there before.

        Of the latter the content is read at once, unless ``read`` is false; when it is lost, the entry comes back without it.
        """
        if self._returned:
            entry = self._returned.pop()
            if entry.message is ON_DISK:
                recall = self._recall()
                recall.leave(entry)
                if read:
                    recall.now([entry])
            else:
                self.body_bytes -= entry.message.body_size
            return entry
        pager = self.pager
        if pager is not None and self._head == len(self._items):
            self._next_chunk(pager)
        item = self._items[self._head]
        position = self._head_position
        self._advance(1)
        if isinstance(item, Entry):
            self._entries -= 1
            entry = item
        else:
            assert isinstance(item, Message)
            entry = Entry(item, position, 0)
        self.body_bytes -= entry.message.body_size
        self.memory_bytes -= memory_size(entry.message)
        if pager is not None and self.memory_bytes < pager.check_below:
            pager.report()
        return entry

    def head_deadline(self) -> i64:
        """The deadline of the next message; 0 when it does not expire, there is none, or it is on its way from the disk."""
        if self._returned:
            return self._returned[-1].deadline_ms
        if self._head == len(self._items):
            pager = self.pager
            if pager is not None:
                self._next_chunk(pager)
        if self._entries and self._head < len(self._items):
            item = self._items[self._head]
            if isinstance(item, Entry):
                return item.deadline_ms
        return 0

    def _recall(self) -> Recall:
        pager = self.pager
        assert pager is not None
        return pager.recall()

    # ---- back ---------------------------------------------------------------------------------------------------------

    def put_back(self, entries: list[Entry]) -> None:
        """Return messages taken earlier to their places in front of the line."""
        if not entries:
            return
        for entry in entries:
            self.body_bytes += entry.message.body_size
        returned = self._returned
        if len(entries) == 1 and (not returned or entries[0].position < returned[-1].position):
            returned.append(entries[0])
            return
        returned.extend(entries)
        returned.sort(key=_behind)  # timsort: what is already in order costs one comparison each

    def recall_now(self, entries: list[Entry]) -> None:
        """Have the content of messages that were taken in memory again. An entry that is still without it afterwards has lost it."""
        for entry in entries:
            if entry.message is ON_DISK:
                self._recall().now(entries)
                return

    def lose(self, entry: Entry) -> None:
        """The content of a message that came back cannot be read."""
        self._returned.remove(entry)

    def settle(self, first: i64, count: i64, stride: i64) -> None:
        """``count`` messages from position ``first`` on, ``stride`` apart, which were taken, will not come back."""
        pager = self.pager
        if pager is not None:
            pager.settle(first, count, stride)

    def clear(self) -> i64:
        """Drop everything that waits; returns how many. Positions go on behind it."""
        count = self.count()
        pager = self.pager
        if pager is not None:
            for entry in self._returned:
                pager.settle(entry.position, 1, 1)
            if self.next > self._head_position:
                pager.settle(self._head_position, self.next - self._head_position, 1)
            pager.clear()
        self._items = []
        self._head = 0
        self._head_position = self.next
        self._returned = []
        self._entries = 0
        self._chunks = []
        self._chunks_count = 0
        self.body_bytes = 0
        self.memory_bytes = 0
        if pager is not None:
            pager.report()
        return count
