"""A port for HTTP: open from the start, the code behind it imported by its first connection.

HTTP itself is uvicorn's and h11's work (``http_uvicorn.py``); together with the application they cost 10 MB and a tenth
of a second, which a node that nobody asks does not pay. They are imported in a thread of their own, so that messages
flow on meanwhile: the first connections wait, with what they have sent, until it is done. Everything else runs on the
loop of whoever opened the port.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import TYPE_CHECKING, Final, cast

from broker.logsetup import get_logger
from broker.net.ports import Port, open_port

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from broker.net.admission import Admission
    from broker.net.http_uvicorn import HttpServer

_STREAMING: Final = "anyio._backends._asyncio"
"""What the first response in pieces would import, on the loop's own thread."""
CONNECTIONS_MAX: Final = 256
"""Open connections of one port, or a quarter of the descriptors; more are closed as soon as they are accepted."""

_log = get_logger("http")


class HttpListener:
    """One HTTP port. `load` makes the application; it is called once, in another thread, so it must not touch the
    broker's state."""

    def __init__(self, load: Callable[[], ASGIApp], admission: Admission) -> None:
        self._load = load
        self._admission = admission
        self._connections_max = min(CONNECTIONS_MAX, admission.newcomers_max)
        self._listener: Port | None = None
        self._loading: asyncio.Task[None] | None = None
        self._server: HttpServer | None = None
        self._early: dict[_Early, None] = {}
        """In the order in which they came."""
        self.port = 0

    async def open(self, host: str, port: int, backlog: int = 128) -> None:
        """Open the port (0: a free one, which ``port`` then names).

        Raises OSError if the address is taken or not allowed.
        """
        self._listener = await open_port(self._accept, host, port, backlog)
        self.port = self._listener.number

    @property
    def connections(self) -> int:
        """Connections that are open."""
        return len(self._early) + (self._server.connections if self._server is not None else 0)

    def _accept(self) -> asyncio.BaseProtocol:
        if self.connections >= self._connections_max and not self._make_room():
            return _Refused()
        if self._server is None and self._loading is None:
            self._loading = asyncio.get_running_loop().create_task(self._bring_up())
        return _Early(self)

    def _make_room(self) -> bool:
        """Close a connection that has asked for nothing yet, or no more; whether there was one."""
        if self._server is not None and self._server.make_room():
            return True
        for client in self._early:
            if not client.has_asked():
                client.abort()
                return True
        return False

    def welcome(self, client: _Early, transport: asyncio.Transport) -> None:
        """A client has connected: it talks to the server, or waits until there is one."""
        if self._admission.refuses(transport):
            return
        self._early[client] = None
        if self._server is not None:
            client.hand_over(self._server.protocol())

    def gone(self, client: _Early) -> None:
        """A client has not waited, or waits no more."""
        self._early.pop(client, None)

    async def _bring_up(self) -> None:
        loop = asyncio.get_running_loop()
        executor = ThreadPoolExecutor(1, "http-import")
        try:
            server = await loop.run_in_executor(executor, _import_server, self._load)
        except Exception:
            _log.exception("HTTP cannot be served", port=self.port)
            self._loading = None
            for client in list(self._early):
                client.abort()
            return
        finally:
            executor.shutdown(wait=False)
        server.start(loop)
        self._server = server
        for client in list(self._early):
            client.hand_over(server.protocol())

    def close(self) -> None:
        """Take no more connections; those that are idle are closed, the others when their response has left."""
        if self._listener is not None:
            self._listener.close()
        for client in list(self._early):
            client.abort()
        if self._server is not None:
            self._server.shut_down()

    async def wait_closed(self, timeout_s: float) -> None:
        """Returns when the last response has left, or after the timeout; what is open then is cut off."""
        if self._loading is not None and not self._loading.done():
            self._loading.cancel()
        if self._server is not None:
            await self._server.wait_closed(timeout_s)


def _import_server(load: Callable[[], ASGIApp]) -> HttpServer:
    from broker.net.http_uvicorn import HttpServer

    import_module(_STREAMING)
    return HttpServer(load())


class _Early(asyncio.Protocol):
    """A client that is new. Where there is nobody to talk to yet, its first bytes wait here."""

    def __init__(self, listener: HttpListener) -> None:
        self._listener = listener
        self._transport: asyncio.Transport | None = None
        self._received: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client connected."""
        self._transport = cast("asyncio.Transport", transport)
        self._listener.welcome(self, self._transport)

    def data_received(self, data: bytes) -> None:
        """The first bytes: one read is kept, the rest stays in the socket."""
        assert self._transport is not None
        self._received.append(data)
        self._transport.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """It did not wait."""
        self._listener.gone(self)

    def hand_over(self, protocol: asyncio.Protocol) -> None:
        """The real protocol takes the connection from here."""
        transport = self._transport
        assert transport is not None
        self._listener.gone(self)
        if transport.is_closing():
            return
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        if self._received:
            transport.resume_reading()
            for data in self._received:
                protocol.data_received(data)

    def has_asked(self) -> bool:
        """Whether it has sent the head of a request, or is about to be closed."""
        return (
            self._transport is None
            or self._transport.is_closing()
            or any(b"\r\n\r\n" in data for data in self._received)
        )

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()


class _Refused(asyncio.Protocol):
    """A client too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Close at once: an answer would cost what the limit is there to save."""
        cast("asyncio.Transport", transport).abort()
