"""Heartbeats of one connection, in both directions (AMQP 0-9-1 §4.2.7; RabbitMQ docs, Heartbeats).

Four looks an interval. One is sent when nothing else was written for half an interval, so a client hears something
within three quarters of an interval at the latest. A client that was not heard for two intervals is looked at once
more: when this process or its machine stood still, what the client sent meanwhile lies in the socket, unread, and the
event loop serves timers before sockets (net/loop.py). Only if nothing has come until the next look, the connection
ends, without a close frame: nobody is there to read it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from broker.clock import Clock
from broker.native import i64
from broker.protocol.outbox import Outbox
from broker.protocol.watch import Watch
from broker.wire.writer import HEARTBEAT

if TYPE_CHECKING:
    from broker.protocol.connection import Connection

_LOOKS: Final[i64] = 4
"""In an interval."""


@final
class Heartbeats(Watch):
    """The heartbeats of one connection."""

    def __init__(self, connection: Connection, outbox: Outbox, clock: Clock, interval_s: int) -> None:
        super().__init__(connection, outbox, clock, interval_s * 1000 // _LOOKS)
        self.heard_ms: i64 = clock.now_ms
        """When something came from the client; any octet counts."""
        self._interval_ms: i64 = interval_s * 1000
        self._written: i64 = 0
        """Bytes that had been written at the last look."""
        self._quiet_looks: i64 = 0
        """So many looks in a row have found nothing more."""
        self._suspected_ms: i64 = -1
        """When it was heard last, once a look has found it silent for too long."""

    def start(self) -> None:
        """Begin, if there are to be any: half an interval from now the first one is due, since all that the handshake
        wrote, connection.open-ok included, does not count as said."""
        self._written = self._outbox.bytes_written + self._outbox.size()
        super().start()

    def hear(self) -> None:
        """Something has come from the client."""
        self.heard_ms = self._clock.refresh()

    def look(self, connection: Connection, now_ms: i64) -> bool:
        """End the connection, send a heartbeat, or neither."""
        if connection.is_unread():
            self.heard_ms = now_ms  # it cannot be heard: its silence does not count
        if now_ms - self.heard_ms > 2 * self._interval_ms:
            if self._suspected_ms == self.heard_ms:
                connection.server.client_log.heartbeats_missed(connection)
                connection.abort()  # without a close frame: nobody is there to read it
                return False
            self._suspected_ms = self.heard_ms
        self._say_something(connection)
        return True

    def _say_something(self, connection: Connection) -> None:
        written = self._outbox.bytes_written
        if written != self._written or self._outbox.size() > 0:
            self._quiet_looks = 0
        else:
            self._quiet_looks += 1
            if self._quiet_looks == _LOOKS // 2:
                self._quiet_looks = 0
                connection.session.send(HEARTBEAT)
                # a heartbeat does not count as something said: the next one is due half an interval later
                written += len(HEARTBEAT)
        self._written = written
