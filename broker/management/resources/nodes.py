"""GET /api/nodes[/name], GET /api/health/checks/{alarms,local-alarms}: the node's resources, and whether they are
short."""

from __future__ import annotations

import os
import resource
from typing import TYPE_CHECKING, Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from broker.alarms import DISK, MEMORY
from broker.management.answers import answer, not_found
from broker.management.request import name_in, server_of
from broker.management.resources.data import LOST, losses
from broker.watermarks import UNKNOWN, resident_bytes

if TYPE_CHECKING:
    from broker.protocol.server import Server

_CLUSTER: Final = "There are alarms in effect in the cluster"
_NODE: Final = "There are alarms in effect on the node"


def _open_files() -> int:
    try:
        return len(os.listdir("/proc/self/fd")) - 1  # the one that lists them
    except OSError:
        return 0


def row(server: Server) -> dict[str, Any]:
    """This node: numbers where clients read numbers, also for what only an Erlang runtime has (then 0)."""
    alarms = server.alarms
    figures = alarms.figures
    used = resident_bytes()
    files_max = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return {
        "name": server.identity.node,
        "type": "disc",
        "running": True,
        "being_drained": False,
        "uptime": int(server.clock.monotonic_ms() - server.started_ms),
        "os_pid": str(os.getpid()),
        "processors": os.cpu_count() or 1,
        "run_queue": 0,
        "rates_mode": "basic",
        "mem_used": 0 if used == UNKNOWN else used,
        "mem_limit": figures.memory_limit,
        "mem_alarm": alarms.is_raised(MEMORY),
        "mem_calculation_strategy": "rss",
        "disk_free": max(0, figures.disk_free),
        "disk_free_limit": figures.disk_free_limit,
        "disk_free_alarm": alarms.is_raised(DISK),
        "fd_used": _open_files(),
        "fd_total": files_max,
        "sockets_used": server.sockets_open,
        "sockets_total": server.sockets_max or files_max,
        "proc_used": 0,
        "proc_total": 0,
        "partitions": [],
        "enabled_plugins": [],
        "applications": [
            {"name": "rabbit", "description": server.identity.product, "version": server.identity.product_version},
        ],
    }


async def get_nodes(request: Request) -> Response:
    """GET /api/nodes"""
    return answer([row(server_of(request))])


async def get_node(request: Request) -> Response:
    """GET /api/nodes/name. Raises: 404 if it is another node's name."""
    server = server_of(request)
    if name_in(request, "name") != server.identity.node:
        raise not_found()
    return answer(row(server))


def _check(server: Server, reason: str) -> Response:
    raised = [name for name in (MEMORY, DISK) if server.alarms.is_raised(name)]
    lost = losses(server)
    if not raised and not lost:
        return answer({"status": "ok"})
    found: dict[str, Any] = {"status": "failed", "reason": reason if raised else LOST}
    found["alarms"] = [{"node": server.identity.node, "resource": name} for name in raised]
    if lost:
        found["lost"] = lost
    return answer(found, 503)


async def check_alarms(request: Request) -> Response:
    """GET /api/health/checks/alarms: 200, or 503 while there is an alarm anywhere in the cluster, or unconfirmed
    loss."""
    return _check(server_of(request), _CLUSTER)


async def check_local_alarms(request: Request) -> Response:
    """GET /api/health/checks/local-alarms: 200, or 503 while there is an alarm on this node, or unconfirmed loss."""
    return _check(server_of(request), _NODE)


ROUTES: Final = [
    Route("/api/nodes", get_nodes),
    Route("/api/nodes/{name}", get_node),
    Route("/api/health/checks/alarms", check_alarms),
    Route("/api/health/checks/local-alarms", check_local_alarms),
]
