"""x-delayed-retry-type, -min and -max: what comes back waits for a while, longer the more often it has failed (RabbitMQ
4.3, Quorum Queues, Delayed Retry)."""

from __future__ import annotations

from typing import Final, final

from broker.native import i64
from broker.queues.quorum.level import LedgerLevel
from broker.queues.quorum.pieces import Pieces
from broker.queues.quorum.values import (
    CRASH,
    DELAYED,
    NACK,
    REJECT,
    TIMEOUT,
    came_back,
    delivery_count,
    state_of,
)
from broker.queues.quorum.weaving import append_range
from broker.store.run_map import RunCursor
from broker.wire.table import FieldTable

DISABLED: Final[i64] = 0
ALL: Final[i64] = 1
FAILED: Final[i64] = 2
"""What was rejected, or lost with its channel."""
RETURNED: Final[i64] = 3
"""What basic.nack gave back, or a consumer had for too long."""

DELAY_MAX_MS: Final = 100 * 365 * 86_400_000
"""A hundred years, as the longest time that a queue may go unused."""
_KINDS: Final = {"all": ALL, "failed": FAILED, "returned": RETURNED}


@final
class DelayedRetry:
    """The arguments of a queue."""

    def __init__(self, kind: i64, min_ms: i64, max_ms: i64 = 0) -> None:
        self.kind: i64 = kind
        """``DISABLED`` ... ``RETURNED``."""
        self.min_ms: i64 = min_ms
        """The first delay in milliseconds."""
        self.max_ms: i64 = max_ms if max_ms > 0 else min_ms
        """The longest one; ``min_ms`` unless given."""

    def delays(self, cause: i64) -> bool:
        """Whether what comes back for this cause waits. What comes back because a consumer was cancelled, a leader
        changed or nothing was sent, is no retry."""
        if self.kind == DISABLED or self.min_ms <= 0:
            return False
        failed = cause in (REJECT, CRASH)
        returned = cause in (NACK, TIMEOUT)
        if self.kind == FAILED:
            return failed
        if self.kind == RETURNED:
            return returned
        return failed or returned

    def delay_ms(self, deliveries: i64) -> i64:
        """How long a message with this delivery count waits, in milliseconds."""
        if deliveries < 1:
            deliveries = 1
        if deliveries > self.max_ms // self.min_ms:
            return self.max_ms
        return self.min_ms * deliveries


@final
class DelayedRange:
    """Ranges of messages that are delayed for the same time."""

    def __init__(self, delay_ms: i64) -> None:
        self.delay_ms: i64 = delay_ms
        self.ranges: list[int] = []
        """First, count and stride of each."""


def split_by_delay(pieces: Pieces, cause: i64, retry: DelayedRetry) -> list[DelayedRange]:
    """How long each of the messages waits that come back for this cause, shortest first: counted with this return. What
    does not wait is not there."""
    found: dict[int, DelayedRange] = {}
    if not retry.delays(cause):
        return []
    while pieces.step():
        deliveries = delivery_count(came_back(pieces.value, cause, DELAYED))
        delay_ms = int(retry.delay_ms(deliveries))
        ranges = found.get(delay_ms)
        if ranges is None:
            ranges = DelayedRange(delay_ms)
            found[delay_ms] = ranges
        append_range(ranges.ranges, pieces.first, pieces.count, pieces.stride)
    return [found[delay_ms] for delay_ms in sorted(found)]


def delayed_ranges(level: LedgerLevel) -> list[int]:
    """First position and count of each range of a level's messages that are delayed, and until when (wall time in
    milliseconds)."""
    found: list[int] = []
    last = level.times.last() if level.totals.delayed > 0 else -1
    cursor = RunCursor(level.times)
    cursor.seek(0)
    while cursor.end < last and cursor.step():
        if cursor.value == 0:
            continue
        pieces = Pieces(level.runs, cursor.start, cursor.end - cursor.start + 1, 1)
        while pieces.step():
            if state_of(pieces.value) == DELAYED:
                found.append(int(pieces.first))
                found.append(int(pieces.count))
                found.append(int(cursor.value))
    return found


def delayed_retry(arguments: FieldTable) -> DelayedRetry | None:
    """What a queue's arguments ask for; None if they ask for nothing, or for something that makes no sense: RabbitMQ
    takes any values."""
    kind = arguments.values.get("x-delayed-retry-type")
    shortest = arguments.values.get("x-delayed-retry-min")
    longest = arguments.values.get("x-delayed-retry-max")
    if not isinstance(kind, str) or kind not in _KINDS or type(shortest) is not int or shortest <= 0:
        return None
    if type(longest) is not int or longest < shortest:
        longest = shortest
    return DelayedRetry(_KINDS[kind], min(shortest, DELAY_MAX_MS), min(longest, DELAY_MAX_MS))
