"""Transactions: publishes and settlements take effect at commit (AMQP 0-9-1 class tx; RabbitMQ docs, Broker
Semantics)."""

from __future__ import annotations

import pytest

from tests.support.memory import Broker, Client
from tests.support.wire import method, publish


def transacting(broker: Broker, *, messages: int = 0) -> Client:
    """A client in transaction mode that has got so many messages from `q`."""
    client = broker.open()
    client.ask("queue.declare", queue="q")
    client.send(*(publish(1, "", "q", b"%d" % number) for number in range(messages)))
    client.ask("tx.select")
    for _ in range(messages):
        assert client.get("q") is not None
    return client


@pytest.mark.parametrize("name", ["tx.commit", "tx.rollback"])
def test_without_select(name: str) -> None:
    """RabbitMQ docs, Publisher Confirms and Broker Semantics."""
    assert Broker().open().ask_error(406, name) == "PRECONDITION_FAILED - channel is not transactional"


def test_select_is_idempotent() -> None:
    client = Broker().open()
    client.ask("tx.select")
    client.ask("tx.select")
    client.ask("tx.commit")


def test_publishes_are_seen_after_commit() -> None:
    broker = Broker()
    client = transacting(broker)
    client.publish("q", b"1")
    client.publish("q", b"2")
    assert broker.depth("q") == (0, 0)
    client.ask("tx.commit")
    assert broker.depth("q") == (2, 0)
    client.ask("tx.commit")
    assert client.drain("q") == [b"1", b"2"]


def test_rollback_forgets_publishes() -> None:
    broker = Broker()
    client = transacting(broker)
    client.publish("q", b"1")
    client.ask("tx.rollback")
    client.publish("q", b"2")
    client.ask("tx.commit")
    assert client.drain("q") == [b"2"]


@pytest.mark.parametrize("how", ["channel", "connection", "socket"])
def test_what_was_not_committed_dies_with_the_channel(how: str) -> None:
    broker = Broker()
    client, watcher = transacting(broker, messages=2), broker.open()
    client.publish("q", b"new")
    client.tell("basic.ack", delivery_tag=1)
    if how == "channel":
        client.ask("channel.close")
    elif how == "connection":
        client.ask("connection.close", on=0)
    else:
        client.drop()
    assert watcher.drain("q") == [b"0", b"1"]


def test_acks_take_effect_at_commit() -> None:
    """AMQP 0-9-1 class tx."""
    broker = Broker()
    client = transacting(broker, messages=3)
    client.tell("basic.ack", delivery_tag=2, multiple=True)
    assert broker.depth("q") == (0, 3)
    client.ask("tx.commit")
    assert broker.depth("q") == (0, 1)


def test_rejects_take_effect_at_commit() -> None:
    broker = Broker()
    client = transacting(broker, messages=3)
    client.tell("basic.reject", delivery_tag=1, requeue=True)
    client.tell("basic.nack", delivery_tag=2)
    assert broker.depth("q") == (0, 3)
    client.ask("tx.commit")
    assert broker.depth("q") == (1, 1)


def test_a_settlement_is_checked_at_once() -> None:
    """A tag settled in the open transaction is gone for further settlements."""
    client = transacting(Broker(), messages=1)
    client.tell("basic.ack", delivery_tag=1)
    assert client.ask_error(406, "basic.ack", delivery_tag=1) == "PRECONDITION_FAILED - unknown delivery tag 1"


def test_rollback_makes_settlements_undone() -> None:
    """AMQP 0-9-1 class tx: nothing is redelivered; the same tags can be settled again."""
    broker = Broker()
    client = transacting(broker, messages=6)
    client.tell("basic.ack", delivery_tag=2)
    client.tell("basic.reject", delivery_tag=5, requeue=True)
    client.tell("basic.ack", delivery_tag=4, multiple=True)
    client.ask("tx.rollback")
    assert broker.depth("q") == (0, 6)
    client.tell("basic.ack", delivery_tag=5)
    client.tell("basic.ack", delivery_tag=2)
    client.tell("basic.nack", delivery_tag=6, multiple=True, requeue=True)
    client.ask("tx.commit")
    assert client.drain("q") == [b"0", b"2", b"3", b"5"]


def test_a_window_opens_at_commit_only() -> None:
    """Acks inside the transaction do not make room (AMQP 0-9-1 class tx)."""
    broker = Broker()
    client = broker.open()
    client.ask("queue.declare", queue="q")
    client.ask("tx.select")
    client.ask("basic.qos", prefetch_count=1)
    client.consume("q")
    other = broker.open()
    other.publish("q", b"1")
    assert client.bodies() == [b"1"]
    client.tell("basic.ack", delivery_tag=1)
    other.publish("q", b"2")
    client.expect_nothing()
    client.tell("tx.commit")
    assert client.names() == ["tx.commit-ok", "basic.deliver"]


def test_a_global_window_opens_at_commit_only() -> None:
    broker = Broker()
    client = broker.open()
    client.ask("queue.declare", queue="q")
    client.ask("tx.select")
    client.ask("basic.qos", prefetch_count=1, **{"global": True})
    client.consume("q")
    other = broker.open()
    other.publish("q", b"1")
    assert client.bodies() == [b"1"]
    client.tell("basic.ack", delivery_tag=1)
    other.publish("q", b"2")
    client.expect_nothing()
    client.tell("tx.commit")
    assert client.names() == ["tx.commit-ok", "basic.deliver"]


def test_returns_come_at_commit() -> None:
    client = transacting(Broker())
    client.publish("nowhere", b"x", mandatory=True)
    client.expect_nothing()
    client.tell("tx.commit")
    assert client.names() == ["basic.return", "tx.commit-ok"]


def test_a_refusing_queue_fails_the_commit() -> None:
    """RabbitMQ docs, Broker Semantics."""
    broker = Broker()
    client = broker.open()
    client.ask("queue.declare", queue="q", arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    client.ask("tx.select")
    client.publish("q", b"1")
    client.publish("q", b"2")
    client.tell("tx.commit")
    assert client.channel_error(406) == "PRECONDITION_FAILED - partial tx completion"


def test_a_queue_deleted_before_the_commit() -> None:
    broker = Broker()
    client = transacting(broker, messages=1)
    client.publish("q", b"x")
    client.tell("basic.ack", delivery_tag=1)
    client.ask("queue.delete", queue="q")
    client.ask("tx.commit")


@pytest.mark.parametrize("mandatory", [False, True])
def test_a_queue_deleted_before_the_commit_takes_its_message_along(mandatory: bool) -> None:
    """RabbitMQ 3.13: routed when it was published, so not returned either (3.10 looks its queues up at the commit)."""
    client = Broker().open()
    client.ask("queue.declare", queue="gone")
    client.ask("tx.select")
    client.send(publish(1, "", "gone", b"x", mandatory=mandatory))
    client.ask("queue.delete", queue="gone")
    client.tell("tx.commit")
    assert client.names() == ["tx.commit-ok"]


def test_a_failing_publish_closes_the_channel_at_once() -> None:
    client = transacting(Broker())
    client.send(publish(1, "missing", "", b"x"), method(1, "tx.commit"))
    client.channel_error(404)


def test_declares_and_gets_are_not_part_of_it() -> None:
    """AMQP 0-9-1 class tx: publishes and acknowledgements only."""
    broker = Broker()
    client = transacting(broker)
    client.ask("queue.declare", queue="new")
    client.ask("tx.rollback")
    assert "new" in broker.vhost.queues


def test_no_ack_deliveries_are_not_part_of_it() -> None:
    broker = Broker()
    client = broker.open()
    client.ask("queue.declare", queue="q")
    client.publish("q", b"x")
    client.ask("tx.select")
    assert client.get("q", no_ack=True) is not None
    client.ask("tx.rollback")
    assert broker.depth("q") == (0, 0)
