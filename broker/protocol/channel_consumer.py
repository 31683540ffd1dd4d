"""The consumer that writes to a channel: basic.deliver, delivery tags, prefetch (RabbitMQ docs, Consumer Prefetch)."""

from __future__ import annotations

from typing import Final, final

from librt.strings import write_i64_be

from broker.faults import FaultOwner
from broker.message import Message
from broker.native import i64
from broker.protocol.channel import Channel
from broker.protocol.outbox import PIECE_SIZE_MIN
from broker.queues.consumer import Consumer, Subscription
from broker.queues.delivery import Delivery
from broker.queues.entry import Entry
from broker.queues.queue import Queue
from broker.wire import spec
from broker.wire.methods import method_frame
from broker.wire.writer import deliver_start, renumber

_UNLIMITED: Final[i64] = 1 << 30


def write_delivery(
    channel: Channel, consumer_tag: bytes, delivery_tag: i64, message: Message, redelivered: bool
) -> None:
    """Write one message with its basic.deliver."""
    session = channel.session
    tail = message.tail
    writer = session.outbox.writer
    writer.write(deliver_start(int(channel.number), consumer_tag, len(tail)))
    write_i64_be(writer, delivery_tag)
    if redelivered:
        writer.append(1)
        writer.write(tail[1:])
    else:
        writer.write(tail)
    session.outbox.write_content(message, channel.number, session.payload_max)
    session.schedule_flush()


def _count(channel: Channel, queue: Queue, no_ack: bool, count: i64, redelivered: bool) -> None:
    """So many messages of the queue are delivered."""
    counters = channel.session.counters
    figures = channel.figures
    if figures is None or figures.resting:
        figures = channel.stirred()
    of_queue = queue.figures
    if of_queue is None or of_queue.resting:
        of_queue = queue.stirred(figures.sampler)
    if no_ack:
        counters.messages_delivered_auto_ack += count
        figures.deliver_no_ack += count
        of_queue.deliver_no_ack += count
    else:
        counters.messages_delivered_ack += count
        figures.deliver += count
        of_queue.deliver += count
    if redelivered:
        counters.messages_redelivered += count
        figures.redeliver += count
        of_queue.redeliver += count


@final
class ChannelConsumer(Consumer):
    """One basic.consume. Knows its queue's name only through the channel."""

    def __init__(self, channel: Channel, queue: Queue, asked: Subscription) -> None:
        super().__init__(asked, channel)
        self.channel = channel
        self.queue: Queue | None = queue
        """None once it has left it."""
        self.prefetch: i64 = channel.prefetch_new
        """Its own window (basic.qos global=false before it started); 0 for no limit."""
        self.unacked: i64 = 0
        self.timeout_ms: i64 = 0
        """How long it may have a message; 0 for no limit."""
        self.timed_out = False
        """It was cancelled because it had one for too long."""
        self.place: i64 = 0
        """In the row for what becomes free of the channel's window; 0 while it does not stand there."""
        self._tag_bytes = asked.tag.encode("utf-8", "surrogateescape")
        self._start = b""
        self._start_for: i64 = -1

    def credit(self) -> i64:
        channel = self.channel
        if not channel.flow_active or channel.closing:
            return 0
        room = _UNLIMITED
        if self.prefetch and not self.no_ack:
            room = self.prefetch - self.unacked
            if room <= 0:
                return 0
        window = channel.window
        self.shared = window is not None and window.size > 0
        if window is not None and window.size > 0:
            left = window.room(self)
            if left < room and (left <= 0 or not self.no_ack):
                room = left
        return room

    def has_room(self) -> bool:
        session = self.channel.session
        if session.outbox.room() > 0:
            return True
        queue = self.queue
        if queue is not None:
            session.wait_for_outbox(self, queue)
        return False

    def room_bytes(self) -> i64:
        return self.channel.session.outbox.room()

    def reserve(self, count: i64, size: i64) -> None:
        channel = self.channel
        channel.session.outbox.reserved += size
        if not self.no_ack:
            self.unacked += count
            channel.unacked.reserved += count

    def unreserve(self, count: i64, size: i64) -> None:
        channel = self.channel
        channel.session.outbox.reserved -= size
        if not self.no_ack:
            self.unacked -= count
            channel.unacked.reserved -= count

    def forgo(self, count: i64, size: i64) -> None:
        self.unreserve(count, size)
        channel = self.channel
        channel.unblock()
        channel.session.schedule_flush()  # whoever waits for the outbox is asked behind it

    def deliver(
        self,
        queue: Queue,
        level: i64,
        items: list[Message | Entry | None],
        first_position: i64,
        stride: i64,
        redelivered: bool,
    ) -> None:
        channel = self.channel
        session = channel.session
        outbox = session.outbox
        count: i64 = len(items)
        if self.no_ack:
            tag = channel.unacked.skip(count)
        else:
            self.unacked += count
            tag = channel.unacked.add(self, queue.link, level, count, first_position, stride)
        _count(channel, queue, self.no_ack, count, redelivered)
        number = channel.number
        payload_max = session.payload_max
        start = self._start
        start_for = self._start_for
        writer = outbox.writer
        for item in items:
            if not isinstance(item, Message):
                continue  # cannot be: runs hold messages only
            tail = item.tail
            size: i64 = len(tail)
            if size != start_for:
                start = self._start_of(number, size)
                start_for = size
            writer.write(start)
            write_i64_be(writer, tag)
            if redelivered:
                writer.append(1)
                writer.write(tail[1:])
            else:
                writer.write(tail)
            tag += 1
            content = item.content
            if len(content) >= PIECE_SIZE_MIN or (payload_max and item.payload_max > payload_max):
                outbox.write_content(item, number, payload_max)
                writer = outbox.writer
            else:
                at: i64 = len(writer)
                writer.write(content)
                if item.channel != number:
                    renumber(writer, at, content, number)
        session.schedule_flush()

    def _start_of(self, number: i64, size: i64) -> bytes:
        """The start of a basic.deliver whose routing key and exchange take so many bytes."""
        self._start = deliver_start(int(number), self._tag_bytes, int(size))
        self._start_for = size
        return self._start

    def deliver_one(self, queue: Queue, delivery: Delivery) -> None:
        channel = self.channel
        if self.no_ack:
            tag = channel.unacked.skip(1)
        else:
            self.unacked += 1
            tag = channel.unacked.add(self, queue.link, delivery.level, 1, delivery.position, 1)
        _count(channel, queue, self.no_ack, 1, delivery.redelivered)
        write_delivery(channel, self._tag_bytes, tag, delivery.message, delivery.redelivered)

    def settled(self, count: i64) -> None:
        self.unacked -= count
        queue = self.queue
        if self.blocked and self.place == 0 and queue is not None:
            queue.unblock(self)

    def left(self) -> None:
        window = self.channel.window
        if window is not None:
            window.leave(self)
        self.queue = None

    def fault_owner(self) -> FaultOwner | None:
        return self.channel.session.owner

    def cancelled(self) -> None:
        channel = self.channel
        self.left()
        channel.consumers.pop(self.tag, None)
        channel.queue_of.pop(self.tag, None)
        if channel.session.cancel_notify and not channel.closing:
            channel.session.notify(
                method_frame(int(channel.number), spec.BASIC_CANCEL, [("shortstr", self.tag), ("octet", 1)])
            )
