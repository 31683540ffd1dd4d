"""Message TTL and queue TTL (RabbitMQ docs, Time-To-Live and Expiration)."""

from broker.message import Message
from broker.native import i64
from broker.queues.options import QueueOptions


def ttl_ms(options: QueueOptions, message: Message) -> i64:
    """How long ``message`` may wait: the smaller of its expiration and the queue's x-message-ttl; -1 for ever."""
    own = message.expiration_ms
    limit: i64 = options.message_ttl_ms
    if own < 0:
        return limit
    if limit < 0 or own < limit:
        return own
    return limit
