"""GET /api/policies[/vhost]: the policies. There are none yet; tools that list them before they act go on."""

from __future__ import annotations

from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from broker.management.answers import answer
from broker.management.request import vhosts_of


async def get_policies(request: Request) -> Response:
    """GET /api/policies, GET /api/policies/vhost. Raises: 404 if there is no such vhost."""
    vhosts_of(request)
    return answer([])


ROUTES: Final = [Route("/api/policies", get_policies), Route("/api/policies/{vhost}", get_policies)]
