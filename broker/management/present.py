"""AMQP's values as JSON, and back: field tables and basic properties."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from decimal import Decimal
from typing import Final, cast

from broker.management.answers import bad_request
from broker.wire import table
from broker.wire.field_values import Timestamp
from broker.wire.properties import Properties
from broker.wire.table import FieldTable

_TEXTS: Final = (
    "content_type",
    "content_encoding",
    "correlation_id",
    "reply_to",
    "expiration",
    "message_id",
    "type",
    "user_id",
    "app_id",
    "cluster_id",
)
_NUMBERS: Final = {"delivery_mode": 0xFF, "priority": 0xFF, "timestamp": (1 << 63) - 1}


def value(found: object) -> object:
    """A field's value as JSON; bytes that are no text in base64."""
    if isinstance(found, bytes):
        return base64.b64encode(found).decode()
    if isinstance(found, Timestamp):
        return int(found)
    if isinstance(found, Decimal):
        return float(found)
    if isinstance(found, dict):
        return {key: value(inner) for key, inner in found.items()}
    if isinstance(found, list):
        return [value(inner) for inner in found]
    return found


def fields(found: FieldTable) -> dict[str, object]:
    """A field table as a JSON object."""
    return cast("dict[str, object]", value(found.values)) if not found.is_empty else {}


def properties(found: Properties) -> dict[str, object]:
    """The properties that are set."""
    shown: dict[str, object] = {}
    for name in (*_TEXTS, *_NUMBERS):
        held = getattr(found, name)
        if held is not None:
            shown[name] = held
    if found.headers is not None:
        shown["headers"] = fields(found.headers)
    return shown


def properties_from(wanted: object) -> Properties:
    """The properties a client describes; names that are none are passed over, as RabbitMQ does.

    Raises: 400 if it is not an object or a value does not fit its property.
    """
    if not isinstance(wanted, Mapping):
        raise bad_request("properties must be an object")
    made = Properties()
    for name in _TEXTS:
        text = wanted.get(name)
        if text is None:
            continue
        if not isinstance(text, str) or len(text.encode()) > 255:
            raise bad_request(["not_string", name])
        setattr(made, name, text)
    for name, largest in _NUMBERS.items():
        number = wanted.get(name)
        if number is None:
            continue
        if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number <= largest:
            raise bad_request(["not_int", name])
        setattr(made, name, number)
    headers = wanted.get("headers")
    if headers is not None:
        made.headers = table_from(headers)
    return made


def table_from(wanted: object) -> FieldTable:
    """The field table a JSON object describes. Raises: 400 if it is none, or too deep or too large for a table."""
    if not isinstance(wanted, Mapping):
        raise bad_request("a table must be an object")
    try:
        return table.make(wanted)
    except ValueError as error:
        raise bad_request(str(error)) from None
