"""How a connection ends: connection.close and close-ok in both directions, and what it held (AMQP 0-9-1,
connection.close).

    the client closes     what it said before, on channels that wait for the disk, is taken first, for a time; then its
                          consumers get what was published before, what it held goes back, and close-ok leaves
    the server closes     what it held goes back, connection.close leaves, and close-ok is waited for, for a time
    the socket is gone    what it held goes back

What it held are its channels, then its exclusive queues. Only when all of it has gone back the last frame leaves: a
client that has read it may declare the same queues again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from librt.strings import read_i32_be

from broker.clock import Timed, Timer
from broker.faults import FaultOwner
from broker.native import i64
from broker.protocol import channel_methods
from broker.protocol.connection_state import CLOSED, CLOSING, RUNNING
from broker.protocol.connection_step import ConnectionStep
from broker.protocol.dispatching import Dispatching
from broker.protocol.ending import ConnectionEnd
from broker.queues.queue import Queue
from broker.wire import spec
from broker.wire.frames import FrameReader
from broker.wire.methods import method_frame

if TYPE_CHECKING:
    from broker.protocol.connection import Connection

_TIMEOUT_MS: Final[i64] = 30_000
"""How long the client's close-ok is waited for; and, before its own close counts, the disk."""


class _ClosingStep(ConnectionStep):
    def __init__(self, closing: Closing, connection: Connection) -> None:
        super().__init__(connection)
        self._closing = closing


@final
class _Dispatched(_ClosingStep):
    """Goes on, as the client has asked, once its consumers have what was published before."""

    def resume(self) -> None:
        self._closing.dispatched(self.connection)


@final
class _Released(_ClosingStep):
    """Everything that a connection held has gone back."""

    def resume(self) -> None:
        self._closing.released(self.connection)


@final
class _Timeout(Timed):
    """What is waited for has not come in time."""

    def __init__(self, closing: Closing, connection: Connection) -> None:
        self._closing = closing
        self._connection = connection

    def on_timer(self, now_ms: i64) -> None:
        self._closing.time_out(self._connection)

    def fault_owner(self) -> FaultOwner | None:
        return self._connection


@final
class Closing:
    """The end of one connection. Made when it begins, and owned by the connection, which every method is given; nothing
    here leads back to it but the timer, while it runs."""

    def __init__(self) -> None:
        self.state = RUNNING
        """Running as long as the client's connection.close waits for what it said before."""
        self._timer: Timer | None = None
        self._last_frame = b""
        self._ends_stream = False
        """The socket is closed behind the last frame; otherwise that is left to the client."""
        self._awaits_close_ok = False
        self._is_releasing = False
        self._is_released = False
        """What it held has gone back, and its last frame was written."""

    # ---- the client closes -------------------------------------------------------------------------------------------

    def ask(self, connection: Connection) -> None:
        """connection.close from the client: what it said before on channels that wait comes first, messages perhaps;
        for a time, the disk may hang."""
        connection.server.turn.costly = True
        self.go_on(connection)
        if self.state == RUNNING:
            self._arm(connection)

    def go_on(self, connection: Connection) -> None:
        """Close, if the client has asked for it and nothing that it said before waits any more."""
        held = connection.held
        if self.state == RUNNING and (held is None or held.size == 0):
            self._dispatch(connection)

    def _dispatch(self, connection: Connection) -> None:
        self.state = CLOSING  # nothing more is taken
        self._arm(connection)
        queues: list[Queue] = []
        for channel in connection.channels.values():
            if not channel.closing:
                queues += channel.consumed_queues()
        turn = connection.server.turn
        turn.start(Dispatching(turn, queues, connection, _Dispatched(self, connection)))

    def dispatched(self, connection: Connection) -> None:
        """What was published before the client has closed the connection was dispatched."""
        if self.state == CLOSING:
            self._last_frame = method_frame(0, spec.CONNECTION_CLOSE_OK, [])
            self._begin(connection)

    # ---- the server closes -------------------------------------------------------------------------------------------

    def fail(self, connection: Connection, last_frame: bytes) -> None:
        """connection.close from the server; its close-ok is not waited for if it could not be told apart from other
        octets any more."""
        connection.server.connection_closing(connection)
        self._last_frame = last_frame
        self._ends_stream = True
        self._awaits_close_ok = not connection.input.is_lost
        self._begin(connection)

    def take_frame(self, connection: Connection, reader: FrameReader) -> None:
        """A frame of a connection that is closing."""
        if (
            reader.channel
            or reader.frame_type != spec.FRAME_METHOD
            or reader.end - reader.start < 4
            or not self._is_released
        ):
            return
        index = i64(read_i32_be(reader.data, reader.start)) & 0xFFFFFFFF
        if index == spec.CONNECTION_CLOSE_OK:
            self._finish(connection, True)
        elif index == spec.CONNECTION_CLOSE:
            connection.session.send(method_frame(0, spec.CONNECTION_CLOSE_OK, []))
            self._finish(connection, True)

    def expect_nothing(self, connection: Connection) -> None:
        """close-ok is waited for no more: it could not be told apart from what it may be part of."""
        if self.state == CLOSING:
            self._awaits_close_ok = False
            if self._is_released:
                self._finish(connection, True)

    # ---- both --------------------------------------------------------------------------------------------------------

    def _begin(self, connection: Connection) -> None:
        self.state = CLOSING
        connection.stop_watching()
        self._arm(connection)
        self._release(connection, True)

    def _release(self, connection: Connection, in_slice: bool) -> None:
        """Give back what the connection held. The first part is done now if this is a slice of a turn: time is bounded
        nowhere else."""
        if self._is_releasing:
            return
        self._is_releasing = True
        session = connection.session
        session.stop_deliveries()
        ends = [
            channel_methods.end_of(connection, channel, None)
            for channel in connection.channels.take_all()
            if not channel.closing
        ]
        connection.input.end(session)
        work = ConnectionEnd(session, ends, _Released(self, connection))
        if in_slice:
            connection.server.turn.start(work)
        else:
            connection.server.turn.begin(work)

    def released(self, connection: Connection) -> None:
        """Everything has gone back."""
        self._is_released = True
        session = connection.session
        session.leave_alarms()
        connection.server.connection_released(connection.number)
        if self.state == CLOSED:
            session.detach()
            return
        session.send(self._last_frame)
        if not self._awaits_close_ok:
            self._finish(connection, self._ends_stream)
            return
        self._arm(connection)
        held = connection.held
        if held is not None:
            held.read_on()

    def _finish(self, connection: Connection, ends_stream: bool) -> None:
        self.state = CLOSED
        session = connection.session
        connection.input.end(session)
        connection.server.connection_closed(connection.number)
        self._disarm()
        outbox = session.outbox
        outbox.finish()
        if ends_stream:
            outbox.sink.close()
        else:
            outbox.sink.await_close()

    def lose(self, connection: Connection) -> None:
        """The socket is gone."""
        self.state = CLOSED
        session = connection.session
        connection.input.end(session)
        connection.server.connection_closed(connection.number)
        self._disarm()
        session.outbox.close()
        self._release(connection, False)
        if self._is_released:
            session.detach()

    # ---- time --------------------------------------------------------------------------------------------------------

    def _arm(self, connection: Connection) -> None:
        self._disarm()
        clock = connection.server.clock
        self._timer = clock.call_at(clock.now_ms + _TIMEOUT_MS, _Timeout(self, connection))

    def _disarm(self) -> None:
        timer = self._timer
        if timer is not None:
            timer.cancel()
            self._timer = None

    def time_out(self, connection: Connection) -> None:
        """The client has not answered connection.close in time, or what it said before its own still waits."""
        if self.state == CLOSING:
            self._finish(connection, True)
        elif self.state == RUNNING:
            self._dispatch(connection)
