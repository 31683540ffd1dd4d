"""Overview, whoami, vhosts, policies, aliveness test. Rule: the fields that clients read, with their types (RabbitMQ
docs, HTTP API)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.api import Api
from tests.support.memory import Broker
from tests.support.wire import publish

pytestmark = pytest.mark.asyncio


def shape(value: Any) -> Any:
    """The types in a value."""
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in value.items()}
    return type(value).__name__


async def test_an_idle_node_shows_zeros_and_leaves_nothing_out() -> None:
    """Telegraf refuses a node that has no message_stats, queue_totals or object_totals; rates are floats, or Go clients
    fail."""
    overview = (await Api(Broker()).get("/api/overview")).json
    for name in (
        "management_version",
        "rabbitmq_version",
        "product_name",
        "product_version",
        "cluster_name",
        "node",
        "erlang_version",
    ):
        assert isinstance(overview[name], str), name
        assert overview[name], name
    assert overview["node"] == "leveret@memory"
    assert overview["object_totals"] == {"channels": 0, "connections": 0, "consumers": 0, "exchanges": 7, "queues": 0}
    for totals in ("queue_totals", "message_stats", "churn_rates"):
        assert overview[totals], totals
        for name, value in overview[totals].items():
            assert value == ({"rate": 0.0} if name.endswith("_details") else 0), name
            assert shape(value) == ({"rate": "float"} if name.endswith("_details") else "int"), name
    assert overview["listeners"] == [
        {"node": "leveret@memory", "protocol": "amqp", "ip_address": "127.0.0.1", "port": 5672},
        {"node": "leveret@memory", "protocol": "http", "ip_address": "127.0.0.1", "port": 15672},
    ]
    assert [context["node"] for context in overview["contexts"]] == ["leveret@memory"]
    assert {row["name"] for row in overview["exchange_types"]} == {"direct", "fanout", "headers", "topic"}


async def test_a_busy_node_counts() -> None:
    broker = Broker()
    client = broker.open(1, 2)
    client.ask("queue.declare", queue="a")
    client.ask("queue.declare", queue="b")
    client.ask("basic.consume", queue="b", consumer_tag="t")
    for queue in ("a", "a", "b", "nobody"):
        client.send(publish(1, "", queue, b"x"))
    overview = (await Api(broker).get("/api/overview")).json
    assert overview["object_totals"] == {"channels": 2, "connections": 1, "consumers": 1, "exchanges": 7, "queues": 2}
    totals = {name: count for name, count in overview["queue_totals"].items() if not name.endswith("_details")}
    assert totals == {"messages": 3, "messages_ready": 2, "messages_unacknowledged": 1}
    stats = overview["message_stats"]
    assert (stats["publish"], stats["drop_unroutable"], stats["deliver"], stats["deliver_get"]) == (4, 1, 1, 1)


async def test_whoami_shows_the_tags_as_a_list() -> None:
    """A list since RabbitMQ 3.9."""
    assert (await Api(Broker()).get("/api/whoami")).json == {"name": "guest", "tags": ["administrator"]}


async def test_vhosts() -> None:
    broker = Broker()
    broker.server.add_vhost("other")
    api = Api(broker)
    assert [row["name"] for row in (await api.get("/api/vhosts")).json] == ["/", "other"]
    row = (await api.get("/api/vhosts/other")).json
    assert (row["name"], row["tracing"], row["cluster_state"]) == ("other", False, {"leveret@memory": "running"})
    assert (await api.get("/api/vhosts/none")).status == 404


async def test_there_are_no_policies() -> None:
    api = Api(Broker())
    for path in ("/api/policies", "/api/policies/%2F"):
        assert (await api.get(path)).json == []
    assert (await api.get("/api/policies/none")).status == 404


async def test_the_aliveness_test_writes_nothing() -> None:
    """Since RabbitMQ 4.0 it declares and publishes nothing; clients look at status only."""
    broker = Broker()
    api = Api(broker)
    assert (await api.get("/api/aliveness-test/%2F")).json == {"status": "ok"}
    assert (await api.get("/api/aliveness-test/none")).status == 404
    assert not broker.vhost.queues
