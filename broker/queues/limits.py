"""x-max-length and x-max-length-bytes: how far a queue is over its limit. Only ready messages count (RabbitMQ docs,
Queue Length Limit)."""

from broker.native import i64
from broker.queues.options import QueueOptions


def over_limit(options: QueueOptions, count: i64, body_bytes: i64) -> bool:
    """Whether a queue of ``count`` ready messages with ``body_bytes`` of bodies is longer than its limits allow."""
    if options.max_length >= 0 and count > options.max_length:
        return True
    return options.max_length_bytes >= 0 and body_bytes > options.max_length_bytes


def full(options: QueueOptions, count: i64, body_bytes: i64) -> bool:
    """Whether a queue that refuses instead of dropping has no room for another message."""
    if options.max_length >= 0 and count >= options.max_length:
        return True
    return options.max_length_bytes >= 0 and body_bytes >= options.max_length_bytes
