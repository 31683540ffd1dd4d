"""The classic queue: one node; messages in memory, and on disk where they must survive it or are too many
(disk_backlog.py). What it is made of says backlog_queue.py."""

from __future__ import annotations

from typing import final

from broker.queues.backlog_queue import BacklogQueue
from broker.queues.declaration import QueueDeclaration, QueueEnvironment
from broker.queues.disk_backlog import DiskBacklog
from broker.queues.message_backlog import MessageBacklog


@final
class ClassicQueue(BacklogQueue):
    """A queue of type classic."""

    def __init__(self, declared: QueueDeclaration, environment: QueueEnvironment) -> None:
        turn, logs = environment.turn, environment.logs
        super().__init__(
            declared, environment, [MessageBacklog(level, turn) for level in range(declared.options.levels())]
        )
        if logs is not None:
            self.promises = logs.promises
            number = self.log_number
            for level in self.levels:
                log = logs.open(number + level.level) if number else None
                self.add_disk(level, DiskBacklog(level, self, environment, logs, log))
        self.mark_used()
