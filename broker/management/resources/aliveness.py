"""GET /api/aliveness-test/vhost: a yes, if the node can answer at all."""

from __future__ import annotations

from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from broker.management.answers import answer
from broker.management.request import vhost_of


async def get_aliveness(request: Request) -> Response:
    """GET /api/aliveness-test/vhost

    RabbitMQ 3 declares a queue and sends a message through it; since 4.0 it only answers, because a check that
    monitoring repeats every few seconds must not write. So it is here. Raises: 404 if there is no such vhost.
    """
    vhost_of(request)
    return answer({"status": "ok"})


ROUTES: Final = [Route("/api/aliveness-test/{vhost}", get_aliveness)]
