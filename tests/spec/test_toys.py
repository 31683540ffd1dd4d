"""Types and arguments that a module and its registration add: nothing else in the tree knows of them (tests/toys).

ARCHITECTURE, "Queues": if one of these needs a change elsewhere, the contract has a hole.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from broker.queues import arguments, registry
from broker.routing import registry as exchange_types
from tests.support.durable import DurableBroker
from tests.support.memory import Broker, Client
from tests.support.wire import method, publish
from tests.toys.body_limit import BODY_LIMIT
from tests.toys.counting_queue import COUNTING
from tests.toys.promising import PROMISING, PromisingQueue, ToySource
from tests.toys.throttle import THROTTLE


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    registry.register(COUNTING)
    registry.register(PROMISING)
    arguments.register(BODY_LIMIT)
    exchange_types.register(THROTTLE)
    yield
    exchange_types.forget(THROTTLE.name)
    registry.forget(PROMISING.name)
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


# ---- a queue type whose promises are its own

PERSISTENT = {"delivery_mode": 2}


class Promising:
    """A node with two promising queues `a` and `b`, a durable one `log`, a transient one `quick`; all of them and
    `a-and-b` are bound to exchanges of these names. The client on channel 1 has asked for confirms."""

    def __init__(self) -> None:
        self.broker = DurableBroker()
        self.client = self.broker.open()
        for name in ("a", "b"):
            self.client.ask("queue.declare", queue=name, arguments={"x-queue-type": "promising"})
        self.client.ask("queue.declare", queue="log", durable=True)
        self.client.ask("queue.declare", queue="quick")
        for exchange, queues in (("both", "a b"), ("with-log", "a log"), ("all", "a b log quick")):
            self.client.ask("exchange.declare", exchange=exchange, type="fanout")
            for name in queues.split():
                self.client.ask("queue.bind", queue=name, exchange=exchange)
        self.client.ask("confirm.select")

    def source(self, name: str) -> ToySource:
        queue = self.broker.vhost.queues[name]
        assert isinstance(queue, PromisingQueue)
        return queue.source

    def publish(self, *keys: str, exchange: str = "") -> None:
        """All of them in one read."""
        self.client.send(*(publish(1, exchange, key, b"x", properties=PERSISTENT) for key in keys))

    def keep(self, name: str, through: int | None = None) -> list[tuple[str, object, object]]:
        """That source keeps what it has; what the client hears."""
        self.source(name).keep(through)
        return self.hear()

    def hear(self) -> list[tuple[str, object, object]]:
        self.broker.run_turn()
        return [
            (said.method.name.removeprefix("basic."), said.method["delivery_tag"], said.method["multiple"])
            for said in self.client.hear()
        ]


def test_confirms_wait_for_the_queue_s_own_source() -> None:
    setting = Promising()
    setting.publish("a")
    assert setting.hear() == []
    assert setting.keep("a") == [("ack", 1, False)]
    setting.publish("a", "a", "a")
    setting.source("a").gather()
    setting.publish("a", "a")
    assert setting.source("a").asked == 3, "once for each ticket, not for each message"
    assert setting.hear() == []
    assert setting.keep("a", 2) == [("ack", 4, True)]
    assert setting.keep("a") == [("ack", 6, True)]


def test_confirms_of_several_sources_do_not_wait_for_each_other() -> None:
    setting = Promising()
    setting.broker.disk_is_stalled = True
    setting.publish("a", "a", "log", "log", "b", "quick", "a")
    assert setting.hear() == [("ack", 6, False)]
    assert setting.keep("b") == [("ack", 5, False)]
    setting.broker.disk_is_stalled = False
    assert setting.hear() == [("ack", 3, False), ("ack", 4, False)]
    assert setting.keep("a") == [("ack", 7, True)]


def test_what_is_transient_waits_behind_the_log_and_nothing_else() -> None:
    setting = Promising()
    setting.broker.disk_is_stalled = True
    setting.publish("log", "quick", "log")
    assert setting.hear() == []
    setting.broker.disk_is_stalled = False
    assert setting.hear() == [("ack", 3, True)]


@pytest.mark.parametrize("order", ["ab", "ba"])
def test_a_message_to_two_sources_waits_for_both(order: str) -> None:
    setting = Promising()
    setting.publish("", "", "", exchange="both")
    assert [setting.source(name).asked for name in "ab"] == [1, 1]
    assert setting.keep(order[0]) == []
    assert setting.keep(order[1]) == [("ack", 3, True)]


def test_a_message_to_the_log_and_a_source_waits_for_both() -> None:
    setting = Promising()
    setting.publish("", exchange="with-log")
    assert setting.hear() == [], "the disk has it"
    assert setting.keep("a") == [("ack", 1, False)]
    setting.broker.disk_is_stalled = True
    setting.publish("", "", exchange="all")
    assert setting.keep("a") == []
    setting.broker.disk_is_stalled = False
    assert setting.hear() == []
    assert setting.keep("b") == [("ack", 3, True)]


def test_one_that_refuses_is_enough_for_a_nack() -> None:
    """RabbitMQ docs, Publisher Confirms; nobody has to be waited for."""
    setting = Promising()
    setting.client.ask("queue.declare", queue="full", arguments={"x-queue-type": "promising", "x-max-age": 1})
    setting.client.ask("queue.bind", queue="full", exchange="both")
    setting.publish("", "", exchange="both")
    assert setting.hear() == [("nack", 2, False)]
    for name in ("a", "b"):
        assert setting.keep(name) == []
    assert setting.keep("full") == [("ack", 1, False)]


def test_a_channel_that_closes_hears_no_more() -> None:
    setting = Promising()
    setting.publish("a")
    setting.client.ask("channel.close")
    setting.client.ask("channel.open")
    setting.source("a").keep()
    setting.broker.run_turn()
    setting.client.expect_nothing()
    setting.client.ask("confirm.select")
    setting.publish("a")
    setting.client.drop()
    setting.source("a").keep()
    setting.broker.run_turn()


def test_a_source_that_ends_refuses_what_it_has_not_kept() -> None:
    setting = Promising()
    setting.publish("a", "b")
    setting.source("a").gather()
    setting.publish("a")
    setting.publish("", exchange="both")
    assert setting.keep("a", 1) == [("ack", 1, False)]
    setting.source("a").lose()
    assert setting.hear() == [("nack", 3, False), ("nack", 4, False)]
    assert setting.keep("b") == [("ack", 2, False)]


def test_a_queue_that_is_deleted_keeps_nobody_waiting() -> None:
    setting = Promising()
    setting.publish("a", "a")
    setting.broker.open().ask("queue.delete", queue="a")
    assert setting.hear() == [("ack", 2, True)]


def transaction() -> tuple[Promising, Client]:
    setting = Promising()
    client = setting.broker.open()
    client.ask("tx.select")
    client.publish("a", b"x")
    client.publish("", b"y", exchange="with-log", properties=PERSISTENT)
    client.tell("tx.commit")
    client.tell("basic.qos", prefetch_count=1)
    client.expect_nothing()
    return setting, client


def test_a_commit_waits_for_every_source() -> None:
    setting, client = transaction()
    setting.source("a").keep()
    setting.broker.run_turn()
    assert client.names() == ["tx.commit-ok", "basic.qos-ok"]


def test_a_commit_whose_source_ends_is_partial() -> None:
    setting, client = transaction()
    setting.source("a").lose()
    setting.broker.run_turn()
    assert client.channel_error(406) == "PRECONDITION_FAILED - partial tx completion"
    client.ask("channel.open")


def test_a_purge_waits_for_the_queue_s_own_source() -> None:
    setting = Promising()
    client = setting.broker.open()
    client.publish("a", b"x")
    client.tell("queue.purge", queue="a")
    client.expect_nothing()
    setting.source("a").keep()
    setting.broker.run_turn()
    assert client.expect("queue.purge-ok")["message_count"] == 1
