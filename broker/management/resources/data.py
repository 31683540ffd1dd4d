"""GET /api/leveret/data, POST /api/leveret/data/confirm: what was lost of the data, and that somebody knows. Our own,
not RabbitMQ's."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from broker.logsetup import get_logger
from broker.management.answers import Failure, answer, not_authorised
from broker.management.request import OVERSEERS, server_of, user_of

if TYPE_CHECKING:
    from broker.protocol.server import Server
    from broker.store.disk_error import DiskError

SHOWN_MAX: Final = 100
"""Losses in one answer."""
LOST: Final = "Data was lost, and nobody has confirmed it (leveret data confirm)"

_log = get_logger("management")


def losses(server: Server) -> list[dict[str, Any]]:
    """What was lost and was not confirmed."""
    if server.damage is None:
        return []
    return [{"found_ms": loss.found_ms, "what": loss.what} for loss in server.damage.unconfirmed()[:SHOWN_MAX]]


async def get_data(request: Request) -> Response:
    """GET /api/leveret/data. Raises: 401 if the user may not see the whole node"""
    if OVERSEERS.isdisjoint(user_of(request).tags):
        raise not_authorised("Not monitor user")
    found = losses(server_of(request))
    return answer({"status": "damaged" if found else "ok", "lost": found})


async def post_confirm(request: Request) -> Response:
    """POST /api/leveret/data/confirm: the health checks succeed again; so it stays after a restart.

    Raises: 401 if the user is no administrator, 500 if the disk does not take it
    """
    user = user_of(request)
    if "administrator" not in user.tags:
        raise not_authorised("Not administrator user")
    damage = server_of(request).damage
    if damage is None or not damage.unconfirmed():
        return answer({"confirmed": 0})
    done: asyncio.Future[DiskError | None] = asyncio.get_running_loop().create_future()
    count = damage.confirm(lambda error: None if done.done() else done.set_result(error))
    error = await done
    if error is not None:
        raise Failure(500, "internal_server_error", str(error))
    _log.warning("Lost data was confirmed", user=user.name, losses=count)
    return answer({"confirmed": count})


ROUTES: Final = [
    Route("/api/leveret/data", get_data),
    Route("/api/leveret/data/confirm", post_confirm, methods=["POST"]),
]
