"""GET /api/channels, GET /api/connections/name/channels: the channels of the clients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from broker.management.answers import answer
from broker.management.lists import listed
from broker.management.resources.connections import connection_of, ends, visible
from broker.management.stats import idle_since, of_channel

if TYPE_CHECKING:
    from broker.protocol.channel import Channel
    from broker.protocol.connection import Connection


def row(found: tuple[Connection, Channel]) -> dict[str, Any]:
    """One channel."""
    connection, channel = found
    session = connection.session
    confirms, transaction = channel.confirms, channel.transaction
    peer_host, peer_port, _, _ = ends(session.name)
    return {
        "name": f"{session.name} ({channel.number})",
        "number": int(channel.number),
        "node": connection.server.identity.node,
        "user": session.user,
        "user_who_performed_action": session.user,
        "vhost": session.vhost.name,
        "state": "closing" if channel.closing else "running" if channel.flow_active else "flow",
        "connection_details": {"name": session.name, "peer_host": peer_host, "peer_port": peer_port},
        "confirm": confirms is not None,
        "transactional": transaction is not None,
        "consumer_count": len(channel.consumers),
        "prefetch_count": int(channel.prefetch_new),
        "global_prefetch_count": 0 if channel.window is None else int(channel.window.size),
        "messages_unacknowledged": int(channel.unacked.count),
        "oldest_unacknowledged_ms": int(channel.unacked.oldest_ms()),
        "messages_unconfirmed": 0 if confirms is None else confirms.unconfirmed,
        "messages_uncommitted": 0 if transaction is None else len(transaction.pending),
        "acks_uncommitted": 0 if transaction is None else len(transaction.settlements),
        **idle_since(channel.figures),
        "message_stats": of_channel(channel.figures),
    }


async def get_channels(request: Request) -> Response:
    """GET /api/channels"""
    found = ((connection, channel) for connection in visible(request) for channel in list(connection.channels.values()))
    return await listed(request, found, row)


async def get_channels_of(request: Request) -> Response:
    """GET /api/connections/name/channels"""
    connection = connection_of(request)
    return answer([row((connection, channel)) for channel in connection.channels.values()])


ROUTES: Final = [Route("/api/channels", get_channels), Route("/api/connections/{name}/channels", get_channels_of)]
