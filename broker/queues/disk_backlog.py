"""The part of a backlog that is on disk: what must survive the node (queue_log.py), and what is too much for the
memory.

A persistent message in a durable queue is appended to the backlog's log when it comes. A backlog that has more in
memory than it may (memory.py) pages: whatever comes forms its tail, and once that is on the disk it may leave the
memory; its position is all that is known of it then. So the memory that it needs does not grow with it. In a durable
queue, what comes is appended to the log as well, and nothing has to be written because memory is short; of others, the
oldest part of the tail is written when the tail has become too long (page files, store/pages.py). Consumers find the
head in memory; before it runs out, the next part is read back (read_back.py). The tail stays in memory as far as it
may, so that a backlog whose consumers come near the end does not read what was written a moment ago.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from broker.discard import discard
from broker.message import Message
from broker.native import i64
from broker.queues.declaration import QueueEnvironment
from broker.queues.entry import Entry
from broker.queues.eviction import Eviction
from broker.queues.memory import UNLIMITED, MemoryShare, QueueMemory
from broker.queues.message_backlog import MessageBacklog
from broker.queues.page_out import block_of
from broker.queues.queue_log import QueueLog
from broker.queues.read_back import ReadBack
from broker.queues.reload import Reload
from broker.queues.tail import Tail
from broker.store.log import Log, LogUser
from broker.store.logs import Logs
from broker.store.run_map import RunMap

if TYPE_CHECKING:
    from broker.queues.backlog_queue import BacklogQueue

MEMORY_MAX: Final[i64] = 8 << 20
"""Of a durable backlog, whatever is free; what it costs anyway is its write to the log, so paging begins early."""
MEMORY_MAX_TRANSIENT: Final[i64] = 128 << 20
"""Of a backlog that would not touch the disk otherwise."""


@final
class DiskBacklog(LogUser):
    """The disk side of one backlog."""

    def __init__(
        self, backlog: MessageBacklog, queue: BacklogQueue, environment: QueueEnvironment, logs: Logs, log: Log | None
    ) -> None:
        self.backlog = backlog
        self.queue = queue
        self.kept = QueueLog(logs, environment.clock, log)
        """What it has in its log."""
        self.share = _share(environment, log)
        self.eviction: Eviction | None = None
        self.on_disk: ReadBack | None = None
        """What is on disk only; None before it pages for the first time."""
        self.tail: Tail | None = None
        """None before it pages for the first time."""
        self.paging = False
        """What comes is added to the tail, and is not ready."""
        self.is_durable = log is not None  # these two say what ``kept`` knows, where every message asks for it
        self.has_log = log is not None
        self.expiring = False
        """What is not ready may have deadlines."""
        self._logs = logs
        self._clock = environment.clock
        self._reload: Reload | None = None
        if log is not None:
            log.user = self

    def recover(self) -> None:
        """The log was found by recovery: everything that is live in it waits in the backlog, on disk only."""
        kept = self.kept
        kept.recover()
        log = kept.log
        assert log is not None
        positions = log.positions
        if positions.live() > 0:
            on_disk = self._parts()[0]
            on_disk.recover(log)
            self.paging = on_disk.count > 0
        self.expiring = self.paging
        self.backlog.start_at(positions.first if self.paging else positions.next, positions.next)

    def leave_out(self, runs: RunMap) -> ReadBack:
        """What ``recover`` finds at these positions does not wait. Returns who passes over it."""
        on_disk = self._parts()[0]
        on_disk.left_out = runs
        return on_disk

    def _parts(self) -> tuple[ReadBack, Tail]:
        """What a backlog that pages consists of; made if need be."""
        on_disk = self.on_disk
        if on_disk is None:
            self.on_disk = on_disk = ReadBack(self._logs, self.queue.options, self._clock)
        tail = self.tail
        if tail is None:
            self.tail = tail = Tail()
        return on_disk, tail

    def _count_on_disk(self) -> i64:
        """Messages that are on disk only."""
        on_disk = self.on_disk
        return 0 if on_disk is None else on_disk.count

    def count(self) -> i64:
        """Messages of the backlog that are not ready."""
        if self.tail is None:
            return 0
        return self._count_on_disk() + self.tail.count

    def body_bytes(self) -> i64:
        """Sum of the sizes of their bodies."""
        on_disk = self.on_disk
        if on_disk is None or self.tail is None:
            return 0
        return on_disk.body_bytes + self.tail.body_bytes

    # ---- in ----------------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """The backlog has too much in memory: from now on it pages."""
        kept = self.kept
        if kept.log is None:
            log = self._logs.create_on_pages()
            log.positions.first = log.positions.next = self.backlog.next
            log.user = self
            kept.log = log
            self.has_log = True
        self.paging = True
        on_disk, tail = self._parts()
        on_disk.begin_at(self.backlog.next)
        tail.clear()
        tail.measure(self.report(), self.share.allowed(), 0)

    def keep(self, item: Message | Entry, message: Message, position: i64) -> None:
        """What comes while the backlog pages stays in memory until it is on the disk, and longer if there is space."""
        tail = self.tail
        assert tail is not None
        tail.add(item, message, position)
        if isinstance(item, Entry):
            self.expiring = True
        if not self.kept.durable and tail.is_due():
            self._page_out()

    def _page_out(self) -> None:
        """The tail may be too long: let go of what is written, or begin to write the oldest part that is not."""
        self._shorten()
        log = self.kept.log
        tail = self.tail
        if tail is None:
            return
        step = tail.measure(self.report(), self.share.allowed(), self._count_on_disk())
        if log is None or not self.paging or not tail.is_too_long():
            return
        block = block_of(log, tail.request(step), self.backlog.table, self.queue.options, self._clock)
        self._logs.pages.add(block)
        turn = self.backlog.turn
        if turn is not None:
            turn.costly = True

    def paged(self, memory_bytes: i64) -> None:
        if self.tail is not None:
            self.tail.in_flight -= memory_bytes
        self.durable()

    def durable(self) -> None:
        if self.kept.mark_has_come():
            self.queue.schedule_dispatch()
        if self.paging:
            self._shorten()

    # ---- how much ----------------------------------------------------------------------------------------------------

    def report(self) -> i64:
        """Tell what the backlog has in memory for itself; how much that is."""
        backlog = self.backlog
        size = backlog.memory_bytes + backlog.requeued.memory_bytes
        if self.tail is not None:
            size += self.tail.memory_bytes
        self.share.tell(size, backlog.memory_bytes)
        return size

    def check(self) -> None:
        """The backlog has more in memory than when it was asked last: perhaps too much."""
        if self.share.is_over(self.report()):
            self.begin()

    def _shorten(self) -> None:
        """Let the oldest of the tail leave the memory, as much as there is too much of."""
        log = self.kept.log
        on_disk = self.on_disk
        tail = self.tail
        if log is None or on_disk is None or tail is None:
            return
        size = self.report()
        allowed = self.share.allowed()
        if on_disk.count == 0 and not on_disk.reading and size < allowed // 2:
            self._take_tail()
            self.queue.schedule_dispatch()
            return
        tail_max = allowed - (size - tail.memory_bytes)
        if not self.kept.durable:
            tail.measure(size, allowed, on_disk.count)
            tail_max = tail.max
        gone = tail.let_go(tail_max, log.durable_next)
        if not gone:
            return
        lists: list[list[Message | Entry | None]] = []
        for part in gone:
            on_disk.extend(part.end(), part.count, part.body_bytes)
        self.backlog.table.take_out_range(gone[0].first, gone[-1].end(), lists)
        discard(self.backlog.turn, lists)
        self.report()

    def _take_tail(self) -> None:
        """Everything before it is ready: the backlog goes on in memory."""
        self.paging = False
        self.expiring = False
        if self.tail is not None:
            for part in self.tail.clear():
                self.backlog.take_part(part)
        self.report()

    # ---- out ---------------------------------------------------------------------------------------------------------

    def refill(self, is_drained: bool) -> None:
        """What is ready may run out, or has (``is_drained``): bring on what follows."""
        log = self.kept.log
        on_disk = self.on_disk
        if on_disk is not None and on_disk.count > 0:
            if log is not None:
                on_disk.read_ahead(log, self.backlog.memory_bytes, self.share.allowed())
        elif is_drained:
            self._take_tail()

    def load(self) -> bool:
        """Have the next message in memory: for what would fall behind if it waited, such as dead-lettering what is
        dropped.

        False if that takes long: it is on its way, and the queue is marked when it comes.
        """
        log = self.kept.log
        on_disk = self.on_disk
        if on_disk is None:
            return True
        while log is not None and on_disk.count > 0 and self.backlog.in_memory() == 0:
            if not on_disk.read_some(log):
                self.refill(True)
                return False
        if self.paging and on_disk.count == 0:
            self._take_tail()
        return True

    def skip(self) -> bool:
        """Drop the next message without reading it; False if it is not on disk only."""
        log = self.kept.log
        on_disk = self.on_disk
        if log is None or on_disk is None or on_disk.count == 0 or self.backlog.in_memory() > 0:
            return False
        log.settle(on_disk.drop_first(log), 1, 1)
        return True

    def is_large(self, position: i64) -> bool:
        """Whether it takes long to read this message, which is on the disk."""
        log = self.kept.log
        return log is not None and self._logs.is_large(log, position, position + 1)

    def record(self, position: i64, data: bytes, start: i64, end: i64) -> None:
        if self.on_disk is not None:
            self.on_disk.record(self, position, data, start, end)

    def large_record(self, position: i64, head: bytes, content: bytes) -> None:
        if self.on_disk is not None:
            self.on_disk.large_record(self, position, head, content)

    def loaded(self, through: i64) -> None:
        on_disk = self.on_disk
        if on_disk is None:
            return
        on_disk.reading = False
        log = self.kept.log
        if log is None:
            return
        on_disk.end_read(log, through)
        if self.paging and on_disk.count == 0 and self.report() < self.share.allowed():
            self._take_tail()
        self.report()
        self.queue.schedule_dispatch()

    # ---- with consumers ----------------------------------------------------------------------------------------------

    def evict(self, memory_bytes: i64, delivered: i64) -> None:
        """So many messages are taken beside others, all of which cost ``memory_bytes`` at most: if that is too much,
        some of the earlier ones leave the memory."""
        backlog = self.backlog
        log = self.kept.log
        if log is not None and memory_bytes > self.share.allowed():
            eviction = self.eviction
            if eviction is None:
                self.eviction = eviction = Eviction()
            eviction.go_on(backlog.table, log, backlog.head_position, delivered)

    def reload(self) -> Reload:
        """Who reads back what ``evict`` has taken out."""
        reload = self._reload
        if reload is None:
            log = self.kept.log
            assert log is not None
            reload = Reload(self.backlog, self.queue, self._logs, log)
            self._reload = reload
        return reload

    # ---- settled -----------------------------------------------------------------------------------------------------

    def clear(self, dropped: list[list[Message | Entry | None]]) -> None:
        """Everything that waits was dropped and settled; ``dropped`` gets what the tail stood in."""
        if self._reload is not None:
            self._reload.clear()
        if self.tail is not None:
            for part in self.tail.clear():
                self.backlog.table.take_out_range(part.first, part.end(), dropped)
        if self.on_disk is not None:
            self.on_disk.begin_at(self.backlog.next)
        self.paging = False
        self.expiring = False

    def detach(self) -> None:
        """The log is another one's from now on; nothing is in it."""
        if self._reload is not None:
            self._reload.clear()
        log = self.kept.log
        if log is not None:
            log.user = None
        self.share.give_back()

    def close(self) -> None:
        """The queue is gone, and its log with it."""
        if self._reload is not None:
            self._reload.clear()
        self.kept.close()
        self.share.give_back()


def _share(environment: QueueEnvironment, log: Log | None) -> MemoryShare:
    """What a backlog may have of the memory. On a node that keeps nothing on disk it has all its messages there."""
    if environment.logs is None:
        return MemoryShare(QueueMemory(), UNLIMITED)
    return MemoryShare(environment.memory, MEMORY_MAX if log is not None else MEMORY_MAX_TRANSIENT)
