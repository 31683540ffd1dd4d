"""Messages by hand. Rule: RabbitMQ docs, HTTP API (publish, get); answers of RabbitMQ 3.10 to the same requests."""

from __future__ import annotations

import pytest

from broker.management.resources import messages
from tests.support.api import Api
from tests.support.memory import Broker, Client
from tests.support.wire import method, plain, publish

pytestmark = pytest.mark.asyncio

PUBLISH = "/api/exchanges/%2F/amq.default/publish"
GET = "/api/queues/%2F/q/get"
LOCKED = (
    "405 RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'mine' in vhost '/'. It could be originally "
    "declared on another connection or the exclusive property value does not match that of the original declaration."
)


def start() -> tuple[Broker, Client, Api]:
    broker = Broker()
    client = broker.open()
    client.ask("queue.declare", queue="q")
    client.ask("queue.declare", queue="mine", exclusive=True)
    return broker, client, Api(broker)


def message(**changes: object) -> dict[str, object]:
    return {"properties": {}, "routing_key": "q", "payload": "hi", "payload_encoding": "string"} | changes


def wanted(**changes: object) -> dict[str, object]:
    return {"count": 1, "ackmode": "ack_requeue_false", "encoding": "auto"} | changes


async def test_publishing_says_whether_a_queue_was_reached() -> None:
    broker, _, api = start()
    assert (await api.post(PUBLISH, message())).json == {"routed": True}
    assert (await api.post(PUBLISH, message(routing_key="nobody"))).json == {"routed": False}
    assert broker.depth("q") == (1, 0)


async def test_a_message_arrives_as_it_was_described() -> None:
    _, client, api = start()
    properties = {"content_type": "text/plain", "delivery_mode": 2, "headers": {"n": 1, "l": ["x"]}, "user_id": "guest"}
    await api.post(PUBLISH, message(properties=properties))
    await api.post(PUBLISH, message(payload="AP8=", payload_encoding="base64"))
    client.send(method(1, "basic.get", queue="q", no_ack=True), method(1, "basic.get", queue="q", no_ack=True))
    first, second = client.hear()
    assert (first.body, second.body) == (b"hi", b"\x00\xff")
    assert second.properties == {}
    assert {name: plain(value) for name, value in first.properties.items()} == properties


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"payload_encoding": "foo"}, ["unsupported_encoding", "foo"]),
        ({"payload_encoding": "base64", "payload": "%%%"}, ["not_base64", "%%%"]),
        ({"payload": 17}, "payload_not_string"),
        ({"routing_key": 1}, ["not_string", "routing_key"]),
        ({"routing_key": "k" * 256}, "names have at most 255 bytes"),
        ({"properties": {"delivery_mode": "x"}}, ["not_int", "delivery_mode"]),
        (
            {"properties": {"user_id": "other"}},
            "406 PRECONDITION_FAILED - user_id property set to 'other' but authenticated user was 'guest'",
        ),
        ({"properties": {"expiration": "x"}}, "406 PRECONDITION_FAILED - invalid expiration 'x': no_integer"),
    ],
)
async def test_what_cannot_be_published_is_refused(changes: dict[str, object], reason: object) -> None:
    broker, _, api = start()
    reply = await api.post(PUBLISH, message(**changes))
    assert (reply.status, reply.json) == (400, {"error": "bad_request", "reason": reason})
    assert broker.depth("q") == (0, 0)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"{bad", "not_json"),
        (b"[1]", "not_json"),
        (b'"\xff"', "not_json"),
        (b'{"payload": "", "properties": {}, "routing_key": ""}', "[{key_missing,payload_encoding}]"),
        (
            b"",
            (
                "[{key_missing,routing_key},\n {key_missing,properties},\n {key_missing,payload},\n"
                " {key_missing,payload_encoding}]"
            ),
        ),
    ],
)
async def test_bodies_that_say_nothing(body: bytes, reason: str) -> None:
    _, _, api = start()
    reply = await api.call("POST", PUBLISH, body)
    assert (reply.status, reply.json) == (400, {"error": "bad_request", "reason": reason})


@pytest.mark.parametrize(
    ("path", "status", "reason"),
    [
        ("/api/exchanges/%2F/none/publish", 400, "404 NOT_FOUND - no exchange 'none' in vhost '/'"),
        (
            "/api/exchanges/%2F/amq.rabbitmq.trace/publish",
            401,  # of 3.13 (rabbit_mgmt_util:with_channel); 3.10 answers 400
            "ACCESS_REFUSED - cannot publish to internal exchange 'amq.rabbitmq.trace' in vhost '/'",
        ),
        ("/api/exchanges/none/x/publish", 404, "Not Found"),
    ],
)
async def test_where_nothing_can_be_published(path: str, status: int, reason: str) -> None:
    _, _, api = start()
    reply = await api.post(path, message())
    assert (reply.status, reply.json["reason"]) == (status, reason)


async def test_a_message_that_a_full_queue_refuses_is_an_error() -> None:
    _, client, api = start()
    client.ask("queue.declare", queue="full", arguments={"x-max-length": 0, "x-overflow": "reject-publish"})
    assert (await api.post(PUBLISH, message(routing_key="full"))).status == 400


async def test_getting_shows_messages_as_rabbitmq_does() -> None:
    broker, client, api = start()
    client.ask("queue.bind", queue="q", exchange="amq.topic", routing_key="#")
    client.send(publish(1, "amq.topic", "a.b", "grüße".encode(), properties={"timestamp": 5, "headers": {"a": 1}}))
    client.send(publish(1, "", "q", b"\xff\xfe bytes"))
    rows = (await api.post(GET, wanted(count=5))).json
    assert rows == [
        {
            "payload_bytes": 7,
            "redelivered": False,
            "exchange": "amq.topic",
            "routing_key": "a.b",
            "message_count": 1,
            "properties": {"timestamp": 5, "headers": {"a": 1}},
            "payload": "grüße",
            "payload_encoding": "string",
        },
        {
            "payload_bytes": 8,
            "redelivered": False,
            "exchange": "",
            "routing_key": "q",
            "message_count": 0,
            "properties": {},
            "payload": "//4gYnl0ZXM=",
            "payload_encoding": "base64",
        },
    ]
    assert broker.depth("q") == (0, 0)
    assert (await api.post(GET, wanted())).json == []


@pytest.mark.parametrize(
    ("mode", "left", "dead"),
    [
        ("ack_requeue_true", 2, 0),
        ("reject_requeue_true", 2, 0),
        ("ack_requeue_false", 0, 0),
        ("reject_requeue_false", 0, 2),
    ],
)
async def test_the_ack_mode_decides_what_becomes_of_messages(mode: str, left: int, dead: int) -> None:
    broker, client, api = start()
    client.ask("queue.declare", queue="dead")
    client.ask(
        "queue.declare", queue="d", arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}
    )
    for body in (b"1", b"2"):
        client.send(publish(1, "", "d", body))
    rows = (await api.post("/api/queues/%2F/d/get", wanted(count=9, ackmode=mode))).json
    assert [row["payload"] for row in rows] == ["1", "2"]
    broker.run_turn()
    assert (broker.depth("d"), broker.depth("dead")) == ((left, 0), (dead, 0))
    again = (await api.post("/api/queues/%2F/d/get", wanted(count=9))).json
    assert [(row["payload"], row["redelivered"]) for row in again] == [("1", True), ("2", True)][:left], (
        "in their places"
    )


async def test_payloads_are_cut_and_encoded_as_wanted() -> None:
    _, client, api = start()
    for body in ("grüße".encode(), b"hello"):
        client.send(publish(1, "", "q", body))
    rows = (await api.post(GET, wanted(count=2, ackmode="ack_requeue_true", truncate=3))).json
    assert [(row["payload"], row["payload_encoding"], row["payload_bytes"]) for row in rows] == [
        ("Z3LD", "base64", 7),
        ("hel", "string", 5),
    ]
    rows = (await api.post(GET, wanted(count="2", encoding="base64"))).json
    assert [row["payload"] for row in rows] == ["Z3LDvMOfZQ==", "aGVsbG8="]


async def test_a_response_has_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """docs/protocol.md, "Limits": a count below zero means all in RabbitMQ, but a response has an end."""
    broker, client, api = start()
    for _ in range(10):
        client.send(publish(1, "", "q", b"x" * 100))
    monkeypatch.setattr(messages, "COUNT_MAX", 7)
    assert len((await api.post(GET, wanted(count=-1, ackmode="ack_requeue_true"))).json) == 7
    monkeypatch.setattr(messages, "SIZE_MAX", 250)
    assert len((await api.post(GET, wanted(count=-1))).json) == 3
    assert broker.depth("q") == (7, 0)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"count": 1, "requeue": True, "encoding": "auto"}, "[{key_missing,ackmode}]"),
        (wanted(encoding="bad"), "Unsupported encoding. Please use auto or base64."),
        (wanted(count="x"), ["not_integer", "x"]),
        (wanted(count=True), ["not_integer", True]),
        (wanted(truncate="x"), ["not_integer", "x"]),
        (
            wanted(ackmode="bad"),
            "ackmode must be one of ack_requeue_true, ack_requeue_false, reject_requeue_true, reject_requeue_false",
        ),
    ],
)
async def test_what_cannot_be_wanted(body: dict[str, object], reason: object) -> None:
    _, _, api = start()
    reply = await api.post(GET, body)
    assert (reply.status, reply.json) == (400, {"error": "bad_request", "reason": reason})


async def test_queues_that_cannot_be_got_from() -> None:
    _, _, api = start()
    reply = await api.post("/api/queues/%2F/none/get", wanted())
    assert (reply.status, reply.json) == (
        404,
        {"error": "not_found", "reason": "NOT_FOUND - no queue 'none' in vhost '/'"},
    )
    reply = await api.post("/api/queues/%2F/mine/get", wanted())
    assert (reply.status, reply.json) == (400, {"error": "bad_request", "reason": LOCKED})
    assert (await api.post("/api/queues/none/q/get", wanted())).status == 404
