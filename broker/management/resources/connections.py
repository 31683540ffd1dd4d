"""GET /api/connections[/name], DELETE /api/connections/name: the clients that are connected."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from broker.management.answers import answer, done, not_found
from broker.management.lists import listed
from broker.management.present import fields
from broker.management.request import may_see, name_in, server_of, user_of
from broker.management.stats import counted, of_channels, rates_of
from broker.stats import CONNECTION_NAMES
from broker.wire.spec import FRAME_OVERHEAD

if TYPE_CHECKING:
    from broker.protocol.connection import Connection


def ends(name: str) -> tuple[str, int, str, int]:
    """The client's address and port and ours, from a connection's name ``HOST:PORT -> HOST:PORT``."""
    peer, _, own = name.partition(" -> ")
    peer_host, _, peer_port = peer.rpartition(":")
    host, _, port = own.rpartition(":")
    return peer_host, int(peer_port or 0), host, int(port or 0)


def visible(request: Request) -> list[Connection]:
    """The connections that the caller may see: all, or their own (RabbitMQ docs, Management: Permissions)."""
    user = user_of(request)
    return [each for each in server_of(request).connections.values() if may_see(user, each.session.user)]


def row(connection: Connection) -> dict[str, Any]:
    """One connection."""
    session = connection.session
    peer_host, peer_port, host, port = ends(session.name)
    properties = fields(connection.client_properties)
    sent = int(session.outbox.bytes_written)
    received = int(connection.input.bytes_received)
    payload_max = int(session.payload_max)
    return {
        "name": session.name,
        "node": connection.server.identity.node,
        "type": "network",
        "protocol": "AMQP 0-9-1",
        "user": session.user,
        "user_who_performed_action": session.user,
        "vhost": session.vhost.name,
        "state": "blocked" if session.blocked else "flow" if connection.input.in_flow else "running",
        "connected_at": connection.connected_at_s * 1000,
        "client_properties": properties,
        "user_provided_name": properties.get("connection_name"),
        "channels": len(connection.channels),
        "channel_max": connection.channel_max,
        "frame_max": payload_max + FRAME_OVERHEAD if payload_max else 0,
        "timeout": connection.heartbeat_s,
        "peer_host": peer_host,
        "peer_port": peer_port,
        "host": host,
        "port": port,
        "auth_mechanism": "PLAIN",
        "ssl": False,
        "ssl_protocol": None,
        "ssl_cipher": None,
        "ssl_hash": None,
        "ssl_key_exchange": None,
        "peer_cert_subject": None,
        "peer_cert_issuer": None,
        "peer_cert_validity": None,
        **counted(rates_of(CONNECTION_NAMES, session.figures), recv_oct=received, send_oct=sent),
        "send_pend": int(session.outbox.size()),
        "message_stats": of_channels(channel.figures for channel in connection.channels.values()),
    }


def connection_of(request: Request) -> Connection:
    """The connection in the path. Raises: 404, also if it is not the caller's to see."""
    name = name_in(request, "name")
    for connection in visible(request):
        if connection.session.name == name:
            return connection
    raise not_found()


async def get_connections(request: Request) -> Response:
    """GET /api/connections"""
    return await listed(request, visible(request), row)


async def get_connection(request: Request) -> Response:
    """GET /api/connections/name"""
    return answer(row(connection_of(request)))


async def delete_connection(request: Request) -> Response:
    """DELETE /api/connections/name: the client is told 320, CONNECTION_FORCED, with the reason in the header
    X-Reason."""
    connection = connection_of(request)
    connection.shut_down(request.headers.get("x-reason") or "Closed via management plugin")
    return done()


ROUTES: Final = [
    Route("/api/connections", get_connections),
    Route("/api/connections/{name}", get_connection),
    Route("/api/connections/{name}", delete_connection, methods=["DELETE"]),
]
