"""The port of the metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker.net.http import HttpListener

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from broker.net.admission import Admission
    from broker.protocol.server import Server


class _Application:
    """Makes the application when the first client has come."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def __call__(self) -> ASGIApp:
        from broker.metrics.app import make_app

        return make_app(self._server)


async def listen(server: Server, admission: Admission, host: str, port: int) -> HttpListener:
    """Open the metrics port (0: a free one). Raises OSError if it is taken."""
    listener = HttpListener(_Application(server), admission)
    await listener.open(host, port)
    return listener
