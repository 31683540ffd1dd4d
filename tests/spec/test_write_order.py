"""What a client says in one write is done in its order: messages that were published before a method are dispatched
before it.

AMQP 0-9-1 §4.7 promises order on a channel. RabbitMQ hands each publish to its queue, and the queue to a consumer,
before it sees the method behind it; here a queue is dispatched at the end of the turn, or earlier when a method asks
who gets what.
"""

from __future__ import annotations

import pytest

from tests.spec.test_slices import numbers
from tests.support.durable import DurableBroker
from tests.support.fake_clock import FakeClock, HurriedClock
from tests.support.memory import Broker, Client
from tests.support.wire import method, publish


@pytest.fixture(autouse=True, params=[FakeClock, HurriedClock], ids=["at once", "in slices"])
def clock_type(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same where the time of the turn is always over."""
    monkeypatch.setattr(Broker, "clock_type", request.param)


def published(first: int, count: int = 10, on: int = 1) -> bytes:
    return b"".join(publish(on, "", "q", b"%d" % number) for number in range(first, first + count))


def with_queue(*channels: int) -> Client:
    client = Broker().open(*channels or (1,))
    client.ask("queue.declare", queue="q")
    return client


def heard(client: Client) -> list[str]:
    """What was said: the consumer tag of a delivery, the name of any other method."""
    return [
        said.method.text("consumer_tag") if said.method.name == "basic.deliver" else said.method.name
        for said in client.hear()
    ]


@pytest.mark.parametrize("no_ack", [False, True])
@pytest.mark.parametrize("count", [10, 200])
def test_a_consumer_gets_what_was_published_before_its_cancel(no_ack: bool, count: int) -> None:
    client = with_queue()
    client.consume("q", "c", no_ack=no_ack)
    client.send(published(0, count), method(1, "basic.cancel", consumer_tag="c"), published(count, 3))
    assert heard(client) == ["c"] * count + ["basic.cancel-ok"]
    assert client.broker.depth("q") == (3, 0 if no_ack else count)


def test_a_cancel_without_an_answer_comes_in_its_order_too() -> None:
    client = with_queue()
    client.consume("q", "c", no_ack=True)
    client.send(
        published(0), method(1, "basic.cancel", consumer_tag="c", nowait=True), method(1, "basic.get", queue="q")
    )
    assert heard(client) == ["c"] * 10 + ["basic.get-empty"]


def test_each_priority_gets_what_was_published_while_it_was_the_highest() -> None:
    client = with_queue()
    for priority in (1, 2, 3):
        client.consume("q", f"c{priority}", no_ack=True, arguments={"x-priority": priority})
    client.send(
        published(0),
        method(1, "basic.cancel", consumer_tag="c3"),
        published(10),
        method(1, "basic.cancel", consumer_tag="c2"),
        published(20),
        method(1, "basic.cancel", consumer_tag="c1"),
    )
    assert heard(client) == [
        *["c3"] * 10,
        "basic.cancel-ok",
        *["c2"] * 10,
        "basic.cancel-ok",
        *["c1"] * 10,
        "basic.cancel-ok",
    ]


@pytest.mark.parametrize("priority", [0, 5])
def test_a_newcomer_gets_nothing_of_what_was_published_before_it(priority: int) -> None:
    client = with_queue()
    client.consume("q", "old")
    client.send(
        published(0),
        method(1, "basic.consume", queue="q", consumer_tag="new", arguments={"x-priority": priority}, nowait=True),
    )
    assert heard(client) == ["old"] * 10


def test_consumers_that_come_in_one_write_get_a_backlog_in_their_order() -> None:
    client = with_queue()
    client.send(published(0))
    client.ask("basic.qos", prefetch_count=4)
    client.send(*(method(1, "basic.consume", queue="q", consumer_tag=tag, nowait=True) for tag in "abc"))
    assert heard(client) == [*"aaaabbbbcc"]


def test_a_queue_name_that_is_left_out_is_the_one_declared_last() -> None:
    client = with_queue()
    client.consume("q", "old")
    client.send(published(0), method(1, "basic.consume", queue="", consumer_tag="new", nowait=True))
    assert heard(client) == ["old"] * 10


@pytest.mark.parametrize(("before", "after"), [(3, 5), (3, 0), (5, 2)])
def test_a_channels_window_is_the_one_of_the_time(before: int, after: int) -> None:
    client = with_queue()
    client.ask("basic.qos", prefetch_count=before, **{"global": True})
    client.consume("q", "c")
    client.send(published(0), method(1, "basic.qos", prefetch_count=after, **{"global": True}))
    more = 10 - before if after == 0 else max(0, after - before)
    assert heard(client) == ["c"] * before + ["basic.qos-ok"] + ["c"] * more


def test_a_channel_that_closes_has_got_what_was_published_before() -> None:
    client = with_queue(1, 2)
    client.consume("q", "c", no_ack=True)
    client.send(published(0, on=2), method(1, "channel.close", reply_code=200), published(10, 3, on=2))
    assert heard(client) == ["c"] * 10 + ["channel.close-ok"]
    assert client.broker.depth("q") == (3, 0)


def test_a_channel_is_open_again_after_its_close() -> None:
    client = with_queue(1, 2)
    client.consume("q", "c")
    client.send(published(0), method(1, "channel.close", reply_code=200))
    assert heard(client) == ["c"] * 10 + ["channel.close-ok"]
    client.ask("channel.open")
    assert client.ask("queue.declare", queue="q", passive=True)["message_count"] == 10
    said = client.get("q")
    assert said is not None
    assert (said.body, said.method["redelivered"]) == (b"0", True)


def test_a_connection_that_closes_has_got_what_was_published_before() -> None:
    client = with_queue(1, 2)
    client.consume("q", "c", no_ack=True, on=2)
    client.send(published(0), method(0, "connection.close", reply_code=200), published(10, 3))
    assert heard(client) == ["c"] * 10 + ["connection.close-ok"]
    assert client.sink.ended
    assert client.broker.depth("q") == (0, 0), "what comes behind the close is not taken"


def test_what_was_published_behind_a_declaration_that_waits_for_the_disk_is_not_lost_by_a_close() -> None:
    broker = DurableBroker()
    client = broker.open(1, 2)
    client.send(
        method(1, "queue.declare", queue="q", durable=True, nowait=True),
        published(0),
        method(2, "queue.declare", queue="other", durable=True),
        published(10, on=2),
        method(0, "connection.close", reply_code=200),
        published(20),
    )
    assert heard(client) == ["queue.declare-ok", "connection.close-ok"]
    assert broker.depth("q") == (20, 0)


def test_what_comes_back_comes_behind_what_was_published_before() -> None:
    """RabbitMQ: basic.recover is about what was delivered when it came, and the ten are not delivered twice."""
    client = with_queue()
    client.consume("q", "c")
    client.send(published(0, 2))
    assert client.bodies() == [b"0", b"1"]
    client.send(published(2), method(1, "basic.recover", requeue=True))
    said = [one for one in client.hear() if one.method.name == "basic.deliver"]
    assert numbers([one.body for one in said]) == [*range(2, 12), 0, 1]
    assert [one.method["redelivered"] for one in said] == [False] * 10 + [True] * 2


def test_what_was_published_before_a_purge_or_delete_is_not_counted() -> None:
    client = with_queue()
    client.ask("basic.qos", prefetch_count=60)
    client.consume("q", "c")
    client.send(published(0, 100), method(1, "queue.purge", queue="q"))
    assert heard(client) == ["c"] * 60 + ["queue.purge-ok"]
    ack = method(1, "basic.ack", delivery_tag=0, multiple=True)
    client.send(ack, published(0, 100), method(1, "queue.declare", queue="q", passive=True))
    said = client.hear()
    assert [one.method.name for one in said] == ["basic.deliver"] * 60 + ["queue.declare-ok"]
    assert said[-1].method["message_count"] == 40
    client.send(ack, method(1, "queue.delete", queue="q"))
    said = client.hear()
    assert [one.method.name for one in said] == ["basic.deliver"] * 40 + ["queue.delete-ok", "basic.cancel"]
    assert said[-2].method["message_count"] == 0


def test_the_wait_for_the_messages_before_a_method_ends_though_others_publish_on_and_on() -> None:
    broker = Broker()
    client, publisher = broker.open(), broker.open()
    client.ask("queue.declare", queue="q")
    client.consume("q", "c", no_ack=True)
    publisher.auto = client.auto = False
    client.send(published(0, 64), method(1, "basic.cancel", consumer_tag="c"))
    for turn in range(100):
        publisher.send(published(100 * turn, 64))
        broker.turn.run()
        if "basic.cancel-ok" in client.names():
            break
    else:
        raise AssertionError("the consumer was never cancelled")


def test_an_error_that_had_to_wait_names_its_method() -> None:
    client = with_queue()
    client.consume("q", "c")
    client.send(published(0, 50), method(1, "queue.delete", queue="q", if_unused=True))
    close = next(one.method for one in client.hear() if one.method.name == "channel.close")
    assert (close["reply_code"], close["class_id"], close["method_id"]) == (406, 50, 40)
