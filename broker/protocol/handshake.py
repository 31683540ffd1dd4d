"""From the first octet to connection.open-ok: protocol header, start, tune, open (AMQP 0-9-1 §2.2.4, §4.2.2).

Returns an opened ``Connection`` or a refusal. Whoever is not authenticated gets little: frames of at most 4096 bytes,
ten seconds for everything, and, as from RabbitMQ, a closed socket without explanation for most mistakes; only a
well-formed login that is wrong is answered with a 403, if the client announced that it understands it
(``authentication_failure_close``).
"""

from __future__ import annotations

from typing import Final, final

from librt.strings import read_i32_be
from mypy_extensions import mypyc_attr
from pamqp import commands

from broker.auth.mechanisms import MECHANISMS, Credentials, MalformedResponse, read_response
from broker.auth.users import User
from broker.clock import Timed, Timer
from broker.errors import (
    ACCESS_REFUSED,
    CHANNEL_ERROR,
    NOT_ALLOWED,
    ConnectionException,
)
from broker.faults import FaultOwner
from broker.native import i64
from broker.protocol.client_properties import connection_name, has_capability
from broker.protocol.connection import Connection
from broker.protocol.outbox import Outbox
from broker.protocol.refusals import close_frame, unexpected_frame
from broker.protocol.server import Server
from broker.protocol.session import Negotiated
from broker.wire import spec
from broker.wire.frames import FrameReader
from broker.wire.methods import Method, decode, method_frame
from broker.wire.table import EMPTY, FieldTable

_FRAME_MAX_BEFORE_OPEN: Final[i64] = 4096
_HEADER: Final = 0
_START: Final = 1
_TUNE: Final = 2
_OPEN: Final = 3
_DONE: Final = 4
_OLD_HEADER: Final = b"AMQP\x01\x01\x00\x09"


@mypyc_attr(allow_interpreted_subclasses=True)
class Peer:
    """What the transport knows of the other end."""

    def __init__(self, host: str, port: int, name: str) -> None:
        self.host = host
        self.port = port
        self.name = name
        """``peer:port -> own:port``, how RabbitMQ names connections."""


@final
class Refused(Exception):
    """The client gets no further; the socket is closed, after ``frame`` if there is one."""

    def __init__(self, why: str, frame: bytes = b"") -> None:
        super().__init__(why)
        self.why = why
        self.frame = frame


@final
class Handshake(FaultOwner, Timed):
    """The conversation before connection.open-ok."""

    def __init__(self, server: Server, outbox: Outbox, peer: Peer) -> None:
        self.server = server
        self.peer = peer
        self.connection: Connection | None = None
        """The result, once the client got that far."""
        self.refusal = ""
        """Why the client was refused."""
        self._is_told = False
        """The log says so."""
        self._outbox = outbox
        self._state = _HEADER
        self._head = b""
        self._reader = FrameReader(_FRAME_MAX_BEFORE_OPEN - 8)
        self._user: User | None = None
        self._name = ""
        """Of the user that the client logs in as."""
        self._client_properties: FieldTable = EMPTY
        self._frame_max = 0
        self._channel_max = 0
        self._heartbeat_s = 0
        clock = server.clock
        self._timer: Timer | None = clock.call_at(clock.now_ms + server.limits.handshake_timeout_ms, self)

    def receive(self, data: bytes) -> None:
        """Take what the socket delivered; afterwards ``connection`` or ``refusal`` may be set."""
        if self._state == _DONE:
            return
        try:
            if self._state == _HEADER:
                data = self._take_header(data)
                if self._state == _HEADER:
                    return
            self._reader.feed(data)
            while self._state != _DONE and self._reader.next():
                self._frame()
            if self._state != _DONE:
                self._outbox.flush()
        except Refused as refusal:
            self._refuse(refusal.why, refusal.frame)
        except ConnectionException as error:
            frame = b""
            if self._state == _OPEN:
                frame = close_frame(0, spec.CONNECTION_CLOSE, error)
            self._refuse(error.text, frame)

    def _refuse(self, why: str, frame: bytes) -> None:
        self._state = _DONE
        self.refusal = why
        if not self._is_told:
            self.server.client_log.refused(self.peer.name, self._name, self._client_name(), why)
        self._disarm()
        if frame:
            self._outbox.write(frame)
        self._outbox.finish()
        if frame and self._head == spec.PROTOCOL_HEADER:
            self._outbox.sink.await_close()
        else:
            self._outbox.sink.close()

    def _disarm(self) -> None:
        timer = self._timer
        if timer is not None:
            timer.cancel()
            self._timer = None

    def on_timer(self, now_ms: i64) -> None:
        """The handshake took too long."""
        self._timer = None
        if self._state != _DONE:
            self._refuse("handshake_timeout", b"")

    def fault_owner(self) -> FaultOwner | None:
        return self

    def fault_label(self) -> str:
        return self.peer.name

    def end_by_fault(self) -> None:
        """Close the socket: nobody is there yet who could be told."""
        self.lost()
        self._outbox.sink.abort()

    def lost(self) -> None:
        """The socket is gone."""
        if self._state != _DONE and self._head:  # one that has said nothing was a look at whether the port is open
            self.server.client_log.vanished_early(self.peer.name, self._name)
        self._disarm()
        self._state = _DONE

    # ---- protocol header ---------------------------------------------------------------------------------------------

    def _take_header(self, data: bytes) -> bytes:
        head = self._head + data[: 8 - len(self._head)]
        rest = data[8 - len(self._head) :]
        self._head = head
        if len(head) < 8:
            return b""
        if head not in (spec.PROTOCOL_HEADER, _OLD_HEADER):
            raise Refused(f"bad protocol header {head!r}{_guess(head)}", spec.PROTOCOL_HEADER)
        self._state = _START
        self._outbox.write(
            method_frame(
                0,
                spec.CONNECTION_START,
                [
                    ("octet", 0),
                    ("octet", 9),
                    ("rawtable", self.server.server_properties),
                    ("longstr", " ".join(MECHANISMS)),
                    ("longstr", "en_US"),
                ],
            )
        )
        return rest

    # ---- frames ------------------------------------------------------------------------------------------------------

    def _frame(self) -> None:
        reader = self._reader
        if reader.frame_type == spec.FRAME_HEARTBEAT and reader.channel == 0:
            return
        if reader.channel != 0 or reader.frame_type != spec.FRAME_METHOD:
            raise unexpected_frame(reader)
        if self._state != _OPEN and reader.end - reader.start >= 4:
            # out of order: said before a decoder of ours touches the rest
            index = i64(read_i32_be(reader.data, reader.start)) & 0xFFFFFFFF
            if index != (spec.CONNECTION_START_OK if self._state == _START else spec.CONNECTION_TUNE_OK):
                raise Refused("unexpected method before authentication")
        method = decode(reader.data, reader.start, reader.end)
        if self._state == _START:
            self._start_ok(method)
        elif self._state == _TUNE:
            self._tune_ok(method)
        elif method.index == spec.CONNECTION_OPEN:
            self._open(method)
        else:
            raise ConnectionException(
                CHANNEL_ERROR,
                "unexpected method in connection state opening",
                method.index >> 16,
                method.index & 0xFFFF,
            )

    def _start_ok(self, method: Method) -> None:
        fields = method.fields
        assert isinstance(fields, commands.Connection.StartOk)
        server = self.server
        self._client_properties = method.arguments
        mechanism = fields.mechanism
        response: object = fields["response"]  # not by attribute: pamqp says str, but gives bytes for what is not UTF-8
        raw = response if isinstance(response, bytes) else str(response).encode()
        try:
            credentials = read_response(mechanism, raw)
        except MalformedResponse as error:
            server.counters.auth_attempts_failed += 1
            raise Refused(f"malformed {mechanism} response") from error
        if credentials is None:
            raise Refused(f"unknown authentication mechanism '{mechanism}'")
        self._user = self._log_in(mechanism, credentials)
        limits = server.limits
        self._state = _TUNE
        self._outbox.write(
            method_frame(
                0,
                spec.CONNECTION_TUNE,
                [("short", limits.channel_max), ("long", limits.frame_max), ("short", limits.heartbeat_s)],
            )
        )

    def _log_in(self, mechanism: str, credentials: Credentials) -> User:
        server = self.server
        self._name = credentials.user
        user, why_not = server.users.judge(credentials.user, credentials.password, self.peer.host)
        if user is not None:
            server.counters.auth_attempts_succeeded += 1
            return user
        server.counters.auth_attempts_failed += 1
        self._is_told = True
        server.client_log.login_refused(self.peer.name, self._name, self._client_name(), mechanism, why_not)
        frame = b""
        if has_capability(self._client_properties, "authentication_failure_close"):
            refusal = ConnectionException(
                ACCESS_REFUSED,
                f"Login was refused using authentication mechanism {mechanism}. For details see the broker logfile.",
            )
            frame = close_frame(0, spec.CONNECTION_CLOSE, refusal)
        raise Refused(f"login of user '{credentials.user}' refused: {why_not}", frame)

    def _client_name(self) -> str:
        return connection_name(self._client_properties)

    def _negotiated(self, what: str, wanted: int, offered: int, minimum: int) -> int:
        if offered and (wanted == 0 or wanted > offered):
            raise Refused(f"negotiated {what} = {wanted} is higher than the maximum allowed value ({offered})")
        if wanted and wanted < minimum:
            raise Refused(f"negotiated {what} = {wanted} is lower than the minimum allowed value ({minimum})")
        return wanted

    def _tune_ok(self, method: Method) -> None:
        fields = method.fields
        assert isinstance(fields, commands.Connection.TuneOk)
        limits = self.server.limits
        self._channel_max = self._negotiated("channel_max", fields.channel_max, limits.channel_max, 1)
        self._frame_max = self._negotiated("frame_max", fields.frame_max, limits.frame_max, spec.FRAME_MIN_SIZE)
        self._heartbeat_s = fields.heartbeat
        self._state = _OPEN

    def _open(self, method: Method) -> None:
        fields = method.fields
        assert isinstance(fields, commands.Connection.Open)
        server = self.server
        user = self._user
        assert user is not None
        limit = server.limits.connections_max
        if limit and len(server.connections) >= limit:
            raise ConnectionException(
                NOT_ALLOWED, f"connection refused: node connection limit ({limit}) is reached", 10, 40
            )
        vhost = server.vhosts.get(fields.virtual_host)
        if vhost is None:
            raise ConnectionException(NOT_ALLOWED, f"vhost {fields.virtual_host} not found", 10, 40)
        self._disarm()
        self._state = _DONE
        negotiated = Negotiated(self.peer.name, user.name, vhost, self._client_properties)
        negotiated.channel_max = self._channel_max
        negotiated.frame_max = self._frame_max
        negotiated.heartbeat_s = self._heartbeat_s
        self._reader.payload_max = self._frame_max  # RabbitMQ tolerates clients that forget a frame's own 8 octets
        connection = Connection(server, negotiated, self._outbox, self._reader)
        connection.session.send(method_frame(0, spec.CONNECTION_OPEN_OK, [("shortstr", "")]))
        connection.start()
        self.connection = connection
        connection.input.begin(connection)


def _guess(head: bytes) -> str:
    if head[:3] == b"\x16\x03\x01" or head[:2] == b"\x16\x03":
        return " (TLS on a plain port?)"
    if head[:4] in (b"GET ", b"POST", b"HEAD", b"PUT "):
        return " (HTTP on the AMQP port?)"
    return ""
