"""The management API of a broker in memory: requests go straight into the application, without a socket.

broker = Broker()
api = Api(broker)
reply = await api.get("/api/queues")      # as guest, who is an administrator
assert (reply.status, reply.json) == (200, [])
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Mapping
from typing import Any, Final

from starlette.types import Message

from broker.clock import Waker
from broker.management.app import make_app
from broker.management.listener import Listening
from broker.turn import Turn
from tests.support.memory import Broker

LISTENING: Final = (Listening("amqp", "127.0.0.1", 5672), Listening("http", "127.0.0.1", 15672))


class LoopTurns(Waker):
    """Runs the broker's turns on the test's event loop, where requests wait for them."""

    def __init__(self, turn: Turn) -> None:
        self.turn = turn

    def wake(self) -> None:
        asyncio.get_running_loop().call_soon(self.turn.run)

    def on_earlier(self, deadline_ms: int) -> None:
        pass


class Reply:
    """A response."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def json(self) -> Any:
        """The body as JSON."""
        assert self.headers["content-type"] == "application/json"
        return json.loads(self.body)


class Api:
    """A caller of the API."""

    def __init__(self, broker: Broker, user: str = "guest", password: str = "guest", host: str = "127.0.0.1") -> None:
        self.broker = broker
        self.app = make_app(broker.server, LISTENING)
        self.host = host
        self.headers = {"authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}
        self.last = Reply(0, {}, b"")
        """What was answered last, also when the application raised an error behind it."""
        broker.turn.waker = LoopTurns(broker.turn)

    async def get(self, path: str) -> Reply:
        """GET"""
        return await self.call("GET", path)

    async def delete(self, path: str, headers: Mapping[str, str] | None = None) -> Reply:
        """DELETE"""
        return await self.call("DELETE", path, headers=headers)

    async def post(self, path: str, body: object) -> Reply:
        """POST of a JSON body."""
        return await self.call("POST", path, json.dumps(body).encode())

    async def call(self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Reply:
        """The response to a request; the path as it stands in the request line."""
        raw_path, _, query = path.partition("?")
        given = self.headers | dict(headers or {})
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": raw_path,
            "raw_path": raw_path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in given.items()],
            "client": (self.host, 50000),
            "server": ("127.0.0.1", 15672),
            "state": {},
        }
        waiting = [{"type": "http.request", "body": body, "more_body": False}]
        sent: list[Message] = []

        async def receive() -> Message:
            if not waiting:
                await asyncio.Event().wait()  # the caller stays until the response is there
            return waiting.pop()

        async def send(message: Message) -> None:
            sent.append(message)

        try:
            await self.app(scope, receive, send)
        finally:
            names = {name.decode(): value.decode("latin-1") for name, value in sent[0]["headers"]}
            self.last = Reply(sent[0]["status"], names, b"".join(message.get("body", b"") for message in sent[1:]))
        return self.last
