"""The end of a backlog that pages: in memory, and on the disk or on the way there, or (of a queue that is not durable)
not yet.

    parts    requested: handed over to be written to a page file, and perhaps there | the rest: in memory only

Its messages stand in the table of the backlog; what is known here is where a part begins, and what it costs.
"""

from __future__ import annotations

from typing import Final, final

from broker.message import Message
from broker.native import i64
from broker.queues.block import memory_size
from broker.queues.entry import Entry

PAGED_OUT_BYTES: Final[i64] = 1 << 20
"""What is written to page files at a time costs so much memory, at the most, ..."""
_PAGED_OUT_MIN: Final[i64] = 16 << 10
"""... and at the least, where a thousand backlogs share the memory."""
_FAR_BYTES: Final[i64] = 2 << 20
"""With more on the disk than in its tail, a backlog has no use for a longer tail soon."""
_PART_COUNT: Final[i64] = 1024
"""Messages in a part, at the most: they leave the memory together."""
_PART_BYTES: Final[i64] = 1 << 18
"""A part ends when it costs so much memory."""


@final
class Part:
    """Some neighbouring messages: they are written together, and leave the memory together."""

    def __init__(self, first: i64) -> None:
        self.first: i64 = first
        """The position of the first of them."""
        self.count: i64 = 0
        self.entries: i64 = 0
        """How many of them are an ``Entry``."""
        self.memory_bytes: i64 = 0
        """About what they cost in memory."""
        self.body_bytes: i64 = 0
        """Sum of the bodies' sizes."""

    def end(self) -> i64:
        """The position behind the last of them."""
        return self.first + self.count


@final
class Tail:
    """The tail of one backlog, and how long it may be."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.count: i64 = 0
        """Messages."""
        self.memory_bytes: i64 = 0
        """About what they cost in memory."""
        self.body_bytes: i64 = 0
        """Sum of the bodies' sizes."""
        self.in_flight: i64 = 0
        """What those cost in memory that are on their way to a page file."""
        self.max: i64 = 0
        """What may be there beside them."""
        self._due: i64 = 0
        self._requested: i64 = 0
        """So many parts, the first ones, were handed over to be written."""

    def add(self, item: Message | Entry, message: Message, position: i64) -> None:
        """One more message, at its end."""
        parts = self.parts
        count: i64 = len(parts)
        if count == self._requested or parts[-1].count >= _PART_COUNT or parts[-1].memory_bytes >= _PART_BYTES:
            parts.append(Part(position))
        part = parts[-1]
        part.count += 1
        if isinstance(item, Entry):
            part.entries += 1
        size = memory_size(message)
        part.memory_bytes += size
        part.body_bytes += message.body_size
        self.count += 1
        self.memory_bytes += size
        self.body_bytes += message.body_size

    def clear(self) -> list[Part]:
        """What was in it."""
        parts = self.parts
        self.parts = []
        self.count = 0
        self.memory_bytes = 0
        self.body_bytes = 0
        self._requested = 0
        return parts

    def let_go(self, most: i64, durable_next: i64) -> list[Part]:
        """The oldest parts, without which it is no longer than ``most``; only those whose messages are all below
        ``durable_next``."""
        count: i64 = 0
        for part in self.parts:
            if self.memory_bytes <= most or part.end() > durable_next:
                break
            count += 1
            self.memory_bytes -= part.memory_bytes
            self.body_bytes -= part.body_bytes
            self.count -= part.count
        gone = self.parts[:count]
        del self.parts[:count]
        self._requested = self._requested - count if self._requested > count else 0
        return gone

    # ---- to page files -----------------------------------------------------------------------------------------------

    def is_due(self) -> bool:
        """Whether it has grown so much that somebody should look how long it may be."""
        return self.memory_bytes - self.in_flight > self._due

    def is_too_long(self) -> bool:
        """Whether something of it must be written."""
        return self.memory_bytes - self.in_flight > self.max

    def measure(self, size: i64, allowed: i64, paged: i64) -> i64:
        """Sets ``max`` for a backlog that has ``size`` in memory, may have ``allowed`` and has ``paged`` messages on
        disk only.

        Returns how much is written at a time.
        """
        # With many backlogs, what is free may be nothing: then it is what this one had.
        step = (allowed if allowed > size else size) // 8
        step = _PAGED_OUT_MIN if step < _PAGED_OUT_MIN else PAGED_OUT_BYTES if step > PAGED_OUT_BYTES else step
        most = allowed - (size - self.memory_bytes)
        if paged > self.count and most > _FAR_BYTES:
            most = _FAR_BYTES
        self.max = most if most > step else step
        due = self.memory_bytes - self.in_flight + step  # all backlogs grow, and what is free is told now and then
        self._due = due if due < self.max else self.max
        return step

    def request(self, step: i64) -> list[Part]:
        """The oldest parts that were not handed over, about ``step`` bytes of them: they are now."""
        first = self._requested
        end = first
        size: i64 = 0
        for part in self.parts[first:]:
            if end > first and size + part.memory_bytes > step:
                break
            size += part.memory_bytes
            end += 1
        self._requested = end
        self.in_flight += size
        return self.parts[first:end]
