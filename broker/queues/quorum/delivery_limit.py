"""x-delivery-limit: a message whose deliveries failed more often than that does not come back (RabbitMQ docs, Quorum
Queues, Poison Message Handling): with a limit of 20 the 21st failed delivery is the last."""

from __future__ import annotations

from typing import Final, final

from broker.native import i64
from broker.queues.quorum.pieces import Pieces
from broker.queues.quorum.values import OUT, delivery_count, is_failure, state_of
from broker.queues.quorum.weaving import append_range

UNLIMITED: Final[i64] = -1


@final
class LimitSplit:
    """What may come back, and what has failed too often: first, count and stride of each range, one behind the
    other."""

    def __init__(self) -> None:
        self.within: list[int] = []
        self.over: list[int] = []


def is_over(value: i64, cause: i64, limit: i64) -> bool:
    """Whether a message that is out and has this value must not come back for this cause."""
    return limit >= 0 and is_failure(cause) and state_of(value) == OUT and delivery_count(value) >= limit


def split_by_limit(pieces: Pieces, cause: i64, limit: i64) -> LimitSplit:
    """Split what comes back; what is not out is within the limit: nothing becomes of it anyway."""
    split = LimitSplit()
    while pieces.step():
        over = is_over(pieces.value, cause, limit)
        append_range(split.over if over else split.within, pieces.first, pieces.count, pieces.stride)
    return split
