"""What the log says about clients: why a channel, a connection or a login ended, at most so many lines a second of each
kind.

Each event has a kind of its own, so one client's stream of mistakes does not hide another's vanishing. What goes beyond
the bound is counted, and told in one line when its second is over: five thousand sockets that close at once cost the
event loop twenty lines.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from broker.clock import Clock, Timed
from broker.errors import CONNECTION_FORCED, ProtocolException
from broker.logsetup import get_logger
from broker.native import i64
from broker.protocol.client_properties import connection_name
from broker.wire.methods import method_name

if TYPE_CHECKING:
    from broker.protocol.connection import Connection

LINES_MAX: Final = 20
"""Of one kind, in a window."""
WINDOW_MS: Final[i64] = 1000
TEXT_SIZE_MAX: Final = 255
"""Characters of what a client has chosen, in one field."""

_log: Final = get_logger("connection")


def _cut(text: str) -> str:
    return text if len(text) <= TEXT_SIZE_MAX else text[: TEXT_SIZE_MAX - 3] + "..."


@final
class Kind(Timed):
    """Lines about one kind of event."""

    def __init__(self, clock: Clock, event: str, is_warning: bool = True) -> None:
        self._clock = clock
        self._event = event
        self._is_warning = is_warning
        self._written = 0
        """In this window."""
        self._left_out = 0
        self._window_is_open = False

    def tell(self, fields: dict[str, object]) -> None:
        """Write a line with these fields, or count it."""
        if not self._window_is_open:
            self._open_window(self._clock.now_ms)
        if self._written == LINES_MAX:
            self._left_out += 1
            return
        self._written += 1
        shown = {name: _cut(value) if isinstance(value, str) else value for name, value in fields.items()}
        if self._is_warning:
            _log.warning(self._event, **shown)
        else:
            _log.info(self._event, **shown)

    def _open_window(self, now_ms: i64) -> None:
        self._window_is_open = True
        self._written = 0
        self._left_out = 0
        self._clock.call_at(now_ms + WINDOW_MS, self)

    def on_timer(self, now_ms: i64) -> None:
        """The window is over."""
        self._window_is_open = False
        count = self._left_out
        if count:
            self._open_window(now_ms)
            _log.warning("Lines were left out of the log", about=self._event, count=count)


@final
class ClientLog:
    """The log of one node's clients."""

    def __init__(self, clock: Clock) -> None:
        self._opened = Kind(clock, "Connection opened", False)
        self._closed = Kind(clock, "Connection closed", False)
        self._vanished = Kind(clock, "Client vanished without connection.close")
        self._refused = Kind(clock, "Connection refused")
        self._logins = Kind(clock, "Login refused")
        self._channel_errors = Kind(clock, "Channel error")
        self._timeouts = Kind(clock, "Consumer timed out")
        self._connection_errors = Kind(clock, "Connection error")
        self._forced = Kind(clock, "Connection is closed by the node", False)
        self._silent = Kind(clock, "Heartbeats missed")
        self._unread = Kind(clock, "Client does not read")

    def opened(self, connection: Connection) -> None:
        """connection.open-ok was sent."""
        self._opened.tell(_who(connection))

    def closed(self, connection: Connection) -> None:
        """The socket of a connection that was open is gone."""
        self._closed.tell({"connection": connection.session.name})

    def vanished(self, connection: Connection) -> None:
        """The socket is gone, and nobody has closed the connection."""
        self._vanished.tell(_who(connection))

    def vanished_early(self, peer: str, user: str) -> None:
        """The socket is gone in the middle of the handshake; ``user`` is '' if it has not logged in."""
        self._vanished.tell({"connection": peer, "user": user, "state": "handshake"})

    def refused(self, peer: str, user: str, client: str, reason: str) -> None:
        """A client has got no further than the handshake."""
        self._refused.tell({"connection": peer, "client": client, "user": user, "reason": reason})

    def login_refused(self, peer: str, user: str, client: str, mechanism: str, reason: str) -> None:
        """A login was wrong, or is not allowed from there."""
        self._logins.tell(
            {"connection": peer, "client": client, "user": user, "mechanism": mechanism, "reason": reason}
        )

    def channel_error(self, connection: Connection, channel: i64, error: ProtocolException) -> None:
        """A channel is closed for ``error``."""
        self._channel_errors.tell({**_who(connection), "channel": int(channel), **_what(error)})

    def consumer_timed_out(self, connection: Connection, channel: i64, tag: str, queue: str, timeout_ms: i64) -> None:
        """A consumer is cancelled that has had a message for too long."""
        about = {"channel": int(channel), "consumer_tag": tag, "queue": queue, "timeout_ms": int(timeout_ms)}
        self._timeouts.tell({**_who(connection), **about})

    def connection_error(self, connection: Connection, error: ProtocolException) -> None:
        """A connection is closed for ``error``, or because the node or an operator wants it."""
        if error.code == CONNECTION_FORCED:
            self._forced.tell({**_who(connection), **_what(error)})
        else:
            self._connection_errors.tell({**_who(connection), **_what(error)})

    def heartbeats_missed(self, connection: Connection) -> None:
        """A connection ends because nothing came from the client for two of these intervals."""
        self._silent.tell({**_who(connection), "timeout_s": connection.heartbeat_s})

    def send_timeout(self, connection: Connection, pending: i64) -> None:
        """A connection ends because its socket has accepted nothing for too long, with so many bytes pending."""
        timeout_ms = int(connection.server.limits.send_timeout_ms)
        self._unread.tell({**_who(connection), "timeout_ms": timeout_ms, "pending_bytes": int(pending)})


def _who(connection: Connection) -> dict[str, object]:
    session = connection.session
    return {
        "connection": session.name,
        "client": connection_name(connection.client_properties),
        "user": session.user,
        "vhost": session.vhost.name,
    }


def _what(error: ProtocolException) -> dict[str, object]:
    return {"code": error.code, "text": error.text, "method": method_name(error.class_id, error.method_id)}
