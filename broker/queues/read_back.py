"""What of a backlog is on disk only, and how it comes back: a part at a time, before the consumers need it.

ready, in memory | first ... end: on disk only | tail
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from broker.clock import Clock
from broker.message import Message
from broker.native import i64
from broker.queues.block import MESSAGE_BYTES, memory_size
from broker.queues.entry import Entry
from broker.queues.expiry import ttl_ms
from broker.queues.options import QueueOptions
from broker.queues.stored import enqueued_ms, read_head, read_message
from broker.store.log import Log
from broker.store.logs import Logs
from broker.store.read_request import COUNT_MAX
from broker.store.run_map import RunCursor, RunMap

if TYPE_CHECKING:
    from broker.queues.disk_backlog import DiskBacklog

READ_BYTES: Final[i64] = 1 << 20
"""Read back at a time, at the most, and no sooner than less than this is left: what is read long before it goes has
left the processor's cache by then, which costs as much as the read."""
_AHEAD_BYTES: Final[i64] = 1 << 16


@final
class ReadBack:
    """The part of one backlog that is on disk only. The backlog is handed in every time: neither keeps the other when
    the queue is gone."""

    def __init__(self, logs: Logs, options: QueueOptions, clock: Clock) -> None:
        self.first: i64 = 0
        """Everything ready before this position is in memory."""
        self.end: i64 = 0
        """Where the tail begins."""
        self.count: i64 = 0
        self.reading = False
        self.body_bytes: i64 = 0
        """Sum of the bodies' sizes, about."""
        self.left_out: RunMap | None = None
        """The positions among them of what does not wait, and is passed over; none below ``first``."""
        self._brought: i64 = 0
        """Messages that the read that is on its way has brought so far."""
        self._tail = b""
        self._logs = logs
        self._options = options
        self._clock = clock

    def begin_at(self, position: i64) -> None:
        """Nothing is on disk only; what will be stands from this position on."""
        self.first = self.end = position
        self.count = 0
        self.body_bytes = 0
        self.left_out = None
        self._brought = 0

    def recover(self, log: Log) -> None:
        """Everything that is live in the log is on disk only."""
        self.first = log.positions.first
        self.end = log.positions.next
        live = log.positions.live()
        self.count = self._waiting(log)
        self.body_bytes = log.body_bytes * self.count // live if live > 0 else 0

    def _waiting(self, log: Log) -> i64:
        """How many there are from ``first`` on that wait."""
        positions = log.positions
        live = positions.live_between(self.first, self.end)
        left_out = self.left_out
        if left_out is None:
            return live
        if self.first > 0:
            left_out.remove(0, self.first - 1)
        if live > left_out.size:
            return live - left_out.size
        # what is damaged may be among them: count
        cursor = RunCursor(left_out)
        cursor.seek(self.first)
        last = left_out.last()
        while cursor.end < last and cursor.step():
            if cursor.value != 0:
                live -= positions.live_between(cursor.start, cursor.end + 1)
        return live

    def extend(self, end: i64, count: i64, body_bytes: i64) -> None:
        """The oldest of the tail has left the memory: so many messages, up to that position."""
        self.end = end
        self.count += count
        self.body_bytes += body_bytes

    def drop_first(self, log: Log) -> i64:
        """The first of them is dropped without being read; its position."""
        position = log.positions.next_live(self.first)
        self._correct(self.count - 1, 1)
        self.count -= 1
        self.first = position + 1
        return position

    # ---- reading -----------------------------------------------------------------------------------------------------

    def read_ahead(self, log: Log, memory_bytes: i64, allowed: i64) -> None:
        """Begin to read what is next, unless enough is ready: ``memory_bytes`` of what the backlog may have."""
        if self.reading or self.count == 0:
            return
        if memory_bytes > (allowed // 2 if allowed // 2 < _AHEAD_BYTES else _AHEAD_BYTES):
            return
        self.reading = True
        self._pass_over()
        size = allowed // 2 if allowed // 2 < READ_BYTES else READ_BYTES
        count = size // (MESSAGE_BYTES + self.body_bytes // self.count) + 1
        if count > COUNT_MAX or (log.on_pages and size == READ_BYTES):  # such a block is read in one go
            count = COUNT_MAX
        self._logs.read(log, self.first, self.end, size, None, count)

    def read_some(self, log: Log) -> bool:
        """Read what is next before returning; False if that takes long."""
        self._pass_over()
        if self._logs.is_large(log, self.first, self.end):
            return False
        self._logs.read_now(log, self.first, self.end, READ_BYTES // 16)
        return True

    def _pass_over(self) -> None:
        """Begin behind what does not wait."""
        left_out = self.left_out
        if left_out is not None and left_out.value_at(self.first) != 0:
            cursor = RunCursor(left_out)
            cursor.seek(self.first)
            cursor.step()
            self.first = cursor.end + 1

    def _is_wanted(self, position: i64) -> bool:
        if position < self.first or position >= self.end:
            return False
        return self.left_out is None or self.left_out.value_at(position) == 0

    def record(self, disk: DiskBacklog, position: i64, data: bytes, start: i64, end: i64) -> None:
        """What a read has brought; not needed if it was dropped meanwhile."""
        if self._is_wanted(position):
            self._bring(disk, position, read_message(data, start, end, self._tail), data, start)

    def large_record(self, disk: DiskBacklog, position: i64, head: bytes, content: bytes) -> None:
        """The same for one with a large content."""
        if self._is_wanted(position):
            self._bring(disk, position, read_head(head, 0, content, self._tail), head, 0)

    def _bring(self, disk: DiskBacklog, position: i64, message: Message, data: bytes, start: i64) -> None:
        self.first = position + 1
        self._tail = message.tail
        self.body_bytes -= message.body_size
        self._brought += 1
        redelivered = disk.kept.was_delivered(position)
        ttl = ttl_ms(self._options, message)
        if not redelivered and ttl < 0:
            disk.backlog.bring(position, message, memory_size(message))
            return
        entry = Entry(message, position, 0)
        entry.redelivered = redelivered
        if ttl >= 0:
            left = enqueued_ms(data, start) + ttl - self._clock.wall_ms
            deadline = self._clock.now_us + left * 1000 + 999  # both wall times are cut to milliseconds: not too early
            entry.deadline_us = deadline if deadline > 0 and ttl > 0 else 1
            disk.queue.expiring = True
        disk.backlog.bring(position, entry, memory_size(message))

    def end_read(self, log: Log, through: i64) -> None:
        """A read is over: everything below that position was told."""
        if through > self.first:
            self.first = through if through < self.end else self.end
        left = self._waiting(log)
        self._correct(left, self.count - left - self._brought)
        self._brought = 0
        self.count = left

    def _correct(self, left: i64, unknown: i64) -> None:
        """So many messages stay on disk; of ``unknown`` others, which were settled there, the sizes are only known in
        sum, and about, as are those of all of them after a start."""
        rest = self.body_bytes
        guess: i64 = rest
        if left > 0:
            guess = rest * unknown // (left + unknown) if rest > 0 else rest
        self.body_bytes = rest - guess
