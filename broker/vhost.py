"""A virtual host: live exchanges, queues and bindings; publishing into them; who may redeclare what.

The rules of declaration (equivalence, reserved names, exclusive owners) are RabbitMQ 3.13's, with its texts. Nothing here knows
channels or sockets: an exclusive queue belongs to an *owner*, which is whatever object the caller passes.
"""

from __future__ import annotations

import base64
import secrets
from typing import Final, cast, final

from broker.bindings import Bindings, Unbinding
from broker.clock import Clock
from broker.counters import Counters
from broker.dead_letters import DeadLetters
from broker.destination import Destination, MessageTarget
from broker.errors import (
    ACCESS_REFUSED,
    NOT_FOUND,
    NOT_IMPLEMENTED,
    PRECONDITION_FAILED,
    RESOURCE_LOCKED,
    ChannelException,
    ConnectionException,
    exchange_label,
    queue_label,
)
from broker.message import DEFERRED, LOGGED, REJECTED, Confirm, Message
from broker.metadata.changes import Declared, DurableExchange, DurableQueue
from broker.metadata.journal import Journal
from broker.native import i64
from broker.queues import registry as queue_types
from broker.queues.arguments import check_argument, check_arguments
from broker.queues.declaration import QueueDeclaration, QueueEnvironment
from broker.queues.memory import QueueMemory
from broker.queues.queue import Queue, QueueHost
from broker.routes import Route, Routes
from broker.routing.direct import DefaultExchange
from broker.routing.exchange import ALTERNATE_EXCHANGE, Binding, Exchange
from broker.routing.registry import PREDECLARED, check_type, create
from broker.routing.routed import Routed
from broker.routing.router import CarbonCopies, Router, Routing
from broker.store.logs import Logs
from broker.turn import Turn
from broker.wire.methods import split_publish
from broker.wire.table import EMPTY, FieldTable

REPLY_TO: Final = "amq.rabbitmq.reply-to"
REPLY_TO_PREFIX: Final = "amq.rabbitmq.reply-to."
_KEYS_AT_ONCE: Final[i64] = 32
"""More routing keys than these are read step by step."""


def immediate() -> ConnectionException:
    """The answer to basic.publish with immediate=true."""
    return ConnectionException(NOT_IMPLEMENTED, "immediate=true", 60, 40)


def generate_name(prefix: str) -> str:
    """A name of the server's own: ``prefix`` and 22 url-safe characters."""
    return prefix + base64.urlsafe_b64encode(secrets.token_bytes(16)).rstrip(b"=").decode()


@final
class VHost(QueueHost):
    """One virtual host of a node."""

    def __init__(
        self,
        name: str,
        turn: Turn,
        clock: Clock,
        counters: Counters,
        logs: Logs | None = None,
        journal: Journal | None = None,
        memory: QueueMemory | None = None,
    ) -> None:
        self.name = name
        self.queues: dict[str, Queue] = {}
        self.exchanges: dict[str, Exchange] = {}
        self.reply_targets: dict[str, MessageTarget] = {}
        """Direct reply-to: token -> where its replies go."""
        self.counters = counters
        self._turn = turn
        self._clock = clock
        self._logs = logs
        self._journal = journal
        self._environment = QueueEnvironment(self, turn, clock, logs, QueueMemory() if memory is None else memory)
        self._router = Router(self.exchanges)
        self._bindings = Bindings(name, self.queues, self.exchanges, self._router, self._exchange_changed, turn, journal, logs)
        self._routes = Routes(turn, self._bindings.sources_of)
        self.dead_letters = DeadLetters(self.exchanges, self._router, turn, clock, counters, logs)
        self.exchanges[""] = DefaultExchange(cast("dict[str, Destination]", self.queues))
        for exchange, kind, internal in PREDECLARED:
            self.exchanges[exchange] = create(kind, exchange, True, False, internal, EMPTY)

    def _exchange_changed(self, exchange: Exchange) -> None:
        # routes are forgotten at once, not when their turn to be replaced comes: a route keeps its queues alive
        self._routes.exchange_changed(exchange)

    # ---- publish ------------------------------------------------------------------------------------------------------

    def route(self, arguments: bytes) -> Route:
        """The route for the arguments of a basic.publish (as they stand in the frame, after the method id).

        Raises: NOT_FOUND (404) if there is no such exchange, ACCESS_REFUSED (403) if it is internal,
        NOT_IMPLEMENTED (540) for immediate=true, FRAME_ERROR (501) if the arguments do not fit the frame.
        """
        found = self._routes.get(arguments)
        if found is not None:
            return found
        raw_name, raw_key, bits = split_publish(arguments)
        if bits & 2:
            raise immediate()
        name = raw_name.decode("utf-8", "surrogateescape")
        key = raw_key.decode("utf-8", "surrogateescape")
        exchange = self.exchanges.get(name)
        if exchange is None:
            raise ChannelException(NOT_FOUND, f"no exchange '{name}' in vhost '{self.name}'", 60, 40)
        if exchange.internal:
            raise ChannelException(
                ACCESS_REFUSED, f"cannot publish to internal {exchange_label(name, self.name)}", 60, 40
            )
        route = Route(exchange, key, bits, arguments)
        if not name and key.startswith(REPLY_TO_PREFIX):
            reply = self.reply_targets.get(key[len(REPLY_TO_PREFIX) :])
            if reply is not None:
                route.targets = [reply]
        else:
            route.targets = cast("list[MessageTarget] | None", self._router.attempt(exchange, [key], None))
            route.by_message = route.targets is not None and self._router.used_message
        self._routes.add(route)
        return route

    def routes_known(self) -> int:
        """How many routes are remembered."""
        return self._routes.count()

    def targets_for(self, route: Route, routed: Routed) -> list[MessageTarget] | None:
        """The targets of one message that matters itself: headers exchanges, CC and BCC; None if that takes long (``begin_routing``).

        Raises: PRECONDITION_FAILED (406) if CC or BCC is not an array of strings.
        """
        keys = [route.routing_key]
        if not CarbonCopies(routed.headers).read(keys, _KEYS_AT_ONCE):
            return None
        return cast("list[MessageTarget] | None", self._router.attempt(route.exchange, keys, routed))

    def begin_routing(self, route: Route, routed: Routed, copies: bool) -> Routing:
        """Find the queues of one message step by step, where ``route`` or ``targets_for`` could not say at once."""
        return self._router.begin(route.exchange, [route.routing_key], routed, CarbonCopies(routed.headers) if copies else None)

    def learn(self, route: Route, routing: Routing) -> None:
        """That is what was found for a message of this route."""
        if not routing.used_message:
            self._routes.learn(route, cast("list[MessageTarget]", routing.found))

    def dead_letter(self, queue: Queue, message: Message, reason: str) -> None:
        self.dead_letters.add(queue, message, reason)

    def is_dead_lettering(self, queue: Queue) -> bool:
        letters = self.dead_letters
        return queue in letters.under_way or letters.is_late() or (queue.durable and letters.must_wait())

    # ---- exchanges ----------------------------------------------------------------------------------------------------

    def exchange(self, name: str) -> Exchange:
        """The exchange of that name. Raises: NOT_FOUND (404)."""
        found = self.exchanges.get(name)
        if found is None:
            raise ChannelException(NOT_FOUND, f"no exchange '{name}' in vhost '{self.name}'")
        return found

    def declare_exchange(
        self, name: str, kind: str, durable: bool, auto_delete: bool, internal: bool, arguments: FieldTable
    ) -> Exchange:
        """Create an exchange, or check that the one there is equivalent.

        Raises: PRECONDITION_FAILED (406) if it exists and differs, or the type is unknown; ACCESS_REFUSED (403) for a new
        name that begins with ``amq.``.
        """
        check_type(kind)
        if arguments.has(ALTERNATE_EXCHANGE) and arguments.type_of(ALTERNATE_EXCHANGE) != "longstr":
            raise ChannelException(
                PRECONDITION_FAILED,
                f"invalid type '{arguments.type_of(ALTERNATE_EXCHANGE)}' for arg '{ALTERNATE_EXCHANGE}' in "
                f"{exchange_label(name, self.name)}",
            )
        current = self.exchanges.get(name)
        if current is not None:
            self._check_exchange(current, kind, durable, auto_delete, internal, arguments)
            return current
        if name.startswith("amq."):
            raise ChannelException(ACCESS_REFUSED, f"exchange name '{name}' contains reserved prefix 'amq.*'")
        fresh = create(kind, name, durable, auto_delete, internal, arguments)
        self._add_exchange(fresh)
        if durable and self._journal is not None:
            self._journal.put(DurableExchange(self.name, name, kind, auto_delete, internal, arguments.raw))
        return fresh

    def _add_exchange(self, exchange: Exchange) -> None:
        self.exchanges[exchange.name] = exchange
        self._routes.exchange_added(exchange)

    def _check_exchange(
        self, current: Exchange, kind: str, durable: bool, auto_delete: bool, internal: bool, arguments: FieldTable
    ) -> None:
        label = exchange_label(current.name, self.name)
        if current.type_name != kind:
            raise _inequivalent("type", label, kind, current.type_name)
        _check_flag("durable", label, durable, current.durable)
        _check_flag("auto_delete", label, auto_delete, current.auto_delete)
        _check_flag("internal", label, internal, current.internal)
        check_argument(ALTERNATE_EXCHANGE, arguments, current.arguments, label)

    def delete_exchange(self, exchange: Exchange) -> Unbinding:
        """Remove an exchange; the work that is left to do, and must be done, is to undo all bindings from and to it."""
        return Unbinding(self._bindings, exchange, self._bindings.take_exchange(exchange))

    def in_use(self, exchange: Exchange) -> bool:
        """Whether it is the source of a binding (exchange.delete if-unused)."""
        return exchange.binding_count > 0

    # ---- bindings -----------------------------------------------------------------------------------------------------

    def bind(self, source: Exchange, destination: Destination, key: str, arguments: FieldTable) -> None:
        """Add a binding; one that exists already is left as it is.

        Raises: PRECONDITION_FAILED (406) if the exchange type cannot use the arguments.
        """
        source.validate_binding(arguments)
        self._bindings.add(Binding(source, destination, key, arguments))

    def is_bound(self, source: Exchange, destination: Destination, key: str, arguments: FieldTable) -> bool:
        """Whether there is such a binding."""
        return source.is_bound(destination, key, arguments)

    def unbind(self, source: Exchange, destination: Destination, key: str, arguments: FieldTable) -> Unbinding | None:
        """Remove a binding if it is there. An auto-delete exchange goes with its last one: the work that is left to do then."""
        if self._bindings.remove(source, destination, key, arguments) and source.is_unused() and not source.deleted:
            return self.delete_exchange(source)
        return None

    def bindings_to(self, destination: Destination) -> list[Binding]:
        """All explicit bindings that lead to a queue or exchange."""
        return self._bindings.to(destination)

    # ---- queues -------------------------------------------------------------------------------------------------------

    def queue(self, name: str, owner: object) -> Queue:
        """The queue of that name, if ``owner`` may use it.

        Raises: NOT_FOUND (404), RESOURCE_LOCKED (405) if it is exclusive to another connection.
        """
        found = self.queues.get(name)
        if found is None:
            raise ChannelException(NOT_FOUND, f"no queue '{name}' in vhost '{self.name}'")
        self.check_owner(found, owner)
        return found

    def check_owner(self, queue: Queue, owner: object) -> None:
        """Raises: RESOURCE_LOCKED (405) if ``queue`` is exclusive to another connection."""
        if queue.owner is not None and queue.owner is not owner:
            raise self._locked(queue)

    def _locked(self, queue: Queue) -> ChannelException:
        return ChannelException(
            RESOURCE_LOCKED,
            f"cannot obtain exclusive access to locked {queue_label(queue.name, self.name)}. It could be originally declared "
            "on another connection or the exclusive property value does not match that of the original declaration.",
        )

    def declare_queue(
        self, name: str, durable: bool, exclusive: bool, auto_delete: bool, arguments: FieldTable, owner: object
    ) -> tuple[Queue, bool]:
        """Create a queue, or check that the one there is equivalent; and whether it was created.

        Raises: RESOURCE_LOCKED (405) if it is exclusive to another connection or only one of both is exclusive,
        PRECONDITION_FAILED (406) if it differs or an argument is invalid, ACCESS_REFUSED (403) for a reserved new name.
        """
        if name.startswith("amq."):
            raise ChannelException(ACCESS_REFUSED, f"queue name '{name}' contains reserved prefix 'amq.*'")
        current = self.queues.get(name)
        label = queue_label(name, self.name)
        if current is not None:
            self.check_owner(current, owner)
            self._check_queue(current, durable, exclusive, auto_delete, arguments, label)
            current.touch()
            return current, False
        return self.create_queue(name, durable, exclusive, auto_delete, arguments, owner), True

    def create_queue(
        self, name: str, durable: bool, exclusive: bool, auto_delete: bool, arguments: FieldTable, owner: object
    ) -> Queue:
        """A new queue; the name must be free and may be a reserved one.

        Raises: PRECONDITION_FAILED (406) if an argument is invalid.
        """
        queue_type = queue_types.check(arguments, queue_label(name, self.name))
        declared = QueueDeclaration(
            name,
            queue_type,
            arguments,
            durable=durable and not exclusive,  # what belongs to a connection cannot outlive the node
            auto_delete=auto_delete,
            owner=owner if exclusive else None,
        )
        if declared.durable and self._logs is not None:
            declared.log_number = self._logs.create(queue_type.logs(declared.options))
        fresh = self._add_queue(declared)
        self.counters.queues_created += 1
        if declared.durable and self._journal is not None:
            self._journal.put(DurableQueue(self.name, name, auto_delete, int(declared.log_number), arguments.raw))
        return fresh

    def _add_queue(self, declared: QueueDeclaration) -> Queue:
        fresh = declared.type.create(declared, self._environment)
        self.queues[declared.name] = fresh
        self._routes.name_changed(declared.name)
        return fresh

    def recover(self, declared: Declared) -> None:
        """Put back what recovery has found; ends of bindings before the bindings."""
        if isinstance(declared, DurableExchange):
            arguments = FieldTable(declared.arguments)
            self._add_exchange(create(declared.type_name, declared.name, True, declared.auto_delete, declared.internal, arguments))
        elif isinstance(declared, DurableQueue):
            arguments = FieldTable(declared.arguments)
            queue_type = queue_types.recovered(arguments)
            self._add_queue(
                QueueDeclaration(
                    declared.name, queue_type, arguments, durable=True, auto_delete=declared.auto_delete, log_number=declared.log_number
                )
            ).recover()
        else:
            source = self.exchanges.get(declared.source)
            ends: dict[str, Destination] = cast("dict[str, Destination]", self.exchanges if declared.to_exchange else self.queues)
            destination = ends.get(declared.destination)
            if source is not None and destination is not None:
                self._bindings.recover(Binding(source, destination, declared.binding_key, FieldTable(declared.arguments)))

    def rest(self) -> None:
        """The node ends, and nobody consumes any more."""
        for queue in self.queues.values():
            queue.rest()

    def log_numbers(self) -> set[int]:
        """The logs of all durable queues."""
        found: set[int] = set()
        for queue in self.queues.values():
            found.update(queue.log_numbers())
        return found

    def last_change(self) -> int:
        """The record of the log that holds the last change of what is declared; 0 if nothing is kept."""
        return 0 if self._journal is None else self._journal.last_sequence

    def _check_queue(
        self, current: Queue, durable: bool, exclusive: bool, auto_delete: bool, arguments: FieldTable, label: str
    ) -> None:
        if exclusive != (current.owner is not None):
            raise self._locked(current)
        _check_flag("durable", label, durable and not exclusive, current.durable)
        _check_flag("auto_delete", label, auto_delete, current.auto_delete)
        check_arguments(arguments, current.arguments, label)

    def delete_queue(self, queue: Queue) -> tuple[i64, Unbinding | None]:
        """Remove a queue and its consumers: how many ready messages went with it, and the work that is left to do, and must be done:
        its bindings are undone. None if it was deleted before."""
        if queue.deleted:
            return 0, None
        del self.queues[queue.name]
        self._routes.queue_deleted(queue)
        self.counters.queues_deleted += 1
        count = queue.close()
        recorded = queue.durable and self._journal is not None
        if recorded and self._journal is not None:
            self._journal.delete(DurableQueue(self.name, queue.name))
        return count, Unbinding(self._bindings, queue, recorded)

    def remove_queue(self, queue: Queue) -> None:
        unbinding = self.delete_queue(queue)[1]
        if unbinding is not None:
            unbinding.start()

    def add_reply_target(self, token: str, target: MessageTarget) -> None:
        """Direct reply-to: replies for ``token`` go to ``target``."""
        self.reply_targets[token] = target
        self._routes.name_changed(REPLY_TO_PREFIX + token)

    def remove_reply_target(self, token: str) -> None:
        """Direct reply-to: the requester is gone, its replies are dropped."""
        if self.reply_targets.pop(token, None) is not None:
            self._routes.name_changed(REPLY_TO_PREFIX + token)


def deliver_to(targets: list[MessageTarget], message: Message, confirm: Confirm | None, sequence: i64) -> tuple[bool, i64, bool]:
    """Hand a message to every target: whether one refused it, how many will answer later, whether the promise needs the log."""
    refused = False
    logged = False
    deferred: i64 = 0
    for target in targets:
        outcome = target.enqueue(message, confirm, sequence)
        if outcome == REJECTED:
            refused = True
        elif outcome == LOGGED:
            logged = True
        elif outcome == DEFERRED:
            deferred += 1
    return refused, deferred, logged


def _shown(value: bool) -> str:
    return "true" if value else "false"


def _inequivalent(what: str, label: str, received: str, current: str) -> ChannelException:
    return ChannelException(
        PRECONDITION_FAILED, f"inequivalent arg '{what}' for {label}: received '{received}' but current is '{current}'"
    )


def _check_flag(what: str, label: str, received: bool, current: bool) -> None:
    if received != current:
        raise _inequivalent(what, label, _shown(received), _shown(current))


