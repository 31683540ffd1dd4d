"""The pages by object. Names, labels and prefixes: RabbitMQ's ``rabbitmq_prometheus``."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from broker.metrics.app import CONTENT_TYPE
from broker.metrics.objects import CLUSTER_FAMILIES, FAMILIES, labels
from tests.support.durable import DurableBroker
from tests.support.memory import Broker, Client
from tests.support.wire import method, publish
from tests.unit.metrics.test_exporter import ask, samples

pytestmark = pytest.mark.asyncio

Series = dict[tuple[str, str], float]


def busy() -> tuple[Broker, Client]:
    broker = Broker()
    client = broker.open()
    client.ask("queue.declare", queue="q")
    client.ask("queue.declare", queue='a "b"\\c')
    client.ask("confirm.select")
    client.send(*(publish(1, "", "q", b"x") for _ in range(5)), publish(1, "", "nobody", b"x"))
    client.hear()
    client.consume("q", "t")
    client.send(method(1, "basic.ack", delivery_tag=2, multiple=True))
    return broker, client


async def series(broker: Broker, path: str, query: str = "") -> Series:
    """Name and last label -> value; no series stands there twice."""
    status, headers, page = await ask(broker, path, query=query)
    assert (status, headers["content-type"]) == (200, CONTENT_TYPE)
    assert len({(name, *labels.items()) for name, labels, _ in samples(page)}) == len(list(samples(page)))
    names = [family.name for family in text_string_to_metric_families(page)]
    assert len(names) == len(set(names)), "a family stands in one place"
    return {(name, (list(labels.values()) or [""])[-1]): value for name, labels, value in samples(page)}


async def test_every_family_is_there() -> None:
    broker, client = busy()
    client.ask("queue.declare", queue="r", durable=True, arguments={"x-queue-type": "quorum"})
    found = {name for name, _ in await series(broker, "/metrics/per-object")}
    expected = {f"rabbitmq_{metric.name}" for family in FAMILIES for metric in family.metrics}
    assert found >= expected
    assert {"rabbitmq_connections", "rabbitmq_global_messages_received_total", "leveret_turn_seconds_count"} <= found


async def test_what_is_said_of_queues() -> None:
    broker, _ = busy()
    found = await series(broker, "/metrics/per-object")
    expected = {
        "queue_messages": 3,
        "queue_messages_ready": 0,
        "queue_messages_unacked": 3,
        "queue_consumers": 1,
        "queue_messages_delivered_ack_total": 5,
        "queue_messages_acked_total": 2,
        "queue_messages_published_total": 5,
    }
    assert {name: found[f"rabbitmq_{name}", "q"] for name in expected} == expected
    idle = 'a "b"\\c'
    assert found["rabbitmq_queue_messages", idle] == 0
    assert ("rabbitmq_queue_messages_acked_total", idle) not in found


async def test_what_is_said_of_raft_groups() -> None:
    broker = DurableBroker()
    client = broker.open()
    for name in ("r", "unused"):
        client.ask("queue.declare", queue=name, durable=True, arguments={"x-queue-type": "quorum"})
    client.ask("queue.declare", queue="classic", durable=True)
    client.send(*(publish(1, "", "r", b"x") for _ in range(3)))
    client.get("r", no_ack=True)
    found = {
        name: value
        for (name, queue), value in (await series(broker, "/metrics/detailed", "family=ra_metrics")).items()
        if queue == "r"
    }
    prefix = "rabbitmq_detailed_raft_"
    indexes = {found[f"{prefix}{name}"] for name in ("commit_index", "last_applied", "last_written_index")}
    assert len(indexes) == 1
    old_names = ("commit_index", "last_applied_index", "last_written_index")
    assert indexes == {found[f"{prefix}log_{name}"] for name in old_names}
    assert min(indexes) >= 2
    assert found[f"{prefix}term"] == found[f"{prefix}term_total"] == 1
    assert found[f"{prefix}snapshot_index"] == found[f"{prefix}log_snapshot_index"] == -1
    assert found[f"{prefix}commit_latency_seconds"] >= 0
    queues = {queue for name, queue in await series(broker, "/metrics/per-object") if "raft" in name}
    assert queues == {"r", "unused"}


async def test_what_is_said_of_channels_exchanges_and_connections() -> None:
    broker, _ = busy()
    found = await series(broker, "/metrics/per-object")
    name = "127.0.0.1:50000 -> 127.0.0.1:5672"
    assert found["rabbitmq_channel_messages_unacked", f"{name} (1)"] == 3
    assert found["rabbitmq_channel_messages_published_total", f"{name} (1)"] == 6
    assert found["rabbitmq_channel_messages_unroutable_dropped_total", f"{name} (1)"] == 1
    assert found["rabbitmq_connection_channels", name] == 1
    assert found["rabbitmq_connection_incoming_bytes_total", name] > 100
    assert found["rabbitmq_exchange_messages_published_total", ""] == 6
    assert ("rabbitmq_exchange_messages_published_total", "amq.topic") not in found


async def test_detailed_shows_the_families_that_are_asked_for() -> None:
    broker, _ = busy()
    nothing = {name for name, _ in await series(broker, "/metrics/detailed")}
    assert nothing == {"rabbitmq_build_info", "rabbitmq_identity_info"}
    found = await series(broker, "/metrics/detailed", "family=queue_coarse_metrics&family=queue_consumer_count")
    assert found["rabbitmq_detailed_queue_messages", "q"] == 3
    assert found["rabbitmq_detailed_queue_consumers", "q"] == 1
    assert 'rabbitmq_endpoint="detailed"' in (await ask(broker, "/metrics/detailed"))[2]
    assert not [name for name, _ in found if "channel" in name]


async def test_the_cluster_has_a_prefix_of_its_own() -> None:
    broker, _ = busy()
    query = "&".join(f"family={family.name}" for family in CLUSTER_FAMILIES)
    found = await series(broker, "/metrics/detailed", query)
    assert found["rabbitmq_cluster_vhost_status", "/"] == 1
    assert found["rabbitmq_cluster_exchange_bindings", "topic"] == 0


async def test_detailed_of_some_virtual_hosts() -> None:
    broker, _ = busy()
    broker.server.add_vhost("other")
    broker.connect(vhost="other").ask("channel.open", on=1)
    query = "family=queue_coarse_metrics&family=exchange_bindings&family=channel_metrics&vhost="
    assert ("rabbitmq_detailed_queue_messages", "q") in await series(broker, "/metrics/detailed", query + "%2F")
    status, _, page = await ask(broker, "/metrics/detailed", query=query + "other")
    assert status == 200
    assert {labels["vhost"] for _, labels, _ in samples(page) if "vhost" in labels} == {"other"}
    assert len([name for name, _, _ in samples(page) if name == "rabbitmq_detailed_channel_consumers"]) == 1


async def test_patterns_of_strangers_are_refused() -> None:
    assert (await ask(Broker(), "/metrics/detailed", query="family=queue_metrics&queue=(a%2B)%2B"))[0] == 400


async def test_a_scrape_dispatches_nothing() -> None:
    broker = Broker()
    client = broker.open()
    for number in range(50):
        client.ask("queue.declare", queue=str(number))
        client.consume(str(number), str(number))
    client.auto = False
    client.send(*(publish(1, "", str(number), b"x") for number in range(50)))
    for path in ("/metrics", "/metrics/per-object", "/metrics/detailed"):
        query = "&".join(f"family={family.name}" for family in FAMILIES)
        assert (await ask(broker, path, query=query))[0] == 200
    assert {queue.delivered for queue in broker.vhost.queues.values()} == {0}
    assert {int(queue.ready_count()) for queue in broker.vhost.queues.values()} == {1}
    broker.run_turn()
    assert {queue.delivered for queue in broker.vhost.queues.values()} == {1}


async def test_labels_are_escaped() -> None:
    """Prometheus docs, Exposition formats; a name that is not UTF-8 must not cost the whole page."""
    assert labels(queue='a"b', vhost="c\\d\n") == 'queue="a\\"b",vhost="c\\\\d\\n"'
    assert labels(queue=b"\xff".decode("utf-8", "surrogateescape")) == 'queue="\\\\udcff"'
