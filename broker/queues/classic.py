"""The classic queue: one node; messages in memory, and on disk where they must survive it or are too many
(disk_backlog.py). What it is made of says backlog_queue.py."""

from __future__ import annotations

from typing import final

from broker.message import ACCEPTED, PENDING, Message
from broker.queues.backlog_queue import BacklogQueue
from broker.queues.declaration import QueueDeclaration, QueueEnvironment
from broker.queues.delivery import Delivery
from broker.queues.disk_backlog import DiskBacklog
from broker.queues.message_backlog import MessageBacklog
from broker.queues.taking import take_next


@final
class ClassicQueue(BacklogQueue):
    """A queue of type classic."""

    def __init__(self, declared: QueueDeclaration, environment: QueueEnvironment) -> None:
        turn, logs = environment.turn, environment.logs
        super().__init__(
            declared, environment, [MessageBacklog(level, turn) for level in range(declared.options.levels())]
        )
        self._first = self.levels[0]
        self._clock = environment.clock
        if logs is not None:
            self.promises = logs.promises
            number = self.log_number
            for level in self.levels:
                log = logs.open(number + level.level) if number else None
                level.disk = DiskBacklog(level, self, environment, logs, log)
        self.mark_used()

    def enqueue(self, message: Message) -> int:
        if self.needs_admission or message.expiration_ms >= 0:
            return self.admission().enqueue(self, message)
        stored = self._first.append(message)
        if not self.schedule.is_scheduled and self.consumers.groups:
            self.schedule.schedule(self)
        return PENDING if stored else ACCEPTED

    def get(self, no_ack: bool) -> Delivery | None:
        self.mark_used()
        self.dispatch_some()
        now_us = self._clock.now_us
        if self.expiring and not self.expiration().expire(self, now_us):
            return None
        taken = take_next(self, now_us, no_ack)
        if self.expiring:
            self.expiration().expire(self, now_us)
        if taken is None:
            return None
        if no_ack:
            self.levels[taken.level].settle(taken.position, 1, 1)
        else:
            self.unacked += 1
        return taken

    def on_shutdown(self) -> None:
        for level in self.levels:
            disk = level.disk
            if disk is not None:
                disk.kept.on_shutdown(level.head_position)
