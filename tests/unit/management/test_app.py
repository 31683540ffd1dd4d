"""Who gets in, where paths lead, how errors look. Rules: RabbitMQ docs, Management; answers of RabbitMQ 3.10 (3.13 for
the word in 401)."""

from __future__ import annotations

import asyncio
import base64
import json

import pytest

from broker.management import authentication
from broker.protocol.channel_consumer import ChannelConsumer
from broker.queues.consumer import Subscription
from broker.vhost.rules import ExchangeDeclaration
from broker.wire import table
from broker.wire.table import EMPTY
from tests.support.api import Api
from tests.support.fakes import requester
from tests.support.memory import Broker, start_ok
from tests.support.wire import PROTOCOL_HEADER, publish
from tests.support.wire import method as wire_method

pytestmark = pytest.mark.asyncio

LOGIN_FAILED = {"error": "not_authorised", "reason": "Login failed"}
NOT_FOUND = {"error": "Object Not Found", "reason": "Not Found"}


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Basic",
        "Basic !!!",
        "Basic " + base64.b64encode(b"guest:guest").decode() + "\xff",
        "Basic " + base64.b64encode(b"guest").decode(),
        "Basic " + base64.b64encode(b"guest:wrong").decode(),
        "Basic " + base64.b64encode(b"guest:guest ").decode(),
        "Basic " + base64.b64encode(b"nobody:guest").decode(),
        "Basic " + base64.b64encode(b"\xff:guest").decode(),
        "Bearer " + base64.b64encode(b"guest:guest").decode(),
    ],
)
async def test_who_cannot_say_who_they_are_is_asked_to(header: str) -> None:
    """RFC 7617; RabbitMQ's realm and body, for every path, whether it exists or not."""
    api = Api(Broker())
    for path in ("/api/overview", "/api/nowhere", "/"):
        reply = await api.call("GET", path, headers={"authorization": header})
        assert (reply.status, reply.json) == (401, LOGIN_FAILED)
        assert reply.headers["www-authenticate"] == 'Basic realm="RabbitMQ Management"'


async def test_no_header_at_all_is_answered_the_same() -> None:
    api = Api(Broker())
    api.headers = {}
    assert ((await api.get("/api/overview")).status, (await api.get("/api/overview")).json) == (401, LOGIN_FAILED)


async def test_the_scheme_is_case_insensitive_and_a_password_may_hold_colons() -> None:
    """RFC 7617 §2: the first colon ends the user name."""
    broker = Broker()
    broker.users.put("admin", "a:b:c", ("administrator",))
    api = Api(broker)
    reply = await api.call(
        "GET", "/api/whoami", headers={"authorization": "bASIC " + base64.b64encode(b"admin:a:b:c").decode()}
    )
    assert (reply.status, reply.json) == (200, {"name": "admin", "tags": ["administrator"]})


async def test_guest_comes_from_this_machine_only() -> None:
    """RabbitMQ docs, Access Control: loopback_users holds for the management interface, too."""
    broker = Broker()
    assert (await Api(broker, host="192.0.2.1").get("/api/overview")).status == 401
    assert (await Api(broker, host="127.0.0.5").get("/api/overview")).status == 200
    assert (await Api(broker, host="::ffff:127.0.0.1").get("/api/overview")).status == 200


async def test_a_user_without_a_management_tag_does_not_get_in() -> None:
    """RabbitMQ docs, Management: Permissions."""
    broker = Broker()
    reply = await Api(broker, "other", "other").get("/api/overview")
    assert (reply.status, reply.json) == (401, {"error": "not_authorised", "reason": "Not management user"})
    for tag in sorted(authentication.TAGS):
        broker.users.put("other", "other", (tag,))
        assert (await Api(broker, "other", "other").get("/api/overview")).status == 200


async def test_logins_are_counted() -> None:
    broker = Broker()
    await Api(broker).get("/api/whoami")
    await Api(broker, "guest", "wrong").get("/api/whoami")
    assert (broker.counters.auth_attempts_succeeded, broker.counters.auth_attempts_failed) == (1, 1)


@pytest.mark.parametrize(
    "path",
    ["/", "/api", "/api/", "/api/nowhere", "/nowhere", "/api/queues/%2F/q/none", "/api//queues", "/api/overview/x"],
)
async def test_unknown_paths_are_404_in_json(path: str) -> None:
    reply = await Api(Broker()).get(path)
    assert (reply.status, reply.json) == (404, NOT_FOUND)


async def test_a_slash_at_the_end_says_nothing() -> None:
    """RabbitMQ's router drops it: tools send `/api/queues/`."""
    api = Api(Broker())
    assert (await api.get("/api/whoami/")).json == (await api.get("/api/whoami")).json


async def test_wrong_methods_are_405_and_told_what_is_allowed() -> None:
    reply = await Api(Broker()).post("/api/overview", {})
    assert (reply.status, reply.json["error"]) == (405, "method_not_allowed")
    assert set(reply.headers["allow"].split(", ")) == {"GET", "HEAD"}


async def test_the_slash_of_a_vhost_arrives_encoded_and_does_not_part_the_path() -> None:
    """RabbitMQ docs, HTTP API: the default virtual host is called "/", so it is `%2F` in a path."""
    broker = Broker()
    broker.server.add_vhost("a/b c%")
    api = Api(broker)
    for path, name in (("%2F", "/"), ("%2f", "/"), ("a%2Fb%20c%25", "a/b c%")):
        assert (await api.get(f"/api/vhosts/{path}")).json["name"] == name
    assert (await api.get("/api/vhosts/%252F")).status == 404


async def test_a_mistake_of_ours_is_a_500_that_tells_nothing() -> None:
    broker = Broker()
    api = Api(broker)
    broker.server.vhosts["broken"] = object()  # type: ignore[assignment]
    with pytest.raises(AttributeError):  # what comes through is logged by the listener
        await api.get("/api/queues/broken")
    assert (api.last.status, api.last.json) == (
        500,
        {"error": "internal_server_error", "reason": "Internal Server Error"},
    )


async def test_texts_that_are_not_utf8_do_not_break_a_list() -> None:
    """Names, keys of tables and values of properties are bytes that JSON has no form for; RabbitMQ's management shows
    them so."""
    broker = Broker()
    client = broker.open()
    client.ask("queue.declare", queue="q")
    bad = table.decode(b"\x02k\xfft\x01", 0, 5)
    broker.vhost.declaring.declare_queue("bad", False, False, False, bad, requester())
    client.send(publish(1, "", "q", b"x", properties={"message_id": b"\xfe"}))
    api = Api(broker)
    assert [row["arguments"] for row in (await api.get("/api/queues")).json] == [
        {},
        {"Not UTF-8, base64 is: a/8=": True},
    ]
    body = {"count": 1, "ackmode": "ack_requeue_true", "encoding": "auto"}
    assert (await api.post("/api/queues/%2F/q/get", body)).json[0]["properties"] == {
        "message_id": "Not UTF-8, base64 is: /g=="
    }
    assert (await api.get("/api/queues/%2F/%FF")).status == 404


async def test_a_message_whose_routing_key_is_not_utf8_can_be_got() -> None:
    """And everybody else is served in the same turn (broker/faults.py)."""
    broker = Broker()
    client, other = broker.open(), broker.open()
    client.ask("queue.declare", queue="q")
    client.ask("queue.bind", queue="q", exchange="amq.topic", routing_key="#")
    client.send(
        publish(1, "amq.topic", "temp.\udce9", b"x", properties={"headers": {"k\udce9": b"v\xe9"}, "type": b"\xe9"})
    )
    api = Api(broker)
    body = {"count": 2, "ackmode": "ack_requeue_false", "encoding": "auto"}
    asked = asyncio.ensure_future(api.post("/api/queues/%2F/q/get", body))
    await asyncio.sleep(0)
    other.auto = False
    other.tell("queue.declare", queue="q2")
    reply = await asked
    assert reply.status == 200
    shown = "Not UTF-8, base64 is: "
    [got] = reply.json
    assert (got["routing_key"], got["properties"]["type"], got["payload"]) == (f"{shown}dGVtcC7p", f"{shown}6Q==", "x")
    assert list(got["properties"]["headers"]) == [f"{shown}a+k="]
    assert other.names() == ["queue.declare-ok"]
    assert broker.clock.faults.count == 0


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/api/queues/%2F/%E9/get", {"count": 1, "ackmode": "ack_requeue_true", "encoding": "auto"}, 400),
        (
            "POST",
            "/api/exchanges/%2F/%E9/publish",
            {"properties": {}, "routing_key": "", "payload": "", "payload_encoding": "base64"},
            400,
        ),
        ("GET", "/api/queues/%E9", None, 404),
        ("GET", "/api/bindings", None, 200),
        ("GET", "/api/queues/%2F/n%E9", None, 200),
        ("GET", "/api/queues/%2F/n%E9/bindings", None, 200),
        ("GET", "/api/exchanges/%2F/x%E9/bindings/source", None, 200),
        ("GET", "/api/exchanges", None, 200),
        ("GET", "/api/consumers", None, 200),
        ("GET", "/api/connections", None, 200),
        ("GET", "/api/channels", None, 200),
        ("GET", "/api/overview", None, 200),
        ("GET", "/api/queues?page=1&sort=name", None, 200),
        ("DELETE", "/api/exchanges/%2F/x%E9?if-unused=true", None, 400),
        ("DELETE", "/api/queues/%2F/n%E9?if-unused=true", None, 400),
    ],
)
async def test_names_that_are_not_utf8_are_answered_everywhere(
    method: str, path: str, body: object, status: int
) -> None:
    """Names, binding keys, arguments, consumer tags and client properties may hold any octets."""
    broker = Broker()
    client = broker.client()
    client.send(
        PROTOCOL_HEADER,
        start_ok(properties={"connection_name": b"c\xe9", "p\udce9": "x"}),
        wire_method(0, "connection.tune-ok", channel_max=2047, frame_max=131072, heartbeat=0),
        wire_method(0, "connection.open", virtual_host="/"),
        wire_method(1, "channel.open"),
    )
    # a method with such a name is refused (501), so nothing that a client declares has one; a list must survive it all
    # the same
    exchange = broker.vhost.declaring.declare_exchange(
        ExchangeDeclaration("x\udce9", "topic", False, False, False, EMPTY), requester()
    )
    queue, _ = broker.vhost.declaring.declare_queue("n\udce9", False, False, False, EMPTY, requester())
    broker.vhost.declaring.bind(exchange, queue, "k\udce9", table.make({"a\udce9": b"\xe9"}))
    channel = client.opened.channels[1]
    queue.add_consumer(ChannelConsumer(channel, queue, Subscription("t\udce9", False, False, 0)))
    broker.run_turn()
    reply = await Api(broker).call(method, path, b"" if body is None else json.dumps(body).encode())
    assert reply.status == status, reply.body
    assert broker.clock.faults.count == 0


async def test_two_requests_at_once() -> None:
    """Each acts as a client of its own."""
    broker = Broker()
    client = broker.open()
    client.ask("queue.declare", queue="q")
    api = Api(broker)
    body = {"properties": {}, "routing_key": "q", "payload": "x", "payload_encoding": "string"}
    replies = await asyncio.gather(*[api.post("/api/exchanges/%2F/amq.default/publish", body) for _ in range(20)])
    assert [reply.json for reply in replies] == [{"routed": True}] * 20
    assert broker.depth("q") == (20, 0)
    assert broker.server.channels_open == 1, "the API's own channels are closed again"
