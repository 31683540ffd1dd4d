"""uvicorn's HTTP protocol on the broker's loop; imported by ``http.py`` when the first client has come.

uvicorn is used as a protocol only: no server of its own, no signals, no logging set-up, no lifespan. What it lacks is added here:
deadlines for clients that are slow on purpose, and the size limit of bodies.
"""

from __future__ import annotations

import asyncio
import email.utils
from typing import Final, cast

from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle
from uvicorn.server import ServerState

HEAD_SIZE_MAX: Final = 16 * 1024
"""Request line and headers; more is answered with 400."""
BODY_SIZE_MAX: Final = 20_000_000
"""A request's body, announced or chunked; RabbitMQ's default for its management interface, too."""
KEEP_ALIVE_S: Final = 60
"""How long a connection may wait between two requests."""
HEAD_TIMEOUT_S: Final = 75.0
"""A connection that has not sent a whole request head for so long is closed, whether it sends bytes or not."""
BODY_TIMEOUT_S: Final = 30.0
"""The longest pause inside a body."""


class _Protocol(H11Protocol):
    """One client."""

    def __init__(self, server: HttpServer) -> None:
        super().__init__(server.config, server.state, {}, server.loop)
        self._server = server
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._head_timer is not None:
            self._head_timer.cancel()
        self._server.lost()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._await_head()

    def _await_head(self) -> None:
        # uvicorn's keep-alive timer stops at the first byte: a head that comes byte by byte would hold its connection for ever
        if self._head_timer is not None:
            self._head_timer.cancel()
        self._head_timer = self._server.loop.call_later(HEAD_TIMEOUT_S, self._late)

    def _late(self) -> None:
        cycle = cast("RequestResponseCycle | None", self.cycle)  # uvicorn leaves the None out of its type
        if cycle is None or cycle.response_complete:
            self.transport.abort()


class HttpServer:
    """The connections of one port and the application that answers them."""

    loop: asyncio.AbstractEventLoop

    def __init__(self, app: ASGIApp) -> None:
        self.state = ServerState()
        self.config = Config(
            cast("object", _Guarded(app)),  # type: ignore[arg-type]  # uvicorn and starlette each have their own ASGI types
            http="h11",
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            log_level="error",  # of uvicorn's own loggers: clients that send nonsense are not worth a line each
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            h11_max_incomplete_event_size=HEAD_SIZE_MAX,
        )
        self.config.load()
        self._empty: asyncio.Event | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Bind it to its loop, from which everything else is called."""
        self.loop = loop

    def protocol(self) -> asyncio.Protocol:
        """The protocol of a new connection."""
        return _Protocol(self)

    @property
    def connections(self) -> int:
        """Connections that are open."""
        return len(self.state.connections)

    def lost(self) -> None:
        """A connection is gone."""
        if self._empty is not None and not self.state.connections:
            self._empty.set()

    def shut_down(self) -> None:
        """Close what is idle, and what is busy once its response has left."""
        self._empty = asyncio.Event()
        for connection in list(self.state.connections):
            connection.shutdown()

    async def wait_closed(self, timeout_s: float) -> None:
        """Returns when the last connection is gone, or after the timeout; what is open then is cut off."""
        if self._empty is not None and self.state.connections:
            await asyncio.wait([self.loop.create_task(self._empty.wait())], timeout=timeout_s)
        for connection in list(self.state.connections):
            cast("_Protocol", connection).transport.abort()


class _Guarded:
    """The application behind the limits that hold for every request."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = _Exchange(receive, send)
        if _head_size(scope) > HEAD_SIZE_MAX:
            # h11 limits only what it has to wait for, not a head that arrives in one read
            await PlainTextResponse("The request head is too large\n", 400)(scope, exchange.receive, exchange.send)
            return
        await self._app(scope, exchange.receive, exchange.send)


def _head_size(scope: Scope) -> int:
    return len(scope["raw_path"]) + len(scope["query_string"]) + sum(len(name) + len(value) for name, value in scope["headers"])


class _Exchange:
    """One request and its response."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._size = 0
        self._complete = False

    async def receive(self) -> Message:
        """The next part of the body.

        Raises: HTTPException, which the application answers: 400 if the body is too large (RabbitMQ's code), 408 if it stalls.
        """
        if self._complete:
            return await self._receive()  # says when the client goes away
        try:
            message = await asyncio.wait_for(self._receive(), BODY_TIMEOUT_S)
        except TimeoutError:
            raise HTTPException(408, "The request body did not arrive in time", {"Connection": "close"}) from None
        if message["type"] == "http.request":
            self._size += len(message.get("body", b""))
            self._complete = not message.get("more_body", False)
            if self._size > BODY_SIZE_MAX:
                raise HTTPException(400, "Exceeded HTTP request body size limit")
        return message

    async def send(self, message: Message) -> None:
        """Pass a part of the response on; its head gets the date (RFC 9110 §6.6.1)."""
        if message["type"] == "http.response.start":
            date = email.utils.formatdate(usegmt=True).encode()
            message["headers"] = [*message.get("headers", ()), (b"date", date)]
        await self._send(message)
