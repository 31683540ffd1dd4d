"""The metrics page. Rules: RabbitMQ's `rabbitmq_prometheus` for names and meanings; Prometheus docs, Exposition
formats."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.types import Message

from broker.metrics.app import CONTENT_TYPE, make_app
from tests.support.durable import DurableBroker
from tests.support.memory import Broker
from tests.support.wire import method, publish

pytestmark = pytest.mark.asyncio

# The names behind the panels of RabbitMQ's overview dashboard, as far as this broker has something to say about them.
DASHBOARD = {
    "rabbitmq_connections",
    "rabbitmq_channels",
    "rabbitmq_queues",
    "rabbitmq_consumers",
    "rabbitmq_queue_messages_ready",
    "rabbitmq_queue_messages_unacked",
    "rabbitmq_global_publishers",
    "rabbitmq_global_consumers",
    "rabbitmq_process_open_fds",
    "rabbitmq_process_max_fds",
    "rabbitmq_process_resident_memory_bytes",
    "rabbitmq_erlang_uptime_seconds",
    "rabbitmq_build_info",
    "rabbitmq_identity_info",
    "rabbitmq_connections_opened_total",
    "rabbitmq_connections_closed_total",
    "rabbitmq_channels_opened_total",
    "rabbitmq_channels_closed_total",
    "rabbitmq_queues_declared_total",
    "rabbitmq_queues_created_total",
    "rabbitmq_queues_deleted_total",
    "rabbitmq_global_messages_received_total",
    "rabbitmq_global_messages_received_confirm_total",
    "rabbitmq_global_messages_routed_total",
    "rabbitmq_global_messages_confirmed_total",
    "rabbitmq_global_messages_unroutable_dropped_total",
    "rabbitmq_global_messages_unroutable_returned_total",
    "rabbitmq_global_messages_delivered_total",
    "rabbitmq_global_messages_delivered_consume_auto_ack_total",
    "rabbitmq_global_messages_delivered_consume_manual_ack_total",
    "rabbitmq_global_messages_delivered_get_auto_ack_total",
    "rabbitmq_global_messages_delivered_get_manual_ack_total",
    "rabbitmq_global_messages_get_empty_total",
    "rabbitmq_global_messages_redelivered_total",
    "rabbitmq_global_messages_acknowledged_total",
    "rabbitmq_alarms_memory_used_watermark",
    "rabbitmq_alarms_free_disk_space_watermark",
    "rabbitmq_auth_attempts_total",
    "rabbitmq_auth_attempts_succeeded_total",
    "rabbitmq_auth_attempts_failed_total",
}


async def ask(
    broker: Broker, path: str = "/metrics", method: str = "GET", query: str = ""
) -> tuple[int, dict[str, str], str]:
    """Status, headers and body of a request to the application."""
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [],
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 15692),
    }
    sent: list[Message] = []

    waiting: list[Message] = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> Message:
        if not waiting:
            await asyncio.Event().wait()  # the caller stays until the response is there
        return waiting.pop()

    async def send(message: Message) -> None:
        sent.append(message)

    await make_app(broker.server)(scope, receive, send)
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], headers, b"".join(message.get("body", b"") for message in sent[1:]).decode()


def samples(page: str) -> Iterator[tuple[str, dict[str, str], float]]:
    """Name, labels and value of every sample, read by prometheus_client's parser."""
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            yield sample.name, sample.labels, sample.value


async def values(broker: Broker) -> dict[str, float]:
    """The values by their names, of all labels together."""
    found: dict[str, float] = {}
    for name, _, value in samples((await ask(broker))[2]):
        found[name] = found.get(name, 0) + value
    return found


async def by_type(broker: Broker, queue_type: str) -> dict[str, float]:
    """What is said of one type of queues, without the common parts of the names."""
    return {
        name.removeprefix("rabbitmq_global_messages_").removesuffix("_total"): value
        for name, labels, value in samples((await ask(broker))[2])
        if labels == {"protocol": "amqp091", "queue_type": queue_type} and value
    }


async def test_the_page_is_what_prometheus_reads() -> None:
    """The content type tells the format; prometheus_client's parser takes every line; every family has a type and a
    help."""
    status, headers, page = await ask(Broker())
    assert (status, headers["content-type"]) == (200, CONTENT_TYPE)
    assert CONTENT_TYPE == "text/plain; version=0.0.4; charset=utf-8"
    assert headers["content-length"] == str(len(page.encode()))
    families = list(text_string_to_metric_families(page))
    assert all(family.type in ("gauge", "counter", "histogram") and family.documentation for family in families)
    assert {name for name, _, _ in samples(page)} >= DASHBOARD


async def test_dead_letters_are_told_apart_by_strategy() -> None:
    broker = DurableBroker()
    client = broker.open()
    quorum = {"x-queue-type": "quorum", "x-overflow": "reject-publish", "x-dead-letter-strategy": "at-least-once"}
    for name, arguments in (("classic", {}), ("kept", quorum)):
        to_dead = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}
        client.ask("queue.declare", queue=name, durable=True, arguments=arguments | to_dead)
    client.ask("queue.declare", queue="dead", durable=True)
    for tag, name in enumerate(("kept", "classic", "kept"), 1):
        client.send(publish(1, "", name, b"1"))
        client.get(name)
        client.tell("basic.reject", delivery_tag=tag, requeue=False)
    broker.settled()
    client.ask("queue.delete", queue="dead")
    client.send(publish(1, "", "kept", b"1"))
    client.get("kept")
    client.tell("basic.reject", delivery_tag=4, requeue=False)
    broker.settled()
    page = (await ask(broker))[2]
    name = "rabbitmq_global_messages_dead_lettered_"
    assert page.count(f"# TYPE {name}rejected_total") == 1
    found = {
        (each[len(name) :], labels["queue_type"], labels["dead_letter_strategy"]): value
        for each, labels, value in samples(page)
        if each.startswith(name) and value
    }
    assert found == {
        ("rejected_total", "rabbit_classic_queue", "at_most_once"): 1,
        ("rejected_total", "rabbit_quorum_queue", "at_least_once"): 3,
        ("confirmed_total", "rabbit_quorum_queue", "at_least_once"): 2,
    }
    assert (await values(broker))["rabbitmq_queue_messages"] == 1


async def test_turns_are_a_histogram() -> None:
    """Prometheus: buckets are cumulative, the last one counts all."""
    broker = Broker()
    for us in (50, 150, 30_000_000):
        broker.clock.stopwatch.turn(us)
    page = (await ask(broker))[2]
    found = {
        labels.get("le", name): value
        for name, labels, value in samples(page)
        if name.startswith("leveret_turn_seconds")
    }
    assert (found["0.0001"], found["0.00025"], found["5.0"], found["+Inf"]) == (1, 2, 2, 3)
    assert found["leveret_turn_seconds_count"] == 3
    assert found["leveret_turn_seconds_sum"] == pytest.approx(30.0002)


async def test_only_metrics_and_only_reading() -> None:
    broker = Broker()
    status, headers, _ = await ask(broker, method="HEAD")
    assert (status, headers["content-type"]) == (200, CONTENT_TYPE)
    assert (await ask(broker, method="POST"))[0] == 405
    for path in ("/", "/metric", "/metrics/x", "/api/overview"):
        assert (await ask(broker, path))[0] == 404


async def test_identity_is_on_the_page() -> None:
    """Every panel of RabbitMQ's dashboards multiplies by identity_info: without it all of them are empty."""
    labels = {
        name: labels
        for name, labels, value in samples((await ask(Broker()))[2])
        if name.endswith("_info") and value == 1
    }
    assert labels["rabbitmq_identity_info"] == {
        "rabbitmq_node": "leveret@memory",
        "rabbitmq_cluster": "memory",
        "rabbitmq_cluster_permanent_id": "memory",
        "rabbitmq_endpoint": "aggregated",
    }
    assert labels["rabbitmq_build_info"]["rabbitmq_version"] == "3.13.7"


async def test_labels_name_the_protocol_and_the_queue_type() -> None:
    found: dict[str, list[dict[str, str]]] = {}
    for name, labels, _ in samples((await ask(Broker()))[2]):
        found.setdefault(name, []).append(labels)
    assert found["rabbitmq_global_messages_received_total"] == [{"protocol": "amqp091"}]
    assert found["rabbitmq_global_messages_delivered_total"] == [
        {"protocol": "amqp091", "queue_type": f"rabbit_{name}_queue"} for name in ("classic", "quorum")
    ]
    assert found["rabbitmq_queue_messages_ready"] == [{}]


async def test_deliveries_are_told_by_the_type_of_the_queue() -> None:
    """Also those of queues that are deleted."""
    broker = DurableBroker()
    client = broker.open()
    client.ask("queue.declare", queue="c", durable=True)
    client.ask("queue.declare", queue="r", durable=True, arguments={"x-queue-type": "quorum"})
    client.send(publish(1, "", "c", b"x"), *(publish(1, "", "r", b"x") for _ in range(3)))
    client.get("c", no_ack=True)
    client.get("r", no_ack=True)
    client.get("r")
    client.tell("basic.nack", delivery_tag=3, requeue=True)
    client.ask("basic.consume", queue="r", consumer_tag="t")
    client.deliveries()
    client.tell("basic.ack", delivery_tag=4)
    client.get("c")
    expected = {
        "delivered": 4,
        "delivered_get_auto_ack": 1,
        "delivered_get_manual_ack": 1,
        "delivered_consume_manual_ack": 2,
        "redelivered": 1,
        "acknowledged": 1,
    }
    for _ in range(2):
        assert await by_type(broker, "rabbit_quorum_queue") == expected
        assert await by_type(broker, "rabbit_classic_queue") == {
            "delivered": 1,
            "delivered_get_auto_ack": 1,
            "get_empty": 1,
        }
        client.ask("queue.delete", queue="r")
        client.hear()


async def test_what_waits_for_a_retry_is_a_message_too() -> None:
    broker = DurableBroker()
    client = broker.open()
    delayed = {"x-queue-type": "quorum", "x-delayed-retry-type": "all", "x-delayed-retry-min": 5000}
    client.ask("queue.declare", queue="r", durable=True, arguments=delayed)
    client.send(publish(1, "", "r", b"x"))
    client.get("r")
    client.tell("basic.nack", delivery_tag=1, requeue=True)
    found = await values(broker)
    assert (found["rabbitmq_queue_messages"], found["rabbitmq_queue_messages_ready"]) == (1, 0)


async def test_what_happens_is_counted() -> None:
    """Meanings as in rabbitmq_prometheus: delivered is the sum of its four parts, routed leaves out what reached no
    queue."""
    broker = Broker()
    client = broker.open()
    client.ask("queue.declare", queue="a")
    client.ask("queue.declare", queue="b")
    client.ask("basic.consume", queue="b", consumer_tag="t")
    for queue in ("a", "a", "b", "nobody"):
        client.send(publish(1, "", queue, b"x"))
    client.send(method(1, "basic.get", queue="a", no_ack=True))
    found = await values(broker)
    expected = {
        "rabbitmq_connections": 1,
        "rabbitmq_channels": 1,
        "rabbitmq_queues": 2,
        "rabbitmq_consumers": 1,
        "rabbitmq_queue_messages": 2,
        "rabbitmq_queue_messages_ready": 1,
        "rabbitmq_queue_messages_unacked": 1,
        "rabbitmq_global_publishers": 1,
        "rabbitmq_global_messages_received_total": 4,
        "rabbitmq_global_messages_routed_total": 3,
        "rabbitmq_global_messages_unroutable_dropped_total": 1,
        "rabbitmq_global_messages_delivered_total": 2,
        "rabbitmq_global_messages_delivered_consume_manual_ack_total": 1,
        "rabbitmq_global_messages_delivered_get_auto_ack_total": 1,
        "rabbitmq_connections_opened_total": 1,
        "rabbitmq_connections_closed_total": 0,
        "rabbitmq_queues_created_total": 2,
    }
    assert {name: found[name] for name in expected} == expected
    client.drop()
    found = await values(broker)
    assert (found["rabbitmq_connections"], found["rabbitmq_connections_closed_total"]) == (0, 1)


async def test_alarms_are_zero_or_one() -> None:
    broker = Broker()
    assert (await values(broker))["rabbitmq_alarms_memory_used_watermark"] == 0
    broker.server.alarms.set("memory", True)
    found = await values(broker)
    assert (found["rabbitmq_alarms_memory_used_watermark"], found["rabbitmq_alarms_free_disk_space_watermark"]) == (
        1,
        0,
    )


async def test_limits_are_on_the_page_of_a_node_that_is_watched() -> None:
    """RabbitMQ's dashboards divide by them: a node in memory has none, and leaves them out instead of showing 0."""
    broker = Broker()
    names = {
        "rabbitmq_resident_memory_limit_bytes",
        "rabbitmq_disk_space_available_bytes",
        "rabbitmq_disk_space_available_limit_bytes",
    }
    assert names.isdisjoint(await values(broker))
    figures = broker.server.alarms.figures
    figures.memory_limit, figures.disk_free, figures.disk_free_limit = 1000, 0, 0
    found = await values(broker)
    assert {name: found[name] for name in names} == {
        "rabbitmq_resident_memory_limit_bytes": 1000,
        "rabbitmq_disk_space_available_bytes": 0,
        "rabbitmq_disk_space_available_limit_bytes": 0,
    }


async def test_numbers_of_the_process_are_its_own() -> None:
    found = await values(Broker())
    assert found["rabbitmq_process_resident_memory_bytes"] > 1 << 20
    assert 3 < found["rabbitmq_process_open_fds"] < found["rabbitmq_process_max_fds"]
