"""GET /api/bindings[/vhost]: the bindings, with the one that every queue has from the default exchange."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote_plus

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from broker.management.lists import listed
from broker.management.present import fields
from broker.management.request import vhosts_of
from broker.routing.exchange import Binding
from broker.wire.table import EMPTY

if TYPE_CHECKING:
    from broker.destination import Destination
    from broker.routing.exchange import Exchange
    from broker.vhost.vhost import VHost


def properties_key(binding: Binding) -> str:
    """What tells the binding from others between the same two ends, as a part of a path: routing key, ``~``, hash of
    the arguments.

    Clients take it from a list and hand it back; RabbitMQ's hash is Erlang's own, so ours differs.
    """
    key = quote_plus(binding.key, safe="", errors="surrogateescape").replace("_", "%5F").replace("~", "%7E")
    if binding.arguments.is_empty:
        return key or "~"
    digest = hashlib.sha256(binding.arguments.canonical).digest()[:4]
    return f"{key}~{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"


def row(found: tuple[VHost, Binding]) -> dict[str, Any]:
    """One binding."""
    vhost, binding = found
    return {
        "source": binding.source.name,
        "vhost": vhost.name,
        "destination": binding.destination.name,
        "destination_type": "exchange" if binding.destination.is_exchange else "queue",
        "routing_key": binding.key,
        "arguments": fields(binding.arguments),
        "properties_key": properties_key(binding),
    }


def implied(vhost: VHost, queue: Destination) -> Binding:
    """The binding from the default exchange, which is nowhere stored (RabbitMQ docs, Exchanges: Default Exchange)."""
    return Binding(vhost.exchanges[""], queue, queue.name, EMPTY)


def bindings_to(vhost: VHost, destination: Destination) -> Iterator[tuple[VHost, Binding]]:
    """The bindings that lead to a queue or exchange."""
    if not destination.is_exchange:
        yield vhost, implied(vhost, destination)
    for binding in vhost.bindings.to(destination):
        yield vhost, binding


def bindings_from(vhost: VHost, source: Exchange) -> Iterator[tuple[VHost, Binding]]:
    """The bindings that start at an exchange."""
    if source.name:
        for binding in source.bindings():
            yield vhost, binding
        return
    for queue in list(vhost.queues.values()):
        yield vhost, implied(vhost, queue)


def _all(vhosts: list[VHost]) -> Iterator[tuple[VHost, Binding]]:
    for vhost in vhosts:
        for queue in list(vhost.queues.values()):
            yield vhost, implied(vhost, queue)
        for exchange in list(vhost.exchanges.values()):
            for binding in exchange.bindings():
                yield vhost, binding


async def get_bindings(request: Request) -> Response:
    """GET /api/bindings, GET /api/bindings/vhost"""
    return await listed(request, _all(vhosts_of(request)), row)


ROUTES: Final = [Route("/api/bindings", get_bindings), Route("/api/bindings/{vhost}", get_bindings)]
