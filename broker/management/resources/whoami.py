"""GET /api/whoami: the user that asks."""

from __future__ import annotations

from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from broker.management.answers import answer
from broker.management.request import user_of


async def get_whoami(request: Request) -> Response:
    """GET /api/whoami"""
    user = user_of(request)
    return answer({"name": user.name, "tags": list(user.tags)})


ROUTES: Final = [Route("/api/whoami", get_whoami)]
