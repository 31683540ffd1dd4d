"""Exchange type names and what they stand for; the one place that knows all types."""

from typing import Final

from broker.errors import PRECONDITION_FAILED, ChannelException
from broker.routing.direct import DirectExchange
from broker.routing.exchange import Exchange
from broker.routing.fanout import FanoutExchange
from broker.routing.headers import HeadersExchange
from broker.routing.topic import TopicExchange
from broker.wire.table import FieldTable

_TYPES: Final[dict[str, type[Exchange]]] = {
    "direct": DirectExchange,
    "fanout": FanoutExchange,
    "topic": TopicExchange,
    "headers": HeadersExchange,
}

PREDECLARED: Final = (
    ("amq.direct", "direct", False),
    ("amq.fanout", "fanout", False),
    ("amq.topic", "topic", False),
    ("amq.headers", "headers", False),
    ("amq.match", "headers", False),
    ("amq.rabbitmq.trace", "topic", True),
)
"""What every vhost has besides the default exchange: name, type, internal. All durable."""


def type_names() -> list[str]:
    """The types an exchange can be declared with."""
    return list(_TYPES)


def check_type(type_name: str) -> None:
    """Raises: PRECONDITION_FAILED (406) if there is no such exchange type (RabbitMQ 4; 3.x closes the connection with 503)."""
    if type_name not in _TYPES:
        raise ChannelException(PRECONDITION_FAILED, f"unknown exchange type '{type_name}'")


def create(type_name: str, name: str, durable: bool, auto_delete: bool, internal: bool, arguments: FieldTable) -> Exchange:
    """A new exchange without bindings. Raises: PRECONDITION_FAILED (406) as ``check_type`` does."""
    check_type(type_name)
    return _TYPES[type_name](type_name, name, durable, auto_delete, internal, arguments)
