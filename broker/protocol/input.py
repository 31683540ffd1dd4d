"""What comes from one client's socket: how far its frames were taken, and why it is not read.

A socket is not read for five reasons, each of which pauses it and resumes it by itself (``Sink.pause_reading``):

    an alarm            the client publishes while memory or disk space is low             session.py
    held frames         too many are kept for channels that wait                           held_frames.py
    flow                it publishes faster than the disk writes                           here
    output              it asks without reading the answers                                here
    unfinished input    what it sent was more than a turn has time for                     here
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from broker.errors import ConnectionException
from broker.native import i64
from broker.protocol.connection_state import CLOSED
from broker.protocol.connection_step import ConnectionStep
from broker.protocol.frame_dispatch import take_frames
from broker.protocol.outbox import BACKLOG_MAX, Outbox
from broker.store.logs import Logs
from broker.wire.frames import FrameReader

if TYPE_CHECKING:
    from broker.protocol.connection import Connection
    from broker.protocol.session import Session


@final
class _GoOn(ConnectionStep):
    """Takes the rest of what was read when the turn's time was over."""

    def resume(self) -> None:
        self.connection.input.go_on(self.connection)


@final
class _Relief(ConnectionStep):
    """Reads on when the disk has caught up."""

    def resume(self) -> None:
        self.connection.input.relieve(self.connection.session.outbox)


@final
class Input:
    """The bytes of one connection on their way to its channels. Owned by the connection, which every method is given:
    nothing here leads back to it."""

    def __init__(self, reader: FrameReader) -> None:
        self.reader = reader
        self.bytes_received: i64 = 0
        self._later: list[bytes] | None = None
        """Reads that came although the socket is not read."""
        self._rest_bytes: i64 = 0
        self.in_flow = False
        """Not read because it publishes faster than the disk writes (RabbitMQ's state "flow")."""
        self.is_lost = False
        """The frames were wrong: what follows cannot be told apart from frames any more, and is not looked at."""
        self._is_unfinished = False
        """Not read because frames of an earlier read wait for the next turn."""
        self._paused_for_output = False
        """Not read because it does not read."""

    def is_paused(self) -> bool:
        """Whether the socket is not read, for one of the reasons that stand here."""
        return self.in_flow or self._is_unfinished or self._paused_for_output

    def receive(self, connection: Connection, data: bytes) -> None:
        """Take what the socket delivered."""
        if self.is_lost or not connection.takes_input():
            return
        if self._is_unfinished:
            if self._later is None:
                self._later = []
            self._later.append(data)
            return
        if not self._take(connection, data):
            self._wait_for_turn(connection)

    def begin(self, connection: Connection) -> None:
        """Take the frames that the handshake's last read left behind."""
        if not self._take_all(connection):
            self._wait_for_turn(connection)

    def _wait_for_turn(self, connection: Connection) -> None:
        """The rest of what was read waits for the next turn; others come first."""
        self._is_unfinished = True
        connection.session.outbox.sink.pause_reading()
        connection.server.turn.defer_again(_GoOn(connection))

    def go_on(self, connection: Connection) -> None:
        """A new turn: take what was read, and could not be taken in the time of the last one."""
        data = b""
        while not self.is_lost and connection.takes_input():
            if not self._take(connection, data):
                connection.server.turn.defer_again(_GoOn(connection))
                return
            if not self._later:
                break
            data = self._later.pop(0)
        self._later = None
        self._is_unfinished = False
        connection.session.outbox.sink.resume_reading()

    def _take(self, connection: Connection, data: bytes) -> bool:
        """Take what was read and is not taken yet, and ``data`` behind it; False if the time of the turn is over
        before."""
        session = connection.session
        logs = session.logs
        appended: i64 = 0 if logs is None else logs.appended()
        try:
            if len(data):
                self.reader.feed(data)
        except ConnectionException as error:
            connection.fail(error)
        is_finished = self._take_all(connection)
        if logs is not None and logs.appended() != appended and logs.is_congested():
            self._slow_down(connection, logs)
        closing = connection.closing
        is_over = closing is not None and closing.state == CLOSED
        self._count_rest(session, 0 if is_over else self.reader.waiting)
        outbox = session.outbox
        if outbox.paused and not self._paused_for_output and outbox.size() > BACKLOG_MAX:
            self._paused_for_output = True
            outbox.sink.pause_reading()
        return is_finished

    def _take_all(self, connection: Connection) -> bool:
        """Take the frames that are there. Those behind a hard error are passed over one by one: what follows them in
        the next read, close-ok at last, begins where the last of them ends."""
        while not self.is_lost:
            if connection.waits_to_close():
                self._pass_over()
                return True
            try:
                if not take_frames(connection, self.reader):
                    return False
                if not connection.waits_to_close():
                    return True
            except ConnectionException as error:
                connection.fail(error)
        return True

    def _pass_over(self) -> None:
        """What follows connection.close is not taken; but where its frames end has to be known."""
        try:
            while self.reader.next():
                pass
        except ConnectionException:
            self.is_lost = True

    def lose(self) -> None:
        """Nothing is looked at any more: where the next frame begins cannot be told."""
        self.is_lost = True
        self._later = None

    def end(self, session: Session) -> None:
        """Nothing is kept of a frame that is not whole: the connection ends."""
        self._count_rest(session, 0)

    def _count_rest(self, session: Session, size: i64) -> None:
        """So many bytes of a frame that is not whole are kept."""
        if size != self._rest_bytes:
            session.alarms.received(size - self._rest_bytes)
            self._rest_bytes = size

    def _slow_down(self, connection: Connection, logs: Logs) -> None:
        """It has added to what waits for the disk: read no more while that is too much, before the memory grows with
        it."""
        if not self.in_flow:
            self.in_flow = True
            logs.when_relieved(_Relief(connection))
            connection.session.outbox.sink.pause_reading()

    def relieve(self, outbox: Outbox) -> None:
        """The disk has caught up."""
        self.in_flow = False
        outbox.sink.resume_reading()

    def read_after_output(self, outbox: Outbox) -> None:
        """The client reads again."""
        if self._paused_for_output:
            self._paused_for_output = False
            outbox.sink.resume_reading()
