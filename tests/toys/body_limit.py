"""A toy queue argument: `x-max-body: 10` refuses messages with a larger body. This module and its registration are all
of it."""

from __future__ import annotations

from broker.message import REJECTED, Message
from broker.queues.arguments import QueueArgument
from broker.queues.guard import ADMITTED, Guard


class BodyLimit(Guard):
    """Of one queue."""

    def __init__(self, largest: object) -> None:
        assert isinstance(largest, int)
        self.largest = largest

    def decide(self, message: Message) -> int:
        return ADMITTED if message.body_size <= self.largest else REJECTED


def check(value: object, kind: str) -> str:
    return "" if isinstance(value, int) and value >= 0 else f'"expected a size, got {kind}"'


BODY_LIMIT = QueueArgument("x-max-body", check, guard=BodyLimit)
