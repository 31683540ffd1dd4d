"""What resources ask of a request: the node, who calls, names in the path, flags in the query, the JSON in the body."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast
from urllib.parse import unquote

import orjson
from starlette.requests import Request

from broker.management.answers import bad_request, not_found

if TYPE_CHECKING:
    from broker.auth.users import User
    from broker.management.listener import Listening
    from broker.protocol.server import Server
    from broker.queues.queue import Queue
    from broker.routing.exchange import Exchange
    from broker.vhost.vhost import VHost

DEFAULT_EXCHANGE: Final = "amq.default"
"""How the default exchange, whose name is empty, is called in a path."""
OVERSEERS: Final = frozenset({"administrator", "monitoring"})
"""Tags of users that see everybody's connections (RabbitMQ docs, Management: Permissions)."""


def server_of(request: Request) -> Server:
    """The node."""
    return cast("Server", request.app.state.server)


def listening_of(request: Request) -> list[Listening]:
    """The node's ports."""
    return cast("list[Listening]", request.app.state.listening)


def user_of(request: Request) -> User:
    """Who calls."""
    return cast("User", request.scope["user"])


def may_see(user: User, owner: str) -> bool:
    """Whether `user` may see, and close, a connection of the user `owner`."""
    return user.name == owner or not OVERSEERS.isdisjoint(user.tags)


def name_in(request: Request, parameter: str) -> str:
    """A name in the path, percent-decoded once; bytes that are not UTF-8 as in the broker's own names."""
    return unquote(request.path_params[parameter], errors="surrogateescape")


def vhost_of(request: Request) -> VHost:
    """The virtual host in the path. Raises: 404."""
    found = server_of(request).vhosts.get(name_in(request, "vhost"))
    if found is None:
        raise not_found()
    return found


def vhosts_of(request: Request) -> list[VHost]:
    """The virtual host in the path, or all when the path names none. Raises: 404."""
    return [vhost_of(request)] if "vhost" in request.path_params else list(server_of(request).vhosts.values())


def queue_of(request: Request) -> tuple[VHost, Queue]:
    """The queue in the path. Raises: 404."""
    vhost = vhost_of(request)
    found = vhost.queues.get(name_in(request, "name"))
    if found is None:
        raise not_found()
    return vhost, found


def exchange_of(request: Request) -> tuple[VHost, Exchange]:
    """The exchange in the path. Raises: 404."""
    vhost = vhost_of(request)
    name = name_in(request, "name")
    found = vhost.exchanges.get("" if name == DEFAULT_EXCHANGE else name)
    if found is None:
        raise not_found()
    return vhost, found


def flag(request: Request, name: str) -> bool:
    """A flag of the query."""
    return request.query_params.get(name) == "true"


async def body_of(request: Request, *required: str) -> dict[str, object]:
    """The JSON object in the body. Raises: 400 if it is none or a required key is missing."""
    raw = await request.body()
    try:
        # RabbitMQ takes an empty body for an empty object
        found = orjson.loads(raw) if raw else {}
    except orjson.JSONDecodeError:
        raise bad_request("not_json") from None
    if not isinstance(found, dict):
        raise bad_request("not_json")
    missing = [f"{{key_missing,{key}}}" for key in required if key not in found]
    if missing:
        raise bad_request("[" + ",\n ".join(missing) + "]")
    return found
