"""The port of the management API."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from broker.net.http import HttpListener

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from broker.net.admission import Admission
    from broker.protocol.server import Server


class Listening(NamedTuple):
    """A port of this node, as the API shows it."""

    protocol: str
    """RabbitMQ's name for what is spoken there: amqp, http, http/prometheus."""
    host: str
    port: int


class _Application:
    """Makes the application when the first client has come."""

    def __init__(self, server: Server, listening: Sequence[Listening]) -> None:
        self._server = server
        self._listening = listening

    def __call__(self) -> ASGIApp:
        from broker.management.app import make_app

        return make_app(self._server, self._listening)


async def listen(
    server: Server, admission: Admission, host: str, port: int, others: Sequence[Listening]
) -> HttpListener:
    """Open the management port (0: a free one); `others` are the node's other ports. Raises OSError if it is taken."""
    listening = list(others)
    listener = HttpListener(_Application(server, listening), admission)
    await listener.open(host, port)
    listening.append(Listening("http", host, listener.port))
    return listener
