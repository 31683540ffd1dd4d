"""ack, nack, reject, recover: what becomes of a delivery (RabbitMQ docs, Consumer Acknowledgements)."""

from __future__ import annotations

import pytest

from tests.support.memory import Broker, Client
from tests.support.wire import METHOD, frame, method, publish


def delivered(count: int, *channels: int) -> tuple[Broker, Client]:
    """A client that consumed so many messages on channel 1."""
    broker = Broker()
    client = broker.open(*channels or (1,))
    client.ask("queue.declare", queue="q")
    client.send(*(publish(1, "", "q", b"%d" % number) for number in range(count)))
    client.consume("q", "c")
    assert len(client.deliveries()) == count
    return broker, client


def test_an_ack_removes_the_message() -> None:
    broker, client = delivered(3)
    client.tell("basic.ack", delivery_tag=2)
    assert broker.depth("q") == (0, 2)
    client.expect_nothing()


def test_multiple_acks_up_to_a_tag() -> None:
    broker, client = delivered(5)
    client.tell("basic.ack", delivery_tag=3, multiple=True)
    assert broker.depth("q") == (0, 2)
    client.tell("basic.ack", delivery_tag=0, multiple=True)
    assert broker.depth("q") == (0, 0)
    client.tell("basic.ack", delivery_tag=0, multiple=True)
    client.expect_nothing()


@pytest.mark.parametrize("name", ["basic.ack", "basic.nack", "basic.reject"])
@pytest.mark.parametrize("tag", [0, 4, 99, (1 << 63) - 1, (1 << 64) - 1])
def test_an_unknown_tag(name: str, tag: int) -> None:
    """RabbitMQ docs, Consumer Acknowledgements; AMQP 0-9-1 §1.1, delivery-tag: 406, and the deliveries go back."""
    broker, client = delivered(3)
    client.tell(name, delivery_tag=tag)
    assert client.channel_error(406) == f"PRECONDITION_FAILED - unknown delivery tag {tag}"
    assert broker.depth("q") == (3, 0)


@pytest.mark.parametrize("name", ["basic.ack", "basic.nack", "basic.reject"])
def test_settling_twice(name: str) -> None:
    """AMQP 0-9-1 §1.1, delivery-tag."""
    _, client = delivered(3)
    client.tell("basic.ack", delivery_tag=2)
    client.tell(name, delivery_tag=2)
    assert client.channel_error(406) == "PRECONDITION_FAILED - unknown delivery tag 2"


def test_settling_on_another_channel() -> None:
    """AMQP 0-9-1 §1.1, delivery-tag: tags belong to their channel."""
    _, client = delivered(1, 1, 2)
    client.tell("basic.ack", 2, delivery_tag=1)
    assert client.channel_error(406, on=2) == "PRECONDITION_FAILED - unknown delivery tag 1"


def test_the_failing_method_is_named() -> None:
    for name, number in (("basic.ack", 80), ("basic.reject", 90), ("basic.nack", 120)):
        _, client = delivered(1)
        client.tell(name, delivery_tag=7)
        close = client.expect("channel.close")
        assert (close["class_id"], close["method_id"]) == (60, number), name


@pytest.mark.parametrize("name", ["basic.nack", "basic.reject"])
def test_refusing_drops_without_a_dead_letter_exchange(name: str) -> None:
    broker, client = delivered(2)
    client.tell(name, delivery_tag=1, requeue=False)
    assert broker.depth("q") == (0, 1)


@pytest.mark.parametrize("name", ["basic.nack", "basic.reject"])
def test_a_requeued_message_comes_back_to_its_only_consumer(name: str) -> None:
    """RabbitMQ docs, Consumer Acknowledgements: at its old place, redelivered, under a new tag."""
    _, client = delivered(3)
    client.tell(name, delivery_tag=2, requeue=True)
    said = client.expect_said("basic.deliver")
    assert (said.body, said.method["redelivered"], said.method["delivery_tag"]) == (b"1", True, 4)


def test_requeued_messages_stand_in_front_in_their_order() -> None:
    """RabbitMQ docs, Queues, Message Ordering."""
    broker, client = delivered(4)
    client.ask("basic.cancel", consumer_tag="c")
    client.publish("q", b"4")
    client.send(
        method(1, "basic.nack", delivery_tag=3, requeue=True), method(1, "basic.nack", delivery_tag=1, requeue=True)
    )
    client.tell("basic.nack", delivery_tag=4, requeue=True, multiple=True)
    got = [client.get("q", no_ack=True) for _ in range(5)]
    assert [(said.body, said.method["redelivered"]) for said in got if said] == [
        (b"0", True), (b"1", True), (b"2", True), (b"3", True), (b"4", False),
    ]  # fmt: skip
    assert broker.depth("q") == (0, 0)


def test_nack_multiple() -> None:
    broker, client = delivered(5)
    client.tell("basic.nack", delivery_tag=3, multiple=True)
    assert broker.depth("q") == (0, 2)
    client.tell("basic.nack", delivery_tag=0, multiple=True)
    assert broker.depth("q") == (0, 0)


def test_recover_requeues_everything_outstanding() -> None:
    """RabbitMQ docs, Specification, basic.recover; AMQP 0-9-1 basic.recover."""
    broker, client = delivered(3)
    client.ask("basic.cancel", consumer_tag="c")
    client.tell("basic.ack", delivery_tag=2)
    client.ask("basic.recover", requeue=True)
    assert broker.depth("q") == (2, 0)
    client.ask_error(406, "basic.ack", delivery_tag=1)


def test_recover_async_has_no_answer() -> None:
    broker, client = delivered(2)
    client.ask("basic.cancel", consumer_tag="c")
    client.tell("basic.recover-async", requeue=True)
    client.expect_nothing()
    assert broker.depth("q") == (2, 0)


@pytest.mark.parametrize("name", ["basic.recover", "basic.recover-async"])
def test_recover_to_the_same_consumer_is_not_implemented(name: str) -> None:
    """RabbitMQ docs, Specification, basic.recover: 540."""
    _, client = delivered(1)
    client.tell(name, requeue=False)
    assert client.connection_error(540) == "NOT_IMPLEMENTED - requeue=false"


@pytest.mark.parametrize("how", ["channel", "connection", "socket", "error"])
def test_what_is_outstanding_goes_back_when_its_channel_ends(how: str) -> None:
    """RabbitMQ docs, Consumer Acknowledgements: in order, redelivered."""
    broker, client = delivered(4)
    other = broker.open()
    client.tell("basic.ack", delivery_tag=2)
    if how == "channel":
        client.ask("channel.close")
    elif how == "connection":
        client.ask("connection.close", on=0)
    elif how == "socket":
        client.drop()
    else:
        client.tell("basic.ack", delivery_tag=2)
    other.consume("q", "c")
    assert [(said.body, said.method["redelivered"]) for said in other.deliveries()] == [
        (b"0", True),
        (b"2", True),
        (b"3", True),
    ]


def test_order_is_kept_over_consumers_that_took_turns() -> None:
    """RabbitMQ docs, Queues, Message Ordering: the places of messages that were dealt out in turns are known too."""
    broker = Broker()
    watcher = broker.open()
    watcher.ask("queue.declare", queue="q")
    clients = [broker.open() for _ in range(3)]
    for client in clients:
        client.consume("q", "c")
    watcher.send(*(publish(1, "", "q", b"%02d" % number) for number in range(20)))
    for client in (clients[1], clients[0]):
        client.drop()
    clients[2].drop()
    assert watcher.drain("q") == [b"%02d" % number for number in range(20)]


@pytest.mark.parametrize("index", [0x003C0050, 0x003C0078, 0x003C005A])
@pytest.mark.parametrize("size", [0, 1, 8, 10, 100])
def test_a_settlement_of_another_size_than_its_arguments(index: int, size: int) -> None:
    """Transcript "cut: basic.ack": RabbitMQ answers 501, connection."""
    _, client = delivered(1)
    client.send(frame(METHOD, 1, index.to_bytes(4, "big") + b"\x00" * size))
    assert client.connection_error(501).startswith("FRAME_ERROR - cannot decode")


def test_counters() -> None:
    broker, client = delivered(3)
    client.tell("basic.ack", delivery_tag=2, multiple=True)
    assert broker.counters.messages_acked == 2
