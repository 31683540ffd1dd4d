"""The exchanges and bindings of the API. Rule: RabbitMQ docs, HTTP API; texts as RabbitMQ 3.10 answers the same
requests."""

from __future__ import annotations

import pytest

from tests.support.api import Api
from tests.support.memory import Broker, Client

pytestmark = pytest.mark.asyncio


def start() -> tuple[Broker, Client, Api]:
    broker = Broker()
    client = broker.open()
    client.ask("exchange.declare", exchange="x", type="topic", durable=True, arguments={"alternate-exchange": "y"})
    client.ask("queue.declare", queue="q")
    return broker, client, Api(broker)


async def test_exchanges_show_what_clients_read() -> None:
    _, _, api = start()
    row = (await api.get("/api/exchanges/%2F/x")).json
    expected = {"name": "x", "vhost": "/", "type": "topic", "durable": True, "auto_delete": False, "internal": False}
    assert row | expected | {"arguments": {"alternate-exchange": "y"}} == row
    rows = {row["name"]: row for row in (await api.get("/api/exchanges/%2F")).json}
    names = {"", "amq.direct", "amq.fanout", "amq.headers", "amq.match", "amq.rabbitmq.trace", "amq.topic", "x"}
    assert set(rows) == names
    assert rows["amq.rabbitmq.trace"]["internal"] is True


async def test_the_default_exchange_is_called_amq_default_in_a_path() -> None:
    """RabbitMQ docs, HTTP API: its name is empty, which no path can hold."""
    _, _, api = start()
    row = (await api.get("/api/exchanges/%2F/amq.default")).json
    assert (row["name"], row["type"]) == ("", "direct")
    rows = (await api.get("/api/exchanges/%2F/amq.default/bindings/source")).json
    assert [row["destination"] for row in rows] == ["q"]


async def test_what_is_not_there_is_404() -> None:
    _, _, api = start()
    for path in (
        "/api/exchanges/none",
        "/api/exchanges/%2F/none",
        "/api/exchanges/%2F/none/bindings/source",
        "/api/bindings/none",
    ):
        assert (await api.get(path)).status == 404, path
    assert (await api.delete("/api/exchanges/%2F/none")).status == 404


async def test_deleting_an_exchange() -> None:
    broker, client, api = start()
    client.ask("queue.bind", queue="q", exchange="x", routing_key="k")
    reply = await api.delete("/api/exchanges/%2F/x?if-unused=true")
    assert (reply.status, reply.json) == (400, {"error": "bad_request", "reason": "exchange 'x' in vhost '/' in use"})
    assert (await api.delete("/api/exchanges/%2F/x")).status == 204
    assert "x" not in broker.vhost.exchanges


@pytest.mark.parametrize("name", ["amq.direct", "amq.default", "amq.rabbitmq.trace"])
async def test_predeclared_exchanges_stay(name: str) -> None:
    broker, _, api = start()
    before = list(broker.vhost.exchanges)
    reply = await api.delete(f"/api/exchanges/%2F/{name}")
    assert (reply.status, reply.json) == (401, {"error": "not_authorised", "reason": "Access refused."})
    assert list(broker.vhost.exchanges) == before


async def test_bindings_from_and_to_an_exchange() -> None:
    _, client, api = start()
    client.ask("exchange.bind", destination="x", source="amq.fanout", routing_key="k")
    client.ask("queue.bind", queue="q", exchange="x", routing_key="a.b/c~d_e f")
    arrow = {
        "source": "amq.fanout",
        "vhost": "/",
        "destination": "x",
        "destination_type": "exchange",
        "routing_key": "k",
    }
    assert (await api.get("/api/exchanges/%2F/x/bindings/destination")).json == [
        arrow | {"arguments": {}, "properties_key": "k"}
    ]
    rows = (await api.get("/api/exchanges/%2F/x/bindings/source")).json
    assert [(row["destination_type"], row["destination"], row["properties_key"]) for row in rows] == [
        ("queue", "q", "a.b%2Fc%7Ed%5Fe+f")
    ]


async def test_all_bindings_with_those_from_the_default_exchange() -> None:
    broker, client, api = start()
    broker.server.add_vhost("other")
    client.ask("queue.bind", queue="q", exchange="amq.direct", routing_key="")
    rows = (await api.get("/api/bindings")).json
    assert [(row["source"], row["destination"], row["properties_key"]) for row in rows] == [
        ("", "q", "q"),
        ("amq.direct", "q", "~"),
    ]
    assert rows == (await api.get("/api/bindings/%2F")).json
    assert (await api.get("/api/bindings/other")).json == []


async def test_arguments_tell_bindings_apart_in_any_order() -> None:
    """Two bindings are the same when their arguments are, whatever the order; a path must name exactly one."""
    _, client, api = start()
    client.ask("queue.bind", queue="q", exchange="amq.headers", routing_key="", arguments={"a": 1, "b": 2})
    client.ask("queue.bind", queue="q", exchange="amq.headers", routing_key="", arguments={"a": 1, "b": 3})
    keys = [row["properties_key"] for row in (await api.get("/api/exchanges/%2F/amq.headers/bindings/source")).json]
    assert len(set(keys)) == 2
    assert all(key.startswith("~") and len(key) == 7 for key in keys), keys
    client.ask("queue.unbind", queue="q", exchange="amq.headers", routing_key="", arguments={"b": 3, "a": 1})
    client.ask("queue.unbind", queue="q", exchange="amq.headers", routing_key="", arguments={"a": 1, "b": 2})
    client.ask("queue.bind", queue="q", exchange="amq.headers", routing_key="", arguments={"b": 2, "a": 1})
    assert [
        row["properties_key"] for row in (await api.get("/api/exchanges/%2F/amq.headers/bindings/source")).json
    ] == keys[:1]
