"""When two declarations mean the same, and what may not be declared: nothing is changed here."""

from typing import final

from broker.auth.access import READ, WRITE, Access
from broker.errors import (
    ACCESS_REFUSED,
    NOT_IMPLEMENTED,
    PRECONDITION_FAILED,
    RESOURCE_LOCKED,
    ChannelException,
    ConnectionException,
    exchange_label,
    queue_label,
)
from broker.queues.arguments import DEAD_LETTER_EXCHANGE, check_argument, check_arguments
from broker.queues.declaration import QueueDeclaration
from broker.queues.queue import Queue
from broker.queues.queue_type import QueueType
from broker.routing.exchange import ALTERNATE_EXCHANGE, Exchange
from broker.wire.table import FieldTable


@final
class ExchangeDeclaration:
    """An exchange as a client declares it."""

    def __init__(
        self, name: str, kind: str, durable: bool, auto_delete: bool, internal: bool, arguments: FieldTable
    ) -> None:
        self.name = name
        self.kind = kind
        """The name of its type."""
        self.durable = durable
        self.auto_delete = auto_delete
        self.internal = internal
        self.arguments = arguments


def _shown(value: bool) -> str:
    return "true" if value else "false"


def _inequivalent(what: str, label: str, received: str, current: str) -> ChannelException:
    return ChannelException(
        PRECONDITION_FAILED, f"inequivalent arg '{what}' for {label}: received '{received}' but current is '{current}'"
    )


def _check_flag(what: str, label: str, received: bool, current: bool) -> None:
    if received != current:
        raise _inequivalent(what, label, _shown(received), _shown(current))


def locked(queue: Queue, vhost: str) -> ChannelException:
    """The answer to whoever wants a queue that is exclusive to another connection."""
    return ChannelException(
        RESOURCE_LOCKED,
        f"cannot obtain exclusive access to locked {queue_label(queue.name, vhost)}. It could be originally declared "
        "on another connection or the exclusive property value does not match that of the original declaration.",
    )


def check_owner(queue: Queue, owner: object, vhost: str) -> None:
    """Raises: RESOURCE_LOCKED (405) if ``queue`` is exclusive to another connection."""
    if queue.owner is not None and queue.owner is not owner:
        raise locked(queue, vhost)


def check_exchange(current: Exchange, declared: ExchangeDeclaration, vhost: str) -> None:
    """Raises: PRECONDITION_FAILED (406) if an exchange that is declared again differs from the one there."""
    label = exchange_label(current.name, vhost)
    if current.type_name != declared.kind:
        raise _inequivalent("type", label, declared.kind, current.type_name)
    _check_flag("durable", label, declared.durable, current.durable)
    _check_flag("auto_delete", label, declared.auto_delete, current.auto_delete)
    _check_flag("internal", label, declared.internal, current.internal)
    check_argument(ALTERNATE_EXCHANGE, declared.arguments, current.arguments, label)


def check_queue(
    current: Queue, durable: bool, exclusive: bool, auto_delete: bool, arguments: FieldTable, vhost: str
) -> None:
    """Raises: RESOURCE_LOCKED (405) if only one of both is exclusive, PRECONDITION_FAILED (406) if a queue that is
    declared again differs from the one there."""
    if exclusive != (current.owner is not None):
        raise locked(current, vhost)
    label = queue_label(current.name, vhost)
    _check_flag("durable", label, durable and not exclusive, current.durable)
    _check_flag("auto_delete", label, auto_delete, current.auto_delete)
    check_arguments(arguments, current.arguments, label)


def check_replicated(queue_type: QueueType, named: bool, owned: bool, declared: QueueDeclaration, label: str) -> None:
    """Raises: PRECONDITION_FAILED (406) if a new queue of a replicated type would not outlive its node, or whoever
    declares it (RabbitMQ docs, Quorum Queues, Feature Matrix)."""
    if not queue_type.is_replicated:
        return
    if not named:
        raise ChannelException(PRECONDITION_FAILED, f"Cannot declare a server-named queue for type {queue_type.label}")
    for is_wrong, what in (
        (declared.auto_delete, "auto-delete"),
        (owned, "exclusive-owner"),
        (not declared.durable, "non-durable"),
    ):
        if is_wrong:
            raise ChannelException(PRECONDITION_FAILED, f"invalid property '{what}' for {label}")


def check_conditions(queue: Queue, if_unused: bool, if_empty: bool, label: str) -> None:
    """May this queue be deleted under these conditions? Raises: NOT_IMPLEMENTED (540) where its type knows none,
    PRECONDITION_FAILED (406) if it has messages and ``if_empty``, or consumers and ``if_unused``."""
    if queue.type.is_replicated and (if_unused or if_empty):
        flag = "if-unused" if if_unused else "if-empty"
        raise ConnectionException(
            NOT_IMPLEMENTED,
            f"cannot delete {label}. queue.delete operations with {flag} flag set are not supported by quorum queues",
        )
    if if_empty and queue.ready_count():
        raise ChannelException(PRECONDITION_FAILED, f"{label} not empty")
    if if_unused and queue.consumers.count():
        raise ChannelException(PRECONDITION_FAILED, f"{label} in use")


def check_alternate(declared: ExchangeDeclaration, access: Access) -> None:
    """Raises: ACCESS_REFUSED (403) if a new exchange may not have this alternate exchange, if any: what cannot be
    routed is read from the one, and written to the other."""
    alternate = declared.arguments.get(ALTERNATE_EXCHANGE)
    if isinstance(alternate, str):
        access.check_exchange(READ, declared.name)
        access.check_exchange(WRITE, alternate)


def check_dead_letters(name: str, arguments: FieldTable, access: Access) -> None:
    """Raises: ACCESS_REFUSED (403) if a new queue of that name may not have this dead letter exchange, if any: what has
    died is read from the queue, and written to the exchange."""
    target = arguments.get(DEAD_LETTER_EXCHANGE)
    if isinstance(target, str):
        access.check_queue(READ, name)
        access.check_exchange(WRITE, target)


def check_binding(source: str, destination: str, to_exchange: bool, access: Access) -> None:
    """May this be bound or unbound? The destination is looked at first, as in RabbitMQ.

    Raises: ACCESS_REFUSED (403), also if one of both is the default exchange.
    """
    if to_exchange:
        access.check_exchange(WRITE, destination)
        refuse_default(destination)
    else:
        access.check_queue(WRITE, destination)
    refuse_default(source)
    access.check_exchange(READ, source)


def refuse_default(name: str) -> None:
    """Raises: ACCESS_REFUSED (403) if ``name`` is the default exchange's."""
    if not name:
        raise ChannelException(ACCESS_REFUSED, "operation not permitted on the default exchange")
