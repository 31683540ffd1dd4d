"""x-consumer-timeout: how long a consumer may have a message before it is cancelled and the message returns (RabbitMQ
docs, Consumers, Delivery Acknowledgement Timeout)."""

from __future__ import annotations

from typing import Final

from broker.native import i64

UNSET: Final[i64] = -1
CHECK_EVERY_MS: Final[i64] = 60_000
"""RabbitMQ looks about once a minute."""


def timeout_ms(consumer: i64, queue: i64, policy: i64, node: i64) -> i64:
    """The timeout in milliseconds that holds for a consumer, of which any may be ``UNSET``: its own argument, otherwise
    the smaller one of the queue's argument and the policy's, otherwise the node's; 0 or ``UNSET`` is none."""
    if consumer >= 0:
        return consumer
    if queue >= 0 and policy >= 0:
        return queue if queue < policy else policy
    if queue >= 0:
        return queue
    return policy if policy >= 0 else node


def is_too_slow(oldest_ms: i64, now_ms: i64, timeout: i64) -> bool:
    """Whether a consumer has to go whose oldest unsettled delivery was at ``oldest_ms`` (``UNSET`` if there is
    none)."""
    return timeout > 0 and oldest_ms >= 0 and now_ms - oldest_ms >= timeout


def next_check_ms(oldest_ms: i64, now_ms: i64, timeout: i64) -> i64:
    """When to look again: when the oldest delivery will have been there for too long, but not before
    ``CHECK_EVERY_MS`` have passed; ``UNSET`` without a timeout."""
    if timeout <= 0:
        return UNSET
    due = (oldest_ms if oldest_ms >= 0 else now_ms) + timeout
    soonest = now_ms + CHECK_EVERY_MS
    return due if due > soonest else soonest
