"""basic.qos (RabbitMQ docs, Consumer Prefetch): global=false is each new consumer's own window, global=true the
channel's."""

from __future__ import annotations

import pytest

from tests.support.fake_clock import HurriedClock
from tests.support.memory import Broker, Client
from tests.support.wire import method, publish


def filled(count: int, *channels: int) -> Client:
    """A client with channels, and a queue of so many messages."""
    client = Broker().open(*channels or (1,))
    client.ask("queue.declare", queue="q")
    client.send(*(publish(1, "", "q", b"%d" % number) for number in range(count)))
    return client


def test_a_window_bounds_what_is_outstanding() -> None:
    client = filled(5)
    client.ask("basic.qos", prefetch_count=2)
    client.consume("q")
    assert client.bodies() == [b"0", b"1"]
    client.tell("basic.ack", delivery_tag=1)
    assert client.bodies() == [b"2"]
    client.tell("basic.ack", delivery_tag=3, multiple=True)
    assert client.bodies() == [b"3", b"4"]


def test_zero_is_no_window() -> None:
    """RabbitMQ docs, Consumer Prefetch."""
    client = filled(100)
    client.ask("basic.qos", prefetch_count=0)
    client.consume("q")
    assert len(client.bodies()) == 100


def test_every_consumer_has_a_window_of_its_own() -> None:
    """RabbitMQ docs, Consumer Prefetch."""
    client = filled(10)
    client.ask("basic.qos", prefetch_count=2)
    client.consume("q", "a")
    client.consume("q", "b")
    assert [said.method["consumer_tag"] for said in client.deliveries()] == ["a", "a", "b", "b"]


def test_a_new_window_is_for_new_consumers() -> None:
    """RabbitMQ docs, Consumer Prefetch: consumers that started before keep theirs."""
    client = filled(10)
    client.ask("basic.qos", prefetch_count=1)
    client.consume("q", "a")
    client.ask("basic.qos", prefetch_count=3)
    client.consume("q", "b")
    assert [said.method["consumer_tag"] for said in client.deliveries()] == ["a", "b", "b", "b"]
    client.tell("basic.ack", delivery_tag=1)
    assert [said.method["consumer_tag"] for said in client.deliveries()] == ["a"]


def test_a_global_window_bounds_the_channel() -> None:
    """RabbitMQ docs, Consumer Prefetch: the sum over all its consumers."""
    client = filled(10, 1, 2)
    client.ask("basic.qos", prefetch_count=3, **{"global": True})
    client.consume("q", "a")
    client.consume("q", "b")
    assert len(client.deliveries()) == 3
    client.consume("q", "c", on=2)
    assert len(client.deliveries()) == 7, "another channel has its own"
    client.tell("basic.nack", delivery_tag=1, requeue=True)
    assert len(client.deliveries()) == 1


def test_both_windows_hold() -> None:
    """RabbitMQ docs, Consumer Prefetch: "Independent consumers with shared limit"."""
    client = filled(20)
    client.ask("basic.qos", prefetch_count=3)
    client.ask("basic.qos", prefetch_count=5, **{"global": True})
    client.consume("q", "a")
    assert len(client.deliveries()) == 3
    client.consume("q", "b")
    assert len(client.deliveries()) == 2


def test_a_global_window_can_be_moved_while_consumers_run() -> None:
    """RabbitMQ docs, Consumer Prefetch: Celery moves it for ETA tasks and autoscaling."""
    client = filled(20)
    client.ask("basic.qos", prefetch_count=2, **{"global": True})
    client.consume("q")
    assert len(client.deliveries()) == 2
    client.tell("basic.qos", prefetch_count=5, **{"global": True})
    assert client.names() == ["basic.qos-ok", *["basic.deliver"] * 3]
    client.ask("basic.qos", prefetch_count=1, **{"global": True})
    client.tell("basic.ack", delivery_tag=3, multiple=True)
    client.expect_nothing()
    client.tell("basic.ack", delivery_tag=4)
    client.expect_nothing()
    client.tell("basic.ack", delivery_tag=5)
    assert len(client.deliveries()) == 1
    client.tell("basic.qos", prefetch_count=0, **{"global": True})
    assert client.names() == ["basic.qos-ok", *["basic.deliver"] * 14]


def test_basic_get_and_a_consumers_own_window_without_acknowledgements() -> None:
    """RabbitMQ docs, Consumer Prefetch: neither counts."""
    client = filled(10)
    client.ask("basic.qos", prefetch_count=1)
    client.ask("basic.qos", prefetch_count=2, **{"global": True})
    for _ in range(4):
        assert client.get("q") is not None
    client.consume("q", "a")
    assert len(client.deliveries()) == 1, "gets do not use up the window"
    client.consume("q", "b", no_ack=True)
    assert len(client.deliveries()) == 5


def test_a_consumer_without_acknowledgements_waits_while_the_channels_window_is_full() -> None:
    """RabbitMQ, ``rabbit_limiter:can_send``: it does not fill the window, but gets nothing while that is full."""
    client = filled(10)
    client.ask("queue.declare", queue="other")
    client.ask("basic.qos", prefetch_count=2, **{"global": True})
    client.consume("q", "counted")
    client.consume("other", "free", no_ack=True)
    assert len(client.deliveries()) == 2
    client.send(*(publish(1, "", "other", b"x") for _ in range(5)))
    client.expect_nothing()
    client.tell("basic.ack", delivery_tag=0, multiple=True)
    assert tags(client) == ["counted"] + ["free"] * 5 + ["counted"]


def tags(client: Client) -> list[str]:
    return [said.method.text("consumer_tag") for said in client.deliveries()]


def shares(client: Client, rounds: int) -> list[str]:
    """Who gets something when everything outstanding is acknowledged so many times; what was delivered before does not
    count."""
    client.hear()
    got: list[str] = []
    for _ in range(rounds):
        client.tell("basic.ack", delivery_tag=0, multiple=True)
        got += tags(client)
    return got


def sharing(window: int, *consumers: tuple[str, str], count: int = 40) -> Client:
    """A client whose consumers (tag, queue) share a window; each queue has so many messages."""
    client = Broker().open(1, 2)
    for queue in sorted({queue for _, queue in consumers}):
        client.ask("queue.declare", queue=queue)
        client.send(*(publish(1, "", queue, b"%d" % number) for number in range(count)))
    client.ask("basic.qos", prefetch_count=window, **{"global": True})
    for tag, queue in consumers:
        client.consume(queue, tag)
    return client


def test_consumers_of_several_queues_get_what_becomes_free_in_turn() -> None:
    """RabbitMQ tells the queues in an order of chance: {7, 8, 6} of 21."""
    client = sharing(1, ("a", "one"), ("b", "two"), ("c", "three"))
    assert shares(client, 9) == [*"abcabcabc"]


def test_consumers_of_one_queue_get_what_becomes_free_in_turn() -> None:
    client = sharing(1, ("a", "q"), ("b", "q"))
    assert shares(client, 6) == [*"ababab"]


@pytest.mark.parametrize("window", [2, 3, 10])
def test_a_window_that_becomes_free_at_once_is_shared_out(window: int) -> None:
    client = sharing(window, ("a", "one"), ("b", "two"), count=100)
    got = shares(client, 8)
    assert len(got) == 8 * window
    assert abs(got.count("a") - got.count("b")) <= window % 2 * 8


def test_consumers_count_and_not_their_queues() -> None:
    client = sharing(1, *((f"a{number}", "one") for number in range(4)), ("b", "two"))
    got = shares(client, 20)
    assert [got.count(tag) for tag in ("a0", "a1", "a2", "a3", "b")] == [4] * 5


def test_a_queue_that_is_published_to_all_the_time_does_not_go_first() -> None:
    client = sharing(1, ("a", "one"), ("b", "two"))
    got: list[str] = []
    client.hear()
    for _ in range(10):
        client.send(publish(2, "", "one", b"x"), method(1, "basic.ack", delivery_tag=0, multiple=True))
        got += tags(client)
    assert got == [*"ab"] * 5


def test_the_consumer_with_the_highest_priority_goes_first_within_its_queue() -> None:
    """RabbitMQ docs, Consumer Priorities: {1, 10} of 11, where the lower one had come first."""
    client = sharing(1, ("low", "q"), ("b", "two"))
    client.consume("q", "high", arguments={"x-priority": 1})
    got = shares(client, 9)
    assert got.count("low") == 0
    assert got.count("high") >= 4
    assert got.count("b") >= 3


def test_turns_go_on_when_the_window_is_moved() -> None:
    client = sharing(1, ("a", "one"), ("b", "two"), ("c", "three"))
    client.hear()
    client.tell("basic.qos", prefetch_count=4, **{"global": True})
    client.expect("basic.qos-ok")
    assert tags(client) == [*"abc"]
    client.tell("basic.qos", prefetch_count=2, **{"global": True})
    assert client.names() == ["basic.qos-ok"]
    got = shares(client, 9)
    assert [got.count(tag) for tag in "abc"] == [6, 6, 6]
    client.tell("basic.qos", prefetch_count=0, **{"global": True})
    assert client.names().count("basic.deliver") == 120 - 1 - 3 - 18


def test_what_was_acknowledged_before_a_cancel_makes_room_before_it() -> None:
    client = sharing(1, ("a", "q"))
    client.hear()
    ack = method(1, "basic.ack", delivery_tag=0, multiple=True)
    client.send(
        ack, method(1, "queue.declare", queue="q", passive=True), ack, method(1, "basic.cancel", consumer_tag="a")
    )
    heard = client.hear()
    assert [said.method.name for said in heard] == [
        "basic.deliver",
        "queue.declare-ok",
        "basic.deliver",
        "basic.cancel-ok",
    ]
    assert heard[1].method["message_count"] == 38


def test_who_consumes_no_more_leaves_the_line() -> None:
    client = sharing(1, ("a", "one"), ("b", "two"), ("c", "three"), ("d", "three"))
    client.ask("basic.cancel", consumer_tag="b")
    client.ask("queue.delete", queue="three")
    assert shares(client, 3) == [*"aaa"]
    assert client.broker.depth("two") == (40, 0)


@pytest.mark.parametrize("turns", range(10))
def test_a_queue_that_goes_while_a_channel_with_a_full_window_ends(monkeypatch: pytest.MonkeyPatch, turns: int) -> None:
    """Both take several turns; a mistake of the broker's would fail the test."""
    monkeypatch.setattr(Broker, "clock_type", HurriedClock)
    client = sharing(1, *((f"c{number}", "q") for number in range(100)), count=200)
    other = client.broker.open()
    client.hear()
    client.auto = other.auto = False
    client.tell("channel.close", reply_code=200)
    for _ in range(turns):
        client.broker.turn.run()
    other.tell("queue.delete", queue="q")
    client.broker.run_turn()
    assert client.names()[-1] == "channel.close-ok"
    assert other.names() == ["queue.delete-ok"]


def test_many_that_come_and_go_while_the_window_is_full_leave_no_trail() -> None:
    client = sharing(1, ("a", "q"))
    for number in range(100):
        client.consume("q", f"x{number}")
        client.ask("basic.cancel", consumer_tag=f"x{number}")
    client.consume("q", "b")
    assert shares(client, 4) == [*"abab"]


def test_a_window_shared_by_very_many_goes_round() -> None:
    client = sharing(1, *((f"c{number}", "q") for number in range(200)), count=450)
    assert shares(client, 400) == [f"c{number % 200}" for number in range(400)]


def test_a_prefetch_size_is_not_implemented() -> None:
    """RabbitMQ docs, Consumer Prefetch: 540."""
    client = Broker().open()
    client.tell("basic.qos", prefetch_size=1)
    assert client.connection_error(540) == "NOT_IMPLEMENTED - prefetch_size!=0 (1)"


def test_the_largest_window() -> None:
    client = filled(3)
    client.ask("basic.qos", prefetch_count=65535)
    client.consume("q")
    assert len(client.deliveries()) == 3


def test_a_window_may_be_given_by_the_configuration() -> None:
    """RabbitMQ docs, Configuration, default_consumer_prefetch: default_consumer_prefetch."""
    broker = Broker()
    broker.limits.prefetch_default = 2
    client = broker.open()
    client.ask("queue.declare", queue="q")
    client.send(*(publish(1, "", "q", b"x") for _ in range(5)))
    client.consume("q")
    assert len(client.deliveries()) == 2


@pytest.mark.parametrize("settle", ["basic.ack", "basic.nack", "basic.reject"])
def test_every_settlement_makes_room(settle: str) -> None:
    client = filled(4)
    client.ask("basic.qos", prefetch_count=1)
    client.consume("q")
    for tag in range(1, 5):
        assert len(client.deliveries()) == 1
        client.tell(settle, delivery_tag=tag)
    client.expect_nothing()


def test_recover_makes_room_and_redelivers() -> None:
    client = filled(3)
    client.ask("basic.qos", prefetch_count=2)
    client.consume("q")
    assert client.bodies() == [b"0", b"1"]
    client.tell("basic.recover", requeue=True)
    heard = client.hear()
    assert sorted(said.method.name for said in heard) == ["basic.deliver", "basic.deliver", "basic.recover-ok"]
    again = [said for said in heard if said.method.name == "basic.deliver"]
    assert [(said.body, said.method["redelivered"]) for said in again] == [(b"0", True), (b"1", True)]


def test_a_cancelled_consumers_deliveries_still_count_for_the_channel() -> None:
    """AMQP 0-9-1 basic.cancel; RabbitMQ docs, Consumer Prefetch: they are outstanding on the channel."""
    client = filled(10)
    client.ask("basic.qos", prefetch_count=3, **{"global": True})
    client.consume("q", "a")
    assert len(client.deliveries()) == 3
    client.ask("basic.cancel", consumer_tag="a")
    client.consume("q", "b")
    client.expect_nothing()
    client.tell("basic.ack", delivery_tag=2, multiple=True)
    assert len(client.deliveries()) == 2


def test_windows_of_many_acks_in_one_read() -> None:
    client = filled(300)
    client.ask("basic.qos", prefetch_count=100)
    client.consume("q")
    assert len(client.deliveries()) == 100
    client.send(*(method(1, "basic.ack", delivery_tag=tag) for tag in range(100, 0, -1)))
    assert [said.method["delivery_tag"] for said in client.deliveries()] == list(range(101, 201))


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("window", [1, 2, 3, 5, 7])
def test_consumers_that_share_a_window_never_get_more_than_it_together(window: int, together: bool) -> None:
    """RabbitMQ docs, Consumer Prefetch: room that one consumer was offered is gone when another one has taken it."""
    broker = Broker()
    client, publisher = broker.open(), broker.open()
    client.ask("queue.declare", queue="q")
    client.ask("basic.qos", prefetch_count=window, **{"global": True})
    for tag in ("a", "b", "c"):
        client.consume("q", tag)
    messages = [publish(1, "", "q", b"%d" % number) for number in range(20)]
    for group in [messages] if together else [[message] for message in messages]:
        publisher.send(*group)
    assert client.bodies() == [b"%d" % number for number in range(window)]
    client.send(method(1, "basic.ack", delivery_tag=window, multiple=True))
    assert client.bodies() == [b"%d" % number for number in range(window, 2 * window)]
    assert broker.depth("q") == (20 - 2 * window, window)


def test_consumers_of_several_queues_share_a_window() -> None:
    broker = Broker()
    client, publisher = broker.open(), broker.open()
    client.ask("basic.qos", prefetch_count=3, **{"global": True})
    for name in ("one", "two"):
        client.ask("queue.declare", queue=name)
        client.ask("queue.bind", queue=name, exchange="amq.fanout")
        client.consume(name, name)
    publisher.send(*(publish(1, "amq.fanout", "", b"%d" % number) for number in range(4)))
    first = client.deliveries()
    assert len(first) == 3
    client.tell("basic.ack", delivery_tag=0, multiple=True)
    second = client.deliveries()
    assert len(second) == 3
    client.tell("basic.ack", delivery_tag=0, multiple=True)
    everything = first + second + client.deliveries()
    for name in ("one", "two"):
        assert [said.body for said in everything if said.method["consumer_tag"] == name] == [b"0", b"1", b"2", b"3"]


def test_a_no_ack_consumer_beside_a_shared_window() -> None:
    """RabbitMQ: they take turns until the window is full, and then both wait."""
    broker = Broker()
    client, publisher = broker.open(), broker.open()
    client.ask("queue.declare", queue="q")
    client.ask("basic.qos", prefetch_count=2, **{"global": True})
    client.consume("q", "counted")
    client.consume("q", "free", no_ack=True)
    publisher.send(*(publish(1, "", "q", b"%d" % number) for number in range(10)))
    assert tags(client) == ["counted", "free", "counted"]


@pytest.mark.parametrize("shared", [False, True])
def test_what_is_given_back_goes_to_the_higher_priority_that_has_room_for_it_again(shared: bool) -> None:
    """RabbitMQ docs, Consumer Priorities: lower ones get something only while all higher ones have no room."""
    broker = Broker()
    client = broker.open()
    client.ask("queue.declare", queue="q")
    high = broker.open()
    high.ask("basic.qos", prefetch_count=1, **{"global": shared})
    high.consume("q", arguments={"x-priority": 1})
    low = broker.open()
    low.consume("q")
    client.publish("q", b"1")
    client.publish("q", b"2")
    assert (high.bodies(), low.bodies()) == ([b"1"], [b"2"])
    high.tell("basic.nack", delivery_tag=1, requeue=True)
    assert (high.bodies(), low.bodies()) == ([b"1"], [])
