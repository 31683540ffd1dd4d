"""basic.consume and basic.cancel; who gets what (AMQP 0-9-1; RabbitMQ docs, Consumers and Consumer Priorities)."""

from __future__ import annotations

import re

import pytest

from tests.support.memory import Broker, Client
from tests.support.wire import Typed, method, publish


def test_deliveries_have_tag_number_exchange_and_key() -> None:
    client = Broker().open()
    client.ask("queue.declare", queue="q")
    client.publish("q", b"x", properties={"message_id": "m"})
    assert client.consume("q", "mine") == "mine"
    said = client.expect_said("basic.deliver", 1)
    assert said.method.arguments == {
        "consumer_tag": "mine",
        "delivery_tag": 1,
        "redelivered": False,
        "exchange": "",
        "routing_key": "q",
    }
    assert (said.body, said.properties) == (b"x", {"message_id": "m"})


def test_without_a_tag_the_broker_makes_one_up() -> None:
    """AMQP 0-9-1 basic.consume."""
    client = Broker().open()
    client.ask("queue.declare", queue="q")
    tags = {client.consume("q") for _ in range(3)}
    assert len(tags) == 3
    assert all(re.fullmatch(r"amq\.ctag-[A-Za-z0-9_-]{22}", tag) for tag in tags)


def test_a_tag_is_used_once_on_a_channel() -> None:
    """AMQP 0-9-1 basic.consume: 530; another channel may use it."""
    client = Broker().open(1, 2)
    client.ask("queue.declare", queue="q")
    client.consume("q", "c")
    client.consume("q", "c", on=2)
    client.tell("basic.consume", queue="q", consumer_tag="c")
    assert client.connection_error(530) == "NOT_ALLOWED - attempt to reuse consumer tag 'c'"


def test_a_tag_is_free_after_cancel() -> None:
    client = Broker().open()
    client.ask("queue.declare", queue="q")
    for _ in range(3):
        client.consume("q", "c")
        client.ask("basic.cancel", consumer_tag="c")


def test_a_missing_queue() -> None:
    client = Broker().open()
    assert client.ask_error(404, "basic.consume", queue="missing") == "NOT_FOUND - no queue 'missing' in vhost '/'"


def test_consume_ok_comes_before_the_first_delivery() -> None:
    """AMQP 0-9-1 basic.consume."""
    client = Broker().open()
    client.ask("queue.declare", queue="q")
    client.send(publish(1, "", "q", b"x"), method(1, "basic.consume", queue="q"))
    assert client.names() == ["basic.consume-ok", "basic.deliver"]


def test_nothing_comes_after_cancel_ok() -> None:
    """AMQP 0-9-1 basic.consume; what was ready for the consumer stays in the queue."""
    client = Broker().open()
    client.ask("queue.declare", queue="q")
    client.consume("q", "c")
    client.send(method(1, "basic.cancel", consumer_tag="c"), publish(1, "", "q", b"x"))
    assert client.names() == ["basic.cancel-ok"]
    assert client.drain("q") == [b"x"]


def test_what_came_before_the_cancel_in_one_read_is_delivered_before_it() -> None:
    """The consumer was there with room when the message came: it is not the queue's fault that both stood in one
    read."""
    client = Broker().open()
    client.ask("queue.declare", queue="q")
    client.consume("q", "c", no_ack=True)
    client.send(publish(1, "", "q", b"x"), method(1, "basic.cancel", consumer_tag="c"))
    names = client.names()
    assert names in (["basic.deliver", "basic.cancel-ok"], ["basic.cancel-ok"])
    assert (client.drain("q") == [b"x"]) == (len(names) == 1)


def test_cancel_without_an_answer() -> None:
    broker = Broker()
    client = broker.open()
    client.ask("queue.declare", queue="q")
    client.consume("q", "c")
    client.tell("basic.cancel", consumer_tag="c", nowait=True)
    client.expect_nothing()
    assert client.ask("queue.declare", queue="q")["consumer_count"] == 0


def test_consume_without_an_answer() -> None:
    client = Broker().open()
    client.ask("queue.declare", queue="q")
    client.tell("basic.consume", queue="q", consumer_tag="c", nowait=True)
    client.publish("q", b"x")
    assert client.bodies() == [b"x"]


def test_an_unknown_tag_can_be_cancelled() -> None:
    """AMQP 0-9-1 basic.cancel."""
    assert Broker().open().ask("basic.cancel", consumer_tag="nobody")["consumer_tag"] == "nobody"


def test_cancel_leaves_deliveries_outstanding() -> None:
    """AMQP 0-9-1 basic.cancel: they can still be settled, and go back only with the channel."""
    broker = Broker()
    client = broker.open(1, 2)
    client.ask("queue.declare", queue="q")
    client.publish("q", b"1")
    client.publish("q", b"2")
    client.consume("q", "c", on=2)
    assert len(client.deliveries()) == 2
    client.ask("basic.cancel", on=2, consumer_tag="c")
    assert broker.depth("q") == (0, 2)
    client.tell("basic.ack", 2, delivery_tag=1)
    client.ask("channel.close", on=2)
    said = client.get("q")
    assert said is not None
    assert (said.body, said.method["redelivered"]) == (b"2", True)


def test_the_channel_takes_so_many_consumers() -> None:
    """RabbitMQ docs, Consumers, limits: 530."""
    broker = Broker()
    broker.limits.consumers_per_channel_max = 2
    client = broker.open(1, 2)
    client.ask("queue.declare", queue="q")
    client.consume("q")
    client.consume("q")
    client.consume("q", on=2)
    client.tell("basic.consume", queue="q")
    assert client.connection_error(530) == "NOT_ALLOWED - reached maximum (2) of consumers per channel"


def test_no_ack_deliveries_are_settled() -> None:
    broker = Broker()
    client = broker.open()
    client.ask("queue.declare", queue="q")
    client.consume("q", no_ack=True)
    for _ in range(3):
        client.publish("q", b"x")
    assert [said.method["delivery_tag"] for said in client.deliveries()] == [1, 2, 3]
    assert broker.depth("q") == (0, 0)
    client.ask_error(406, "basic.ack", delivery_tag=1)


def test_no_local_is_ignored() -> None:
    """AMQP 0-9-1 basic.consume."""
    client = Broker().open()
    client.ask("queue.declare", queue="q")
    client.consume("q", no_local=True)
    client.publish("q", b"x")
    assert client.bodies() == [b"x"]


def test_a_consumer_tag_may_be_any_text() -> None:
    client = Broker().open()
    client.ask("queue.declare", queue="q")
    client.publish("q", b"x")
    for tag in ("ü", "x" * 255, "\x00", "a b"):
        client.ask("queue.declare", queue="q")
        assert client.consume("q", tag) == tag
        said = client.expect_said("basic.deliver")
        assert said.method["consumer_tag"] == tag
        client.ask("basic.cancel", consumer_tag=tag)
        client.tell("basic.nack", delivery_tag=0, multiple=True, requeue=True)


# who gets what


def consumers(broker: Broker, count: int, no_ack: bool) -> list[Client]:
    """Connections with one consumer each, in the order in which they came."""
    clients = [broker.open() for _ in range(count)]
    for client in clients:
        client.consume("q", "c", no_ack=no_ack)
    return clients


@pytest.mark.parametrize("no_ack", [True, False])
@pytest.mark.parametrize("together", [True, False])
def test_equal_consumers_take_turns(no_ack: bool, together: bool) -> None:
    """RabbitMQ docs, Consumers: message by message, whether the messages came one by one or in one read."""
    broker = Broker()
    publisher = broker.open()
    publisher.ask("queue.declare", queue="q")
    clients = consumers(broker, 3, no_ack=no_ack)
    messages = [publish(1, "", "q", b"%d" % number) for number in range(10)]
    if together:
        publisher.send(*messages)
    else:
        for message in messages:
            publisher.send(message)
    assert [client.bodies() for client in clients] == [[b"0", b"3", b"6", b"9"], [b"1", b"4", b"7"], [b"2", b"5", b"8"]]


def test_a_backlog_is_shared_by_consumers_that_come_together() -> None:
    """Every consumer's first messages go out in turns as soon as it is there."""
    broker = Broker()
    publisher = broker.open(1, 2, 3)
    publisher.ask("queue.declare", queue="q")
    publisher.send(*(publish(1, "", "q", b"%d" % number) for number in range(9)))
    publisher.send(*(method(channel, "basic.qos", prefetch_count=2) for channel in (1, 2, 3)))
    publisher.names()
    publisher.send(*(method(channel, "basic.consume", queue="q", consumer_tag=f"c{channel}") for channel in (1, 2, 3)))
    got = [(said.channel, said.body) for said in publisher.hear() if said.method.name == "basic.deliver"]
    assert sorted(channel for channel, _ in got) == [1, 1, 2, 2, 3, 3]
    assert sorted(body for _, body in got) == [b"0", b"1", b"2", b"3", b"4", b"5"]


def test_a_blocked_consumer_rejoins_behind_the_others() -> None:
    """A consumer whose window was full gets its share again when it has room."""
    broker = Broker()
    publisher = broker.open()
    publisher.ask("queue.declare", queue="q")
    one, two = broker.open(), broker.open()
    one.ask("basic.qos", prefetch_count=1)
    one.consume("q", "c")
    two.consume("q", "c", no_ack=True)
    for number in range(4):
        publisher.publish("q", b"%d" % number)
    assert (one.bodies(), two.bodies()) == ([b"0"], [b"1", b"2", b"3"])
    one.tell("basic.ack", delivery_tag=1)
    publisher.send(*(publish(1, "", "q", b"%d" % number) for number in range(4, 8)))
    assert len(one.bodies()) == 1
    assert len(two.bodies()) == 3
    one.tell("basic.ack", delivery_tag=2)
    one.tell("basic.ack", delivery_tag=0, multiple=True)
    publisher.publish("q", b"8")
    publisher.publish("q", b"9")
    assert len(one.bodies()) == 1, "both have room: they take turns"


def test_higher_priority_consumers_come_first() -> None:
    """RabbitMQ docs, Consumer Priorities: lower ones get messages only while all higher ones are blocked."""
    broker = Broker()
    publisher = broker.open()
    publisher.ask("queue.declare", queue="q")
    low, high, higher = broker.open(), broker.open(), broker.open()
    low.consume("q", "c", arguments={"x-priority": -5})
    for client, priority in ((high, 5), (higher, Typed("s", 10))):
        client.ask("basic.qos", prefetch_count=1)
        client.consume("q", "c", arguments={"x-priority": priority})
    for number in range(4):
        publisher.publish("q", b"%d" % number)
    assert (higher.bodies(), high.bodies(), low.bodies()) == ([b"0"], [b"1"], [b"2", b"3"])
    high.tell("basic.ack", delivery_tag=1)
    publisher.publish("q", b"4")
    assert (higher.bodies(), high.bodies(), low.bodies()) == ([], [b"4"], [])
    higher.tell("basic.ack", delivery_tag=1)
    high.tell("basic.ack", delivery_tag=2)
    publisher.send(*(publish(1, "", "q", b"%d" % number) for number in range(5, 8)))
    assert (higher.bodies(), high.bodies(), low.bodies()) == ([b"5"], [b"6"], [b"7"])


def test_equal_priorities_take_turns() -> None:
    broker = Broker()
    publisher = broker.open()
    publisher.ask("queue.declare", queue="q")
    first, second, default = broker.open(), broker.open(), broker.open()
    default.consume("q", "c")
    for client in (first, second):
        client.consume("q", "c", arguments={"x-priority": 1})
    publisher.send(*(publish(1, "", "q", b"%d" % number) for number in range(4)))
    assert (first.bodies(), second.bodies(), default.bodies()) == ([b"0", b"2"], [b"1", b"3"], [])


@pytest.mark.parametrize("priority", ["1", 1.0, True, None])
def test_a_priority_must_be_an_integer(priority: object) -> None:
    """RabbitMQ docs, Consumer Priorities."""
    client = Broker().open()
    client.ask("queue.declare", queue="q")
    assert client.ask_error(406, "basic.consume", queue="q", arguments={"x-priority": priority}).startswith(
        "PRECONDITION_FAILED - invalid arg 'x-priority'"
    )


def test_a_consumer_that_leaves_gives_its_turn_to_the_next() -> None:
    broker = Broker()
    publisher = broker.open()
    publisher.ask("queue.declare", queue="q")
    clients = consumers(broker, 3, no_ack=True)
    publisher.publish("q", b"0")
    clients[1].drop()
    for number in range(1, 5):
        publisher.publish("q", b"%d" % number)
    assert (clients[0].bodies(), clients[2].bodies()) == ([b"0", b"2", b"4"], [b"1", b"3"])


@pytest.mark.parametrize("together", [True, False])
def test_one_channel_gets_messages_in_their_order_whatever_consumer_they_are_for(together: bool) -> None:
    """AMQP 0-9-1 §4.7: from one queue over one outgoing channel messages are received in the order in which they were
    published."""
    client = Broker().open(1, 2)
    client.ask("queue.declare", queue="q")
    for tag in ("a", "b", "c"):
        client.consume("q", tag, on=2)
    messages = [publish(1, "", "q", b"%d" % number) for number in range(9)]
    for group in [messages] if together else [[message] for message in messages]:
        client.send(*group)
    got = client.deliveries()
    assert [said.body for said in got] == [b"%d" % number for number in range(9)]
    assert [said.method["consumer_tag"] for said in got] == ["a", "b", "c"] * 3
