"""Who calls: HTTP Basic authentication against the broker's users, before anything else is looked at (RFC 7617)."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from broker.management.answers import failure, not_authorised

if TYPE_CHECKING:
    from broker.auth.users import User
    from broker.protocol.server import Server

REALM: Final = 'Basic realm="RabbitMQ Management"'
TAGS: Final = frozenset({"administrator", "monitoring", "policymaker", "management"})
"""A user needs one of them to use the API at all (RabbitMQ docs, Management: Permissions)."""


def credentials_in(header: str) -> tuple[str, bytes] | None:
    """User name and password of an Authorization header; None if it is not a well-formed Basic one."""
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        decoded = base64.b64decode(encoded.strip(), validate=True)
    except ValueError:  # binascii.Error is one; characters outside of ASCII are another
        return None
    name, colon, password = decoded.partition(b":")
    return (name.decode("utf-8", "surrogateescape"), password) if colon else None


class Authentication:
    """ASGI middleware: ``scope["user"]`` is a user that may be here, or the request is answered with 401."""

    def __init__(self, app: ASGIApp, server: Server) -> None:
        self._app = app
        self._server = server

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._server.clock.refresh()  # resources act on the broker, whose time stands still between two turns
        user = self._user(scope)
        if user is not None and not TAGS.isdisjoint(user.tags):
            scope["user"] = user
            await self._app(scope, receive, send)
            return
        response = failure(not_authorised("Login failed" if user is None else "Not management user"))
        response.headers["WWW-Authenticate"] = REALM
        await response(scope, receive, send)

    def _user(self, scope: Scope) -> User | None:
        header = Headers(scope=scope).get("authorization")
        credentials = credentials_in(header) if header is not None else None
        if credentials is None:
            return None
        client = scope.get("client")
        # an address that is not known is not this machine's
        peer = str(client[0]) if client else "unknown"
        user = self._server.users.authenticate(*credentials, peer)
        if user is None:
            self._server.counters.auth_attempts_failed += 1
        else:
            self._server.counters.auth_attempts_succeeded += 1
        return user
