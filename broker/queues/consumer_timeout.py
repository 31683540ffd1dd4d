"""x-consumer-timeout: how long a message that was delivered may stay unacknowledged (RabbitMQ docs, Consumers, Delivery
Acknowledgement Timeout; as of 4.3, which has it for quorum queues only)."""

from __future__ import annotations

from typing import Final

from broker.native import i64
from broker.queues.queue import Queue

CONSUMER_TIMEOUT: Final = "x-consumer-timeout"
"""Of queue.declare and of basic.consume: milliseconds. 0 is no timeout, where RabbitMQ cancels at once."""
UNSET: Final[i64] = -1


def has_timeout(queue: Queue) -> bool:
    """Whether its type knows timeouts."""
    return CONSUMER_TIMEOUT in queue.type.consumer_arguments


def timeout_ms(queue: Queue, consumer: i64, node: i64) -> i64:
    """The timeout of what this queue delivers, in milliseconds: the consumer's argument, or the queue's, or the node's
    setting, the first of them that is not ``UNSET``; 0 for none."""
    if not has_timeout(queue):
        return 0
    if consumer >= 0:
        return consumer
    of_queue: i64 = queue.options.consumer_timeout_ms
    return of_queue if of_queue >= 0 else node
