"""A part of a backlog's tail, written as it goes to a page file."""

from __future__ import annotations

from librt.strings import write_i64_be

from broker.clock import Clock
from broker.message import Message
from broker.native import i64
from broker.queues.entry import Entry
from broker.queues.expiry import ttl_ms
from broker.queues.message_table import MessageTable
from broker.queues.options import QueueOptions
from broker.queues.stored import stored_size, write_message
from broker.queues.tail import Part
from broker.store.batch_writer import UNDIVIDED, BatchWriter
from broker.store.log import Log
from broker.store.pages import PageBlock
from broker.store.records import TRANSIENT
from broker.store.segment_extent import Extent


def block_of(log: Log, parts: list[Part], table: MessageTable, options: QueueOptions, clock: Clock) -> PageBlock:
    """The messages of these parts."""
    writer = BatchWriter(1, UNDIVIDED)
    extents: list[Extent] = []
    memory_bytes: i64 = 0
    for part in parts:
        memory_bytes += part.memory_bytes
        position = part.first
        extent = Extent(position, writer.location, writer.size())
        extent.count = part.count
        extent.kind = TRANSIENT
        extents.append(extent)
        while position < part.end():
            item = table.item(position)
            if isinstance(item, Entry):
                _write(writer, log, position, item.message, _enqueued_ms(item, options, clock))
            elif item is not None:
                _write(writer, log, position, item, clock.wall_ms)
            position += 1
        extent.end = writer.size()
    return PageBlock(log, writer.take_batch(), extents, memory_bytes)


def _write(writer: BatchWriter, log: Log, position: i64, message: Message, wall_ms: i64) -> None:
    writer.begin(log.number, TRANSIENT, 8 + stored_size(message))
    write_i64_be(writer.writer, position)
    write_message(writer, message, wall_ms)


def _enqueued_ms(entry: Entry, options: QueueOptions, clock: Clock) -> i64:
    """The wall time at which it came: its deadline is told by another clock."""
    if entry.deadline_us == 0:
        return clock.wall_ms
    age_us = clock.now_us - (entry.deadline_us - ttl_ms(options, entry.message) * 1000)
    return clock.wall_ms - age_us // 1000
