"""A message that leaves a queue by itself: for basic.get, or one that needed a look before it went."""

from __future__ import annotations

from typing import final

from broker.message import Message
from broker.native import i64


@final
class Delivery:
    """One message of a queue, and where it stood."""

    def __init__(self, message: Message, level: i64, position: i64, redelivered: bool) -> None:
        self.message = message
        self.level: i64 = level
        self.position: i64 = position
        self.redelivered = redelivered
        """It was delivered before, or may have been."""
