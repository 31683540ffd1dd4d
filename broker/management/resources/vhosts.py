"""GET /api/vhosts[/name]: the virtual hosts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from broker.management.answers import answer
from broker.management.lists import listed
from broker.management.request import server_of, vhost_of

if TYPE_CHECKING:
    from broker.protocol.server import Server
    from broker.vhost.vhost import VHost


class _Rows:
    def __init__(self, server: Server) -> None:
        self._node = server.identity.node

    def row(self, vhost: VHost) -> dict[str, Any]:
        """One virtual host."""
        return {
            "name": vhost.name,
            "description": "",
            "tags": [],
            "default_queue_type": "classic",
            "metadata": {"description": "", "tags": []},
            "tracing": False,
            "cluster_state": {self._node: "running"},
        }


async def get_vhosts(request: Request) -> Response:
    """GET /api/vhosts"""
    server = server_of(request)
    return await listed(request, list(server.vhosts.values()), _Rows(server).row)


async def get_vhost(request: Request) -> Response:
    """GET /api/vhosts/name"""
    return answer(_Rows(server_of(request)).row(vhost_of(request)))


ROUTES: Final = [Route("/api/vhosts", get_vhosts), Route("/api/vhosts/{vhost}", get_vhost)]
