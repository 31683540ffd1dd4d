"""message_stats of the API. Rule: RabbitMQ docs, HTTP API; a rate is a float that is always there, or typed clients
fail."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.api import Api
from tests.support.memory import Broker
from tests.support.wire import method, publish

pytestmark = pytest.mark.asyncio


def busy() -> tuple[Broker, Api]:
    """100 messages are published and confirmed, 60 delivered, 50 acknowledged."""
    broker = Broker()
    client = broker.open(1, 2)
    client.ask("queue.declare", queue="q")
    client.ask("queue.declare", queue="idle")
    client.ask("confirm.select")
    client.ask("basic.qos", on=2, prefetch_count=10)
    client.consume("q", "t", on=2)
    client.send(*(publish(1, "", "q", b"x") for _ in range(100)))
    for last in range(10, 60, 10):
        client.send(method(2, "basic.ack", delivery_tag=last, multiple=True))
    broker.advance(5000)
    return broker, Api(broker)


def figures(shown: dict[str, Any]) -> dict[str, tuple[int, float]]:
    """Count and rate of what is not zero; every count must have a rate."""
    found: dict[str, tuple[int, float]] = {}
    for name, count in shown.items():
        if not name.endswith("_details"):
            rate = shown[f"{name}_details"]["rate"]
            assert isinstance(rate, float), name
            if count or rate:
                found[name] = (count, rate)
    return found


QUEUE = {"publish": (100, 20.0), "deliver": (60, 12.0), "ack": (50, 10.0), "deliver_get": (60, 12.0)}


async def test_a_queue_shows_counts_and_rates() -> None:
    _, api = busy()
    rows = {row["name"]: row for row in (await api.get("/api/queues")).json}
    assert figures(rows["q"]["message_stats"]) == QUEUE
    assert set(rows["q"]["message_stats"]) >= {"get", "get_no_ack", "get_empty", "deliver_no_ack", "redeliver"}
    assert (rows["q"]["messages_details"], rows["q"]["messages_ready_details"]) == ({"rate": 10.0}, {"rate": 8.0})
    assert "idle_since" not in rows["q"]
    assert rows["idle"]["message_stats"] == {}
    assert "idle_since" not in rows["idle"]


async def test_who_has_stopped_shows_a_rate_of_zero() -> None:
    broker, api = busy()
    broker.advance(5000)
    row = (await api.get("/api/queues/%2F/q")).json
    assert figures(row["message_stats"]) == {name: (count, 0.0) for name, (count, _) in QUEUE.items()}
    assert row["messages_details"] == {"rate": 0.0}
    assert row["idle_since"] == "2023-11-14T22:13:25.000+00:00"


async def test_bytes_of_a_connection() -> None:
    """RabbitMQ's recv_oct and send_oct, with rates: "From client" and "To client" of its console."""
    broker, api = busy()
    (shown,) = (await api.get("/api/connections")).json
    assert shown["recv_oct_details"] == {"rate": shown["recv_oct"] / 5}, "all of it came within the interval"
    assert shown["send_oct_details"] == {"rate": shown["send_oct"] / 5}
    assert shown["recv_oct"] > 100 * len(publish(1, "", "q", b"x"))
    broker.advance(5000)
    (later,) = (await api.get("/api/connections")).json
    assert (later["recv_oct"], later["recv_oct_details"], later["send_oct_details"]) == (
        shown["recv_oct"],
        {"rate": 0.0},
        {"rate": 0.0},
    )


async def test_channels_and_their_connection() -> None:
    broker, api = busy()
    rows = {row["number"]: row["message_stats"] for row in (await api.get("/api/channels")).json}
    assert figures(rows[1]) == {"publish": (100, 20.0), "confirm": (100, 20.0)}
    assert figures(rows[2]) == {"deliver": (60, 12.0), "ack": (50, 10.0), "deliver_get": (60, 12.0)}
    (connection,) = (await api.get("/api/connections")).json
    assert figures(connection["message_stats"]) == figures(rows[1]) | figures(rows[2])
    broker.open()
    idle = (await api.get("/api/connections")).json[1]
    assert idle["message_stats"] == {}


async def test_exchanges() -> None:
    _, api = busy()
    rows = {row["name"]: row["message_stats"] for row in (await api.get("/api/exchanges")).json}
    assert figures(rows[""]) == {"publish_in": (100, 20.0), "publish_out": (100, 20.0)}
    assert rows["amq.topic"] == {}


async def test_the_overview() -> None:
    _, api = busy()
    overview = (await api.get("/api/overview")).json
    assert overview["rates_mode"] == "basic"
    assert figures(overview["message_stats"]) == QUEUE | {"confirm": (100, 20.0)}
    assert figures(overview["queue_totals"]) == {
        "messages": (50, 10.0),
        "messages_ready": (40, 8.0),
        "messages_unacknowledged": (10, 2.0),
    }
    assert figures(overview["churn_rates"])["connection_created"] == (1, 0.2)


async def test_a_list_dispatches_nothing() -> None:
    """Messages, and consumers with room, that wait for the end of the turn go on waiting: nobody pays for 10,000
    queues."""
    broker = Broker()
    client = broker.open()
    for number in range(50):
        client.ask("queue.declare", queue=str(number))
        client.consume(str(number), str(number))
    api = Api(broker)
    broker.turn.waker = None
    client.auto = False
    client.send(*(publish(1, "", str(number), b"x") for number in range(50)))
    for path in ("/api/queues", "/api/overview", "/api/channels", "/api/exchanges", "/api/connections"):
        assert (await api.get(path)).status == 200
    assert {queue.delivered for queue in broker.vhost.queues.values()} == {0}
    assert {int(queue.ready_count()) for queue in broker.vhost.queues.values()} == {1}
    broker.run_turn()
    assert {queue.delivered for queue in broker.vhost.queues.values()} == {1}
