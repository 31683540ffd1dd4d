"""When two declarations mean the same, and what may not be declared: nothing is changed here."""

from broker.errors import PRECONDITION_FAILED, RESOURCE_LOCKED, ChannelException, exchange_label, queue_label
from broker.queues.arguments import check_argument, check_arguments
from broker.queues.queue import Queue
from broker.routing.exchange import ALTERNATE_EXCHANGE, Exchange
from broker.wire.table import FieldTable


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


def check_exchange(
    current: Exchange, kind: str, durable: bool, auto_delete: bool, internal: bool, arguments: FieldTable, vhost: str
) -> None:
    """Raises: PRECONDITION_FAILED (406) if an exchange that is declared again differs from the one there."""
    label = exchange_label(current.name, vhost)
    if current.type_name != kind:
        raise _inequivalent("type", label, kind, current.type_name)
    _check_flag("durable", label, durable, current.durable)
    _check_flag("auto_delete", label, auto_delete, current.auto_delete)
    _check_flag("internal", label, internal, current.internal)
    check_argument(ALTERNATE_EXCHANGE, arguments, current.arguments, label)


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
