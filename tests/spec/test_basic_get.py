"""basic.get (AMQP 0-9-1 basic.get)."""

from __future__ import annotations

from tests.support.memory import Broker
from tests.support.wire import method, publish


def test_get_ok_has_the_message_and_how_many_are_left() -> None:
    """AMQP 0-9-1 basic.get."""
    client = Broker().open()
    client.ask("queue.declare", queue="q")
    for number in range(3):
        client.publish("q", b"%d" % number)
    said = client.get("q")
    assert said is not None
    assert said.method.arguments == {
        "delivery_tag": 1,
        "redelivered": False,
        "exchange": "",
        "routing_key": "q",
        "message_count": 2,
    }
    assert said.body == b"0"


def test_an_empty_queue() -> None:
    client = Broker().open()
    client.ask("queue.declare", queue="q")
    client.tell("basic.get", queue="q")
    assert client.expect("basic.get-empty", 1).arguments == {"cluster_id": ""}


def test_a_missing_queue() -> None:
    client = Broker().open()
    assert client.ask_error(404, "basic.get", queue="missing") == "NOT_FOUND - no queue 'missing' in vhost '/'"


def test_no_ack_settles_at_once() -> None:
    broker = Broker()
    client = broker.open()
    client.ask("queue.declare", queue="q")
    client.publish("q", b"x")
    client.get("q", no_ack=True)
    assert broker.depth("q") == (0, 0)
    assert client.ask_error(406, "basic.ack", delivery_tag=1) == "PRECONDITION_FAILED - unknown delivery tag 1"


def test_without_no_ack_it_is_outstanding() -> None:
    broker = Broker()
    client = broker.open()
    client.ask("queue.declare", queue="q")
    client.publish("q", b"x")
    client.get("q")
    assert broker.depth("q") == (0, 1)
    client.tell("basic.ack", delivery_tag=1)
    assert broker.depth("q") == (0, 0)


def test_tags_are_shared_by_get_and_consume() -> None:
    """AMQP 0-9-1 §1.1, delivery-tag."""
    client = Broker().open()
    client.ask("queue.declare", queue="q")
    for _ in range(3):
        client.publish("q", b"x")
    client.get("q")
    client.ask("basic.qos", prefetch_count=1)
    client.consume("q", "c")
    assert [said.method["delivery_tag"] for said in client.deliveries()] == [2]
    client.ask("basic.cancel", consumer_tag="c")
    said = client.get("q", no_ack=True)
    assert said is not None
    assert said.method["delivery_tag"] == 3


def test_get_sees_what_was_published_just_before() -> None:
    """Also in the same read, with a consumer that has no room."""
    client = Broker().open()
    client.ask("queue.declare", queue="q")
    client.send(publish(1, "", "q", b"x"), method(1, "basic.get", queue="q"))
    assert client.expect_said("basic.get-ok").body == b"x"


def test_a_consumer_with_room_comes_first() -> None:
    """A publish and a get in one read: the message belongs to the waiting consumer."""
    client = Broker().open()
    client.ask("queue.declare", queue="q")
    client.consume("q", "c")
    client.send(publish(1, "", "q", b"x"), method(1, "basic.get", queue="q"))
    assert client.names() == ["basic.deliver", "basic.get-empty"]


def test_a_requeued_message_is_got_with_redelivered() -> None:
    client = Broker().open()
    client.ask("queue.declare", queue="q")
    client.publish("q", b"x")
    client.get("q")
    client.tell("basic.reject", delivery_tag=1, requeue=True)
    said = client.get("q")
    assert said is not None
    assert (said.method["delivery_tag"], said.method["redelivered"]) == (2, True)


def test_counters() -> None:
    broker = Broker()
    client = broker.open()
    client.ask("queue.declare", queue="q")
    client.publish("q", b"x")
    client.publish("q", b"x")
    client.get("q")
    client.get("q", no_ack=True)
    client.get("q")
    counters = broker.counters
    assert (counters.messages_got_ack, counters.messages_got_auto_ack, counters.messages_got_empty) == (1, 1, 1)
