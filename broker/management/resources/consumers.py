"""GET /api/consumers[/vhost]: who consumes what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from broker.management.lists import listed
from broker.management.request import may_see, server_of, user_of, vhosts_of
from broker.management.resources.connections import ends
from broker.protocol.channel_consumer import ChannelConsumer
from broker.queues.consumer_timeout import has_timeout

if TYPE_CHECKING:
    from broker.protocol.server import Server
    from broker.queues.queue import Queue
    from broker.vhost.vhost import VHost


def row(server: Server, vhost: VHost, queue: Queue, consumer: ChannelConsumer) -> dict[str, Any]:
    """One consumer."""
    session = consumer.channel.session
    number = int(consumer.channel.number)
    peer_host, peer_port, _, _ = ends(session.name)
    single = queue.consumers.single_active
    waiting = single and queue.consumers.all[:1] != [consumer]
    return {
        "consumer_tag": consumer.tag,
        "queue": {"name": queue.name, "vhost": vhost.name},
        "ack_required": not consumer.no_ack,
        "active": not waiting,
        "activity_status": "waiting" if waiting else "single_active" if single else "up",
        "exclusive": consumer.exclusive,
        "prefetch_count": int(consumer.prefetch),
        # the other arguments of basic.consume are not kept
        "arguments": {"x-priority": consumer.priority} if consumer.priority else {},
        "consumer_timeout": int(consumer.timeout_ms if has_timeout(queue) else server.limits.consumer_timeout_ms),
        "channel_details": {
            "name": f"{session.name} ({number})",
            "number": number,
            "connection_name": session.name,
            "node": server.identity.node,
            "peer_host": peer_host,
            "peer_port": peer_port,
            "user": session.user,
        },
    }


def rows_of(server: Server, vhost: VHost, queue: Queue) -> list[dict[str, Any]]:
    """The consumers of one queue."""
    return [
        row(server, vhost, queue, consumer) for consumer in queue.consumers.all if isinstance(consumer, ChannelConsumer)
    ]


class _Rows:
    def __init__(self, server: Server) -> None:
        self._server = server

    def row(self, found: tuple[VHost, Queue, ChannelConsumer]) -> dict[str, Any]:
        """One consumer of a list."""
        return row(self._server, *found)


async def get_consumers(request: Request) -> Response:
    """GET /api/consumers, GET /api/consumers/vhost"""
    user = user_of(request)
    found = (
        (vhost, queue, consumer)
        for vhost in vhosts_of(request)
        for queue in list(vhost.queues.values())
        for consumer in list(queue.consumers.all)
        if isinstance(consumer, ChannelConsumer) and may_see(user, consumer.channel.session.user)
    )
    return await listed(request, found, _Rows(server_of(request)).row)


ROUTES: Final = [Route("/api/consumers", get_consumers), Route("/api/consumers/{vhost}", get_consumers)]
