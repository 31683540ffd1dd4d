"""What the ledger of a quorum queue keeps of a message: one number, its value in the level's ``RunMap``.

    bits 0-2 the state, 3-5 why it is dead, 6-33 how often it was acquired, 34-61 how many deliveries count as failed

The counts are RabbitMQ's: `x-acquired-count` is raised by every return of what was delivered, `x-delivery-count` only
by basic.reject and by the loss of the consumer's channel (RabbitMQ 4.3, Quorum Queues, Poison Message Handling). They
stop at ``COUNT_MAX``.
"""

from __future__ import annotations

from typing import Final

from broker.native import i64

GONE: Final[i64] = 0
"""Settled or dropped, or never accepted."""
WAITING: Final[i64] = 1
"""To be delivered."""
OUT: Final[i64] = 2
"""Delivered and not settled; who has it is known to the leader only."""
DELAYED: Final[i64] = 3
"""Returned, to wait again at some time (delayed retry)."""
DEAD: Final[i64] = 4
"""Dead-lettered at least once: it stays until all targets have confirmed."""
LAST_STATE: Final[i64] = 4

EXPIRED: Final[i64] = 1
"""Why a message is dropped or dead: its time to live is over."""
MAXLEN: Final[i64] = 2
"""The queue was too long."""
REJECTED: Final[i64] = 3
"""basic.reject or basic.nack without requeue."""
DELIVERY_LIMIT: Final[i64] = 4
"""It has failed too often."""
PURGED: Final[i64] = 5
"""queue.purge. Never a reason for a dead letter."""
TAKEN: Final[i64] = 6
"""It left the queue, and nobody will acknowledge it. Never a reason for a dead letter."""

REASONS: Final = ("", "expired", "maxlen", "rejected", "delivery_limit")
"""How these are told, from ``EXPIRED`` to ``DELIVERY_LIMIT``."""

REJECT: Final[i64] = 0
"""Why a message comes back: basic.reject with requeue. The delivery has failed."""
CRASH: Final[i64] = 1
"""The channel or the connection is gone. The delivery has failed."""
NACK: Final[i64] = 2
"""basic.nack with requeue, or basic.recover."""
TIMEOUT: Final[i64] = 3
"""The consumer had it for too long."""
CANCELLED: Final[i64] = 4
"""The consumer was cancelled with its messages."""
UNDELIVERED: Final[i64] = 5
"""It was decided and never sent: as if nothing had happened."""
UNCLAIMED: Final[i64] = 6
"""Nobody claimed it from a new leader. The delivery has failed."""
LAST_CAUSE: Final[i64] = 6

COUNT_MAX: Final[i64] = (1 << 28) - 1
"""Counts stop here."""
_ACQUIRED_ONE: Final[i64] = 1 << 6
_DELIVERY_ONE: Final[i64] = 1 << 34
_COUNTS: Final[i64] = ((1 << 62) - 1) - ((1 << 6) - 1)


def state_of(value: i64) -> i64:
    """``GONE`` ... ``DEAD``."""
    return value & 7


def reason_of(value: i64) -> i64:
    """Why it is dead; 0 if it is not."""
    return (value >> 3) & 7


def acquired_count(value: i64) -> i64:
    """How often it came back after it had been delivered; redelivered means more than 0."""
    return (value >> 6) & COUNT_MAX


def delivery_count(value: i64) -> i64:
    """How many of its deliveries count as failed."""
    return (value >> 34) & COUNT_MAX


def is_failure(cause: i64) -> bool:
    """Whether a return for this cause raises the delivery count."""
    return cause in (REJECT, CRASH, UNCLAIMED)


def is_dead_letter(reason: i64) -> bool:
    """Whether what goes for this reason can be a dead letter."""
    return EXPIRED <= reason <= DELIVERY_LIMIT


def sources_of(reason: i64) -> i64:
    """The states, as bits (1 << state), in which a message can be dropped for this reason."""
    if reason == REJECTED:
        return 1 << OUT
    if reason == DELIVERY_LIMIT:
        return (1 << OUT) | (1 << WAITING)  # the end of the node may have been the failure
    if reason == EXPIRED:
        return (1 << WAITING) | (1 << DELAYED)
    if reason == PURGED:
        return (1 << WAITING) | (1 << DELAYED) | (1 << DEAD)
    if reason == TAKEN:
        return (1 << WAITING) | (1 << DELAYED)
    return 1 << WAITING


def moved(value: i64, state: i64) -> i64:
    """The same message in another state, no reason given."""
    return (value & _COUNTS) | state


def died(value: i64, reason: i64) -> i64:
    """The same message, dead."""
    return (value & _COUNTS) | (reason << 3) | DEAD


def came_back(value: i64, cause: i64, state: i64) -> i64:
    """A message that was out, in another state: its counts are raised as the cause says."""
    counts = value & _COUNTS
    if cause != UNDELIVERED and acquired_count(value) < COUNT_MAX:
        counts += _ACQUIRED_ONE
    if is_failure(cause) and delivery_count(value) < COUNT_MAX:
        counts += _DELIVERY_ONE
    return counts | state


def is_value(value: i64) -> bool:
    """Whether a number can be the value of a message, or of none."""
    state = value & 7
    if state == DEAD:
        return is_dead_letter(reason_of(value))
    return value == 0 or (WAITING <= state <= DELAYED and reason_of(value) == 0)
