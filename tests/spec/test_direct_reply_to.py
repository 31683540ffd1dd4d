"""Direct reply-to (RabbitMQ docs, Direct Reply-to)."""

from __future__ import annotations

import pytest

from tests.support.memory import Broker, Client
from tests.support.wire import publish

NAME = "amq.rabbitmq.reply-to"


def asked(broker: Broker) -> tuple[Client, Client, str]:
    """A requester, a responder that has got its request, and the address for the reply."""
    requester, responder = broker.open(), broker.open()
    responder.ask("queue.declare", queue="rpc")
    requester.consume(NAME, "replies", no_ack=True)
    requester.publish("rpc", b"question", properties={"reply_to": NAME, "correlation_id": "1"})
    said = responder.get("rpc", no_ack=True)
    assert said is not None
    address = said.properties["reply_to"]
    assert isinstance(address, str)
    return requester, responder, address


def test_a_reply_finds_its_requester() -> None:
    """RabbitMQ docs, Direct Reply-to: the address is opaque, the reply comes with an empty exchange, through no
    queue."""
    broker = Broker()
    requester, responder, address = asked(broker)
    assert address.startswith(f"{NAME}.")
    assert len(address) > len(NAME) + 20
    responder.publish(address, b"answer", properties={"correlation_id": "1"})
    said = requester.expect_said("basic.deliver")
    assert (said.method["consumer_tag"], said.method["exchange"], said.method["delivery_tag"]) == ("replies", "", 1)
    assert (said.body, said.properties) == (b"answer", {"correlation_id": "1"})
    assert set(broker.vhost.queues) == {"rpc"}


def test_every_channel_has_its_own_address() -> None:
    broker = Broker()
    addresses = {asked(broker)[2] for _ in range(3)}
    assert len(addresses) == 3


def test_many_replies() -> None:
    requester, responder, address = asked(Broker())
    responder.send(*(publish(1, "", address, b"%d" % number) for number in range(100)))
    assert requester.bodies() == [b"%d" % number for number in range(100)]


def test_a_large_reply_is_cut_to_the_requesters_frames() -> None:
    broker = Broker()
    requester = broker.open(frame_max=4096)
    responder = broker.open()
    responder.ask("queue.declare", queue="rpc")
    requester.consume(NAME, no_ack=True)
    requester.publish("rpc", properties={"reply_to": NAME})
    said = responder.get("rpc")
    assert said is not None
    responder.publish(str(said.properties["reply_to"]), b"x" * 20_000)
    reply = requester.expect_said("basic.deliver")
    assert reply.body == b"x" * 20_000
    assert max(reply.body_frames) <= 4088


def test_consuming_must_be_without_acknowledgements() -> None:
    """RabbitMQ docs, Direct Reply-to."""
    client = Broker().open()
    assert (
        client.ask_error(406, "basic.consume", queue=NAME) == "PRECONDITION_FAILED - reply consumer cannot acknowledge"
    )


def test_one_consumer_a_channel() -> None:
    """RabbitMQ docs, Direct Reply-to."""
    client = Broker().open()
    client.consume(NAME, "a", no_ack=True)
    assert (
        client.ask_error(406, "basic.consume", queue=NAME, no_ack=True)
        == "PRECONDITION_FAILED - reply consumer already set"
    )


def test_publishing_needs_the_consumer_on_the_same_channel() -> None:
    """RabbitMQ docs, Direct Reply-to."""
    client = Broker().open(1, 2)
    client.consume(NAME, no_ack=True, on=2)
    client.publish("rpc", b"x", properties={"reply_to": NAME})
    assert client.channel_error(406) == "PRECONDITION_FAILED - fast reply consumer does not exist"


def test_a_cancelled_consumer_gets_nothing_and_may_come_again() -> None:
    requester, responder, address = asked(Broker())
    requester.ask("basic.cancel", consumer_tag="replies")
    responder.publish(address, b"late")
    requester.expect_nothing()
    requester.consume(NAME, "replies", no_ack=True)


@pytest.mark.parametrize("how", ["channel", "socket"])
def test_replies_to_a_requester_that_has_gone_are_dropped(how: str) -> None:
    requester, responder, address = asked(Broker())
    responder.publish(address, b"in time")
    if how == "channel":
        requester.hear()
        requester.ask("channel.close")
    else:
        requester.drop()
    responder.publish(address, b"late")
    responder.ask("basic.qos")


def test_a_forged_address_reaches_nobody() -> None:
    """RabbitMQ advisory 6chv: an address is worth only what the broker gave out."""
    requester, responder, address = asked(Broker())
    for forged in (NAME, f"{NAME}.", f"{NAME}.x", address[:-1], address + "x", address.swapcase()):
        responder.publish(forged, b"forged")
    requester.expect_nothing()


def test_the_responder_may_ask_whether_the_requester_is_there() -> None:
    """RabbitMQ docs, Direct Reply-to."""
    requester, responder, address = asked(Broker())
    for passive in (True, False):
        answer = responder.ask("queue.declare", queue=address, passive=passive)
        assert answer.arguments == {"queue": address, "message_count": 0, "consumer_count": 1}
    requester.ask("channel.close")
    responder.ask_error(404, "queue.declare", queue=address, passive=True)


def test_the_pseudo_queue_is_not_bound() -> None:
    """RabbitMQ docs, Direct Reply-to; RabbitMQ advisory 57215."""
    requester, responder, address = asked(Broker())
    requester.tell("queue.bind", queue=address, exchange="amq.fanout")
    assert requester.expect("channel.close").number("reply_code") in (403, 404)
    responder.publish("", b"x", exchange="amq.fanout", mandatory=True)
    assert responder.names() == ["basic.return"]


def test_reply_to_of_another_kind_is_left_alone() -> None:
    client = Broker().open()
    client.ask("queue.declare", queue="q")
    client.publish("q", b"x", properties={"reply_to": "my.queue"})
    said = client.get("q")
    assert said is not None
    assert said.properties == {"reply_to": "my.queue"}
