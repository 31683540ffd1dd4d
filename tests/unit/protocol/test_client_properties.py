"""What a client says of itself (broker/protocol/client_properties.py)."""

from __future__ import annotations

import pytest

from broker.protocol.client_properties import connection_name, has_capability
from broker.wire import table


@pytest.mark.parametrize(
    ("properties", "name"),
    [
        ({}, ""),
        ({"connection_name": "billing"}, "billing"),
        ({"connection_name": 7}, ""),
        ({"connection_name": ""}, ""),
    ],
)
def test_the_name_of_a_connection(properties: dict[str, object], name: str) -> None:
    assert connection_name(table.make(properties)) == name


@pytest.mark.parametrize(
    ("properties", "has"),
    [
        ({}, False),
        ({"capabilities": {}}, False),
        ({"capabilities": {"connection.blocked": True}}, True),
        ({"capabilities": {"connection.blocked": False}}, False),
        ({"capabilities": {"connection.blocked": 1}}, False),
        ({"capabilities": {"connection.blocked": {}}}, False),
        ({"capabilities": ["connection.blocked"]}, False),
        ({"connection.blocked": True}, False),
    ],
)
def test_a_capability_is_a_true_boolean_in_its_table(properties: dict[str, object], has: bool) -> None:
    assert has_capability(table.make(properties), "connection.blocked") is has
