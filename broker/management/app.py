"""The management API: RabbitMQ's paths, methods, fields and words (RabbitMQ docs, Management HTTP API), one resource a
file.

Everything runs on the broker's loop: a resource reads the broker's state as it is, without locks, and changes it as a
client of its own (``loopback.py``). Every endpoint is a coroutine: starlette would run a plain function in a thread,
where no state may be touched.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from broker.management.answers import Failure, on_crash, on_failure, on_http_error
from broker.management.authentication import Authentication
from broker.management.resources import (
    aliveness,
    bindings,
    channels,
    connections,
    consumers,
    data,
    exchanges,
    messages,
    nodes,
    overview,
    policies,
    queues,
    vhosts,
    whoami,
)

if TYPE_CHECKING:
    from broker.management.listener import Listening
    from broker.protocol.server import Server


class _RawPath:
    """Routes on the path as it was sent: the vhost ``/`` arrives as ``%2F``, which must not part the path.

    Names are decoded where they are used (``request.name_in``). A slash at the end says nothing.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["path"] = scope["raw_path"].decode("ascii").removesuffix("/")
        await self._app(scope, receive, send)


def make_app(server: Server, listening: Sequence[Listening]) -> Starlette:
    """The application of one node; `listening` are its ports, read when they are asked for."""
    routes = [
        *overview.ROUTES,
        *nodes.ROUTES,
        *whoami.ROUTES,
        *vhosts.ROUTES,
        *messages.ROUTES,
        *queues.ROUTES,
        *exchanges.ROUTES,
        *bindings.ROUTES,
        *connections.ROUTES,
        *channels.ROUTES,
        *consumers.ROUTES,
        *policies.ROUTES,
        *aliveness.ROUTES,
        *data.ROUTES,
    ]
    app = Starlette(
        routes=routes,
        middleware=[Middleware(_RawPath), Middleware(Authentication, server=server)],
        exception_handlers={Failure: on_failure, HTTPException: on_http_error, Exception: on_crash},
    )
    app.router.redirect_slashes = False
    app.state.server = server
    app.state.listening = listening
    return app
