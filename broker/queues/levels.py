"""The priority levels of a classic queue, one after the other: what waits on all of them, and which comes next
(RabbitMQ docs, Priority Queue Support)."""

from __future__ import annotations

from broker.message import Message
from broker.native import i64
from broker.queues.message_backlog import MessageBacklog


def level_of(levels: list[MessageBacklog], message: Message) -> MessageBacklog:
    """Where a message belongs: a priority beyond the highest one is that, and none is the lowest."""
    top: i64 = len(levels) - 1
    if top == 0 or message.priority <= 0:
        return levels[0]
    priority: i64 = message.priority
    return levels[priority if priority < top else top]


def ready_count(levels: list[MessageBacklog]) -> i64:
    """Messages waiting."""
    if len(levels) == 1:
        return levels[0].count()
    count: i64 = 0
    for level in levels:
        count += level.count()
    return count


def body_bytes(levels: list[MessageBacklog]) -> i64:
    """Sum of the sizes of their bodies."""
    size: i64 = 0
    for level in levels:
        size += level.body_bytes
    return size


def highest(levels: list[MessageBacklog]) -> MessageBacklog:
    """The level of the message that comes next; the lowest one if there is none."""
    at: i64 = len(levels) - 1
    while at > 0 and levels[at].count() == 0:
        at -= 1
    return levels[at]


def may_take(levels: list[MessageBacklog]) -> bool:
    """Whether the next message can be taken now, or there is none: it is not on its way from the disk, and nothing that
    comes back stands before it."""
    at: i64 = len(levels) - 1
    while at >= 0:
        level = levels[at]
        if level.available() > 0:
            return True
        if level.count() > 0 or level.holds:
            return False
        at -= 1
    return True
