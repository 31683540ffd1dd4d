"""AMQP's values as JSON and back. Rules: RabbitMQ docs, HTTP API; AMQP 0-9-1 §4.2.5.5 in RabbitMQ's dialect."""

from __future__ import annotations

from decimal import Decimal

import orjson
import pytest

from broker.management.answers import Failure, encode
from broker.management.present import fields, properties, properties_from, table_from
from broker.wire import table
from broker.wire.field_values import Timestamp
from broker.wire.properties import Properties


def test_every_type_of_field_has_a_form() -> None:
    values = {
        "text": "ä",
        "bytes": b"\x00\xff",
        "int": 1,
        "float": 1.5,
        "bool": True,
        "void": None,
        "time": Timestamp(7),
        "decimal": Decimal("1.25"),
        "list": [1, b"\xff", {"in": Timestamp(8)}],
        "table": {"in": b"\xff"},
    }
    assert fields(table.make(values)) == {
        "text": "ä",
        "bytes": "AP8=",
        "int": 1,
        "float": 1.5,
        "bool": True,
        "void": None,
        "time": 7,
        "decimal": 1.25,
        "list": [1, "/w==", {"in": 8}],
        "table": {"in": "/w=="},
    }
    assert fields(table.EMPTY) == {}


def test_properties_that_are_set_and_no_others() -> None:
    assert properties(Properties()) == {}
    found = Properties(content_type="", priority=0, headers=table.EMPTY, timestamp=(1 << 64) - 1)
    assert properties(found) == {"content_type": "", "priority": 0, "headers": {}, "timestamp": (1 << 64) - 1}
    assert encode(properties(found)).endswith(b'"headers":{}}')


def test_properties_come_back_as_they_went() -> None:
    described = {
        "content_type": "text/plain",
        "content_encoding": "e",
        "headers": {"n": -1, "s": "x", "l": [1, "a"], "t": {"b": False}, "f": 0.5, "v": None},
        "delivery_mode": 2,
        "priority": 9,
        "correlation_id": "c",
        "reply_to": "r",
        "expiration": "60000",
        "message_id": "m",
        "timestamp": 7,
        "type": "t",
        "user_id": "guest",
        "app_id": "a",
        "cluster_id": "k",
    }
    assert properties(properties_from(described)) == described
    assert properties(properties_from({"unknown": 1, "priority": None})) == {}


@pytest.mark.parametrize(
    ("described", "reason"),
    [
        ([], "properties must be an object"),
        ({"delivery_mode": "2"}, ["not_int", "delivery_mode"]),
        ({"priority": 256}, ["not_int", "priority"]),
        ({"priority": True}, ["not_int", "priority"]),
        ({"timestamp": -1}, ["not_int", "timestamp"]),
        ({"type": 1}, ["not_string", "type"]),
        ({"type": "ä" * 128}, ["not_string", "type"]),
        ({"headers": []}, "a table must be an object"),
        ({"headers": {"n": 1 << 64}}, f"{1 << 64} does not fit 64 bits"),
    ],
)
def test_what_is_no_property_is_refused(described: object, reason: object) -> None:
    with pytest.raises(Failure) as raised:
        properties_from(described)
    assert (raised.value.status, raised.value.error, raised.value.reason) == (400, "bad_request", reason)


def test_tables_that_are_too_deep_are_refused() -> None:
    """docs/protocol.md, "Limits": every table has a limit; the broker would not take it from a client either."""
    deep: dict[str, object] = {}
    for _ in range(100):
        deep = {"in": deep}
    with pytest.raises(Failure, match="levels"):
        table_from(deep)


def test_texts_that_are_not_utf8_are_shown_in_base64() -> None:
    """As RabbitMQ's management does; nothing is lost, and everything else in the answer stays as it is."""
    shown = orjson.loads(encode({"a\udcff": ["b\udcfe", ("c", 1)], "ä": "\ud800"}))
    start = "Not UTF-8, base64 is: "
    assert shown == {f"{start}Yf8=": [f"{start}Yv4=", ["c", 1]], "ä": f"{start}7aCA"}
