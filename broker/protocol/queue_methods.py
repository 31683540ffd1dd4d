"""Class queue: declare, bind, unbind, purge, delete (AMQP 0-9-1 §1.6.4)."""

from pamqp import commands

from broker.errors import (
    NOT_FOUND,
    ChannelException,
)
from broker.native import i64
from broker.protocol.channel import Channel
from broker.protocol.exchange_methods import reply_when_declared, reply_when_unbound, requester, stripped
from broker.protocol.holding import answer_when_declared, answer_when_durable
from broker.queues.queue import Queue
from broker.vhost.bindings import Unbinding
from broker.vhost.names import REPLY_TO, REPLY_TO_PREFIX, generate_name
from broker.vhost.rules import check_owner
from broker.wire import spec
from broker.wire.methods import Method, method_frame


def name_or_last(channel: Channel, name: str) -> str:
    """The queue that basic.* and queue.purge mean: an empty name is the queue declared last on this channel.

    Raises: NOT_FOUND (404) ``no previously declared queue``.
    """
    if name:
        return name
    if not channel.last_queue:
        raise ChannelException(NOT_FOUND, "no previously declared queue")
    return channel.last_queue


def find(channel: Channel, name: str) -> Queue:
    """The queue that ``name`` means on this channel, to take messages from it. Raises: 403, 404, 405."""
    return channel.session.vhost.readable_queue(name_or_last(channel, name), requester(channel))


def _declared(channel: Channel, nowait: bool, name: str, messages: i64, consumers: int, durable: bool) -> None:
    channel.last_queue = name
    answer = b""
    if not nowait:
        answer = method_frame(
            int(channel.number),
            spec.QUEUE_DECLARE_OK,
            [("shortstr", name), ("long", int(messages)), ("long", consumers)],
        )
    answer_when_declared(channel, answer, durable)


def declare(channel: Channel, method: Method) -> None:
    """queue.declare. Raises: 403, 404 (passive), 405, 406 as ``Declaring.declare_queue`` says."""
    fields = method.fields
    assert isinstance(fields, commands.Queue.Declare)
    session = channel.session
    vhost = session.vhost
    name = stripped(fields.queue)
    session.counters.queues_declared += 1
    if name.startswith(REPLY_TO):
        _declare_reply(channel, name, fields.nowait)
        return
    if fields.passive:
        queue = vhost.queue(name, requester(channel))
        queue.mark_used()
    elif not name:
        generated = generate_name("amq.gen-")
        queue = vhost.declaring.create_queue(
            generated, fields.durable, fields.exclusive, fields.auto_delete, method.arguments, requester(channel)
        )
        if fields.exclusive:
            session.own(queue)
    else:
        queue, created = vhost.declaring.declare_queue(
            name, fields.durable, fields.exclusive, fields.auto_delete, method.arguments, requester(channel)
        )
        if created and fields.exclusive:
            session.own(queue)
    queue.refresh()
    _declared(channel, fields.nowait, queue.name, queue.ready_count(), queue.consumers.count(), queue.durable)


def _declare_reply(channel: Channel, name: str, nowait: bool) -> None:
    # RabbitMQ docs, Direct Reply-to: a responder may ask whether the requester is still there
    vhost = channel.session.vhost
    if name != REPLY_TO and name[len(REPLY_TO_PREFIX) :] not in vhost.publishing.reply_targets:
        raise ChannelException(NOT_FOUND, f"no queue '{name}' in vhost '{vhost.name}'")
    _declared(channel, nowait, name, 0, 1, False)


def _ends(channel: Channel, exchange: str, queue: str, key: str) -> tuple[str, str, str]:
    """Exchange, queue and binding key; without queue and key the name of the queue declared last is both.

    Raises: NOT_FOUND (404) ``no previously declared queue``, ACCESS_REFUSED (403) for the default exchange and if the
    user may not do that.
    """
    if not queue and not key:
        key = name_or_last(channel, "")
    name = name_or_last(channel, stripped(queue))
    source = stripped(exchange)
    channel.session.vhost.declaring.check_binding(source, name, False, key, requester(channel))
    return source, name, key


def bind(channel: Channel, method: Method) -> None:
    """queue.bind. Raises: 403 for the default exchange, 404, 405, 406 for unusable arguments."""
    fields = method.fields
    assert isinstance(fields, commands.Queue.Bind)
    vhost = channel.session.vhost
    exchange, name, key = _ends(channel, fields.exchange, fields.queue, fields.routing_key)
    source = vhost.exchange(exchange)
    queue = vhost.queue(name, requester(channel))
    vhost.declaring.bind(source, queue, key, method.arguments)
    reply_when_declared(channel, fields.nowait, spec.QUEUE_BIND_OK, source.durable and queue.durable)


def unbind(channel: Channel, method: Method) -> None:
    """queue.unbind; what is not there counts as unbound. Raises: 403 for the default exchange, 405."""
    fields = method.fields
    assert isinstance(fields, commands.Queue.Unbind)
    vhost = channel.session.vhost
    exchange, name, key = _ends(channel, fields.exchange, fields.queue, fields.routing_key)
    queue = vhost.queues.get(name)
    source = vhost.exchanges.get(exchange)
    durable = False
    unbinding: Unbinding | None = None
    if queue is not None and source is not None and source.is_bound(queue, key, method.arguments):
        check_owner(queue, channel.session, vhost.name)  # RabbitMQ asks only once there is something to unbind
        unbinding = vhost.declaring.unbind(source, queue, key, method.arguments)
        durable = source.durable and queue.durable
    reply_when_unbound(channel, method_frame(int(channel.number), spec.QUEUE_UNBIND_OK, []), durable, unbinding)


def purge(channel: Channel, method: Method) -> None:
    """queue.purge. Raises: 404, 405."""
    fields = method.fields
    assert isinstance(fields, commands.Queue.Purge)
    queue = find(channel, fields.queue)
    answer = method_frame(int(channel.number), spec.QUEUE_PURGE_OK, [("long", int(queue.purge()))])
    if not fields.nowait:
        answer_when_durable(channel, answer, [] if queue.promises is None else [queue.promises])


def delete(channel: Channel, method: Method) -> None:
    """queue.delete; a missing queue counts as deleted. Raises: 405, 406 if it is in use (if-unused) or not empty
    (if-empty)."""
    fields = method.fields
    assert isinstance(fields, commands.Queue.Delete)
    session = channel.session
    name = name_or_last(channel, stripped(fields.queue))
    deleted = session.vhost.declaring.delete_queue(name, requester(channel), fields.if_unused, fields.if_empty)
    answer = b""
    if not fields.nowait:
        answer = method_frame(int(channel.number), spec.QUEUE_DELETE_OK, [("long", int(deleted.messages))])
    reply_when_unbound(channel, answer, deleted.durable and not fields.nowait, deleted.unbinding)
