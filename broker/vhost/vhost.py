"""A virtual host: its exchanges, queues and bindings by name, and how they find each other.

``declaring`` makes and deletes them, ``publishing`` finds where messages go, ``dead_letters`` what becomes of those
that die.
"""

from __future__ import annotations

from typing import cast, final

from broker.auth.access import READ, Requester
from broker.destination import Destination
from broker.errors import NOT_FOUND, ChannelException
from broker.message import Message
from broker.metadata.changes import Declared, DurableExchange, DurableQueue
from broker.native import i64
from broker.promises import Promise
from broker.queues import registry as queue_types
from broker.queues.declaration import QueueDeclaration, QueueEnvironment
from broker.queues.kept_dead_letter import KeptDeadLetter
from broker.queues.queue import Queue, QueueHost
from broker.routing.direct import DefaultExchange
from broker.routing.exchange import Binding, Exchange
from broker.routing.registry import PREDECLARED, create
from broker.vhost.bindings import Bindings
from broker.vhost.dead_letters import DeadLetters
from broker.vhost.declaring import Declaring
from broker.vhost.environment import Tables, VHostEnvironment
from broker.vhost.kept_dead_letters import KeptDeadLetters
from broker.vhost.publishing import Publishing
from broker.vhost.routes import Routes
from broker.vhost.rules import check_owner
from broker.wire.table import EMPTY, FieldTable


@final
class VHost(QueueHost):
    """One virtual host of a node."""

    def __init__(self, name: str, environment: VHostEnvironment) -> None:
        self.name = name
        self.sampler = environment.sampler
        """Takes the rates of what is counted here."""
        tables = Tables(name)
        self.queues = tables.queues
        self.exchanges = tables.exchanges
        self.bindings = Bindings(tables, environment, self._exchange_changed)
        self._routes = Routes(environment.turn, self.bindings.sources_of)
        self.publishing = Publishing(tables, self._routes, self.sampler)
        self.dead_letters = DeadLetters(tables, environment)
        self._kept_dead_letters = KeptDeadLetters(self.dead_letters)
        self._routes.watcher = self._kept_dead_letters
        of_queues = QueueEnvironment(self, environment.turn, environment.clock, environment.logs, environment.memory)
        self.declaring = Declaring(tables, self.bindings, self._routes, environment, of_queues)
        self._journal = environment.journal
        self.exchanges[""] = DefaultExchange(cast("dict[str, Destination]", self.queues))
        for exchange, kind, internal in PREDECLARED:
            self.exchanges[exchange] = create(kind, exchange, True, False, internal, EMPTY)

    def _exchange_changed(self, exchange: Exchange) -> None:
        # routes are forgotten at once, not when their turn to be replaced comes: a route keeps its queues alive
        self._routes.exchange_changed(exchange)

    def exchange(self, name: str) -> Exchange:
        """The exchange of that name. Raises: NOT_FOUND (404)."""
        found = self.exchanges.get(name)
        if found is None:
            raise ChannelException(NOT_FOUND, f"no exchange '{name}' in vhost '{self.name}'")
        return found

    def queue(self, name: str, requester: Requester) -> Queue:
        """The queue of that name, for whoever may know of it.

        Raises: NOT_FOUND (404), RESOURCE_LOCKED (405) if it is exclusive to another connection.
        """
        found = self.queues.get(name)
        if found is None:
            raise ChannelException(NOT_FOUND, f"no queue '{name}' in vhost '{self.name}'")
        check_owner(found, requester.owner, self.name)
        return found

    def readable_queue(self, name: str, requester: Requester) -> Queue:
        """The same for whoever takes messages from it. Raises: also ACCESS_REFUSED (403)."""
        requester.access.check_queue(READ, name)
        return self.queue(name, requester)

    def access_changed(self) -> None:
        """Somebody may do more or less here than before: whoever publishes next is asked about again."""
        self._routes.forget_all()

    # ---- what queues ask of their host -------------------------------------------------------------------------------

    def dead_letter(self, queue: Queue, message: Message, reason: str) -> None:
        self.dead_letters.add(queue, message, reason)

    def is_dead_lettering(self, queue: Queue) -> bool:
        letters = self.dead_letters
        return queue in letters.under_way or letters.is_late() or (queue.durable and letters.must_wait())

    def send_dead_letter(self, queue: Queue, letter: KeptDeadLetter) -> None:
        self._kept_dead_letters.send(queue, letter)

    def dead_letters_arrived(self, count: i64) -> None:
        self.dead_letters.count_arrived(count)

    def await_routes(self, queue: Queue) -> None:
        self._kept_dead_letters.await_routes(queue)

    def remove_queue(self, queue: Queue) -> None:
        unbinding = self.declaring.remove_queue(queue).unbinding
        if unbinding is not None:
            unbinding.start()

    # ---- start and end -----------------------------------------------------------------------------------------------

    def recover(self, declared: Declared) -> None:
        """Put back what recovery has found; ends of bindings before the bindings."""
        if isinstance(declared, DurableExchange):
            arguments = FieldTable(declared.arguments)
            self.declaring.add_exchange(
                create(declared.type_name, declared.name, True, declared.auto_delete, declared.internal, arguments)
            )
        elif isinstance(declared, DurableQueue):
            arguments = FieldTable(declared.arguments)
            queue_type = queue_types.recovered(arguments)
            self.declaring.add_queue(
                QueueDeclaration(
                    declared.name,
                    queue_type,
                    arguments,
                    durable=True,
                    auto_delete=declared.auto_delete,
                    log_number=declared.log_number,
                )
            ).recover()
        else:
            source = self.exchanges.get(declared.source)
            ends: dict[str, Destination] = cast(
                "dict[str, Destination]", self.exchanges if declared.to_exchange else self.queues
            )
            destination = ends.get(declared.destination)
            if source is not None and destination is not None:
                self.bindings.recover(
                    Binding(source, destination, declared.binding_key, FieldTable(declared.arguments))
                )

    def on_shutdown(self) -> None:
        """The node ends, and nobody consumes any more."""
        for queue in self.queues.values():
            queue.on_shutdown()

    def log_numbers(self) -> set[int]:
        """The logs of all durable queues."""
        found: set[int] = set()
        for queue in self.queues.values():
            if queue.log_number > 0:
                found.update(range(int(queue.log_number), int(queue.log_number) + queue.type.logs(queue.options)))
        return found

    def last_change(self) -> Promise | None:
        """What whoever declares something durable waits for; None on a node that keeps nothing."""
        return None if self._journal is None else self._journal.last
