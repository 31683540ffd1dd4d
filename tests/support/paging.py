"""A queue that pages early: little of it stays in memory (broker/queues/disk_backlog.py)."""

from __future__ import annotations

import pytest

from broker.message import Message
from broker.queues.disk_backlog import DiskBacklog
from broker.queues.entry import Entry
from broker.queues.message_backlog import MessageBacklog
from tests.support.durable import DurableBroker
from tests.support.memory import Client
from tests.support.wire import publish

MEMORY_MAX = 64 << 10
BODY = 4000


class Setting:
    """A broker with a queue whose backlogs page beyond MEMORY_MAX, and a client."""

    def __init__(self, durable: bool = True, **arguments: object) -> None:
        self.broker = DurableBroker()
        self.durable = durable
        self.arguments = {name.replace("_", "-"): value for name, value in arguments.items()}
        self.serial = 0
        self.begin()

    def begin(self) -> None:
        self.client: Client = self.broker.open()
        self.client.ask("queue.declare", queue="q", durable=self.durable, arguments=self.arguments)
        for backlog in self.backlogs:
            disk_backlog_of(backlog).share.most = MEMORY_MAX

    @property
    def backlogs(self) -> list[MessageBacklog]:
        return list(self.broker.queue("q").levels)

    @property
    def backlog(self) -> MessageBacklog:
        (backlog,) = self.backlogs
        return backlog

    @property
    def disk(self) -> DiskBacklog:
        return disk_backlog_of(self.backlog)

    def publish(
        self, count: int, size: int = BODY, *, each_turn: int = 7, persistent: bool = True, **properties: object
    ) -> None:
        """Messages whose bodies begin with their number, several in a turn."""
        wanted = {"delivery_mode": 2 if persistent else 1} | properties
        for start in range(0, count, each_turn):
            bodies = [b"%d " % (self.serial + index) for index in range(min(each_turn, count - start))]
            self.serial += len(bodies)
            self.client.send(*(publish(1, "", "q", body.ljust(size, b"."), properties=wanted) for body in bodies))

    def drain(self) -> list[int]:
        return [number(body) for body in self.broker.open().drain("q")]

    def live(self) -> int:
        """Records of the queue that the log still keeps."""
        self.broker.settled()
        logs = [disk_backlog_of(backlog).kept.log for backlog in self.backlogs]
        return sum(int(log.positions.live()) for log in logs if log is not None)

    def restart(self) -> None:
        self.broker = self.broker.settled().killed()
        self.begin()


def disk_backlog_of(backlog: MessageBacklog) -> DiskBacklog:
    disk = backlog.disk
    assert disk is not None
    return disk


def number(body: bytes) -> int:
    return int(body.partition(b" ")[0])


def dead(setting: Setting) -> list[int]:
    """What has come to the queue "dead" since the last look."""
    return [number(body) for body in setting.broker.open().drain("dead")]


def is_empty(setting: Setting) -> bool:
    """Nothing is left, in memory or on disk."""
    assert setting.live() == 0
    for backlog in setting.backlogs:
        assert (backlog.count(), backlog.in_memory(), backlog.memory_bytes, backlog.body_bytes) == (0, 0, 0, 0)
    return True


KINDS = pytest.mark.parametrize(
    ("durable", "persistent"),
    [(True, True), (True, False), (False, True)],
    ids=["persistent", "transient message", "transient queue"],
)


def unacked_items(backlog: MessageBacklog) -> list[Message | Entry]:
    """What the backlog keeps of the messages that clients have got."""
    found = []
    for block in backlog.table.blocks():
        flags = block.requeued
        for index, item in enumerate(block.items):
            if item is None or block.first + index >= backlog.head_position or (flags is not None and flags[index]):
                continue
            found.append(item)
    return found
