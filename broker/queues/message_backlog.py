"""What waits in a queue, in order. A requeued message goes back to its place.

    requeued        | current chunk | chunks read ahead | on disk only | tail
    (requeued.py)     from the head                       (disk_backlog.py)    (disk_backlog.py)

The backlog is a list of messages with a moving head; the position of a message is the head's position plus its index,
so nothing is stored per message. Messages that expire stand in the backlog as an ``Entry``; messages that were
delivered before and came back stand in front of it, because every position that was ever taken is smaller than the
head's.
A backlog that has been on disk has gaps: it is several chunks then, each without one.
A queue with priorities has one ``MessageBacklog`` per level.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from broker.message import ON_DISK, Message
from broker.native import i64
from broker.queues.entry import Entry
from broker.queues.requeued import Requeued
from broker.queues.returned_run import ReturnedRun, body_size, is_missing

if TYPE_CHECKING:
    from broker.queues.disk_backlog import DiskBacklog
    from broker.queues.reload import Reload

MESSAGE_BYTES: Final[i64] = 160
"""About what a waiting message costs in memory beside its content."""
_PLACE_BYTES: Final[i64] = 8
"""The same, where the content is on disk only."""
_COMPACT_AT: Final[i64] = 1024


def memory_size(message: Message) -> i64:
    """About what this message costs in memory while it waits."""
    return len(message.content) + MESSAGE_BYTES


@final
class Chunk:
    """Messages of a backlog without a gap between them."""

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
class MessageBacklog:
    """The messages of one queue, or of one priority level of it, that wait for a consumer."""

    def __init__(self, level: i64 = 0) -> None:
        self.level: i64 = level
        """Its number in the queue."""
        self._items: list[Message | Entry | None] = []
        self._head: i64 = 0
        self.head_position: i64 = 0
        """The position of the first message that was never taken."""
        self.requeued = Requeued()
        """What was delivered before and came back."""
        self._entries: i64 = 0
        self._chunks: list[Chunk] = []
        self._chunks_count: i64 = 0
        self.next: i64 = 0
        """The position of the message that comes next."""
        self.holds: i64 = 0
        """Nothing may be delivered while somebody holds the backlog, because earlier messages are about to come
        back."""
        self.line_body_bytes: i64 = 0
        """Sum of the bodies' sizes, on disk or not, without those that came back."""
        self.memory_bytes: i64 = 0
        """About what the messages in the chunks cost in memory."""
        self.disk: DiskBacklog | None = None
        """Keeps what must survive, and what is too much for the memory, on disk; None for a backlog that lives in
        memory only."""

    def count(self) -> i64:
        """Messages waiting."""
        count = self.in_memory()
        disk = self.disk
        if disk is not None:
            count += disk.count()
        return count

    @property
    def body_bytes(self) -> i64:
        """Sum of the bodies' sizes, on disk or not; of what came back, only what is in memory."""
        return self.line_body_bytes + self.requeued.body_bytes()

    def in_memory(self) -> i64:
        """Messages waiting whose content is at hand, without those in the tail."""
        return len(self._items) - self._head + self.requeued.count + self._chunks_count

    def available(self) -> i64:
        """How many messages may be delivered now; 0 also while their content, or the mark that they were, is on its
        way."""
        count = self.at_hand()
        disk = self.disk
        if disk is None or count == 0 or self.requeued.count > 0:
            return count
        return self._allowed(disk, count)

    def at_hand(self) -> i64:
        """How many messages are next in memory. 0 also while their content is on its way: this asks for it."""
        if self.holds:
            return 0
        requeued = self.requeued
        if requeued.count > 0:
            if is_missing(requeued.next_item()):
                self._reload().begin()
                return 0
            return requeued.count
        count: i64 = len(self._items) - self._head
        disk = self.disk
        if disk is None:
            return count
        if count == 0:
            return self._next_chunk(disk)
        if disk.paging:
            disk.read_ahead()
        return count

    def _allowed(self, disk: DiskBacklog, count: i64) -> i64:
        """How many of the next ``count`` messages may be delivered before a mark that they were is on the disk."""
        allowance = disk.allowance(self.head_position)
        return allowance if allowance < count else count

    def _next_chunk(self, disk: DiskBacklog) -> i64:
        if not self._chunks and disk.paging:
            disk.refill()
        if not self._chunks:
            return 0
        chunk = self._chunks.pop(0)
        self._items = chunk.items
        self._head = 0
        self.head_position = chunk.first
        self._entries = chunk.entries
        count: i64 = len(chunk.items)
        self._chunks_count -= count
        if disk.paging:
            disk.read_ahead()
        return count

    def plain(self) -> i64:
        """How many of the ``available`` ones can be taken with ``take``; 0 when some need a look one by one."""
        requeued = self.requeued
        if requeued.count > 0:
            return requeued.plain()
        if self._entries:
            return 0
        count: i64 = len(self._items) - self._head
        disk = self.disk
        return count if disk is None else self._allowed(disk, count)

    @property
    def expiring(self) -> bool:
        """Whether any waiting message may have a deadline."""
        if self._entries > 0 or self.requeued.expiring > 0:
            return True
        for chunk in self._chunks:
            if chunk.entries > 0:
                return True
        disk = self.disk
        return disk is not None and disk.expiring

    # ---- in ----------------------------------------------------------------------------------------------------------

    def append(self, message: Message) -> bool:
        """Add at the end of the backlog; whether a promise about it depends on the open batch of the log."""
        return self._append(message, message, 0)

    def append_expiring(self, message: Message, deadline_us: i64) -> bool:
        """Add at the end of the backlog a message that is not delivered from ``deadline_us`` on; the answer is as that
        of ``append``."""
        return self._append(Entry(message, self.next, deadline_us), message, 1)

    def _append(self, item: Message | Entry, message: Message, entries: i64) -> bool:
        disk = self.disk
        stored = False
        self.line_body_bytes += message.body_size
        if disk is not None:
            stored = disk.store(message, self.next)
            if disk.paging:
                if entries > 0:
                    disk.expiring = True
                disk.keep(item, message)
                self.next += 1
                return stored
        self._add(item, entries)
        self.memory_bytes += memory_size(message)
        self.next += 1
        if disk is not None and self.memory_bytes > disk.check_above:
            disk.check()
        return stored

    def _add(self, item: Message | Entry, entries: i64) -> None:
        chunks = self._chunks
        if not chunks:
            if self.head_position + len(self._items) - self._head == self.next:
                self._items.append(item)
                self._entries += entries
                return
            if len(self._items) == self._head:
                self._items = [item]
                self._head = 0
                self.head_position = self.next
                self._entries = entries
                return
        if not chunks or chunks[-1].first + len(chunks[-1].items) != self.next:
            chunks.append(Chunk(self.next))
        last = chunks[-1]
        last.items.append(item)
        last.entries += entries
        self._chunks_count += 1

    def add_chunk(self, chunk: Chunk) -> None:
        """Messages from the disk or from the tail, behind all others that are in memory; their bodies are counted
        already."""
        self._chunks.append(chunk)
        self._chunks_count += len(chunk.items)
        self.memory_bytes += chunk.memory_bytes

    def start_at(self, position: i64) -> None:
        """The backlog is empty and goes on at this position."""
        self.head_position = position
        self.next = position

    # ---- out ---------------------------------------------------------------------------------------------------------

    def redelivers(self) -> bool:
        """Whether what goes next was delivered before."""
        return self.requeued.count > 0

    def next_position(self) -> i64:
        """The position of the first message that ``take`` would return, after ``plain``."""
        if self.requeued.count > 0:
            return self.requeued.next_position()
        return self.head_position

    def next_stride(self) -> i64:
        """The distance between the positions of those that ``take`` would return, after ``plain``."""
        if self.requeued.count > 0:
            return self.requeued.next_stride()
        return 1

    def head_body_size(self) -> i64:
        """Body size of the next message; 0 when there is none."""
        if self.requeued.count > 0:
            return body_size(self.requeued.next_item())
        if self._head < len(self._items):
            return body_size(self._items[self._head])
        return 0

    def head(self) -> Message | None:
        """The next message; None also if it is on disk only."""
        item: Message | Entry | None = None
        if self.requeued.count > 0:
            item = self.requeued.next_item()
        elif self._head < len(self._items):
            item = self._items[self._head]
        elif self._chunks:
            item = self._chunks[0].items[0]
        message = item.message if isinstance(item, Entry) else item
        return None if message is ON_DISK else message

    def take(self, count: i64) -> list[Message | Entry | None]:
        """Remove and return the next ``count`` messages; at most ``plain()``. Their positions are ``next_stride``
        apart."""
        if self.requeued.count > 0:
            again = self.requeued.take(count)
            self._report()
            return again
        items = self._items
        head = self._head
        size: i64 = len(items)
        if head == 0 and count == size:
            taken = items
            self._items = []
            self.head_position += count
        else:
            taken = items[head : head + count]
            self._advance(count)
        total: i64 = 0
        memory: i64 = count * MESSAGE_BYTES
        for item in taken:
            if isinstance(item, Message):
                total += item.body_size
                memory += len(item.content)
        self.line_body_bytes -= total
        self.memory_bytes -= memory
        disk = self.disk
        if disk is not None and self.memory_bytes < disk.check_below:
            disk.report()
        return taken

    def _advance(self, count: i64) -> None:
        items = self._items
        head = self._head
        self.head_position += count
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

        Of the latter the content is read at once, unless ``read`` is false; when it is lost, the entry comes back
        without it.
        """
        if self.requeued.count > 0:
            entry = self.requeued.pop()
            if read and entry.message is ON_DISK:
                self._reload().now([entry])
            self._report()
            return entry
        disk = self.disk
        if disk is not None and self._head == len(self._items):
            self._next_chunk(disk)
        item = self._items[self._head]
        position = self.head_position
        self._advance(1)
        if isinstance(item, Entry):
            self._entries -= 1
            entry = item
        else:
            assert isinstance(item, Message)
            entry = Entry(item, position, 0)
        self.line_body_bytes -= entry.message.body_size
        self.memory_bytes -= memory_size(entry.message)
        if disk is not None and self.memory_bytes < disk.check_below:
            disk.report()
        return entry

    def head_deadline(self) -> i64:
        """The deadline of the next message in microseconds; 0 when it does not expire, there is none, or it is on its
        way."""
        if self.holds:
            return 0  # what comes back stands before it, and expires before it
        if self.requeued.count > 0:
            first = self.requeued.next_item()
            return first.deadline_us if isinstance(first, Entry) else 0
        if self._head == len(self._items):
            disk = self.disk
            if disk is not None:
                self._next_chunk(disk)
        if self._entries and self._head < len(self._items):
            item = self._items[self._head]
            if isinstance(item, Entry):
                return item.deadline_us
        return 0

    def _reload(self) -> Reload:
        disk = self.disk
        assert disk is not None
        return disk.reload()

    def put_back(self, run: ReturnedRun) -> None:
        """Return messages taken earlier to their places in front of the backlog."""
        item: Message | Entry | None = None
        if run.live > 0:
            run.skip_missing()
            item = run.items[run.offset]
        message = item.message if isinstance(item, Entry) else item
        if message is not None:
            self.requeued.push(run, memory_size(message) if message is not ON_DISK else _PLACE_BYTES)
            self._report()

    def _report(self) -> None:
        disk = self.disk
        if disk is not None:
            disk.report()

    def reloaded_at_once(self, run: ReturnedRun, end: i64) -> i64:
        """Where to stop before index ``end`` of a run, so that ``recall_now`` has no more than one large content to
        read."""
        index = run.offset
        while index < end:
            if is_missing(run.items[index]):
                disk = self.disk
                if disk is not None and disk.is_large(run.first_position + index * run.stride):
                    return index if index > run.offset else index + 1
            index += 1
        return end

    def reload_now(self, entries: list[Entry]) -> None:
        """Have the content of messages that were taken in memory again. An entry that is still without it afterwards
        has lost it."""
        for entry in entries:
            if entry.message is ON_DISK:
                self._reload().now(entries)
                return

    def settle(self, first: i64, count: i64, stride: i64) -> None:
        """``count`` messages from position ``first`` on, ``stride`` apart, which were taken, will not come back."""
        disk = self.disk
        if disk is not None:
            disk.settle(first, count, stride)

    def clear(self, dropped: list[list[Message | Entry | None]] | None = None) -> i64:
        """Drop everything that waits; returns how many. Positions go on behind it.

        ``dropped`` gets the lists that it stood in: whoever lets go of them lets go of all the messages.
        """
        lists: list[list[Message | Entry | None]] = [] if dropped is None else dropped
        count = self.count()
        disk = self.disk
        self.requeued.clear(self, lists)
        lists.append(self._items)
        lists += [chunk.items for chunk in self._chunks]
        if disk is not None:
            if self.next > self.head_position:
                disk.settle(self.head_position, self.next - self.head_position, 1)
            disk.clear(lists)
        self._items = []
        self._head = 0
        self.head_position = self.next
        self._entries = 0
        self._chunks = []
        self._chunks_count = 0
        self.line_body_bytes = 0
        self.memory_bytes = 0
        if disk is not None:
            disk.report()
        return count
