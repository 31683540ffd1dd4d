"""Somebody who looks at a connection from time to time, for as long as it is open."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mypy_extensions import mypyc_attr

from broker.clock import Clock, Timed, Timer
from broker.faults import FaultOwner
from broker.native import i64
from broker.protocol.outbox import Outbox

if TYPE_CHECKING:
    from broker.protocol.connection import Connection


@mypyc_attr(allow_interpreted_subclasses=True)
class Watch(Timed):
    """The timer, and what it is about; owned by the connection."""

    def __init__(self, connection: Connection, outbox: Outbox, clock: Clock, period_ms: i64) -> None:
        """``period_ms`` lies between two looks; 0 is none."""
        self._connection: Connection | None = connection
        self._outbox = outbox
        self._clock = clock
        self._period_ms: i64 = period_ms
        self._timer: Timer | None = None

    def start(self) -> None:
        """Look from now on."""
        if self._period_ms:
            self._arm()

    def stop(self) -> None:
        """Look no more; what leads back to the connection is cut."""
        self._connection = None
        timer = self._timer
        if timer is not None:
            timer.cancel()
            self._timer = None

    def look(self, connection: Connection, now_ms: i64) -> bool:
        """A look; whether there is to be another one."""
        raise NotImplementedError

    def on_timer(self, now_ms: i64) -> None:
        self._timer = None
        connection = self._connection
        if connection is not None and self.look(connection, now_ms):
            self._arm()

    def _arm(self) -> None:
        self._timer = self._clock.call_at(self._clock.now_ms + self._period_ms, self)

    def fault_owner(self) -> FaultOwner | None:
        return self._connection
