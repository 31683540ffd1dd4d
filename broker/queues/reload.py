"""Content that was evicted (eviction.py) is read again before anybody gets it.

requeued                       waits in its place; before it is the next to go, it is read, with some that follow it
dead-lettered, basic.get       cannot wait: read at once
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from broker.message import ON_DISK, Message
from broker.native import i64
from broker.queues.entry import Entry
from broker.queues.stored import read_head, read_message
from broker.store.log import Log, LogUser
from broker.store.logs import Logs

if TYPE_CHECKING:
    from broker.queues.message_backlog import MessageBacklog
    from broker.queues.queue import Queue

_BYTES_MAX: Final[i64] = 1 << 20
"""A read ends when it has read about so much."""


@final
class _Wanted(LogUser):
    """What one read has to find."""

    def __init__(self) -> None:
        self.waiting: dict[int, None] = {}
        """The positions of those that wait in the backlog; those not found yet."""
        self.entries: dict[int, Entry] = {}
        """The same of those that do not."""
        self.through: i64 = 0
        """Below this position everything was found that there is."""
        self.reload: Reload | None = None
        """Whom to tell."""
        self._tail = b""

    def durable(self) -> None:
        """Of no interest: everything that is asked for is on the disk."""

    def record(self, position: i64, data: bytes, start: i64, end: i64) -> None:
        if int(position) in self.entries or int(position) in self.waiting:
            self._take(position, read_message(data, start, end, self._tail))

    def large_record(self, position: i64, head: bytes, content: bytes) -> None:
        if int(position) in self.entries or int(position) in self.waiting:
            self._take(position, read_head(head, 0, content, self._tail))

    def _take(self, position: i64, message: Message) -> None:
        self._tail = message.tail
        reload = self.reload
        entry = self.entries.pop(int(position), None)
        if entry is not None:
            entry.message = message
        elif reload is not None:
            del self.waiting[int(position)]
            reload.backlog.requeued.reloaded(position, message)

    def loaded(self, through: i64) -> None:
        self.through = through
        reload = self.reload
        if reload is not None:
            reload.found(self)


@final
class Reload:
    """Reads back for one backlog what its log has and the memory has not."""

    def __init__(self, backlog: MessageBacklog, queue: Queue, logs: Logs, log: Log) -> None:
        self.backlog = backlog
        self._queue = queue
        self._logs = logs
        self._log = log
        self._reading: _Wanted | None = None

    def begin(self) -> None:
        """Read what came back and goes next, soon. The queue is marked then."""
        if self._reading is not None:
            return
        wanted = _Wanted()
        wanted.reload = self
        positions = self.backlog.requeued.missing()
        for position in positions:
            wanted.waiting[position] = None
        self._reading = wanted
        self._logs.read(self._log, positions[0], positions[-1] + 1, _BYTES_MAX, wanted)

    def found(self, wanted: _Wanted) -> None:
        """A read that was begun is over."""
        self._reading = None
        for position in wanted.waiting:
            if position < wanted.through:
                self.backlog.requeued.lose(position)  # damaged: the log has told so
        self._queue.schedule_dispatch()

    def clear(self) -> None:
        """Nothing waits in the backlog any more."""
        wanted = self._reading
        if wanted is not None:
            wanted.waiting = {}

    def now(self, entries: list[Entry]) -> None:
        """Read these before returning. One that is still ``ON_DISK`` afterwards is lost."""
        wanted = _Wanted()
        for entry in entries:
            if entry.message is ON_DISK:
                wanted.entries[int(entry.position)] = entry
        positions = sorted(wanted.entries)
        for position in positions:
            if position >= wanted.through:
                self._logs.read_now(self._log, position, positions[-1] + 1, _BYTES_MAX // 16, wanted)
