"""GET /api/queues[/vhost[/name]], DELETE /api/queues/vhost/name, DELETE /api/queues/vhost/name/contents: the queues."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from broker.management.answers import answer, done
from broker.management.lists import listed
from broker.management.loopback import Loopback, Refused
from broker.management.present import fields
from broker.management.request import flag, queue_of, server_of, user_of, vhosts_of
from broker.management.resources import bindings
from broker.management.resources.bindings import bindings_to
from broker.management.resources.consumers import rows_of
from broker.management.stats import idle_since, of_depth, of_queue, rates_of
from broker.stats import QUEUE_NAMES
from broker.wire import spec
from broker.wire.properties import timestamp_of

if TYPE_CHECKING:
    from broker.protocol.server import Server
    from broker.queues.queue import Queue
    from broker.vhost.vhost import VHost


def row(server: Server, vhost: VHost, queue: Queue) -> dict[str, Any]:
    """One queue as it is shown in a list."""
    ready = int(queue.ready_count())
    unacked = int(queue.unacked)
    figures = queue.figures
    consumers = queue.consumers
    exclusive = consumers.exclusive
    active = consumers.all[0] if consumers.single_active and consumers.all else None
    return {
        "name": queue.name,
        "vhost": vhost.name,
        "type": queue.type.name,
        "durable": queue.durable,
        "auto_delete": queue.auto_delete,
        "exclusive": queue.owner is not None,
        "arguments": fields(queue.arguments),
        "node": server.identity.node,
        "state": "running",
        "policy": None,
        "operator_policy": None,
        "effective_policy_definition": {},
        "consumers": consumers.count(),
        "consumer_capacity": 1 if consumers.group() is not None else 0,
        "consumer_utilisation": 1 if consumers.group() is not None else 0,
        "exclusive_consumer_tag": None if exclusive is None else exclusive.tag,
        "single_active_consumer_tag": None if active is None else active.tag,
        **of_depth(ready, unacked, int(queue.set_aside_count()), rates_of(QUEUE_NAMES, figures)),
        **_bytes(queue),
        "head_message_timestamp": _head_timestamp(queue),
        **idle_since(figures),
        "message_stats": of_queue(figures),
        **_members(server, queue),
    }


def _bytes(queue: Queue) -> dict[str, int]:
    size = int(queue.ready_bytes())
    return {} if size < 0 else {"message_bytes_ready": size}


def _members(server: Server, queue: Queue) -> dict[str, Any]:
    """Where a replicated queue is, and what only such a queue counts."""
    if not queue.type.is_replicated:
        return {}
    node = server.identity.node
    return {
        "leader": node,
        "members": [node],
        "online": [node],
        "messages_delayed": int(queue.delayed),
        "messages_dlx": int(queue.dead_count()),
        "message_bytes_dlx": int(queue.dead_bytes()),
    }


def _head_timestamp(queue: Queue) -> int | None:
    """The timestamp property of the next message; None if it has none, or is on disk only."""
    message = queue.head()
    return None if message is None else timestamp_of(message)


class _Rows:
    def __init__(self, server: Server) -> None:
        self._server = server

    def row(self, found: tuple[VHost, Queue]) -> dict[str, Any]:
        """One queue of a list."""
        return row(self._server, *found)


async def get_queues(request: Request) -> Response:
    """GET /api/queues, GET /api/queues/vhost"""
    found = ((vhost, queue) for vhost in vhosts_of(request) for queue in list(vhost.queues.values()))
    return await listed(request, found, _Rows(server_of(request)).row)


async def get_queue(request: Request) -> Response:
    """GET /api/queues/vhost/name"""
    server = server_of(request)
    vhost, queue = queue_of(request)
    details = {"consumer_details": rows_of(server, vhost, queue), "incoming": [], "deliveries": []}
    return answer(row(server, vhost, queue) | details)


async def get_bindings(request: Request) -> Response:
    """GET /api/queues/vhost/name/bindings"""
    return await listed(request, bindings_to(*queue_of(request)), bindings.row)


async def delete_queue(request: Request) -> Response:
    """DELETE /api/queues/vhost/name. Raises: 401 without permission, 400 if it is exclusive, in use (if-unused) or not
    empty (if-empty)."""
    vhost, queue = queue_of(request)
    bits = flag(request, "if-unused") | flag(request, "if-empty") << 1
    async with Loopback(server_of(request), vhost, user_of(request).name) as client:
        try:
            await client.call(spec.QUEUE_DELETE, ("short", 0), ("shortstr", queue.name), ("octet", bits))
        except Refused as refused:
            raise refused.failure from None
    return done()


async def purge_queue(request: Request) -> Response:
    """DELETE /api/queues/vhost/name/contents. Raises: 401 without permission, 400 if it is exclusive to a
    connection."""
    vhost, queue = queue_of(request)
    async with Loopback(server_of(request), vhost, user_of(request).name) as client:
        try:
            await client.call(spec.QUEUE_PURGE, ("short", 0), ("shortstr", queue.name), ("octet", 0))
        except Refused as refused:
            raise refused.failure from None
    return done()


ROUTES: Final = [
    Route("/api/queues", get_queues),
    Route("/api/queues/{vhost}", get_queues),
    Route("/api/queues/{vhost}/{name}", get_queue),
    Route("/api/queues/{vhost}/{name}", delete_queue, methods=["DELETE"]),
    Route("/api/queues/{vhost}/{name}/bindings", get_bindings),
    Route("/api/queues/{vhost}/{name}/contents", purge_queue, methods=["DELETE"]),
]
