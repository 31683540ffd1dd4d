"""Messages that leave a classic queue without a consumer: they are dead-lettered, where the queue asks for it, or
dropped (RabbitMQ docs, Dead Letter Exchanges)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from broker.message import ON_DISK
from broker.native import i64
from broker.queues.block import is_missing
from broker.queues.entry import Entry
from broker.queues.message_backlog import MessageBacklog

if TYPE_CHECKING:
    from broker.queues.backlog_queue import BacklogQueue

_REJECTED_AT_ONCE: Final[i64] = 16
"""Messages, each of which may be dead-lettered to many queues."""


def drop_head(queue: BacklogQueue, backlog: MessageBacklog, reason: str) -> None:
    """What stands at the head of this level goes."""
    if queue.options.at_least_once:
        queue.keep_dead(backlog, backlog.pop(False).position, 1, 1, reason)
        return
    entry = backlog.pop(queue.options.dead_letter_exchange is not None)
    _make_dead_letter(queue, entry, reason)
    backlog.settle(entry.position, 1, 1)


def reject(queue: BacklogQueue, backlog: MessageBacklog, first: i64, count: i64, stride: i64, reason: str) -> i64:
    """As ``Queue.reject``."""
    if count > _REJECTED_AT_ONCE:
        count = _REJECTED_AT_ONCE
    if queue.options.dead_letter_exchange is not None:
        entries, count = _taken(backlog, first, count, stride)
        _reload(backlog, entries)
        for entry in entries:
            _make_dead_letter(queue, entry, reason)
    backlog.settle(first, count, stride)
    return count


def _make_dead_letter(queue: BacklogQueue, entry: Entry, reason: str) -> None:
    if entry.message is not ON_DISK:  # otherwise its content is lost, and the log has told so
        queue.host.dead_letter(queue, entry.message, reason)


def _taken(backlog: MessageBacklog, first: i64, count: i64, stride: i64) -> tuple[list[Entry], i64]:
    """Messages that were taken, with their places; the content of some may be on disk only. Of very large ones that
    are, there is not more than one: how many were looked at."""
    found: list[Entry] = []
    disk = backlog.disk
    done: i64 = 0
    while done < count:
        position = first + done * stride
        item = backlog.table.item(position)
        is_large = disk is not None and is_missing(item) and disk.is_large(position)
        if is_large and done > 0:
            return found, done
        done += 1
        if isinstance(item, Entry):
            found.append(item)
        elif item is not None:
            found.append(Entry(item, position, 0))
        if is_large:
            return found, done
    return found, done


def _reload(backlog: MessageBacklog, entries: list[Entry]) -> None:
    """Have their content in memory again. An entry that is still without it afterwards has lost it."""
    disk = backlog.disk
    if disk is None:
        return
    for entry in entries:
        if entry.message is ON_DISK:
            disk.reload().now(entries)
            return
