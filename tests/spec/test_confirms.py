"""Publisher confirms on the wire (RabbitMQ docs, Consumer Acknowledgements and Publisher Confirms)."""

from __future__ import annotations

from tests.support.memory import Broker, Client
from tests.support.wire import Said, body, header, method, publish


def confirming(broker: Broker | None = None) -> Client:
    client = (broker or Broker()).open()
    client.ask("queue.declare", queue="q")
    client.ask("confirm.select")
    return client


def shown(heard: list[Said]) -> list[tuple[str, object, object]]:
    return [(said.method.name, said.method["delivery_tag"], said.method["multiple"]) for said in heard]


def test_select_is_answered_every_time() -> None:
    """RabbitMQ docs, Publisher Confirms: idempotent; the numbers go on."""
    client = confirming()
    client.publish("q", b"x")
    assert shown(client.hear()) == [("basic.ack", 1, False)]
    client.ask("confirm.select")
    client.tell("confirm.select", nowait=True)
    client.publish("q", b"x")
    assert shown(client.hear()) == [("basic.ack", 2, False)]


def test_nothing_is_confirmed_without_select() -> None:
    client = Broker().open()
    client.ask("queue.declare", queue="q")
    client.publish("q", b"x")
    client.expect_nothing()
    client.ask("confirm.select")
    client.publish("q", b"x")
    assert shown(client.hear()) == [("basic.ack", 1, False)], "numbers begin with the first publish after select"


def test_what_came_in_one_read_is_confirmed_in_one_frame() -> None:
    """RabbitMQ docs, Publisher Confirms."""
    client = confirming()
    client.send(*(publish(1, "", "q", b"x") for _ in range(50)))
    assert shown(client.hear()) == [("basic.ack", 50, True)]


def test_a_message_without_a_queue_is_acked() -> None:
    """RabbitMQ docs, Publisher Confirms."""
    client = confirming()
    client.publish("nowhere", b"x")
    assert shown(client.hear()) == [("basic.ack", 1, False)]


def test_the_return_comes_before_the_ack() -> None:
    """RabbitMQ docs, Publisher Confirms."""
    client = confirming()
    client.send(publish(1, "", "q", b"x"), publish(1, "", "nowhere", b"x", mandatory=True), publish(1, "", "q", b"x"))
    names = client.names()
    assert names[0] == "basic.return"
    assert set(names[1:]) == {"basic.ack"}


def test_one_refusing_queue_makes_it_a_nack() -> None:
    """RabbitMQ docs, Publisher Confirms: the other queues keep their copies."""
    broker = Broker()
    client = confirming(broker)
    client.ask("queue.declare", queue="full", arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    for queue in ("q", "full"):
        client.ask("queue.bind", queue=queue, exchange="amq.fanout")
    client.send(*(publish(1, "amq.fanout", "", b"%d" % number) for number in range(3)))
    assert shown(client.hear()) == [("basic.ack", 1, False), ("basic.nack", 3, True)]
    assert (client.drain("q"), client.drain("full")) == ([b"0", b"1", b"2"], [b"0"])


def test_every_channel_has_numbers_of_its_own() -> None:
    """RabbitMQ docs, Publisher Confirms."""
    client = Broker().open(1, 2)
    client.ask("queue.declare", queue="q")
    client.ask("confirm.select", on=1)
    client.ask("confirm.select", on=2)
    client.send(publish(1, "", "q", b"x"), publish(2, "", "q", b"x"), publish(1, "", "q", b"x"))
    assert sorted((said.channel, said.method["delivery_tag"]) for said in client.hear()) == [(1, 2), (2, 1)]


def test_a_refused_publish_is_not_confirmed() -> None:
    """AMQP 0-9-1 basic.publish: the channel's end is the answer; what was decided before it is confirmed first."""
    client = confirming()
    client.send(publish(1, "", "q", b"x"), publish(1, "missing", "", b"x"), publish(1, "", "q", b"x"))
    assert client.names() == ["basic.ack", "channel.close"]


def test_confirms_come_before_close_ok() -> None:
    client = confirming()
    client.send(publish(1, "", "q", b"x"), method(1, "channel.close"))
    assert client.names() == ["basic.ack", "channel.close-ok"]
    client = confirming()
    client.send(publish(1, "", "q", b"x"), method(0, "connection.close"))
    assert client.names() == ["basic.ack", "connection.close-ok"]


def test_a_confirm_after_the_message_that_was_cut_into_frames() -> None:
    client = confirming()
    client.send(method(1, "basic.publish", routing_key="q"))
    client.expect_nothing()
    client.send(header(1, 2), body(1, b"a"))
    client.expect_nothing()
    client.send(body(1, b"b"))
    assert shown(client.hear()) == [("basic.ack", 1, False)]


def test_a_dropped_head_is_no_refusal() -> None:
    """RabbitMQ docs, Queue Length Limit: drop-head takes every message."""
    client = Broker().open()
    client.ask("queue.declare", queue="q", arguments={"x-max-length": 1})
    client.ask("confirm.select")
    client.send(*(publish(1, "", "q", b"x") for _ in range(3)))
    assert shown(client.hear()) == [("basic.ack", 3, True)]


def test_confirm_and_tx_exclude_each_other() -> None:
    """RabbitMQ docs, Publisher Confirms and Broker Semantics."""
    client = Broker().open()
    client.ask("confirm.select")
    assert client.ask_error(406, "tx.select") == "PRECONDITION_FAILED - cannot switch from confirm to tx mode"
    client.ask("tx.select")
    assert client.ask_error(406, "confirm.select") == "PRECONDITION_FAILED - cannot switch from tx to confirm mode"


def test_confirmed_messages_are_counted() -> None:
    broker = Broker()
    client = confirming(broker)
    client.send(*(publish(1, "", "q", b"x") for _ in range(7)))
    client.hear()
    client.publish("q", b"x")
    assert broker.queue("q").ready_count() == 8
