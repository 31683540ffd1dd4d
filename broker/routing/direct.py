"""The direct exchange and the default exchange: routing key equal to binding key, or to a queue's name (AMQP 0-9-1
§3.1.3.1-2)."""

from collections.abc import Collection
from typing import final

from broker.destination import Destination
from broker.native import i64
from broker.routing.exchange import UNLIMITED, Binding, Exchange, add_reference, drop_reference
from broker.routing.routed import Routed
from broker.wire.table import EMPTY, FieldTable


@final
class DirectExchange(Exchange):
    """Routes to every destination bound with exactly the routing key: one dictionary lookup."""

    def __init__(
        self, type_name: str, name: str, durable: bool, auto_delete: bool, internal: bool, arguments: FieldTable
    ) -> None:
        super().__init__(type_name, name, durable, auto_delete, internal, arguments)
        self._by_key: dict[str, dict[Destination, int]] = {}

    def match(self, key: str, routed: Routed | None, found: list[Destination], budget: i64 = UNLIMITED) -> i64:
        """Append the destinations bound with this key."""
        bound = self._by_key.get(key)
        if bound is None:
            return budget
        if len(bound) > budget:
            return -1
        found.extend(bound)
        return budget - len(bound)

    def bound_with(self, key: str) -> Collection[Destination]:
        """See ``Exchange``."""
        return self._by_key.get(key, {})

    def _added(self, binding: Binding) -> None:
        bound = self._by_key.get(binding.key)
        if bound is None:
            bound = {}
            self._by_key[binding.key] = bound
        add_reference(bound, binding.destination)

    def _removed(self, binding: Binding) -> None:
        bound = self._by_key[binding.key]
        drop_reference(bound, binding.destination)
        if not bound:
            del self._by_key[binding.key]


@final
class DefaultExchange(Exchange):
    """The exchange without a name: every queue is bound to it by its own name, and nothing else ever is.

    It reads the vhost's dictionary of queues and holds no bindings of its own.
    """

    def __init__(self, queues: dict[str, Destination]) -> None:
        super().__init__("direct", "", True, False, False, EMPTY)
        self._queues = queues

    def match(self, key: str, routed: Routed | None, found: list[Destination], budget: i64 = UNLIMITED) -> i64:
        """Append the queue of this name, if there is one."""
        queue = self._queues.get(key)
        if queue is not None:
            found.append(queue)
        return budget

    def bound_with(self, key: str) -> Collection[Destination]:
        """The queue of this name, if there is one."""
        queue = self._queues.get(key)
        return [] if queue is None else [queue]
