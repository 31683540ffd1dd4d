"""queue.declare: names, equivalence, arguments, counts (AMQP 0-9-1 queue.declare; RabbitMQ docs, Queues)."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.support.memory import Broker
from tests.support.wire import Typed

LABEL = "queue 'q' in vhost '/'"


def test_a_new_queue_is_empty() -> None:
    client = Broker().open()
    assert client.ask("queue.declare", queue="q").arguments == {"queue": "q", "message_count": 0, "consumer_count": 0}


def test_the_counts_are_ready_messages_and_consumers() -> None:
    """AMQP 0-9-1 queue.declare-ok: unacknowledged messages are not counted."""
    client = Broker().open()
    client.ask("queue.declare", queue="q")
    for _ in range(5):
        client.publish("q", b"x")
    client.get("q")
    assert client.ask("queue.declare", queue="q").arguments == {"queue": "q", "message_count": 4, "consumer_count": 0}
    client.ask("basic.qos", prefetch_count=1)
    client.consume("q")
    assert len(client.deliveries()) == 1
    assert client.ask("queue.declare", queue="q", passive=True).arguments == {
        "queue": "q",
        "message_count": 3,
        "consumer_count": 1,
    }


def test_the_counts_see_a_publish_of_the_same_read() -> None:
    """One channel's commands take effect in order (AMQP 0-9-1 §4.7)."""
    from tests.support.wire import method, publish

    client = Broker().open()
    client.send(
        method(1, "queue.declare", queue="q"),
        publish(1, "", "q", b"x"),
        method(1, "queue.declare", queue="q", passive=True),
    )
    client.expect("queue.declare-ok")
    assert client.expect("queue.declare-ok")["message_count"] == 1


def test_without_a_name_the_broker_makes_one_up() -> None:
    """AMQP 0-9-1 queue.declare, rule "default-name": `amq.gen-` and 22 url-safe characters."""
    client = Broker().open()
    names = {client.ask("queue.declare").text("queue") for _ in range(5)}
    assert len(names) == 5
    assert all(re.fullmatch(r"amq\.gen-[A-Za-z0-9_-]{22}", name) for name in names)


def test_an_empty_name_elsewhere_is_the_last_declared_queue() -> None:
    """AMQP 0-9-1 queue.declare, rule "default-name"; it is the channel's own memory."""
    client = Broker().open(1, 2)
    first = client.ask("queue.declare", exclusive=True).text("queue")
    client.publish(first, b"x")
    said = client.get("")
    assert said is not None
    assert said.body == b"x"
    client.ask("queue.declare", queue="second")
    assert client.get("") is None
    assert client.ask_error(404, "basic.get", on=2) == "NOT_FOUND - no previously declared queue"
    assert client.ask_error(404, "queue.purge", on=2) == "NOT_FOUND - no previously declared queue"


def test_passive_declares_create_nothing() -> None:
    """AMQP 0-9-1 §1.1, not-found."""
    client = Broker().open()
    assert client.ask_error(404, "queue.declare", queue="q", passive=True) == f"NOT_FOUND - no {LABEL}"


def test_passive_declares_compare_nothing() -> None:
    client = Broker().open()
    client.ask("queue.declare", queue="q", durable=True)
    client.ask("queue.declare", queue="q", passive=True, auto_delete=True, arguments={"x-max-length": 5})


def test_without_an_answer() -> None:
    broker = Broker()
    client = broker.open()
    client.tell("queue.declare", queue="q", nowait=True)
    client.expect_nothing()
    assert "q" in broker.vhost.queues
    client.tell("queue.declare", queue="missing", passive=True, nowait=True)
    client.channel_error(404)


def test_a_reserved_name_cannot_be_new() -> None:
    """AMQP 0-9-1, rule "reserved"; transcripts: nor may one that is there be declared again by its name, except
    passively."""
    client = Broker().open()
    assert (
        client.ask_error(403, "queue.declare", queue="amq.mine")
        == "ACCESS_REFUSED - queue name 'amq.mine' contains reserved prefix 'amq.*'"
    )
    name = client.ask("queue.declare").text("queue")
    client.ask_error(403, "queue.declare", queue=name)
    assert client.ask("queue.declare", queue=name, passive=True)["queue"] == name


def test_line_breaks_are_taken_out_of_names() -> None:
    """RabbitMQ `rabbit_channel:strip_cr_lf`."""
    client = Broker().open()
    assert client.ask("queue.declare", queue="a\r\nb\n")["queue"] == "ab"
    client.publish("ab", b"x")
    assert client.drain("ab") == [b"x"]


@pytest.mark.parametrize("name", ["ü", "x" * 255, "spaces and\ttabs", "💥", "../../etc/passwd", "\x00"])
def test_a_name_may_be_any_text(name: str) -> None:
    """AMQP 0-9-1 §1.1, queue-name: up to 255 bytes of UTF-8."""
    client = Broker().open()
    assert client.ask("queue.declare", queue=name)["queue"] == name
    client.publish(name, b"x")
    assert client.drain(name) == [b"x"]


def test_a_name_that_is_no_utf_8_survives() -> None:
    """Short strings are octets (AMQP 0-9-1 §4.2.5.3): what is not UTF-8 is not a reason to fall over."""
    client = Broker().open()
    client.tell("queue.declare", queue=b"\xff\xfe")
    said = client.hear()
    assert len(said) == 1
    assert said[0].method.name in ("queue.declare-ok", "connection.close", "channel.close")


@pytest.mark.parametrize(
    ("first", "second", "what", "received", "current"),
    [
        ({}, {"durable": True}, "durable", "true", "false"),
        ({"durable": True}, {}, "durable", "false", "true"),
        ({}, {"auto_delete": True}, "auto_delete", "true", "false"),
        ({"auto_delete": True, "durable": True}, {}, "durable", "false", "true"),
    ],
)
def test_a_redeclaration_must_be_equivalent(
    first: dict[str, Any], second: dict[str, Any], what: str, received: str, current: str
) -> None:
    """Queue.declare rule "equivalent"; RabbitMQ docs, Queues, Property Equivalence: durable is looked at before
    auto_delete."""
    client = Broker().open()
    client.ask("queue.declare", queue="q", **first)
    client.ask("queue.declare", queue="q", **first)
    text = client.ask_error(406, "queue.declare", queue="q", **second)
    assert (
        text == f"PRECONDITION_FAILED - inequivalent arg '{what}' for {LABEL}: received '{received}' but current is "
        f"'{current}'"
    )


@pytest.mark.parametrize(
    ("first", "second", "text"),
    [
        ({}, {"x-message-ttl": 1000}, "received the value '1000' of type 'signedint' but current is none"),
        ({"x-message-ttl": 1000}, {}, "received none but current is the value '1000' of type 'signedint'"),
        ({"x-message-ttl": 1000}, {"x-message-ttl": 2000}, "received '2000' but current is '1000'"),
        ({"x-overflow": "drop-head"}, {"x-overflow": "reject-publish"},
         "received 'reject-publish' but current is 'drop-head'"),
        ({"x-dead-letter-exchange": "a"}, {"x-dead-letter-exchange": "b"}, "received 'b' but current is 'a'"),
        ({"x-max-length": 5}, {"x-max-length": 6}, "received '6' but current is '5'"),
        ({"x-expires": 5000}, {"x-expires": 6000}, "received '6000' but current is '5000'"),
        ({"x-max-priority": 5}, {"x-max-priority": 6}, "received '6' but current is '5'"),
        ({"x-single-active-consumer": True}, {"x-single-active-consumer": False},
         "received 'false' but current is 'true'"),
    ],
)  # fmt: skip
def test_known_arguments_are_compared(first: dict[str, object], second: dict[str, object], text: str) -> None:
    """RabbitMQ docs, Queues, Property Equivalence."""
    client = Broker().open()
    client.ask("queue.declare", queue="q", arguments=first)
    name = next(iter(first or second))
    said = client.ask_error(406, "queue.declare", queue="q", arguments=second)
    assert said == f"PRECONDITION_FAILED - inequivalent arg '{name}' for {LABEL}: {text}"


def test_integers_of_different_widths_are_equivalent() -> None:
    """RabbitMQ docs, Queues, Property Equivalence."""
    client = Broker().open()
    client.ask("queue.declare", queue="q", arguments={"x-max-length": Typed("I", 100)})
    for tag in "bBsuiIlL":
        client.ask("queue.declare", queue="q", arguments={"x-max-length": Typed(tag, 100)})


def test_queue_type_classic_equals_none() -> None:
    """RabbitMQ docs, Queues, Property Equivalence."""
    client = Broker().open()
    client.ask("queue.declare", queue="q", arguments={"x-queue-type": "classic"})
    client.ask("queue.declare", queue="q")
    client.ask("queue.declare", queue="r")
    client.ask("queue.declare", queue="r", arguments={"x-queue-type": "classic"})


def test_unknown_arguments_are_accepted_and_not_compared() -> None:
    """RabbitMQ docs, Queues, Property Equivalence."""
    client = Broker().open()
    client.ask("queue.declare", queue="q", arguments={"x-mine": 1, "y": [1, 2]})
    client.ask("queue.declare", queue="q", arguments={"x-mine": "else"})
    client.ask("queue.declare", queue="q")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"x-message-ttl": "1000"}, '"expected integer, got longstr"'),
        ({"x-message-ttl": -1}, "{value_negative,-1}"),
        ({"x-message-ttl": 1.5}, '"expected integer, got double"'),
        ({"x-message-ttl": True}, '"expected integer, got bool"'),
        ({"x-expires": 0}, "{value_zero,0}"),
        ({"x-expires": -5}, "{value_negative,-5}"),
        ({"x-max-length": -1}, "{value_negative,-1}"),
        ({"x-max-length-bytes": "many"}, '"expected integer, got longstr"'),
        ({"x-overflow": "explode"}, "invalid_overflow"),
        ({"x-dead-letter-routing-key": "k"}, "routing_key_but_no_dlx_defined"),
    ],
)  # fmt: skip
def test_nonsense_arguments_are_refused(arguments: dict[str, object], reason: str) -> None:
    """RabbitMQ docs, Queues, Optional Arguments."""
    broker = Broker()
    client = broker.open()
    name = next(iter(arguments))
    assert (
        client.ask_error(406, "queue.declare", queue="q", arguments=arguments)
        == f"PRECONDITION_FAILED - invalid arg '{name}' for {LABEL}: {reason}"
    )
    assert "q" not in broker.vhost.queues


@pytest.mark.parametrize(
    "arguments",
    [
        {"x-max-priority": 256}, {"x-max-priority": -1}, {"x-max-priority": "5"}, {"x-dead-letter-exchange": 5},
        {"x-single-active-consumer": "yes"},
        {"x-queue-type": "nonsense"}, {"x-queue-type": 5}, {"x-queue-mode": "hasty"},
        {"x-message-ttl": 315_360_000_001}, {"x-expires": Typed("l", 1 << 62)},
        {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": 5}, {"x-overflow": 1},
    ],
)  # fmt: skip
def test_more_nonsense_arguments_are_refused(arguments: dict[str, object]) -> None:
    client = Broker().open()
    text = client.ask_error(406, "queue.declare", queue="q", arguments=arguments)
    assert text.startswith("PRECONDITION_FAILED - ")


@pytest.mark.parametrize(
    "arguments",
    [
        {"x-queue-mode": "lazy"}, {"x-queue-mode": "default"}, {"x-queue-version": 1}, {"x-queue-version": 2},
        {"x-queue-master-locator": "min-masters"},
        {"x-max-priority": 0}, {"x-max-priority": 255}, {"x-message-ttl": 0}, {"x-message-ttl": 315_360_000_000},
        {"x-max-length": 0}, {"x-expires": 1}, {"x-dead-letter-exchange": ""}, {"x-message-ttl": 5_000_000_000},
    ],
)  # fmt: skip
def test_what_is_accepted(arguments: dict[str, object]) -> None:
    """as 3.13, with TTLs beyond 32 bits."""
    Broker().open().ask("queue.declare", queue="q", arguments=arguments)


def test_an_auto_delete_queue_goes_with_its_last_consumer() -> None:
    """By cancel, channel close or connection loss; never if no consumer ever came; basic.get does not count."""
    broker = Broker()
    client = broker.open()
    for leave in ("cancel", "channel", "connection"):
        client.ask("queue.declare", queue="q", auto_delete=True)
        client.get("q")
        assert "q" in broker.vhost.queues
        one, two = broker.open(), broker.open()
        one.consume("q", "c")
        two.consume("q", "c")
        one.ask("basic.cancel", consumer_tag="c")
        assert "q" in broker.vhost.queues
        if leave == "cancel":
            two.ask("basic.cancel", consumer_tag="c")
        elif leave == "channel":
            two.ask("channel.close")
        else:
            two.drop()
        assert "q" not in broker.vhost.queues, leave
