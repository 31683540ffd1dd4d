"""What waits in a queue, in order. A requeued message goes back to its place.

The line is a list of messages with a moving head; the position of a message is the head's position plus its index, so nothing
is stored per message. Messages that expire stand in the line as an ``Entry``; messages that were delivered before and came back
stand in front of it, sorted, because every position that was ever taken is smaller than the head's.
A queue with priorities has one ``Ready`` per level.
"""

from typing import Final, final

from broker.message import Message
from broker.native import i64
from broker.queues.entry import Entry

_COMPACT_AT: Final[i64] = 1024


def _behind(entry: Entry) -> int:
    return -entry.position


@final
class Ready:
    """The messages of one queue, or of one priority level of it, that wait for a consumer."""

    def __init__(self) -> None:
        self._items: list[Message | Entry | None] = []
        self._head: i64 = 0
        self._head_position: i64 = 0
        self._returned: list[Entry] = []  # descending positions: the next one is the last
        self._entries: i64 = 0
        self.body_bytes: i64 = 0
        """Sum of the bodies' sizes."""

    def count(self) -> i64:
        """Messages waiting."""
        return len(self._items) - self._head + len(self._returned)

    def plain(self) -> i64:
        """How many messages can be taken with ``take``; 0 when some need a look one by one."""
        if self._entries or self._returned:
            return 0
        return len(self._items) - self._head

    @property
    def expiring(self) -> bool:
        """Whether any waiting message may have a deadline."""
        return self._entries > 0 or len(self._returned) > 0

    def append(self, message: Message) -> None:
        """Add at the end of the line."""
        self._items.append(message)
        self.body_bytes += message.body_size

    def append_expiring(self, message: Message, deadline_ms: i64) -> None:
        """Add at the end of the line a message that is not delivered after ``deadline_ms``."""
        position = self._head_position + len(self._items) - self._head
        self._items.append(Entry(message, position, deadline_ms))
        self._entries += 1
        self.body_bytes += message.body_size

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
        for item in taken:
            if isinstance(item, Message):
                total += item.body_size
        self.body_bytes -= total
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

    def pop(self) -> Entry:
        """Remove and return the next message, as an entry. There must be one."""
        if self._returned:
            entry = self._returned.pop()
            self.body_bytes -= entry.message.body_size
            return entry
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
        return entry

    def head_deadline(self) -> i64:
        """The deadline of the next message; 0 when it does not expire or there is none."""
        if self._returned:
            return self._returned[-1].deadline_ms
        if self._entries and self._head < len(self._items):
            item = self._items[self._head]
            if isinstance(item, Entry):
                return item.deadline_ms
        return 0

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

    def clear(self) -> i64:
        """Drop everything that waits; returns how many. Positions go on behind it."""
        count = self.count()
        self._head_position += len(self._items) - self._head
        self._items = []
        self._head = 0
        self._returned = []
        self._entries = 0
        self.body_bytes = 0
        return count
