"""Exchange type names and what they stand for; the one place that knows all types.

A further type is one module with a subclass of ``Exchange``, and its registration.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, final

from broker.errors import PRECONDITION_FAILED, ChannelException
from broker.routing.direct import DirectExchange
from broker.routing.exchange import Exchange
from broker.routing.fanout import FanoutExchange
from broker.routing.headers import HeadersExchange
from broker.routing.topic import TopicExchange
from broker.wire.table import FieldTable


@final
class ExchangeType:
    """One type."""

    def __init__(self, name: str, kind: type[Exchange], check: Callable[[FieldTable], str] | None = None) -> None:
        self.name = name
        self.kind = kind
        self.check = check
        """What is wrong with the arguments of an exchange that is to be created; "" if nothing is."""


_TYPES: Final[dict[str, ExchangeType]] = {}

TOPIC: Final = "topic"
"""The type whose routing keys are topics, which users may be kept from (broker/auth/access.py)."""
PREDECLARED: Final = (
    ("amq.direct", "direct", False),
    ("amq.fanout", "fanout", False),
    ("amq.topic", "topic", False),
    ("amq.headers", "headers", False),
    ("amq.match", "headers", False),
    ("amq.rabbitmq.trace", "topic", True),
)
"""What every vhost has besides the default exchange: name, type, internal. All durable."""


def register(exchange_type: ExchangeType) -> None:
    """Make a type known. Raises: ValueError if there is one of that name."""
    if exchange_type.name in _TYPES:
        raise ValueError(f"there is an exchange type {exchange_type.name} already")
    _TYPES[exchange_type.name] = exchange_type


def forget(name: str) -> None:
    """Take back what ``register`` has done: for tests."""
    del _TYPES[name]


register(ExchangeType("direct", DirectExchange))
register(ExchangeType("fanout", FanoutExchange))
register(ExchangeType(TOPIC, TopicExchange))
register(ExchangeType("headers", HeadersExchange))


def type_names() -> list[str]:
    """The types an exchange can be declared with."""
    return list(_TYPES)


def check_type(type_name: str) -> None:
    """Raises: PRECONDITION_FAILED (406) if there is no such exchange type (RabbitMQ 4; 3.x closes the connection with
    503)."""
    if type_name not in _TYPES:
        raise ChannelException(PRECONDITION_FAILED, f"unknown exchange type '{type_name}'")


def create(
    type_name: str, name: str, durable: bool, auto_delete: bool, internal: bool, arguments: FieldTable
) -> Exchange:
    """A new exchange without bindings.

    Raises: PRECONDITION_FAILED (406) as ``check_type`` does, and if its type cannot use the arguments.
    """
    check_type(type_name)
    found = _TYPES[type_name]
    fault = found.check(arguments) if found.check is not None else ""
    if fault:
        raise ChannelException(PRECONDITION_FAILED, fault)
    return found.kind(type_name, name, durable, auto_delete, internal, arguments)
