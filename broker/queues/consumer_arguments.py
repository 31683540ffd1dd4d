"""The x-arguments of basic.consume."""

from typing import Final

from broker.errors import PRECONDITION_FAILED, ChannelException
from broker.queues.arguments import non_negative
from broker.queues.consumer_timeout import CONSUMER_TIMEOUT
from broker.queues.queue_type import QueueType
from broker.wire.table import FieldTable

_SOME_TYPES_ONLY: Final = ("x-stream-offset",)
"""Arguments that only some queue types take (``QueueType.consumer_arguments``)."""


def _invalid(name: str, label: str, fault: str) -> ChannelException:
    return ChannelException(PRECONDITION_FAILED, f"invalid arg '{name}' for {label}{fault}")


def priority_of(arguments: FieldTable, queue_type: QueueType, label: str) -> int:
    """The priority of a consumer that is to be added to a queue of this type; 0 if it says none (RabbitMQ docs,
    Consumer Priorities).

    Raises: PRECONDITION_FAILED (406) ``invalid arg ...``.
    """
    for name in _SOME_TYPES_ONLY:
        if arguments.has(name) and name not in queue_type.consumer_arguments:
            raise _invalid(name, label, f" of queue type {queue_type.label}")
    failover = "x-cancel-on-ha-failover"  # an argument of mirrored queues: its type is still looked at
    if arguments.has(failover) and arguments.type_of(failover) != "bool":
        raise _invalid(failover, label, f": {{unacceptable_type,{arguments.type_of(failover)}}}")
    if not arguments.has("x-priority"):
        return 0
    value = arguments.get("x-priority")
    if isinstance(value, bool) or not isinstance(value, int):
        raise _invalid("x-priority", label, f': "expected integer, got {arguments.type_of("x-priority")}"')
    return value


def timeout_of(arguments: FieldTable, label: str) -> int:
    """How long the consumer may have a message, in milliseconds; -1 if it says nothing.

    Raises: PRECONDITION_FAILED (406) ``invalid arg ...``.
    """
    if not arguments.has(CONSUMER_TIMEOUT):
        return -1
    value = arguments.get(CONSUMER_TIMEOUT)
    fault = non_negative(value, arguments.type_of(CONSUMER_TIMEOUT))
    if fault:
        raise _invalid(CONSUMER_TIMEOUT, label, f": {fault}")
    assert isinstance(value, int)
    return value
