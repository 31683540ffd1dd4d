"""A message's stay in one queue, where it needs more than its place in the backlog: it expires, or a crash left it in
doubt."""

from typing import final

from mypy_extensions import mypyc_attr

from broker.message import Message
from broker.native import i64


@final
@mypyc_attr(acyclic=True)
class Entry:
    """One message in one queue. Most messages never get one: their position follows from their place in the list."""

    __slots__ = ("message", "position", "deadline_us", "redelivered")

    def __init__(self, message: Message, position: i64, deadline_us: i64) -> None:
        self.message = message
        self.position: i64 = position
        """Rank in its queue (and priority level): what came earlier has a smaller one, also after a requeue."""
        self.deadline_us: i64 = deadline_us
        """Monotonic time in microseconds from which on it is never delivered; 0 when it does not expire."""
        self.redelivered = False
        """It was delivered before, or may have been."""
