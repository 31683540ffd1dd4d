"""What is declared in a virtual host comes and goes: exchanges, queues and bindings, for AMQP and for whatever speaks
for the node itself.

The rules that decide stand in rules.py; what is durable is told to the journal in the same step.
"""

from __future__ import annotations

from typing import final

from broker.auth.access import CONFIGURE, READ, Requester
from broker.counters import add_counts
from broker.destination import Destination
from broker.errors import ACCESS_REFUSED, PRECONDITION_FAILED, ChannelException, exchange_label, queue_label
from broker.metadata.changes import DurableExchange, DurableQueue
from broker.native import i64
from broker.queues import registry as queue_types
from broker.queues.arguments import CLASSIC, check_exchange_name
from broker.queues.declaration import QueueDeclaration, QueueEnvironment
from broker.queues.queue import Queue
from broker.routing.exchange import ALTERNATE_EXCHANGE, Binding, Exchange
from broker.routing.registry import TOPIC, check_type, create
from broker.vhost.bindings import Bindings, Unbinding
from broker.vhost.environment import Tables, VHostEnvironment
from broker.vhost.routes import Routes
from broker.vhost.rules import (
    ExchangeDeclaration,
    check_alternate,
    check_binding,
    check_conditions,
    check_dead_letters,
    check_exchange,
    check_owner,
    check_queue,
    check_replicated,
    refuse_default,
)
from broker.wire.table import FieldTable


@final
class Deleted:
    """What a client has deleted."""

    def __init__(self, durable: bool, messages: i64, unbinding: Unbinding | None) -> None:
        self.durable = durable
        self.messages: i64 = messages
        """Ready messages that went with it."""
        self.unbinding = unbinding
        """The work that is left to do, and must be done: its bindings are undone. None if there was nothing to
        delete."""


@final
class Declaring:
    """Of one virtual host."""

    def __init__(
        self,
        tables: Tables,
        bindings: Bindings,
        routes: Routes,
        environment: VHostEnvironment,
        of_queues: QueueEnvironment,
    ) -> None:
        self._vhost = tables.vhost
        self._queues = tables.queues
        self._exchanges = tables.exchanges
        self._bindings = bindings
        self._routes = routes
        self._environment = of_queues
        self._journal = environment.journal
        self._counters = environment.counters

    # ---- exchanges ---------------------------------------------------------------------------------------------------

    def declare_exchange(self, declared: ExchangeDeclaration, requester: Requester) -> Exchange:
        """Create an exchange, or check that the one there is equivalent.

        Raises: PRECONDITION_FAILED (406) if it exists and differs, or the type is unknown; ACCESS_REFUSED (403) for the
        default exchange, for a new name that begins with ``amq.``, and if the user may not do that.
        """
        name = declared.name
        arguments = declared.arguments
        check_type(declared.kind)
        refuse_default(name)
        requester.access.check_exchange(CONFIGURE, name)
        check_exchange_name(ALTERNATE_EXCHANGE, arguments, exchange_label(name, self._vhost))
        current = self._exchanges.get(name)
        if current is not None:
            check_exchange(current, declared, self._vhost)
            return current
        if name.startswith("amq."):
            raise ChannelException(ACCESS_REFUSED, f"exchange name '{name}' contains reserved prefix 'amq.*'")
        check_alternate(declared, requester.access)
        fresh = create(declared.kind, name, declared.durable, declared.auto_delete, declared.internal, arguments)
        self.add_exchange(fresh)
        if declared.durable and self._journal is not None:
            self._journal.put(
                DurableExchange(
                    self._vhost, name, declared.kind, declared.auto_delete, declared.internal, arguments.raw
                )
            )
        return fresh

    def add_exchange(self, exchange: Exchange) -> None:
        """It is there from now on; the journal knows it, or need not."""
        self._exchanges[exchange.name] = exchange
        self._routes.exchange_added(exchange)

    def delete_exchange(self, name: str, requester: Requester, if_unused: bool) -> Deleted:
        """Delete an exchange; a missing one counts as deleted.

        Raises: ACCESS_REFUSED (403) for a predeclared one and if the user may not do that, PRECONDITION_FAILED (406) if
        ``if_unused`` and it is the source of a binding.
        """
        refuse_default(name)
        label = exchange_label(name, self._vhost)
        if name.startswith("amq."):
            raise ChannelException(ACCESS_REFUSED, f"deletion of system {label} not allowed")
        requester.access.check_exchange(CONFIGURE, name)
        exchange = self._exchanges.get(name)
        if exchange is None:
            return Deleted(False, 0, None)
        if if_unused and exchange.binding_count > 0:
            raise ChannelException(PRECONDITION_FAILED, f"{label} in use")
        return Deleted(exchange.durable, 0, self.remove_exchange(exchange))

    def remove_exchange(self, exchange: Exchange) -> Unbinding:
        """It is gone; the work that is left to do, and must be done, is to undo all bindings from and to it."""
        return Unbinding(self._bindings, exchange, self._bindings.take_exchange(exchange))

    # ---- bindings ----------------------------------------------------------------------------------------------------

    def check_binding(
        self, source: str, destination: str, to_exchange: bool, key: str, requester: Requester
    ) -> Exchange | None:
        """May this be bound or unbound? The source, if there is such an exchange.

        Raises: ACCESS_REFUSED (403) if the user may not do that, or one of both is the default exchange.
        """
        access = requester.access
        check_binding(source, destination, to_exchange, access)
        exchange = self._exchanges.get(source)
        if exchange is not None and exchange.type_name == TOPIC:
            access.check_topic(READ, source, key)
        return exchange

    def bind(self, source: Exchange, destination: Destination, key: str, arguments: FieldTable) -> None:
        """Add a binding; one that exists already is left as it is.

        Raises: PRECONDITION_FAILED (406) if the exchange type cannot use the arguments.
        """
        source.validate_binding(arguments)
        self._bindings.add(Binding(source, destination, key, arguments))

    def unbind(self, source: Exchange, destination: Destination, key: str, arguments: FieldTable) -> Unbinding | None:
        """Remove a binding if it is there. An auto-delete exchange goes with its last one: the work that is left to do
        then."""
        if self._bindings.remove(source, destination, key, arguments) and source.is_unused() and not source.deleted:
            return self.remove_exchange(source)
        return None

    # ---- queues ------------------------------------------------------------------------------------------------------

    def declare_queue(
        self, name: str, durable: bool, exclusive: bool, auto_delete: bool, arguments: FieldTable, requester: Requester
    ) -> tuple[Queue, bool]:
        """Create a queue, or check that the one there is equivalent; and whether it was created.

        Raises: RESOURCE_LOCKED (405) if it is exclusive to another connection or only one of both is exclusive,
        PRECONDITION_FAILED (406) if it differs or an argument is invalid, ACCESS_REFUSED (403) for a reserved name and
        if the user may not do that.
        """
        if name.startswith("amq."):
            raise ChannelException(ACCESS_REFUSED, f"queue name '{name}' contains reserved prefix 'amq.*'")
        current = self._queues.get(name)
        if current is None:
            return self.create_queue(name, durable, exclusive, auto_delete, arguments, requester), True
        requester.access.check_queue(CONFIGURE, name)
        check_owner(current, requester.owner, self._vhost)
        check_queue(current, durable, exclusive, auto_delete, arguments, self._vhost)
        current.mark_used()
        return current, False

    def create_queue(
        self, name: str, durable: bool, exclusive: bool, auto_delete: bool, arguments: FieldTable, requester: Requester
    ) -> Queue:
        """A new queue; the name must be free and may be a reserved one.

        Raises: PRECONDITION_FAILED (406) if an argument is invalid, ACCESS_REFUSED (403) if the user may not do that.
        """
        requester.access.check_queue(CONFIGURE, name)
        check_dead_letters(name, arguments, requester.access)
        label = queue_label(name, self._vhost)
        queue_type = queue_types.check(arguments, label)
        declared = QueueDeclaration(
            name,
            queue_type,
            arguments,
            durable=durable and not exclusive,  # what belongs to a connection cannot outlive the node
            auto_delete=auto_delete,
            owner=requester.owner if exclusive else None,
        )
        check_replicated(queue_type, not name.startswith("amq.gen-"), exclusive, declared, label)
        logs = self._environment.logs
        if declared.durable and logs is not None:
            declared.log_number = logs.create(queue_type.logs(declared.options))
        fresh = self.add_queue(declared)
        self._counters.queues_created += 1
        if declared.durable and self._journal is not None:
            self._journal.put(DurableQueue(self._vhost, name, auto_delete, int(declared.log_number), arguments.raw))
        return fresh

    def add_queue(self, declared: QueueDeclaration) -> Queue:
        """Make a queue; the journal knows it, or need not."""
        logs = self._environment.logs
        if declared.log_number > 0 and logs is not None:
            # A start opens only those that have something in them: the others are still this queue's.
            logs.skip_to(declared.log_number + declared.type.logs(declared.options))
        fresh = declared.type.create(declared, self._environment)
        self._queues[declared.name] = fresh
        self._routes.name_changed(declared.name)
        return fresh

    def delete_queue(self, name: str, requester: Requester, if_unused: bool, if_empty: bool) -> Deleted:
        """Delete a queue and its consumers; a missing one counts as deleted.

        Raises: ACCESS_REFUSED (403) if the user may not do that, RESOURCE_LOCKED (405) if it is exclusive to another
        connection, PRECONDITION_FAILED (406) if it has messages and ``if_empty``, or consumers and ``if_unused``.
        """
        requester.access.check_queue(CONFIGURE, name)
        queue = self._queues.get(name)
        if queue is None:
            return Deleted(False, 0, None)
        check_owner(queue, requester.owner, self._vhost)
        label = queue_label(name, self._vhost)
        queue.refresh()
        check_conditions(queue, if_unused, if_empty, label)
        return self.remove_queue(queue)

    def remove_queue(self, queue: Queue) -> Deleted:
        """It is gone, and its consumers with it."""
        if queue.deleted:
            return Deleted(queue.durable, 0, None)
        del self._queues[queue.name]
        self._routes.queue_deleted(queue)
        self._counters.queues_deleted += 1
        figures = queue.figures
        if figures is not None and queue.type.name != CLASSIC:
            add_counts(self._counters.of_deleted, queue.type.label, figures.deliveries())
        count = queue.close()
        recorded = queue.durable and self._journal is not None
        if recorded and self._journal is not None:
            self._journal.delete(DurableQueue(self._vhost, queue.name))
        return Deleted(queue.durable, count, Unbinding(self._bindings, queue, recorded))
