"""The part of a backlog that is on disk: what must survive the node, and what is too much for the memory.

A persistent message in a durable queue is appended to the backlog's log when it comes. A backlog that has more in
memory than it may (memory.py) pages: whatever comes forms its tail, and once that is on the disk it may leave the
memory; its position is all that is known of it then. So the memory that it needs does not grow with it. In a durable
queue, what comes is appended to the log as well, and nothing has to be written because memory is short; of others, the
oldest part of the tail is written when the tail has become too long (page files, store/pages.py). Consumers find the
head in memory; before it runs out, the next part is read back. The tail stays in memory as far as it may, so that a
backlog whose consumers come near the end does not read what was written a moment ago.

    chunks: in memory | page_from ... page_to: on disk only | tail: in memory, perhaps on the disk or on its way
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from broker.clock import Clock
from broker.discard import discard
from broker.message import ON_DISK, Message
from broker.native import i64
from broker.queues.entry import Entry
from broker.queues.expiry import ttl_ms
from broker.queues.memory import QueueMemory
from broker.queues.message_backlog import MESSAGE_BYTES, Chunk, MessageBacklog, memory_size
from broker.queues.page_out import block_of
from broker.queues.reload import Reload
from broker.queues.stored import EXPIRES, enqueued_ms, read_head, read_message, stored_size, write_message
from broker.queues.tail import Tail
from broker.store.log import Log, LogUser
from broker.store.logs import GroupHold, Logs
from broker.store.read_request import COUNT_MAX
from broker.store.records import MESSAGE, TRANSIENT
from broker.turn import Turn

if TYPE_CHECKING:
    from broker.queues.queue import Queue

MEMORY_MAX: Final[i64] = 8 << 20
"""Of a durable backlog, whatever is free; what it costs anyway is its write to the log, so paging begins early."""
MEMORY_MAX_TRANSIENT: Final[i64] = 128 << 20
"""Of a backlog that would not touch the disk otherwise."""
READ_BYTES: Final[i64] = 1 << 20
"""Read back at a time, at the most, and no sooner than less than this is left: what is read long before it goes has
left the processor's cache by then, which costs as much as the read."""
_AHEAD_BYTES: Final[i64] = 1 << 16
_REPORT_BYTES: Final[i64] = 4096
"""A backlog tells what it has when that has changed by so much, and a sixteenth."""
_UNLIMITED: Final[i64] = 1 << 60


@final
class DiskBacklog(LogUser):
    """The disk side of one backlog."""

    def __init__(
        self, backlog: MessageBacklog, queue: Queue, logs: Logs, clock: Clock, log: Log | None, memory: QueueMemory
    ) -> None:
        self.backlog = backlog
        self.queue = queue
        self.log = log
        """None until a backlog that need not survive the node has too much in memory; its log is on page files."""
        self.durable_queue = log is not None
        self.memory_max: i64 = MEMORY_MAX if log is not None else MEMORY_MAX_TRANSIENT
        """The backlog has no more than this in memory, whatever is free."""
        self.check_above: i64 = _REPORT_BYTES
        """With more than this in its chunks, ``check`` is due."""
        self.check_below: i64 = 0
        """With less than this in its chunks, ``report`` is due."""
        self.paging = False
        """The end of the backlog is not in the chunks: what comes is added to the tail."""
        self.expiring = False
        """What is not in the chunks may have deadlines."""
        self.has_consumers = False
        """The queue has consumers: what comes is delivered soon."""
        self.tail = Tail()
        self._memory = memory
        self._reported: i64 = 0
        self._logs = logs
        self._clock = clock
        self._page_from: i64 = 0
        self._page_to: i64 = 0
        """Where the tail begins."""
        self._paged: i64 = 0
        self._paged_body_bytes: i64 = 0
        self._reading = False
        self._chunk: Chunk | None = None
        self._loaded_body_bytes: i64 = 0
        self._loaded_count: i64 = 0
        self._tail = b""
        self._redelivered_through: i64 = -1
        self._waits_for_mark = False
        self._reload: Reload | None = None
        if log is not None:
            log.user = self

    def turn(self) -> Turn | None:
        """Where work that takes long is done in slices; None at the start of a node."""
        return self._logs.batch.turn

    def group_hold(self) -> GroupHold:
        """Keeps what is told to the log in one commit group."""
        return GroupHold(self._logs if self.durable_queue else None)

    def recover(self) -> None:
        """The log was found by recovery: everything that is live in it waits in the backlog, on disk only."""
        log = self.log
        assert log is not None
        positions = log.positions
        backlog = self.backlog
        self._redelivered_through = log.mark.position if log.mark.position < positions.next else positions.next - 1
        self._paged = positions.live()
        self._page_from = positions.first
        self._page_to = positions.next
        self.paging = self._paged > 0
        self.expiring = self.paging
        backlog.start_at(positions.first if self.paging else positions.next)
        backlog.next = positions.next
        backlog.line_body_bytes = log.body_bytes
        self._paged_body_bytes = log.body_bytes

    def may_expire(self) -> bool:
        """Whether recovery has found messages with an expiration of their own."""
        log = self.log
        return log is not None and log.flags & EXPIRES != 0

    def count(self) -> i64:
        """Messages of the backlog that are not in its chunks."""
        return self._paged + self.tail.count

    # ---- in ----------------------------------------------------------------------------------------------------------

    def store(self, message: Message, position: i64) -> bool:
        """Append to the log if that is necessary; whether a promise depends on it."""
        if not self.durable_queue:
            return False
        promised = False
        kind = TRANSIENT
        if message.persistent:
            promised = True
            kind = MESSAGE
        elif not self.paging:
            return False
        log = self.log
        assert log is not None
        if self.has_consumers:
            log.cover(position)
        if log.append(position, kind, stored_size(message), message):
            write_message(self._logs.batch, message, self._clock.wall_ms)
        return promised

    def begin(self) -> None:
        """The backlog has too much in memory: from now on it pages."""
        if self.log is None:
            log = self._logs.create_on_pages()
            log.positions.first = log.positions.next = self.backlog.next
            log.user = self
            self.log = log
        self.paging = True
        self._nothing_paged()
        self.tail.measure(self.report(), self.allowed(), 0)

    # ---- how much ----------------------------------------------------------------------------------------------------

    def report(self) -> i64:
        """Tell what the backlog has in memory; how much that is."""
        size = self.backlog.memory_bytes + self.backlog.requeued.memory_bytes() + self.tail.memory_bytes
        self._memory.used += size - self._reported
        self._reported = size
        margin = _REPORT_BYTES + size // 16
        self.check_above = self.backlog.memory_bytes + margin
        self.check_below = self.backlog.memory_bytes - margin
        return size

    def allowed(self) -> i64:
        """What the backlog may have in memory now."""
        return self._memory.allowance(self.memory_max)

    def check(self) -> None:
        """The backlog has more in memory than when it was asked last: perhaps too much."""
        size = self.report()
        allowed = self._memory.allowance(self.memory_max, self._memory.tails())
        if size > allowed:
            self.begin()
        elif allowed < self.check_above:
            self.check_above = allowed

    def _nothing_paged(self) -> None:
        """What pages from now on stands behind everything that is in the backlog."""
        self._paged = 0
        self._paged_body_bytes = 0
        self._page_from = self._page_to = self.backlog.next
        self.tail.clear()

    def keep(self, item: Message | Entry, message: Message) -> None:
        """What comes while the backlog pages: until it is on the disk, and longer if there is room."""
        tail = self.tail
        tail.add(item, message, self.backlog.next)
        if not self.durable_queue and tail.is_due():
            self._page_out()

    def _page_out(self) -> None:
        """The tail may be too long: let go of what is written, or begin to write the oldest part that is not."""
        self._evict()
        log = self.log
        tail = self.tail
        step = tail.measure(self.report(), self.allowed(), self._paged)
        if log is None or not self.paging or not tail.is_too_long():
            return
        self._logs.pages.add(block_of(log, tail.request(step), self.queue.options, self._clock))
        turn = self._logs.batch.turn
        if turn is not None:
            turn.costly = True

    def paged(self, memory_bytes: i64) -> None:
        self.tail.in_flight -= memory_bytes
        self.durable()

    def durable(self) -> None:
        if self._waits_for_mark:
            self._waits_for_mark = False
            self.queue.schedule_dispatch()
        if self.paging:
            self._evict()

    def _evict(self) -> None:
        """Let the oldest of the tail leave the memory, as much as there is too much of."""
        log = self.log
        if log is None:
            return
        size = self.report()
        allowed = self.allowed()
        if self._paged == 0 and not self._reading and size < allowed // 2:
            self._take_tail()
            self.queue.schedule_dispatch()
            return
        tail = self.tail
        tail_max = allowed - (size - tail.memory_bytes)
        if not self.durable_queue:
            tail.measure(size, allowed, self._paged)
            tail_max = tail.max
        gone = tail.let_go(tail_max, log.durable_next)
        if gone:
            for chunk in gone:
                self._paged += len(chunk.items)
                self._paged_body_bytes += chunk.body_bytes
            last = gone[-1]
            self._page_to = last.first + len(last.items)
            discard(self._logs.batch.turn, [chunk.items for chunk in gone])
            self.report()

    def _take_tail(self) -> None:
        """Everything before it is in the chunks: the backlog goes on in memory."""
        for chunk in self.tail.clear():
            self.backlog.add_chunk(chunk)
        self.paging = False
        self.expiring = False
        self.report()

    # ---- out ---------------------------------------------------------------------------------------------------------

    def allowance(self, position: i64) -> i64:
        """How many positions may be delivered from this one on, so that a crash cannot forget that they may have
        been."""
        log = self.log
        if log is None or not self.durable_queue:
            return _UNLIMITED
        count = log.allowance(position)
        if count == 0:
            self._waits_for_mark = True
        return count

    def refill(self) -> None:
        """Nothing of the backlog is in memory: bring on what follows."""
        if self._paged == 0:
            self._take_tail()
        else:
            self.read_ahead()

    def read_ahead(self) -> None:
        """Begin to read what follows the chunks, unless enough of it is there."""
        log = self.log
        if self._reading or self._paged == 0 or log is None:
            return
        allowed = self.allowed()
        if self.backlog.memory_bytes > (allowed // 2 if allowed // 2 < _AHEAD_BYTES else _AHEAD_BYTES):
            return
        self._reading = True
        size = allowed // 2 if allowed // 2 < READ_BYTES else READ_BYTES
        count = size // (MESSAGE_BYTES + self._paged_body_bytes // self._paged) + 1
        if count > COUNT_MAX or (log.on_pages and size == READ_BYTES):  # such a block is read in one go
            count = COUNT_MAX
        self._logs.read(log, self._page_from, self._page_to, size, None, count)

    def load(self) -> bool:
        """Have the next message in memory: for what would fall behind if it waited, such as dead-lettering what is
        dropped.

        False if that takes long: it is on its way, and the queue is marked when it comes.
        """
        log = self.log
        while log is not None and self._paged > 0 and self.backlog.in_memory() == 0:
            if self._logs.is_large(log, self._page_from, self._page_to):
                self.read_ahead()
                return False
            self._logs.read_now(log, self._page_from, self._page_to, READ_BYTES // 16)
        if self.paging and self._paged == 0:
            self._take_tail()
        return True

    def is_large(self, position: i64) -> bool:
        """Whether it takes long to read this message, which is on the disk."""
        log = self.log
        return log is not None and self._logs.is_large(log, position, position + 1)

    def skip(self) -> bool:
        """Drop the next message without reading it; False if it is not on disk only."""
        log = self.log
        if log is None or self._paged == 0 or self.backlog.in_memory() > 0:
            return False
        position = log.positions.next_live(self._page_from)
        self._correct_size(self._paged - 1, 0, 0)
        self._paged -= 1
        self._page_from = position + 1
        log.settle(position, 1, 1)
        return True

    def record(self, position: i64, data: bytes, start: i64, end: i64) -> None:
        if position < self._page_from or position >= self._page_to:
            return  # dropped meanwhile
        self._take(position, read_message(data, start, end, self._tail), data, start)

    def large_record(self, position: i64, head: bytes, content: bytes) -> None:
        if position < self._page_from or position >= self._page_to:
            return
        self._take(position, read_head(head, 0, content, self._tail), head, 0)

    def _take(self, position: i64, message: Message, data: bytes, start: i64) -> None:
        self._tail = message.tail
        chunk = self._chunk
        if chunk is None or chunk.first + len(chunk.items) != position:
            self._end_chunk()
            chunk = Chunk(position)
            self._chunk = chunk
        chunk.memory_bytes += memory_size(message)
        self._loaded_body_bytes += message.body_size
        self._loaded_count += 1
        redelivered = position <= self._redelivered_through
        ttl = ttl_ms(self.queue.options, message)
        if not redelivered and ttl < 0:
            chunk.items.append(message)
            return
        entry = Entry(message, position, 0)
        entry.redelivered = redelivered
        if ttl >= 0:
            left = enqueued_ms(data, start) + ttl - self._clock.wall_ms
            deadline = self._clock.now_us + left * 1000 + 999  # both wall times are cut to milliseconds: not too early
            entry.deadline_us = deadline if deadline > 0 and ttl > 0 else 1
            self.queue.expires_from_now()
        chunk.items.append(entry)
        chunk.entries += 1

    def _end_chunk(self) -> None:
        chunk = self._chunk
        if chunk is not None:
            self._chunk = None
            self.backlog.add_chunk(chunk)

    def loaded(self, through: i64) -> None:
        self._end_chunk()
        self._reading = False
        log = self.log
        if log is None:
            return
        if through > self._page_from:
            self._page_from = through if through < self._page_to else self._page_to
        left = log.positions.live_between(self._page_from, self._page_to)
        self._correct_size(left, self._loaded_count, self._loaded_body_bytes)
        self._loaded_body_bytes = 0
        self._loaded_count = 0
        self._paged = left
        if self.paging and self._paged == 0 and self.report() < self.allowed():
            self._take_tail()
        self.report()
        self.queue.schedule_dispatch()

    def _correct_size(self, left: i64, known: i64, body_bytes: i64) -> None:
        """Of the messages on disk ``left`` stay there; ``known`` of the others have so many bytes in their bodies.

        Of the rest, which were settled there, and of all of them after a start, the sizes are only known in sum, and
        about.
        """
        unknown = self._paged - left - known
        total = self._paged_body_bytes
        rest = total - body_bytes
        guess: i64 = rest
        if left > 0:
            guess = rest * unknown // (left + unknown) if rest > 0 else rest
        self._paged_body_bytes = rest - guess
        self.backlog.line_body_bytes -= guess

    # ---- with consumers ----------------------------------------------------------------------------------------------

    def over_memory_limit(self, count: i64, sample: Message) -> bool:
        """Whether ``count`` messages like this one, which consumers have, are too much for the memory."""
        return self.log is not None and count * memory_size(sample) > self.allowed()

    def evict(self, items: list[Message | Entry | None], start: i64, end: i64, first_position: i64, stride: i64) -> i64:
        """Keep no content of these delivered messages, from index ``start`` up to ``end``, that can be read back; where
        that stops for now.

        It stops where the write of a message is on its way.
        """
        log = self.log
        if log is None:
            return end
        positions = log.positions
        durable = log.durable_next
        index = start
        while index < end:
            position = first_position + index * stride
            if positions.is_live(position):
                if position >= durable:
                    return index
                item = items[index]
                if isinstance(item, Entry):
                    item.message = ON_DISK
                elif item is not None:
                    items[index] = ON_DISK
            index += 1
        return end

    def reload(self) -> Reload:
        """Who reads back what ``evict`` has taken out."""
        reload = self._reload
        if reload is None:
            log = self.log
            assert log is not None
            reload = Reload(self.backlog, self.queue, self._logs, log)
            self._reload = reload
        return reload

    # ---- settled -----------------------------------------------------------------------------------------------------

    def settle(self, first: i64, count: i64, stride: i64) -> None:
        """These positions are not needed any more."""
        log = self.log
        if log is not None:
            log.settle(first, count, stride)

    def on_shutdown(self) -> None:
        """Whatever stands in front of the backlog was delivered before; nothing behind its head was."""
        log = self.log
        if log is not None and self.durable_queue:
            log.write_exact_mark(max(self.backlog.head_position - 1, self._redelivered_through))

    def clear(self, dropped: list[list[Message | Entry | None]]) -> None:
        """Everything in the backlog was dropped and settled; ``dropped`` gets what the tail stood in."""
        reload = self._reload
        if reload is not None:
            reload.clear()
        dropped += [chunk.items for chunk in self.tail.clear()]
        self._chunk = None
        self._loaded_body_bytes = 0
        self._loaded_count = 0
        self._nothing_paged()
        self.paging = False
        self.expiring = False

    def close(self, dropped: list[list[Message | Entry | None]]) -> None:
        """The queue is gone, and its log with it; ``dropped`` as for ``clear``."""
        log = self.log
        if log is not None:
            self._logs.drop(log)
            self.log = None
        self.clear(dropped)
        self._memory.used -= self._reported
        self._reported = 0
