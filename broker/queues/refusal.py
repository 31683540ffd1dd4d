"""What becomes of a delivery that was not acknowledged, and why.

A quorum queue counts what failed (RabbitMQ docs, Quorum Queues: Poison Message Handling, as of 4.3): a rejected
delivery and one whose consumer went away count against the delivery limit, one that was given back does not. Other
queues only tell whether it comes back.
"""

from typing import Final

from broker.native import i64

DISCARDED: Final[i64] = 0
"""It does not come back: basic.reject or basic.nack without requeue."""
GIVEN_BACK: Final[i64] = 1
"""basic.nack with requeue, basic.recover."""
REJECTED: Final[i64] = 2
"""basic.reject with requeue."""
ABANDONED: Final[i64] = 3
"""Its channel or connection has ended."""
TIMED_OUT: Final[i64] = 4
"""Its consumer had it for too long."""
