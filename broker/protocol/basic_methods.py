"""Class basic without its hot methods: qos, consume, cancel, get, recover (AMQP 0-9-1 §1.6.5)."""

from typing import final

from pamqp import commands

from broker.errors import (
    ACCESS_REFUSED,
    NOT_ALLOWED,
    NOT_IMPLEMENTED,
    PRECONDITION_FAILED,
    RESOURCE_LOCKED,
    ChannelException,
    ConnectionException,
    queue_label,
)
from broker.faults import FaultOwner
from broker.native import i64
from broker.protocol.channel import Channel
from broker.protocol.channel_consumer import ChannelConsumer
from broker.protocol.delivery_timeouts import expect
from broker.protocol.direct_reply import ReplyTarget
from broker.protocol.dispatching import Dispatching
from broker.protocol.exchange_methods import Reply, reply
from broker.protocol.holding import may_get
from broker.protocol.queue_methods import find, name_or_last
from broker.protocol.settlement import requeue_through
from broker.queues.consumer import Subscription
from broker.queues.consumer_arguments import priority_of, timeout_of
from broker.queues.queue import Queue
from broker.turn import Deferred
from broker.vhost.names import REPLY_TO, generate_name
from broker.wire import spec
from broker.wire.methods import Method, method_frame
from broker.wire.writer import write_get_ok


def qos(channel: Channel, method: Method) -> None:
    """basic.qos: global=false for consumers that start later, global=true for the channel, at once.

    Raises: NOT_IMPLEMENTED (540) for a prefetch size.
    """
    fields = method.fields
    assert isinstance(fields, commands.Basic.Qos)
    if fields.prefetch_size:
        raise ConnectionException(NOT_IMPLEMENTED, f"prefetch_size!=0 ({fields.prefetch_size})")
    if fields.global_:
        channel.share_window(fields.prefetch_count)
    else:
        channel.prefetch_new = fields.prefetch_count
    reply(channel, False, spec.BASIC_QOS_OK)


def consume(channel: Channel, method: Method) -> None:
    """basic.consume.

    Raises: NOT_FOUND (404), RESOURCE_LOCKED (405), ACCESS_REFUSED (403) for an exclusive clash, NOT_ALLOWED (530) for a
    consumer tag in use or too many consumers on the channel, PRECONDITION_FAILED (406) for direct reply-to with acks.
    """
    fields = method.fields
    assert isinstance(fields, commands.Basic.Consume)
    session = channel.session
    tag = fields.consumer_tag
    if not tag:
        tag = generate_name("amq.ctag-")
    elif tag in channel.consumers or (channel.reply is not None and channel.reply.tag == tag):
        raise ConnectionException(NOT_ALLOWED, f"attempt to reuse consumer tag '{tag}'")
    limit = session.limits.consumers_per_channel_max
    if limit and len(channel.consumers) >= limit:
        raise ConnectionException(NOT_ALLOWED, f"reached maximum ({limit}) of consumers per channel")
    name = name_or_last(channel, fields.queue)
    if name == REPLY_TO:
        _consume_replies(channel, tag, fields.no_ack)
        _consume_ok(channel, fields.nowait, tag)
        return
    queue = find(channel, name)
    label = queue_label(queue.name, session.vhost.name)
    priority = priority_of(method.arguments, queue.type, label)
    timeout = timeout_of(method.arguments, label)
    consumers = queue.consumers
    if consumers.exclusive is not None or (fields.exclusive and (consumers.count() or consumers.single_active)):
        raise ChannelException(ACCESS_REFUSED, f"{label} in exclusive use")
    consumer = ChannelConsumer(channel, queue, Subscription(tag, fields.no_ack, fields.exclusive, priority))
    if not fields.no_ack:
        consumer.timeout_ms = expect(channel, queue, timeout)
    channel.consumers[tag] = consumer
    channel.queue_of[tag] = queue
    _consume_ok(channel, fields.nowait, tag)
    queue.add_consumer(consumer)


def _consume_ok(channel: Channel, nowait: bool, tag: str) -> None:
    if not nowait:
        channel.session.send(method_frame(int(channel.number), spec.BASIC_CONSUME_OK, [("shortstr", tag)]))


def _consume_replies(channel: Channel, tag: str, no_ack: bool) -> None:
    if channel.reply is not None:
        raise ChannelException(PRECONDITION_FAILED, "reply consumer already set")
    if not no_ack:
        raise ChannelException(PRECONDITION_FAILED, "reply consumer cannot acknowledge")
    replies = ReplyTarget(channel, tag)
    channel.reply = replies
    channel.session.vhost.publishing.add_reply_target(replies.token, replies)


def cancel(channel: Channel, method: Method) -> None:
    """basic.cancel; an unknown tag is confirmed too. Unacknowledged deliveries stay with the channel."""
    fields = method.fields
    assert isinstance(fields, commands.Basic.Cancel)
    tag: str = fields.consumer_tag or ""
    consumer = channel.consumers.pop(tag, None)
    replies = channel.reply
    if consumer is not None:
        queue = channel.queue_of.pop(tag)
        queue.remove_consumer(consumer)
    elif replies is not None and replies.tag == tag:
        channel.reply = None
        channel.session.vhost.publishing.remove_reply_target(replies.token)
        replies.close()
    if not fields.nowait:
        channel.session.send(method_frame(int(channel.number), spec.BASIC_CANCEL_OK, [("shortstr", tag)]))


def get(channel: Channel, method: Method) -> None:
    """basic.get. Raises: 404, 405."""
    fields = method.fields
    assert isinstance(fields, commands.Basic.Get)
    queue = find(channel, fields.queue)
    if queue.type.is_replicated and queue.options.single_active:
        label = queue_label(queue.name, channel.session.vhost.name)
        raise ChannelException(
            RESOURCE_LOCKED,
            f"cannot obtain access to locked {label}. basic.get operations are not supported by quorum queues with "
            "single active consumer",
        )
    _get(_Get(channel, queue, fields.no_ack))


@final
class _Get(Deferred):
    """A basic.get whose message is on its way from the disk."""

    def __init__(self, channel: Channel, queue: Queue, no_ack: bool) -> None:
        self.channel = channel
        self.queue = queue
        self.no_ack = no_ack

    def resume(self) -> None:
        _get(self)

    def fault_owner(self) -> FaultOwner | None:
        return self.channel.session.owner


def _get(asked: _Get) -> None:
    channel, queue, no_ack = asked.channel, asked.queue, asked.no_ack
    if not may_get(channel, queue, asked):
        return
    session = channel.session
    counters = session.counters
    got = queue.get(no_ack)
    figures = channel.stirred()
    of_queue = queue.stirred(figures.sampler)
    if got is None:
        counters.messages_got_empty += 1
        figures.get_empty += 1
        of_queue.get_empty += 1
        session.send(method_frame(int(channel.number), spec.BASIC_GET_EMPTY, [("shortstr", "")]))
        return
    if no_ack:
        tag = channel.unacked.skip(1)
        counters.messages_got_auto_ack += 1
        figures.get_no_ack += 1
        of_queue.get_no_ack += 1
    else:
        expect(channel, queue)
        tag = channel.unacked.add(None, queue.link, got.level, 1, got.position, 1)
        counters.messages_got_ack += 1
        figures.get += 1
        of_queue.get += 1
    if got.redelivered:
        counters.messages_redelivered += 1
        figures.redeliver += 1
        of_queue.redeliver += 1
    left: i64 = queue.ready_count()
    write_get_ok(session.outbox.writer, channel.number, tag, got.redelivered, got.message.tail, left)
    session.outbox.write_content(got.message, channel.number, session.payload_max)
    session.schedule_flush()


@final
class _Requeue(Deferred):
    """What a basic.recover asked for, once what was published before it has been dispatched: that does not come back,
    too."""

    def __init__(self, channel: Channel, then: Deferred | None) -> None:
        self.channel = channel
        self.through: i64 = channel.unacked.last_tag()
        self.then = then

    def resume(self) -> None:
        requeue_through(self.channel, self.through, self.then)

    def fault_owner(self) -> FaultOwner | None:
        return self.channel.session.owner


def _recover(channel: Channel, requeue: bool, then: Deferred | None) -> None:
    if not requeue:
        raise ConnectionException(NOT_IMPLEMENTED, "requeue=false")
    session = channel.session
    channel.carry_out(Dispatching(session.turn, channel.consumed_queues(), session.owner), _Requeue(channel, then))


def recover(channel: Channel, method: Method) -> None:
    """basic.recover. Raises: NOT_IMPLEMENTED (540) for requeue=false."""
    fields = method.fields
    assert isinstance(fields, commands.Basic.Recover)
    _recover(channel, fields.requeue, Reply(channel, spec.BASIC_RECOVER_OK))


def recover_async(channel: Channel, method: Method) -> None:
    """basic.recover-async: recover without an answer. Raises: NOT_IMPLEMENTED (540) for requeue=false."""
    fields = method.fields
    assert isinstance(fields, commands.Basic.RecoverAsync)
    _recover(channel, fields.requeue, None)
