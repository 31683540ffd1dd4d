"""uvicorn's HTTP protocol on the broker's loop; imported by ``http.py`` when the first client has come.

uvicorn is used as a protocol only: no server of its own, no signals, no logging set-up, no lifespan. What it lacks is
added here: deadlines for clients that are slow on purpose, and the size limit of bodies.
"""

from __future__ import annotations

import asyncio
import email.utils
from typing import Any, Final, cast

import h11
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
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
FIRST_HEAD_TIMEOUT_S: Final = 10.0
"""A connection that has not sent a whole request head for so long is closed, whether it sends bytes or not; ..."""
HEAD_TIMEOUT_S: Final = 75.0
"""... after so long when it has asked before."""
PARTS_FREE: Final = 1024
"""So many chunks of a body may be of any size; ..."""
PART_SIZE_MIN: Final = 256
"""... of more, the mean has to be so many bytes at the least: each costs as much as some KiB in one."""
BODY_TIMEOUT_S: Final = 30.0
"""The longest pause inside a body."""


class _Protocol(H11Protocol):
    """One client."""

    def __init__(self, server: HttpServer) -> None:
        super().__init__(server.config, server.state, {}, server.loop)
        self._server = server
        self._head_timer: asyncio.TimerHandle | None = None
        self._parts = 0
        """Of the body that comes, ..."""
        self._parts_size = 0
        """... and their bytes."""
        self._next_event = self.conn.next_event
        self.conn.next_event = self._counted_event  # type: ignore[method-assign]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head(FIRST_HEAD_TIMEOUT_S)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._head_timer is not None:
            self._head_timer.cancel()
        self._server.lost(self)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self.waits():
            self._server.waiting.pop(self, None)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._await_head(HEAD_TIMEOUT_S)

    def send_400_response(self, msg: str) -> None:
        """What came is no HTTP, perhaps in the body of a request that is being answered: the application's answer goes
        nowhere then."""
        cycle = cast("RequestResponseCycle | None", self.cycle)
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True
            cycle.message_event.set()
            if cycle.scope["method"] == "HEAD":
                msg = ""  # there is no body in an answer to it, not in this one either
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        else:
            self.transport.close()  # a part of an answer has left: another one would be taken for the rest of it

    def waits(self) -> bool:
        """Whether no request is being answered."""
        cycle = cast("RequestResponseCycle | None", self.cycle)  # uvicorn leaves the None out of its type
        return cycle is None or cycle.response_complete

    def give_way(self) -> None:
        """Somebody else needs the room."""
        self.transport.abort()

    def _await_head(self, timeout_s: float) -> None:
        # uvicorn's keep-alive timer stops at the first byte: a head that comes byte by byte would hold its connection
        # for ever
        if self._head_timer is not None:
            self._head_timer.cancel()
        self._head_timer = self._server.loop.call_later(timeout_s, self._late)
        self._server.waiting.pop(self, None)
        self._server.waiting[self] = None

    def _late(self) -> None:
        if self.waits():
            self.transport.abort()

    def _counted_event(self) -> Any:
        """What uvicorn asks h11 for. Raises: RemoteProtocolError, which is answered with 400, for a body in very many
        tiny chunks."""
        event = self._next_event()
        if isinstance(event, h11.Data):
            self._parts += 1
            self._parts_size += len(event.data)
            if self._parts > PARTS_FREE and self._parts_size < self._parts * PART_SIZE_MIN:
                raise h11.RemoteProtocolError("tiny chunks")
        elif isinstance(event, h11.Request):
            self._parts = self._parts_size = 0
        return event


class HttpServer:
    """The connections of one port and the application that answers them."""

    loop: asyncio.AbstractEventLoop

    def __init__(self, app: ASGIApp) -> None:
        self.state = ServerState()
        self.config = Config(
            # Uvicorn and starlette each have their own ASGI types.
            cast("object", _Guarded(app)),  # type: ignore[arg-type]
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
        self.waiting: dict[_Protocol, None] = {}
        """Connections of which no request is being answered, the one that has waited longest first."""

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

    def make_room(self) -> bool:
        """Close the connection that has waited longest for the head of a request; whether there was one."""
        for connection in self.waiting:
            if not connection.transport.is_closing():
                connection.give_way()
                return True
        return False

    def lost(self, connection: _Protocol) -> None:
        """A connection is gone."""
        self.waiting.pop(connection, None)
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
        try:
            await self._app(scope, exchange.receive, exchange.send)
        except ClientDisconnect:
            return  # in the middle of its body: there is nobody to answer


def _head_size(scope: Scope) -> int:
    return (
        len(scope["raw_path"])
        + len(scope["query_string"])
        + sum(len(name) + len(value) for name, value in scope["headers"])
    )


class _Exchange:
    """One request and its response."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        # uvicorn knows what has come, the application only what it has read
        self._cycle = cast("RequestResponseCycle", cast(Any, receive).__self__)
        self._size = 0
        self._complete = False

    async def receive(self) -> Message:
        """The next part of the body.

        Raises: HTTPException, which the application answers: 400 if the body is too large (RabbitMQ's code), 408 if it
        stalls.
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
        """Pass a part of the response on; its head gets the date (RFC 9110 §6.6.1).

        An answer before the end of the body is the last one of its connection: the rest of the body need not be read
        then.
        """
        if message["type"] == "http.response.start":
            date = email.utils.formatdate(usegmt=True).encode()
            message["headers"] = [*message.get("headers", ()), (b"date", date)]
            if self._cycle.more_body:
                message["headers"].append((b"connection", b"close"))
        await self._send(message)
