"""Connections, channels and consumers of the API. Rule: RabbitMQ docs, HTTP API and Management: Permissions."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from tests.support.api import Api
from tests.support.memory import Broker
from tests.support.wire import publish

pytestmark = pytest.mark.asyncio

NAME = "127.0.0.1:50000 -> 127.0.0.1:5672"
PATH = "/api/connections/" + quote(NAME, safe="")


async def test_a_connection_shows_what_clients_read() -> None:
    broker = Broker()
    client = broker.connect(heartbeat_s=30)
    client.ask("channel.open")
    row = (await Api(broker).get(PATH)).json
    expected = {
        "name": NAME,
        "node": "leveret@memory",
        "protocol": "AMQP 0-9-1",
        "user": "guest",
        "vhost": "/",
        "state": "running",
        "channels": 1,
        "channel_max": 2047,
        "frame_max": 131072,
        "timeout": 30,
        "peer_host": "127.0.0.1",
        "peer_port": 50000,
        "host": "127.0.0.1",
        "port": 5672,
        "ssl": False,
        "connected_at": client.opened.connected_at_s * 1000,
    }
    assert {name: row.get(name, "missing") for name in expected} == expected
    assert row["client_properties"]["capabilities"]["basic.nack"] is True
    assert row["recv_oct"] > 0
    assert row["send_oct"] > 0
    assert (await Api(broker).get("/api/connections")).json == [row]
    assert (await Api(broker).get("/api/connections/none")).status == 404


@pytest.mark.parametrize(
    ("headers", "text"),
    [
        ({}, "CONNECTION_FORCED - Closed via management plugin"),
        ({"x-reason": "because I say so"}, "CONNECTION_FORCED - because I say so"),
        ({"x-reason": "x" * 300}, "CONNECTION_FORCED - " + "x" * 232 + "..."),
    ],
)
async def test_closing_a_connection_tells_the_client_why(headers: dict[str, str], text: str) -> None:
    """connection.close 320; the reason comes from the header X-Reason, and a reply text holds 255 bytes, the last three
    of them dots."""
    broker = Broker()
    client = broker.connect()
    api = Api(broker)
    assert (await api.delete(PATH, headers)).status == 204
    broker.run_turn()
    (said,) = client.hear()
    assert (said.method.name, said.method["reply_code"], said.method["reply_text"]) == ("connection.close", 320, text)
    assert (await api.get("/api/connections")).json == []
    assert (await api.delete(PATH, headers)).status == 404


async def test_who_is_no_overseer_sees_their_own_connections_only() -> None:
    """RabbitMQ docs, Management: Permissions: the tag management shows "their own", monitoring and administrator show
    all."""
    broker = Broker()
    broker.users.put("other", "other", ("management",))
    broker.connect()
    own = broker.connect(user="other")
    own.ask("channel.open")
    own.ask("queue.declare", queue="q")
    own.ask("basic.consume", queue="q", consumer_tag="t")
    api = Api(broker, "other", "other")
    assert [row["user"] for row in (await api.get("/api/connections")).json] == ["other"]
    assert [row["user"] for row in (await api.get("/api/channels")).json] == ["other"]
    assert len((await api.get("/api/consumers")).json) == 1
    broker.users.put("third", "third", ("policymaker",))
    stranger = Api(broker, "third", "third")
    for path in ("/api/connections", "/api/channels", "/api/consumers"):
        assert (await stranger.get(path)).json == [], path
    assert (await stranger.delete(PATH)).status == 404
    assert len(broker.server.connections) == 2
    broker.users.put("third", "third", ("monitoring",))
    assert len((await stranger.get("/api/connections")).json) == 2


async def test_a_channel_shows_what_clients_read() -> None:
    broker = Broker()
    client = broker.open(3)
    client.ask("queue.declare", on=3, queue="q")
    client.ask("basic.qos", on=3, prefetch_count=7)
    client.ask("basic.consume", on=3, queue="q", consumer_tag="t")
    client.ask("confirm.select", on=3)
    client.send(publish(3, "", "q", b"x"))
    rows = (await Api(broker).get("/api/channels")).json
    assert rows == (await Api(broker).get(PATH + "/channels")).json
    (row,) = rows
    expected = {
        "number": 3,
        "name": f"{NAME} (3)",
        "vhost": "/",
        "user": "guest",
        "state": "running",
        "consumer_count": 1,
        "confirm": True,
        "transactional": False,
        "prefetch_count": 7,
        "global_prefetch_count": 0,
        "messages_unacknowledged": 1,
        "messages_unconfirmed": 0,
        "messages_uncommitted": 0,
        "connection_details": {"name": NAME, "peer_host": "127.0.0.1", "peer_port": 50000},
    }
    assert {name: row.get(name, "missing") for name in expected} == expected
    assert row["oldest_unacknowledged_ms"] == 0
    broker.advance(7000)
    (later,) = (await Api(broker).get("/api/channels")).json
    assert later["oldest_unacknowledged_ms"] == 7000


async def test_a_consumer_shows_what_clients_read() -> None:
    broker = Broker()
    client = broker.open()
    client.ask("queue.declare", queue="q", arguments={"x-single-active-consumer": True})
    client.ask("basic.qos", prefetch_count=7)
    client.ask("basic.consume", queue="q", consumer_tag="first", no_ack=True)
    client.ask("basic.consume", queue="q", consumer_tag="second", arguments={"x-priority": 3})
    api = Api(broker)
    rows = {row["consumer_tag"]: row for row in (await api.get("/api/consumers")).json}
    assert (rows["first"]["ack_required"], rows["first"]["active"], rows["first"]["activity_status"]) == (
        False,
        True,
        "single_active",
    )
    expected = {
        "queue": {"name": "q", "vhost": "/"},
        "ack_required": True,
        "active": False,
        "activity_status": "waiting",
        "exclusive": False,
        "prefetch_count": 7,
        "arguments": {"x-priority": 3},
        "channel_details": {
            "name": f"{NAME} (1)",
            "number": 1,
            "connection_name": NAME,
            "node": "leveret@memory",
            "peer_host": "127.0.0.1",
            "peer_port": 50000,
            "user": "guest",
        },
    }
    assert {name: rows["second"].get(name, "missing") for name in expected} == expected
    assert type(rows["second"]["consumer_timeout"]) is int
    assert (await api.get("/api/consumers/none")).status == 404
