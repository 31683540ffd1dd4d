"""The management API over real sockets. Rule: RabbitMQ docs, Management HTTP API; docs/management.md."""

from __future__ import annotations

import base64
import http.client
import json
from typing import Any
from urllib.parse import quote

import pika
import pytest
from pika.exceptions import ConnectionClosedByBroker

from tests.support.node import Node


class Api:
    """A caller that keeps its connection."""

    def __init__(self, node: Node, user: str = "guest", password: str = "guest") -> None:
        self.connection = http.client.HTTPConnection(node.host, node.ports["management"], timeout=10)
        self.authorization = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()

    def __enter__(self) -> Api:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def call(self, method: str, path: str, body: object = None, **headers: str) -> tuple[int, Any]:
        """Status and JSON of the answer."""
        data = None if body is None else json.dumps(body)
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        self.connection.request(method, path, data, {"Authorization": self.authorization, **names})
        answer = self.connection.getresponse()
        raw = answer.read()
        return answer.status, json.loads(raw) if raw else None


def connect(node: Node) -> Any:
    return pika.BlockingConnection(pika.ConnectionParameters(node.host, node.port))


def test_the_overview_names_the_ports_the_node_listens_on(node: Node) -> None:
    with Api(node) as api:
        status, overview = api.call("GET", "/api/overview")
    assert status == 200
    assert {each["protocol"]: each["port"] for each in overview["listeners"]} == {
        "amqp": node.port,
        "http": node.ports["management"],
        "http/prometheus": node.ports["prometheus"],
    }


def test_a_message_goes_in_over_http_and_out_over_amqp_and_the_other_way_round(node: Node) -> None:
    connection = connect(node)
    channel = connection.channel()
    channel.queue_declare("both ways/ä", durable=True)
    path = quote("both ways/ä", safe="")
    with Api(node) as api:
        body = {
            "properties": {"message_id": "m"},
            "routing_key": "both ways/ä",
            "payload": "in",
            "payload_encoding": "string",
        }
        assert api.call("POST", "/api/exchanges/%2F/amq.default/publish", body) == (200, {"routed": True})
        _, properties, got = channel.basic_get("both ways/ä", auto_ack=True)
        assert (properties.message_id, got) == ("m", b"in")
        channel.basic_publish("", "both ways/ä", b"out")
        wanted = {"count": 1, "ackmode": "ack_requeue_false", "encoding": "auto"}
        status, rows = api.call("POST", f"/api/queues/%2F/{path}/get", wanted)
        while not rows:  # published without a confirm: it may still be under way
            status, rows = api.call("POST", f"/api/queues/%2F/{path}/get", wanted)
        assert (status, rows[0]["payload"]) == (200, "out")
        assert api.call("DELETE", f"/api/queues/%2F/{path}") == (204, None)
        assert api.call("GET", f"/api/queues/%2F/{path}")[0] == 404
    connection.close()


@pytest.mark.parametrize(
    ("headers", "reason"), [({}, "Closed via management plugin"), ({"X_Reason": "tidying up"}, "tidying up")]
)
def test_an_operator_closes_a_connection(node: Node, headers: dict[str, str], reason: str) -> None:
    """connection.close 320 with the operator's reason; RabbitMQ docs, HTTP API: header X-Reason."""
    connection = connect(node)
    with Api(node) as api:
        (row,) = api.call("GET", "/api/connections")[1]
        assert row["client_properties"]["product"] == "Pika Python Client Library"
        assert api.call("DELETE", "/api/connections/" + quote(row["name"], safe=""), **headers) == (204, None)
        with pytest.raises(ConnectionClosedByBroker) as told:
            connection.process_data_events(10)
        assert (told.value.reply_code, told.value.reply_text) == (320, f"CONNECTION_FORCED - {reason}")
        assert api.call("GET", "/api/connections") == (200, [])


def test_everything_can_be_swept_away(node: Node) -> None:
    """What tools do to empty a vhost between two tests: list, and delete what is not predeclared."""
    connection = connect(node)
    channel = connection.channel()
    for name in ("one", "two"):
        channel.queue_declare(name)
        channel.exchange_declare(f"x-{name}")
        channel.queue_bind(name, f"x-{name}", "k")
    with Api(node) as api:
        for kind in ("queues", "exchanges", "policies"):
            for row in api.call("GET", f"/api/{kind}/%2F")[1]:
                if kind == "queues" or (row["name"] and not row["name"].startswith("amq.")):
                    assert api.call("DELETE", f"/api/{kind}/%2F/{quote(row['name'], safe='')}")[0] == 204
        assert api.call("GET", "/api/queues/%2F") == (200, [])
        assert [row["source"] for row in api.call("GET", "/api/bindings")[1]] == []
        assert all(
            row["name"].startswith("amq.") or not row["name"] for row in api.call("GET", "/api/exchanges/%2F")[1]
        )
    connection.close()


def test_a_long_list_arrives_in_pieces_and_whole(node: Node) -> None:
    """It is sent while it is made, so that messages flow meanwhile; the connection is good for the next request."""
    connection = connect(node)
    channel = connection.channel()
    names = [f"long-{number:03}" for number in range(300)]
    for name in names:
        channel.queue_declare(name, exclusive=True)
    with Api(node) as api:
        status, rows = api.call("GET", "/api/queues/%2F?columns=name")
        assert (status, [row["name"] for row in rows if row["name"].startswith("long-")]) == (200, names)
        assert api.call("GET", "/api/whoami")[0] == 200
    connection.close()


def test_strangers_stay_outside(node: Node) -> None:
    with Api(node, "guest", "wrong") as api:
        assert api.call("GET", "/api/queues") == (401, {"error": "not_authorised", "reason": "Login failed"})
        assert api.call("POST", "/api/queues/%2F/q/get", {"x": "y" * 100_000})[0] == 401, (
            "an unread body does not disturb the next request"
        )
        assert api.call("GET", "/api/queues")[0] == 401
