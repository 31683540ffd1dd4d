"""What an exchange may look at besides the routing key: the message that is being routed, and the time."""

from __future__ import annotations

from typing import final

from broker.clock import Clock
from broker.message import Message
from broker.wire.properties import headers_of
from broker.wire.table import FieldTable


@final
class Routed:
    """One message on its way through the exchanges of a virtual host; made only where an exchange, CC or BCC asks for
    it."""

    def __init__(self, message: Message, clock: Clock) -> None:
        self.message = message
        """As it was published: a BCC header is still there."""
        self.clock = clock
        self._headers: FieldTable | None = None

    @property
    def headers(self) -> FieldTable:
        """The headers property; empty when it has none. Read once."""
        found = self._headers
        if found is None:
            found = headers_of(self.message)
            self._headers = found
        return found
