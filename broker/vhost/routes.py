"""The routes of a virtual host that are remembered: where messages with the same basic.publish arguments go.

A route is forgotten when something that it goes through changes, and no other one is: clients that declare and delete a
queue for each request would have publishers to large topic exchanges look for their queues again and again. Declaring
or deleting a queue is about its name in the default exchange, and deleting one about the exchanges it is bound to; a
binding about its source; a change of an exchange about itself; and all of these about the exchanges that lead there, by
bindings or as their alternate exchange.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, final

from mypy_extensions import mypyc_attr

from broker.destination import Destination, MessageTarget
from broker.discard import discard
from broker.message import make_tail
from broker.native import i64
from broker.queues.queue import Queue
from broker.routing.exchange import Exchange
from broker.stats import ExchangeFigures
from broker.turn import Turn

ROUTES_MAX: Final = 20_000
"""Most routes that are remembered, and most targets in all of them together: they are forgotten in one go."""
_FEW_ROUTES: Final = 1024
_EXCHANGES_MAX: Final = 64
"""Where more exchanges lead to what has changed, everything is forgotten: to look for them would take longer."""


@final
class Route:
    """Where messages with the same basic.publish arguments go."""

    def __init__(
        self, exchange: Exchange, figures: ExchangeFigures, routing_key: str, bits: int, arguments: bytes
    ) -> None:
        self.exchange = exchange
        self.figures = figures
        """Those of the exchange."""
        self.routing_key = routing_key
        self.mandatory = bool(bits & 1)
        self.arguments = arguments
        self.stale = False
        """It is forgotten: ask ``VHost.route`` again."""
        self.targets: list[MessageTarget] | None = []
        """None while nobody has followed the bindings to their end, which takes long (``VHost.begin_routing``)."""
        self.by_message = False
        """The targets depend on each message and are not known here."""
        self.tail = make_tail(
            exchange.name.encode("utf-8", "surrogateescape"), routing_key.encode("utf-8", "surrogateescape")
        )

    def size(self) -> i64:
        """How many targets it keeps."""
        targets = self.targets
        return 0 if targets is None else len(targets)


@mypyc_attr(allow_interpreted_subclasses=True)
class RoutesWatcher:
    """Whoever wants to know that messages may go somewhere else than before."""

    def routes_changed(self) -> None:
        """An exchange, a queue or a binding came or is gone."""
        raise NotImplementedError


@final
class Routes:
    """Those of one virtual host. Whatever changes there is told here."""

    def __init__(self, turn: Turn, sources_of: Callable[[Destination], Iterable[Exchange]]) -> None:
        self.watcher: RoutesWatcher | None = None
        self._turn = turn
        self._sources_of = sources_of
        """The exchanges that are bound to something."""
        self._by_arguments: dict[bytes, Route] = {}
        self._by_queue_name: dict[str, list[Route]] = {}
        """Those of the default exchange."""
        self._by_exchange: dict[Exchange, list[Route]] = {}
        """Those of the others."""
        self._alternate_of: dict[str, dict[Exchange, None]] = {}
        """The exchanges whose alternate exchange has this name, whether there is one or not."""
        self._targets: i64 = 0
        """In all of them together."""

    def count(self) -> int:
        """How many routes are remembered."""
        return len(self._by_arguments)

    def get(self, arguments: bytes) -> Route | None:
        """The route for these arguments of a basic.publish, if it is remembered."""
        return self._by_arguments.get(arguments)

    def add(self, route: Route) -> None:
        """Remember a route that was just found."""
        size = route.size()
        if len(self._by_arguments) >= ROUTES_MAX or self._targets + size > ROUTES_MAX:
            self.forget_all()
        self._targets += size
        self._by_arguments[route.arguments] = route
        exchange = route.exchange
        if exchange.name:
            of_exchange = self._by_exchange.get(exchange)
            if of_exchange is None:
                self._by_exchange[exchange] = [route]
            else:
                of_exchange.append(route)
            return
        of_name = self._by_queue_name.get(route.routing_key)
        if of_name is None:
            self._by_queue_name[route.routing_key] = [route]
        else:
            of_name.append(route)

    def learn(self, route: Route, targets: list[MessageTarget]) -> None:
        """That is where a route leads whose targets were not known; too many of them are not remembered."""
        if route.stale or len(targets) > ROUTES_MAX:
            return
        if self._targets + len(targets) > ROUTES_MAX:
            self.forget_all()
            route.stale = False
            route.targets = targets
            self.add(route)
            return
        route.targets = targets
        self._targets += len(targets)

    def forget_all(self) -> None:
        """Forget everything."""
        routes = self._by_arguments
        for route in routes.values():
            route.stale = True
        if len(routes) > _FEW_ROUTES:
            discard(self._turn, [list(routes.values())])
        self._by_arguments = {}
        self._by_queue_name = {}
        self._by_exchange = {}
        self._targets = 0

    # ---- changes -----------------------------------------------------------------------------------------------------

    def name_changed(self, name: str) -> None:
        """Another queue than before has this name, or none."""
        if self.watcher is not None:
            self.watcher.routes_changed()
        routes = self._by_queue_name.pop(name, None)
        if routes is not None:
            self._forget(routes)

    def queue_deleted(self, queue: Queue) -> None:
        """It is gone, its bindings are not undone yet."""
        self.name_changed(queue.name)
        self._changed(self._sources_of(queue))

    def exchange_added(self, exchange: Exchange) -> None:
        """There is a new exchange."""
        alternate = exchange.alternate_exchange
        if alternate:
            users = self._alternate_of.get(alternate)
            if users is None:
                self._alternate_of[alternate] = {exchange: None}
            else:
                users[exchange] = None
        self.exchange_changed(exchange)

    def exchange_changed(self, exchange: Exchange) -> None:
        """It has a binding more or less, or is gone (``deleted``), its bindings not undone yet."""
        if exchange.deleted:
            alternate = exchange.alternate_exchange
            users = self._alternate_of.get(alternate)
            if users is not None:
                users.pop(exchange, None)
                if not users:
                    del self._alternate_of[alternate]
        self._changed((exchange,))

    def _changed(self, exchanges: Iterable[Exchange]) -> None:
        """Forget the routes that go through one of these."""
        if self.watcher is not None:
            self.watcher.routes_changed()
        if not self._by_exchange:
            return
        seen: dict[Exchange, None] = {}
        waiting: list[Exchange] = []
        self._reach(exchanges, seen, waiting)
        while waiting:
            if len(seen) > _EXCHANGES_MAX:
                self.forget_all()
                return
            exchange = waiting.pop()
            routes = self._by_exchange.pop(exchange, None)
            if routes is not None:
                self._forget(routes)
            self._reach(self._sources_of(exchange), seen, waiting)
            self._reach(self._alternate_of.get(exchange.name, ()), seen, waiting)

    def _reach(self, exchanges: Iterable[Exchange], seen: dict[Exchange, None], waiting: list[Exchange]) -> None:
        for exchange in exchanges:
            if exchange not in seen:
                seen[exchange] = None
                waiting.append(exchange)
                if len(seen) > _EXCHANGES_MAX:
                    return

    def _forget(self, routes: list[Route]) -> None:
        """These are in no list any more."""
        by_arguments = self._by_arguments
        for route in routes:
            route.stale = True
            self._targets -= route.size()
            del by_arguments[route.arguments]
        if len(routes) > _FEW_ROUTES:
            discard(self._turn, [routes])
