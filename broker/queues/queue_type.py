"""What is known of a queue type (registry.py has them all)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, final

from broker.queues.options import QueueOptions

if TYPE_CHECKING:
    from broker.queues.declaration import QueueDeclaration, QueueEnvironment
    from broker.queues.queue import Queue


@final
class QueueType:
    """One type."""

    def __init__(
        self,
        name: str,
        label: str,
        create: Callable[[QueueDeclaration, QueueEnvironment], Queue],
        *,
        arguments: Iterable[str] = (),
        consumer_arguments: Iterable[str] = (),
        logs: Callable[[QueueOptions], int] = QueueOptions.levels,
        is_replicated: bool = False,
    ) -> None:
        self.name = name
        """As x-queue-type and the management API call it."""
        self.label = label
        """As RabbitMQ's texts and metrics call it."""
        self.create = create
        self.arguments = frozenset(arguments)
        """Arguments of queue.declare that it takes, besides those whose rows name it."""
        self.consumer_arguments = frozenset(consumer_arguments)
        """Arguments of basic.consume that only some types take, and this one does."""
        self.is_replicated = is_replicated
        """Its queues are durable and belong to nobody, are deleted without conditions, and basic.get does not go with a
        single active consumer."""
        self.logs = logs
        """How many logs a durable queue with these options keeps its messages in."""
