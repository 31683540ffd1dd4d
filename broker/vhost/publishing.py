"""Publishing into a virtual host: where a message goes, and the one way in which it gets there.

Channels, transactions, dead letters and the management API (as a client of its own) all end in ``publish``: what is to
be done with each message, whoever sends it, has its place there.
"""

from __future__ import annotations

from typing import Final, cast, final

from broker.auth.access import WRITE, Access
from broker.destination import MessageTarget
from broker.errors import (
    ACCESS_REFUSED,
    NOT_FOUND,
    NOT_IMPLEMENTED,
    ChannelException,
    ConnectionException,
    exchange_label,
)
from broker.message import ACCEPTED, REJECTED, Message
from broker.native import i64
from broker.promises import PromiseSources
from broker.routing.exchange import Exchange
from broker.routing.registry import TOPIC
from broker.routing.routed import Routed
from broker.routing.router import CarbonCopies, Routing
from broker.stats import ExchangeFigures, Sampler
from broker.vhost.environment import Tables
from broker.vhost.names import REPLY_TO_PREFIX
from broker.vhost.routes import Route, Routes
from broker.wire.methods import split_publish

_KEYS_AT_ONCE: Final[i64] = 32
"""More routing keys than these are read step by step."""
REFUSED: Final[i64] = 1
"""A bit of what ``publish`` returns: a target has refused the message."""
PENDING_USUALLY: Final[i64] = 2
"""The same: a target's promise is the usual source's (``PromiseSources.usual``)."""
PENDING_ELSEWHERE: Final[i64] = 4
"""The same: a target's promise is another source's, which was added to the ``PromiseSources``."""


def immediate() -> ConnectionException:
    """The answer to basic.publish with immediate=true."""
    return ConnectionException(NOT_IMPLEMENTED, "immediate=true", 60, 40)


def publish(
    source: ExchangeFigures, targets: list[MessageTarget], message: Message, promised_by: PromiseSources | None
) -> i64:
    """Hand a message to every target that is still there; what they have answered, as bits.

    ``source`` is what is counted for the exchange that it was published to; ``promised_by`` takes the sources of
    promises that its publisher has to ask, if that wants a promise.
    """
    outcome: i64 = 0
    for target in targets:
        if target.deleted:
            continue
        figures = target.figures
        if figures is None or figures.resting:
            figures = target.stirred(source.sampler)
        figures.publish += 1
        source.publish_out += 1
        answer = target.enqueue(message)
        if answer == ACCEPTED:
            continue
        if answer == REJECTED:
            outcome |= REFUSED
        elif promised_by is None or target.promises is promised_by.usual:
            outcome |= PENDING_USUALLY
        else:
            promised_by.add(target.promises)
            outcome |= PENDING_ELSEWHERE
    return outcome


@final
class Publishing:
    """The routes of one virtual host; ``exchanges`` is the host's own dictionary."""

    def __init__(self, tables: Tables, routes: Routes, sampler: Sampler) -> None:
        self.reply_targets: dict[str, MessageTarget] = {}
        """Direct reply-to: token -> where its replies go."""
        self._vhost = tables.vhost
        self._exchanges = tables.exchanges
        self._router = tables.router
        self._routes = routes
        self._sampler = sampler

    def route(self, arguments: bytes, access: Access) -> Route:
        """The route for the arguments of a basic.publish (as they stand in the frame, after the method id), if that may
        be used: those that are remembered are everybody's.

        Raises: ACCESS_REFUSED (403) if the user may not write there, or the exchange is internal; NOT_FOUND (404) if
        there is no such exchange, NOT_IMPLEMENTED (540) for immediate=true, FRAME_ERROR (501) if the arguments do not
        fit the frame.
        """
        found = self._routes.get(arguments)
        if found is not None:
            if not access.is_full:
                access.check_exchange(WRITE, found.exchange.name)
                self._check_topic(found.exchange, found.routing_key, access)
            return found
        raw_name, raw_key, bits = split_publish(arguments)
        if bits & 2:
            raise immediate()
        name = raw_name.decode("utf-8", "surrogateescape")
        key = raw_key.decode("utf-8", "surrogateescape")
        access.check_exchange(WRITE, name)
        exchange = self._exchanges.get(name)
        if exchange is None:
            raise ChannelException(NOT_FOUND, f"no exchange '{name}' in vhost '{self._vhost}'")
        if exchange.internal:
            raise ChannelException(ACCESS_REFUSED, f"cannot publish to internal {exchange_label(name, self._vhost)}")
        self._check_topic(exchange, key, access)
        route = Route(exchange, exchange.stirred(self._sampler), key, bits, arguments)
        if not name and key.startswith(REPLY_TO_PREFIX):
            reply = self.reply_targets.get(key[len(REPLY_TO_PREFIX) :])
            if reply is not None:
                route.targets = [reply]
        else:
            route.targets = cast("list[MessageTarget] | None", self._router.attempt(exchange, [key], None))
            route.by_message = route.targets is not None and self._router.used_message
        self._routes.add(route)
        return route

    def _check_topic(self, exchange: Exchange, key: str, access: Access) -> None:
        if exchange.type_name == TOPIC:
            access.check_topic(WRITE, exchange.name, key)

    def routes_known(self) -> int:
        """How many routes are remembered."""
        return self._routes.count()

    def targets_for(self, route: Route, routed: Routed) -> list[MessageTarget] | None:
        """The targets of one message that matters itself: headers exchanges, CC and BCC; None if that takes long
        (``begin``).

        Raises: PRECONDITION_FAILED (406) if CC or BCC is not an array of strings.
        """
        keys = [route.routing_key]
        if not CarbonCopies(routed.headers).read(keys, _KEYS_AT_ONCE):
            return None
        return cast("list[MessageTarget] | None", self._router.attempt(route.exchange, keys, routed))

    def begin(self, route: Route, routed: Routed, copies: bool) -> Routing:
        """Find the queues of one message step by step, where ``route`` or ``targets_for`` could not say at once."""
        return self._router.begin(
            route.exchange, [route.routing_key], routed, CarbonCopies(routed.headers) if copies else None
        )

    def learn(self, route: Route, routing: Routing) -> None:
        """That is what was found for a message of this route."""
        if not routing.used_message:
            self._routes.learn(route, cast("list[MessageTarget]", routing.found))

    def add_reply_target(self, token: str, target: MessageTarget) -> None:
        """Direct reply-to: replies for ``token`` go to ``target``."""
        self.reply_targets[token] = target
        self._routes.name_changed(REPLY_TO_PREFIX + token)

    def remove_reply_target(self, token: str) -> None:
        """Direct reply-to: the requester is gone, its replies are dropped."""
        if self.reply_targets.pop(token, None) is not None:
            self._routes.name_changed(REPLY_TO_PREFIX + token)
