"""The queues of the API. Rule: RabbitMQ docs, HTTP API; texts as RabbitMQ 3.10 answers the same requests."""

from __future__ import annotations

import pytest

from broker.auth.access import Access, AccessControl
from tests.support.api import Api
from tests.support.durable import DurableBroker
from tests.support.memory import Broker, Client
from tests.support.wire import method, publish

pytestmark = pytest.mark.asyncio

LOCKED = (
    "cannot obtain exclusive access to locked queue 'mine' in vhost '/'. It could be originally declared on another "
    "connection or the exclusive property value does not match that of the original declaration."
)


def start() -> tuple[Broker, Client, Api]:
    broker = Broker()
    client = broker.open()
    client.ask("queue.declare", queue="q", durable=True, arguments={"x-max-length": 5})
    client.ask("queue.declare", queue="mine", exclusive=True)
    return broker, client, Api(broker)


async def test_a_queue_shows_what_clients_read() -> None:
    """Rust's client needs name, vhost, type, durable, auto_delete, exclusive, arguments; KEDA and Flower need the
    counts."""
    _, client, api = start()
    client.ask("basic.consume", queue="q", consumer_tag="t")
    client.send(publish(1, "", "q", b"x"))
    client.ask("basic.cancel", consumer_tag="t")
    client.send(publish(1, "", "q", b"y"))
    row = (await api.get("/api/queues/%2F/q")).json
    expected = {
        "name": "q",
        "vhost": "/",
        "type": "classic",
        "durable": True,
        "auto_delete": False,
        "exclusive": False,
        "arguments": {"x-max-length": 5},
        "node": "leveret@memory",
        "state": "running",
        "messages": 2,
        "messages_ready": 1,
        "messages_unacknowledged": 1,
        "messages_details": {"rate": 0.0},
        "consumers": 0,
        "consumer_details": [],
        "policy": None,
    }
    assert {name: row.get(name, "missing") for name in expected} == expected
    listed = {row["name"]: row for row in (await api.get("/api/queues/%2F")).json}
    assert set(listed) == {"q", "mine"}
    assert listed["mine"]["exclusive"] is True
    assert listed["mine"]["arguments"] == {}


async def test_a_queue_shows_its_consumers() -> None:
    _, client, api = start()
    client.ask("basic.qos", prefetch_count=7)
    client.ask("basic.consume", queue="mine", consumer_tag="t", exclusive=True, arguments={"x-priority": 3})
    row = (await api.get("/api/queues/%2F/mine")).json
    assert (row["consumers"], row["exclusive_consumer_tag"], row["single_active_consumer_tag"]) == (1, "t", None)
    assert [consumer["consumer_tag"] for consumer in row["consumer_details"]] == ["t"]


async def test_the_head_and_the_bytes_of_what_waits() -> None:
    """RabbitMQ's head_message_timestamp: the timestamp property of the message that is next; null where it has none."""
    _, client, api = start()
    row = (await api.get("/api/queues/%2F/q")).json
    assert (row["head_message_timestamp"], row["message_bytes_ready"]) == (None, 0)
    client.publish("q", b"abc", properties={"timestamp": 1_700_000_000, "message_id": "m", "headers": {"a": 1}})
    client.publish("q", b"de")
    row = (await api.get("/api/queues/%2F/q")).json
    assert (row["head_message_timestamp"], row["message_bytes_ready"]) == (1_700_000_000, 5)
    client.get("q")
    row = (await api.get("/api/queues/%2F/q")).json
    assert (row["head_message_timestamp"], row["message_bytes_ready"]) == (None, 2)
    client.tell("basic.nack", delivery_tag=1, requeue=True)
    row = (await api.get("/api/queues/%2F/q")).json
    assert row["head_message_timestamp"] == 1_700_000_000
    assert row.get("message_bytes_ready", 5) == 5, "left out where nobody has added it up"


async def test_the_head_of_a_priority_queue() -> None:
    _, client, api = start()
    client.ask("queue.declare", queue="p", arguments={"x-max-priority": 3})
    client.publish("p", b"x", properties={"timestamp": 1})
    client.publish("p", b"x", properties={"timestamp": 2, "priority": 2})
    row = (await api.get("/api/queues/%2F/p")).json
    assert (row["head_message_timestamp"], row["message_bytes_ready"]) == (2, 2)


async def test_what_is_not_there_is_404() -> None:
    _, _, api = start()
    for path in ("/api/queues/none", "/api/queues/%2F/none", "/api/queues/none/q", "/api/queues/%2F/none/bindings"):
        assert (await api.get(path)).status == 404, path
    for path in ("/api/queues/%2F/none", "/api/queues/%2F/none/contents", "/api/queues/none/q"):
        reply = await api.delete(path)
        assert (reply.status, reply.json["error"]) == (404, "Object Not Found"), path


async def test_deleting_cancels_consumers_and_is_answered_with_204() -> None:
    broker, client, api = start()
    client.ask("basic.consume", queue="q", consumer_tag="t")
    reply = await api.delete("/api/queues/%2F/q")
    assert (reply.status, reply.body) == (204, b"")
    assert "q" not in broker.vhost.queues
    assert client.names() == ["basic.cancel"]


async def test_deleting_only_if_unused_or_empty() -> None:
    """queue.delete rules if-unused and if-empty; in RabbitMQ's words, without the name of the reply code."""
    broker, client, api = start()
    client.send(publish(1, "", "q", b"x"))
    reply = await api.delete("/api/queues/%2F/q?if-empty=true")
    assert (reply.status, reply.json) == (400, {"error": "bad_request", "reason": "queue 'q' in vhost '/' not empty"})
    client.ask("basic.consume", queue="q", consumer_tag="t")
    reply = await api.delete("/api/queues/%2F/q?if-unused=true")
    assert (reply.status, reply.json) == (400, {"error": "bad_request", "reason": "queue 'q' in vhost '/' in use"})
    client.ask("basic.cancel", consumer_tag="t")
    assert (await api.delete("/api/queues/%2F/q?if-unused=true&if-empty=false")).status == 204
    assert "q" not in broker.vhost.queues


async def test_purging_drops_what_is_ready() -> None:
    broker, client, api = start()
    for _ in range(3):
        client.send(publish(1, "", "q", b"x"))
    client.ask("basic.get", queue="q")
    assert broker.depth("q") == (2, 1)
    assert (await api.delete("/api/queues/%2F/q/contents")).status == 204
    assert broker.depth("q") == (0, 1)


async def test_a_queue_that_belongs_to_a_connection_is_left_alone() -> None:
    broker, _, api = start()
    for path in ("/api/queues/%2F/mine", "/api/queues/%2F/mine/contents"):
        reply = await api.delete(path)
        assert (reply.status, reply.json) == (400, {"error": "bad_request", "reason": LOCKED})
    assert "mine" in broker.vhost.queues


async def test_bindings_of_a_queue() -> None:
    _, client, api = start()
    client.ask("queue.bind", queue="q", exchange="amq.topic", routing_key="a.#", arguments={"x": 1})
    rows = (await api.get("/api/queues/%2F/q/bindings")).json
    assert [(row["source"], row["routing_key"], row["arguments"]) for row in rows] == [
        ("", "q", {}),
        ("amq.topic", "a.#", {"x": 1}),
    ]


class Nothing(Access):
    """Of a user that may do nothing."""

    def may(self, permission: str, name: str) -> bool:
        return False


class NobodyMay(AccessControl):
    """Nor may anybody else."""

    def new_access(self, user: str, vhost: str) -> Access:
        return Nothing(user, vhost)


async def test_what_a_user_may_not_do_he_may_not_do_here() -> None:
    """Every change is made as that user's client would make it (loopback.py)."""
    broker, _, api = start()
    broker.server.access_control = NobodyMay()
    refused = {"error": "not_authorised", "reason": "Access refused."}
    for path in ("/api/queues/%2F/q", "/api/queues/%2F/q/contents", "/api/exchanges/%2F/x"):
        broker.open().send(method(1, "exchange.declare", exchange="x", type="fanout"))
        reply = await api.delete(path)
        if path.endswith("x"):
            assert reply.status == 404, "his client could not declare it"
        else:
            assert (reply.status, reply.json) == (401, refused)
    published = {"routing_key": "q", "properties": {}, "payload": "x", "payload_encoding": "string"}
    reply = await api.post("/api/exchanges/%2F/amq.direct/publish", published)
    reason = "ACCESS_REFUSED - write access to exchange 'amq.direct' in vhost '/' refused for user 'guest'"
    assert (reply.status, reply.json) == (401, {"error": "not_authorised", "reason": reason})
    got = {"count": 1, "ackmode": "ack_requeue_true", "encoding": "auto"}
    assert (await api.post("/api/queues/%2F/q/get", got)).status == 401
    assert "q" in broker.vhost.queues


async def test_of_a_replicated_queue_the_members_are_shown() -> None:
    _, client, api = start()
    client.ask("queue.declare", queue="agreed", durable=True, arguments={"x-queue-type": "quorum"})
    row = (await api.get("/api/queues/%2F/agreed")).json
    node = row["node"]
    assert (row["type"], row["leader"], row["members"], row["online"]) == ("quorum", node, [node], [node])
    assert "members" not in (await api.get("/api/queues/%2F/q")).json


async def test_dead_letters_that_stay_are_shown() -> None:
    broker = DurableBroker()
    client, api = broker.open(), Api(broker)
    arguments = {
        "x-queue-type": "quorum",
        "x-overflow": "reject-publish",
        "x-dead-letter-strategy": "at-least-once",
        "x-dead-letter-exchange": "missing",
    }
    client.ask("queue.declare", queue="agreed", durable=True, arguments=arguments)
    client.send(publish(1, "", "agreed", b"12345"), publish(1, "", "agreed", b"2"))
    client.get("agreed")
    client.tell("basic.reject", delivery_tag=1, requeue=False)
    broker.run_turn()
    row = (await api.get("/api/queues/%2F/agreed")).json
    assert (row["messages"], row["messages_ready"], row["messages_dlx"], row["message_bytes_dlx"]) == (2, 1, 1, 5)
    assert (await api.get("/api/overview")).json["queue_totals"]["messages"] == 2


async def test_what_waits_for_a_retry_is_shown() -> None:
    broker = DurableBroker()
    client, api = broker.open(), Api(broker)
    arguments = {"x-queue-type": "quorum", "x-delayed-retry-type": "all", "x-delayed-retry-min": 1000}
    client.ask("queue.declare", queue="agreed", durable=True, arguments=arguments)
    client.send(publish(1, "", "agreed", b"1"), publish(1, "", "agreed", b"2"))
    client.get("agreed")
    client.tell("basic.reject", delivery_tag=1, requeue=True)
    broker.run_turn()
    row = (await api.get("/api/queues/%2F/agreed")).json
    assert (row["messages"], row["messages_ready"], row["messages_delayed"]) == (2, 1, 1)
    assert (await api.get("/api/overview")).json["queue_totals"]["messages"] == 2
