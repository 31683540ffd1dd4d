"""What a connection does later: in the next turn, or when something that it waits for is over. The steps stand beside
what begins them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker.faults import FaultOwner
from broker.turn import Deferred

if TYPE_CHECKING:
    from broker.protocol.connection import Connection


class ConnectionStep(Deferred):
    """What one connection does later; a mistake in it is that connection's."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def fault_owner(self) -> FaultOwner | None:
        return self.connection
