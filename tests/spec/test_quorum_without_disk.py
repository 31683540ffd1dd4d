"""Quorum queues on a node that keeps nothing on disk: all that they are, but for what survives a node (RabbitMQ docs,
Quorum Queues)."""

from __future__ import annotations

import pytest

from broker.store.logs import Logs
from broker.store.nowhere import ENTRIES_KEPT
from tests.spec.test_delayed_retry import delay_of, got, ready
from tests.spec.test_quorum import QUORUM, opened, put, quorum_queue, seen
from tests.support.memory import Broker


def logs_of(broker: Broker) -> Logs:
    return quorum_queue(broker).replica.group.log._logs


def test_messages_are_confirmed_and_counted() -> None:
    broker = Broker()
    client = opened(broker)
    put(client, b"1", b"2", b"3")
    assert [said.method.name for said in client.hear()] == ["basic.ack"]
    assert seen(client.get("q")) == (b"1", False, {})
    client.tell("basic.reject", delivery_tag=1, requeue=True)
    assert seen(client.get("q")) == (b"1", True, {"acquired": 1, "delivery": 1})
    client.tell("basic.nack", delivery_tag=2, requeue=True)
    assert seen(client.get("q")) == (b"1", True, {"acquired": 2, "delivery": 1})
    client.tell("basic.ack", delivery_tag=3)
    assert ready(client) == 2
    assert client.ask("queue.purge", queue="q").number("message_count") == 2


def test_priorities_are_strict() -> None:
    broker = Broker()
    client = opened(broker)
    for priority in (0, 31, 9, 200):
        put(client, b"%d" % priority, priority=priority)
    put(client, b"none")
    client.hear()
    assert client.drain("q") == [b"31", b"200", b"9", b"none", b"0"]


def test_what_failed_too_often_is_a_dead_letter() -> None:
    broker = Broker()
    client = opened(broker, {"x-delivery-limit": 1, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"})
    client.ask("queue.declare", queue="dead")
    put(client, b"1")
    client.hear()
    for tag in (1, 2):
        client.get("q")
        client.tell("basic.reject", delivery_tag=tag, requeue=True)
    broker.run_turn()
    assert client.drain("dead") == [b"1"]


def test_what_comes_back_may_be_delayed() -> None:
    broker = Broker()
    client = opened(broker, {"x-delayed-retry-type": "all", "x-delayed-retry-min": 300})
    put(client, b"1")
    client.hear()
    tag = got(client)
    client.tell("basic.nack", delivery_tag=tag, requeue=True)
    assert ready(client) == 0
    passed, _ = delay_of(broker, client)
    assert 300 <= passed <= 320


def test_what_a_consumer_has_for_too_long_goes_back() -> None:
    broker = Broker()
    client = opened(broker, {"x-consumer-timeout": 1000})
    put(client, b"1")
    client.hear()
    consumer = broker.open()
    consumer.consume("q")
    broker.advance(1000)
    assert [said.method.name for said in consumer.hear()] == ["basic.deliver", "basic.cancel"]
    assert seen(client.get("q")) == (b"1", True, {"acquired": 1, "delivery": 0})


def test_all_of_a_large_backlog_is_in_memory() -> None:
    broker = Broker()
    client = opened(broker)
    for number in range(200):
        put(client, *(bytes(1000) + b"%d" % (number * 100 + at) for at in range(100)))
    client.hear()
    queue = quorum_queue(broker)
    assert [disk.paging for disk in queue.disks()] == [False]
    consumer = broker.open()
    consumer.consume("q", no_ack=True)
    assert [body[1000:] for body in consumer.bodies()] == [b"%d" % number for number in range(20_000)]


def test_entries_are_forgotten() -> None:
    """A snapshot stands for them as soon as they are many."""
    broker = Broker()
    client = opened(broker)
    queue = quorum_queue(broker)
    most = 0
    for number in range(3 * int(ENTRIES_KEPT)):
        put(client, b"%d" % number)
        client.hear()
        assert seen(client.get("q", no_ack=True)) == (b"%d" % number, False, {})
        most = max(most, int(queue.replica.group.log.log.positions.live()))
    assert ENTRIES_KEPT < most < ENTRIES_KEPT + 64
    assert queue.replica.group.log.snapshot_index > 2 * ENTRIES_KEPT
    assert not logs_of(broker).by_file


def test_a_queue_that_is_deleted_leaves_nothing() -> None:
    broker = Broker()
    client = opened(broker)
    publisher = broker.open()
    put(publisher, b"1")
    put(publisher, b"2", priority=9)
    publisher.drop()
    logs = logs_of(broker)
    assert len(logs.logs) == 3
    client.ask("queue.delete", queue="q")
    assert logs.logs == {}
    assert logs.batch.group_size() == 0


def test_two_queues_do_not_share_anything() -> None:
    broker = Broker()
    client = opened(broker)
    client.ask("queue.declare", queue="other", durable=True, arguments=QUORUM)
    put(client, b"1")
    put(client, b"2", queue="other")
    client.hear()
    assert client.ask("queue.purge", queue="q").number("message_count") == 1
    assert client.drain("other") == [b"2"]


@pytest.mark.parametrize("outcome", ["commit", "rollback"])
def test_transactions(outcome: str) -> None:
    broker = Broker()
    client = opened(broker)
    other = broker.open()
    other.ask("tx.select")
    put(other, b"1", b"2")
    other.ask(f"tx.{outcome}")
    assert ready(client) == (2 if outcome == "commit" else 0)
