"""One client's socket: the only file on a message's path that knows asyncio.

A read goes to the handshake, later to the connection; what they write leaves once per turn. Fairness is the latency:
libuv reads a socket up to 32 times per wake-up, so a fast publisher would put megabytes in before any ack is read.
After a large read the socket is paused until the next turn (measured at 1 KiB: median latency 235 -> 13 ms at no cost
in CPU), and a read that is more than the turn's share waits undecoded.
"""

from __future__ import annotations

import asyncio
import fcntl
import select
import socket
import sys
import termios
from typing import TYPE_CHECKING, Final, cast

from broker.faults import FaultOwner
from broker.protocol.handshake import Handshake, Peer
from broker.protocol.outbox import Outbox, Piece, Sink
from broker.turn import Deferred

if TYPE_CHECKING:
    from broker.net.admission import Admission
    from broker.protocol.connection import Connection
    from broker.protocol.server import Server

LARGE_READ: Final = 64 * 1024
"""A read of this size or more pauses the socket until the next turn."""
WRITE_HIGH_WATER: Final = 2 * 1024 * 1024
WRITE_LOW_WATER: Final = 256 * 1024
_READ_CLOSED: Final[int] = getattr(select, "POLLRDHUP", 0)
"""What tells that the other side has closed, whatever is unread; Linux has it."""
LINGER_S: Final = 3.0
"""How long a socket that we closed stays open for reading."""


class SocketSink(Sink):
    """Writes to an asyncio transport."""

    __slots__ = ("protocol", "transport")

    def __init__(self, protocol: AmqpProtocol) -> None:
        self.protocol = protocol
        self.transport: asyncio.Transport | None = None

    def pause_reading(self) -> None:
        """An alarm: the client is not read until it is over."""
        self.protocol.block()

    def resume_reading(self) -> None:
        """The alarm is over."""
        self.protocol.unblock()

    def write(self, data: bytes) -> None:
        """Hand one buffer to the loop; it leaves at the end of this iteration."""
        if self.transport is not None:
            self.transport.write(data)

    def write_pieces(self, pieces: list[Piece]) -> None:
        """Hand several buffers to the loop; they leave in one system call if the socket takes them."""
        if self.transport is not None:
            self.transport.writelines(pieces)

    def unsent(self) -> int:
        """What waits in the loop's buffer."""
        return 0 if self.transport is None else self.transport.get_write_buffer_size()

    def close(self) -> None:
        """End the stream when everything written has left, then wait a little for the client to close.

        Closing at once would answer what the client is still sending with a reset, which can destroy the frame that it
        has not read yet.
        """
        transport = self.transport
        if transport is not None and not transport.is_closing():
            if transport.can_write_eof():
                transport.write_eof()
            self.await_close()

    def await_close(self) -> None:
        """The client closes the socket; if it does not, we do, after a while.

        RabbitMQ does so too, and clients rely on it: one that sees the stream end right behind a close frame may report
        a broken connection instead of what the frame says.
        """
        if self.transport is not None:
            asyncio.get_running_loop().call_later(LINGER_S, self.transport.abort)

    def abort(self) -> None:
        """Close at once."""
        if self.transport is not None:
            self.transport.abort()


class _Held(Deferred):
    """Input that waits for the next turn, and a socket that is paused until then."""

    def __init__(self, protocol: AmqpProtocol) -> None:
        self.protocol = protocol

    def resume(self) -> None:
        """The next turn has come."""
        self.protocol.resume_reading()

    def fault_owner(self) -> FaultOwner | None:
        return self.protocol.fault_owner()


def _name_of(address: object) -> tuple[str, int]:
    if isinstance(address, tuple) and len(address) >= 2:
        return str(address[0]), int(address[1])
    return "", 0


class AmqpProtocol(asyncio.Protocol):
    """asyncio's side of one client."""

    __slots__ = (
        "_admission",
        "_blocked",
        "_held",
        "_paused",
        "_pending",
        "_server",
        "_transport",
        "connection",
        "handshake",
        "outbox",
    )

    def __init__(self, server: Server, admission: Admission) -> None:
        self._server = server
        self._admission = admission
        self._transport: asyncio.Transport | None = None
        self.outbox: Outbox | None = None
        self.handshake: Handshake | None = None
        self.connection: Connection | None = None
        self._pending: list[bytes] = []
        self._held: _Held | None = None
        self._paused = False
        self._blocked = 0
        """How many reasons there are not to read: an alarm, a client that does not read its answers."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client connected."""
        self._server.sockets_open += 1
        if self._admission.refuses(cast("asyncio.Transport", transport)):
            return
        self._admission.join(self)
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=WRITE_HIGH_WATER, low=WRITE_LOW_WATER)
        opened = self._transport.get_extra_info("socket")
        if opened is not None and opened.family in (socket.AF_INET, socket.AF_INET6):
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sink = SocketSink(self)
        sink.transport = self._transport
        self.outbox = Outbox(sink)
        host, port = _name_of(self._transport.get_extra_info("peername"))
        own_host, own_port = _name_of(self._transport.get_extra_info("sockname"))
        self._server.clock.refresh()
        self.handshake = Handshake(
            self._server, self.outbox, Peer(host, port, f"{host}:{port} -> {own_host}:{own_port}")
        )

    def data_received(self, data: bytes) -> None:
        """Bytes from the client."""
        turn = self._server.turn
        if self._blocked or self._pending or not turn.admit(len(data), self.connection):
            self._pending.append(data)
            self._pause()
            self._server.alarms.received(len(data))
            if self.connection is not None:
                self.connection.hear()
            return
        if len(data) >= LARGE_READ:
            self._pause()
        self._take(data)

    def _take(self, data: bytes) -> None:
        connection = self.connection
        if connection is not None:
            try:
                connection.receive(data)
            except Exception as error:
                self._server.clock.faults.caught("read", connection, error)
            return
        handshake = self.handshake
        if handshake is None:
            return
        self._admission.hear(self)
        try:
            handshake.receive(data)
        except Exception as error:
            self.handshake = None
            self._server.clock.faults.caught("handshake", handshake, error)
            return
        if handshake.connection is not None:
            self.connection = handshake.connection
            self.handshake = None
            self._admission.leave(self)
            self._server.client_log.opened(self.connection)
        elif handshake.refusal:
            self.handshake = None

    def give_way(self) -> None:
        """It has not logged in, and somebody else needs the room."""
        if self._transport is not None:
            self._transport.abort()

    def fault_owner(self) -> FaultOwner | None:
        """What ends when work of this socket fails by a mistake of ours."""
        return self.handshake if self.connection is None else self.connection

    def _pause(self) -> None:
        transport = self._transport
        if not self._paused and transport is not None and not transport.is_closing():
            self._paused = True
            transport.pause_reading()
            if self._held is None:
                self._held = _Held(self)
            self._server.turn.defer(self._held)

    def has_left(self) -> bool:
        """Whether the client has closed its side, and what it has sent cannot complete the content that it has begun.

        Of a socket that is not read nobody else would notice, and half a content would stay in memory as long as the
        alarm that it causes.
        """
        connection, transport = self.connection, self._transport
        missing = connection.missing() if connection is not None else 0
        if not missing or transport is None:
            return False
        opened = transport.get_extra_info("socket")
        if opened is None or _READ_CLOSED == 0:
            return False
        poll = select.poll()
        poll.register(opened.fileno(), _READ_CLOSED)
        if not poll.poll(0):
            return False
        unread = int.from_bytes(fcntl.ioctl(opened.fileno(), termios.FIONREAD, bytes(4)), sys.byteorder)
        return unread + sum(map(len, self._pending)) < missing

    def block(self) -> None:
        """Stop reading until ``unblock``; what the loop still delivers waits undecoded."""
        self._blocked += 1
        self._admission.watch(self)
        if self._blocked == 1 and self._transport is not None and not self._paused:
            self._transport.pause_reading()

    def _is_blocked(self) -> bool:
        return self._blocked > 0

    def unblock(self) -> None:
        """Read again, from the next turn on."""
        self._blocked -= 1
        if self._blocked:
            return
        self._admission.unwatch(self)
        self._paused = True
        if self._held is None:
            self._held = _Held(self)
        self._server.turn.defer(self._held)

    def resume_reading(self) -> None:
        """A new turn: take what waited, then read on."""
        self._paused = False
        if self._blocked:
            return
        turn = self._server.turn
        pending = self._pending
        taken = 0
        for data in pending:
            if self._is_blocked() or not turn.admit(len(data), self.connection):
                break
            taken += 1
            self._server.alarms.received(-len(data))
            self._take(data)
        del pending[:taken]
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if self._is_blocked():
            return  # an alarm came up meanwhile: the socket stays paused, ``unblock`` goes on here
        if pending:
            self._paused = True
            if self._held is not None and taken:
                turn.defer_again(self._held)
            elif self._held is not None:
                turn.defer(self._held)
            return
        transport.resume_reading()

    def pause_writing(self) -> None:
        """The socket's buffer is full."""
        self._writable(False)

    def resume_writing(self) -> None:
        """The socket's buffer drained."""
        self._writable(True)

    def _writable(self, ready: bool) -> None:
        connection = self.connection
        if connection is not None:
            try:
                connection.writable(ready)
            except Exception as error:
                self._server.clock.faults.caught("room for writing", connection, error)

    def eof_received(self) -> bool:
        """The client will send no more: close."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone."""
        self._server.sockets_open -= 1
        self._admission.leave(self)
        self._admission.unwatch(self)
        self._transport = None
        self._held = None
        self.outbox = None  # it leads back here
        self._server.alarms.received(-sum(map(len, self._pending)))
        self._pending.clear()
        self._server.clock.refresh()
        if self.connection is not None:
            connection = self.connection
            self.connection = None
            self._server.clock.faults.run("end of a connection", None, connection.lost)
            self._server.client_log.closed(connection)
        if self.handshake is not None:
            self.handshake.lost()
            self.handshake = None
