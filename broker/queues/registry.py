"""Queue types and what they stand for; the one place that knows all types.

A further type is one module with a subclass of ``Queue``, and its registration.
"""

from __future__ import annotations

from typing import Final

from broker.queues.arguments import (
    CLASSIC,
    DEAD_LETTER_EXCHANGE,
    QUEUE_TYPE,
    QUORUM,
    check_exchange_name,
    invalid,
    refuse_foreign,
    validate,
)
from broker.queues.classic import ClassicQueue
from broker.queues.consumer_timeout import CONSUMER_TIMEOUT
from broker.queues.queue_type import QueueType
from broker.queues.quorum.queue import QuorumQueue, log_count
from broker.wire.table import FieldTable

_TYPES: Final[dict[str, QueueType]] = {}


def register(queue_type: QueueType) -> None:
    """Make a type known. Raises: ValueError if there is one of that name."""
    if queue_type.name in _TYPES:
        raise ValueError(f"there is a queue type {queue_type.name} already")
    _TYPES[queue_type.name] = queue_type


def forget(name: str) -> None:
    """Take back what ``register`` has done: for tests."""
    del _TYPES[name]


register(QueueType(CLASSIC, "rabbit_classic_queue", ClassicQueue))
register(
    QueueType(
        QUORUM,
        "rabbit_quorum_queue",
        QuorumQueue,
        logs=log_count,
        is_replicated=True,
        consumer_arguments=(CONSUMER_TIMEOUT,),
    )
)


def type_labels() -> dict[str, str]:
    """Name and label of each type."""
    return {name: queue_type.label for name, queue_type in _TYPES.items()}


def type_named(arguments: FieldTable) -> QueueType | None:
    """The type that arguments ask for: classic if they say nothing; None if there is no such type."""
    name = arguments.values.get(QUEUE_TYPE, CLASSIC)
    return (
        _TYPES.get(name) if isinstance(name, str) and arguments.types.get(QUEUE_TYPE, "longstr") == "longstr" else None
    )


def check(arguments: FieldTable, label: str) -> QueueType:
    """The type of a queue that is to be created, if its arguments are such as that takes.

    Raises: PRECONDITION_FAILED (406) ``invalid arg ...``.
    """
    check_exchange_name(DEAD_LETTER_EXCHANGE, arguments, label)
    found = type_named(arguments)
    if found is None:
        kind = arguments.type_of(QUEUE_TYPE)
        fault = f"{{unacceptable_type,{kind}}}"
        if kind == "longstr":
            fault = f"\"unsupported queue type '{arguments.values[QUEUE_TYPE]}'\""
        raise invalid(QUEUE_TYPE, label, fault)
    validate(arguments, label, found.name)
    refuse_foreign(arguments, label, found.name, found.arguments, found.label)
    return found


def recovered(arguments: FieldTable) -> QueueType:
    """The type of a queue that was created by an earlier run of the node.

    Raises: ValueError if this one does not know it: its messages are not touched by a guess.
    """
    found = type_named(arguments)
    if found is None:
        raise ValueError(f"a queue of type {arguments.values[QUEUE_TYPE]!r}, which this release does not know")
    return found
