"""Types and arguments that a module and its registration add: nothing else in the tree knows of them (tests/toys).

ARCHITECTURE, "Queues": if one of these needs a change elsewhere, the contract has a hole.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from broker.queues import arguments, registry
from broker.routing import registry as exchange_types
from tests.support.memory import Broker, Client
from tests.support.wire import method
from tests.toys.body_limit import BODY_LIMIT
from tests.toys.counting_queue import COUNTING
from tests.toys.throttle import THROTTLE


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    registry.register(COUNTING)
    arguments.register(BODY_LIMIT)
    exchange_types.register(THROTTLE)
    yield
    exchange_types.forget(THROTTLE.name)
    registry.forget(COUNTING.name)
    arguments.forget(BODY_LIMIT.name)


def counting(broker: Broker) -> Client:
    client = broker.open()
    client.ask("queue.declare", queue="q", arguments={"x-queue-type": "counting"})
    return client


def test_a_queue_type_is_published_to_and_consumed_from() -> None:
    broker = Broker()
    client = counting(broker)
    for _ in range(4):
        client.publish("q", b"content that nobody keeps")
    assert client.ask("queue.declare", queue="q", passive=True)["message_count"] == 4
    client.ask("basic.qos", prefetch_count=2)
    client.consume("q", "c")
    first = client.deliveries()
    assert [(each.body, each.method["redelivered"]) for each in first] == [(b"1000", False), (b"1001", False)]
    assert broker.depth("q") == (2, 2)
    client.tell("basic.ack", delivery_tag=1)
    client.tell("basic.nack", delivery_tag=2, requeue=True)
    again = client.deliveries()
    assert sorted((each.body, each.method["redelivered"]) for each in again) == [(b"1001", True), (b"1002", False)]
    client.ask("basic.cancel", consumer_tag="c")
    client.tell("basic.reject", delivery_tag=again[0].method["delivery_tag"])
    assert broker.depth("q") == (1, 1)


def test_it_is_got_from_and_purged_and_deleted() -> None:
    broker = Broker()
    client = counting(broker)
    for _ in range(5):
        client.publish("q", b"x")
    for number in (1000, 1001):
        got = client.get("q", no_ack=number == 1000)
        assert got is not None
        assert got.body == b"%d" % number
    assert broker.depth("q") == (3, 1)
    client.ask("basic.recover", requeue=True)
    again = client.get("q", no_ack=True)
    assert again is not None
    assert (again.body, again.method["redelivered"]) == (b"1001", True)
    assert client.ask("queue.purge", queue="q")["message_count"] == 3
    assert client.get("q") is None
    client.publish("q", b"x")
    assert client.ask("queue.delete", queue="q")["message_count"] == 1
    client.ask("queue.declare", queue="q")  # the name is free again


def test_a_transaction_and_a_channel_that_ends() -> None:
    broker = Broker()
    client = counting(broker)
    client.ask("tx.select")
    client.publish("q", b"x")
    client.publish("q", b"y")
    assert broker.depth("q") == (0, 0)
    client.ask("tx.commit")
    client.consume("q")
    assert [each.body for each in client.deliveries()] == [b"1000", b"1001"]
    client.drop()
    assert broker.depth("q") == (2, 0)
    assert broker.open().drain("q") == [b"1000", b"1001"]


def test_it_decides_which_arguments_it_takes() -> None:
    broker = Broker()
    client = counting(broker)
    client.ask("queue.declare", queue="aged", arguments={"x-queue-type": "counting", "x-max-age": "1h"})
    client.ask("basic.consume", queue="aged", arguments={"x-stream-offset": "first"})
    refused = broker.open()
    refused.tell("queue.declare", queue="p", arguments={"x-queue-type": "counting", "x-delivery-limit": 3})
    assert refused.channel_error(406).endswith(
        "'x-delivery-limit' for queue 'p' in vhost '/' of queue type rabbit_counting_queue"
    )
    refused = broker.open()
    refused.tell("queue.declare", queue="q")
    assert "'x-queue-type'" in refused.channel_error(406)


def test_an_argument_is_checked_compared_and_obeyed() -> None:
    broker = Broker()
    client = broker.open()
    client.ask("queue.declare", queue="q", arguments={"x-max-body": 3})
    client.ask("confirm.select")
    for body in (b"abc", b"abcd", b""):
        client.publish("q", body)
    assert client.names() == ["basic.ack", "basic.nack", "basic.ack"]
    assert client.drain("q") == [b"abc", b""]
    for arguments_, text in (
        ({"x-max-body": 4}, "inequivalent arg 'x-max-body'"),
        ({"x-max-body": "4"}, "inequivalent arg 'x-max-body'"),
    ):
        other = broker.open()
        other.tell("queue.declare", queue="q", arguments=arguments_)
        assert text in other.channel_error(406)
    other = broker.open()
    other.send(method(1, "queue.declare", queue="new", arguments={"x-max-body": "4"}))
    assert "invalid arg 'x-max-body'" in other.channel_error(406)
    other = broker.open()
    other.tell("queue.declare", queue="new", arguments={"x-queue-type": "counting", "x-max-body": 4})
    assert "of queue type rabbit_counting_queue" in other.channel_error(406), "a type takes it that says so"


def test_an_exchange_type_sees_the_message_and_the_clock() -> None:
    broker = Broker()
    client = broker.open()
    client.ask("exchange.declare", exchange="slow", type="x-throttle", arguments={"x-per-second": 2})
    client.ask("exchange.declare", exchange="front", type="fanout")
    client.ask("exchange.bind", source="front", destination="slow")
    for queue in ("q", "p"):
        client.ask("queue.declare", queue=queue)
        client.ask("queue.bind", queue=queue, exchange="slow")

    def publish_some(first: int) -> None:
        for number in range(first, first + 3):
            client.publish("any", b"%d" % number, exchange="front" if number % 2 else "slow")
            client.publish("any", b"", exchange="slow")

    publish_some(0)
    assert client.drain("q") == [b"0", b"1"]
    broker.advance(1000)
    publish_some(3)
    assert client.drain("q") == [b"3", b"4"]
    assert client.drain("p") == [b"0", b"1", b"3", b"4"]
    client.tell("exchange.declare", exchange="slow2", type="x-throttle")
    assert "x-per-second must be a number" in client.channel_error(406)
