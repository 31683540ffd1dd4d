"""A client that reads nothing, however lively it is otherwise, does not stay for ever: what was written for it would,
too.

RabbitMQ gives up when a write has waited for 30 s (``tcp_listen_options.send_timeout``, the default of its listener,
ranch). Here a client that takes its answers slowly may stay; only one whose socket has accepted no byte for so long,
with output pending, goes. Looks are counted, not the time between them: what a process that stood still could not write
is not the client's fault.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from broker.clock import Clock
from broker.native import i64
from broker.protocol.outbox import Outbox
from broker.protocol.watch import Watch

if TYPE_CHECKING:
    from broker.protocol.connection import Connection

LOOKS: Final[i64] = 3
"""In the time that a client has; it goes with the look that finds so many before it in the same state, so up to a third
later."""


@final
class SendTimeout(Watch):
    """What becomes of one connection's writes."""

    def __init__(self, connection: Connection, outbox: Outbox, clock: Clock, timeout_ms: i64) -> None:
        """``timeout_ms`` is 0 where a client may take as long as it likes."""
        super().__init__(connection, outbox, clock, timeout_ms // LOOKS)
        self._accepted: i64 = 0
        """Bytes that the socket had accepted at the last look."""
        self._was_pending = False
        self._stuck_looks: i64 = 0
        """So many looks in a row have found output pending, and nothing accepted since the one before."""

    def look(self, connection: Connection, now_ms: i64) -> bool:
        """End the connection if nothing was accepted for too long."""
        outbox = self._outbox
        unsent = outbox.sink.unsent()
        accepted = outbox.bytes_written - unsent
        is_pending = unsent > 0 or outbox.size() > 0
        if is_pending and self._was_pending and accepted == self._accepted:
            self._stuck_looks += 1
        else:
            self._stuck_looks = 0
        self._accepted = accepted
        self._was_pending = is_pending
        if self._stuck_looks == LOOKS:
            connection.server.client_log.send_timeout(connection, unsent + outbox.size())
            connection.abort()  # without a close frame, which the client would not read either
            return False
        return True
