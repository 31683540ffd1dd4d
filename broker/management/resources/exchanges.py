"""GET /api/exchanges[/vhost[/name]], DELETE /api/exchanges/vhost/name: the exchanges. In a path the default one is
``amq.default``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from broker.management.answers import answer, done
from broker.management.lists import listed
from broker.management.loopback import Loopback, Refused
from broker.management.present import fields
from broker.management.request import exchange_of, flag, server_of, user_of, vhosts_of
from broker.management.resources import bindings
from broker.management.resources.bindings import bindings_from, bindings_to
from broker.management.stats import of_exchange
from broker.wire import spec

if TYPE_CHECKING:
    from broker.routing.exchange import Exchange
    from broker.vhost.vhost import VHost


def row(found: tuple[VHost, Exchange]) -> dict[str, Any]:
    """One exchange as it is shown in a list."""
    vhost, exchange = found
    return {
        "name": exchange.name,
        "vhost": vhost.name,
        "type": exchange.type_name,
        "durable": exchange.durable,
        "auto_delete": exchange.auto_delete,
        "internal": exchange.internal,
        "arguments": fields(exchange.arguments),
        "policy": None,
        "message_stats": of_exchange(exchange.figures),
    }


async def get_exchanges(request: Request) -> Response:
    """GET /api/exchanges, GET /api/exchanges/vhost"""
    found = ((vhost, exchange) for vhost in vhosts_of(request) for exchange in list(vhost.exchanges.values()))
    return await listed(request, found, row)


async def get_exchange(request: Request) -> Response:
    """GET /api/exchanges/vhost/name"""
    return answer(row(exchange_of(request)) | {"incoming": [], "outgoing": []})


async def get_bindings_from(request: Request) -> Response:
    """GET /api/exchanges/vhost/name/bindings/source"""
    return await listed(request, bindings_from(*exchange_of(request)), bindings.row)


async def get_bindings_to(request: Request) -> Response:
    """GET /api/exchanges/vhost/name/bindings/destination"""
    return await listed(request, bindings_to(*exchange_of(request)), bindings.row)


async def delete_exchange(request: Request) -> Response:
    """DELETE /api/exchanges/vhost/name. Raises: 401 for a predeclared one and without permission, 400 if it is in
    use (if-unused)."""
    vhost, exchange = exchange_of(request)
    async with Loopback(server_of(request), vhost, user_of(request).name) as client:
        try:
            bits = int(flag(request, "if-unused"))
            await client.call(spec.EXCHANGE_DELETE, ("short", 0), ("shortstr", exchange.name), ("octet", bits))
        except Refused as refused:
            raise refused.failure from None
    return done()


ROUTES: Final = [
    Route("/api/exchanges", get_exchanges),
    Route("/api/exchanges/{vhost}", get_exchanges),
    Route("/api/exchanges/{vhost}/{name}", get_exchange),
    Route("/api/exchanges/{vhost}/{name}", delete_exchange, methods=["DELETE"]),
    Route("/api/exchanges/{vhost}/{name}/bindings/source", get_bindings_from),
    Route("/api/exchanges/{vhost}/{name}/bindings/destination", get_bindings_to),
]
