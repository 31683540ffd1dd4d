"""basic.publish: what is stored is what was sent; mandatory, immediate, properties (AMQP 0-9-1 basic.publish)."""

from __future__ import annotations

import pytest

from tests.support.memory import Broker
from tests.support.wire import Typed, body, content, header, method, plain, publish

EVERY_PROPERTY: dict[str, object] = {
    "content_type": "text/plain",
    "content_encoding": "utf-8",
    "headers": {"a": 1, "b": "two", "c": [1, {"d": None}]},
    "delivery_mode": 2,
    "priority": 255,
    "correlation_id": "c" * 255,
    "reply_to": "somewhere",
    "expiration": "100000",
    "message_id": "",
    "timestamp": (1 << 64) - 1,
    "type": "t",
    "user_id": "guest",
    "app_id": "app",
    "cluster_id": "cluster",
}


def plain_properties(properties: dict[str, object]) -> dict[str, object]:
    return {name: plain(value) for name, value in properties.items()}


@pytest.mark.parametrize("name", EVERY_PROPERTY)
def test_each_property_comes_back(name: str) -> None:
    """RabbitMQ docs, AMQP 0-9-1 Errata: and what was never set stays unset."""
    client = Broker().open()
    client.ask("queue.declare", queue="q")
    client.publish("q", b"x", properties={name: EVERY_PROPERTY[name]})
    said = client.get("q")
    assert said is not None
    assert plain_properties(said.properties) == {name: EVERY_PROPERTY[name]}


def test_all_properties_come_back_together() -> None:
    client = Broker().open()
    client.ask("queue.declare", queue="q")
    client.publish("q", b"x", properties=EVERY_PROPERTY)
    client.consume("q", "c")
    said = client.deliveries()[0]
    assert plain_properties(said.properties) == EVERY_PROPERTY


@pytest.mark.parametrize(
    "value",
    [
        Typed("t", True), Typed("t", False), Typed("b", -128), Typed("B", 255), Typed("s", -32768), Typed("u", 65535),
        Typed("I", -(1 << 31)),
        Typed("i", (1 << 32) - 1), Typed("l", -(1 << 63)), Typed("L", (1 << 63) - 1), Typed("f", 1.5), Typed("d", -0.1),
        Typed("D", (2, 314)),
        Typed("S", "text"), Typed("S", b"\xff\xfe"), Typed("x", b"\x00\xff"), Typed("A", [1, "a", None, [True]]),
        Typed("F", {"in": {"deeper": 1}}),
        Typed("T", 1 << 40), Typed("V", None),
    ],
)  # fmt: skip
def test_each_type_of_header_keeps_its_tag(value: Typed) -> None:
    """RabbitMQ docs, AMQP 0-9-1 Errata."""
    client = Broker().open()
    client.ask("queue.declare", queue="q")
    sent = publish(1, "", "q", b"x", properties={"headers": {"h": value}})
    client.send(sent)
    client.tell("basic.get", queue="q")
    frames = client.frames()
    assert frames[1].payload in sent, "the header frame is the one that was sent, octet by octet"


@pytest.mark.parametrize("size", [0, 1, 100, 8184, 8192, 9000, 131064])
def test_a_body_comes_back(size: int) -> None:
    """AMQP 0-9-1 §4.2.6.2: no body is no body frame; large bodies take another way through the outbox."""
    client = Broker().open(1, 2)
    client.ask("queue.declare", queue="q")
    data = bytes(range(256)) * (size // 256 + 1)
    client.publish("q", data[:size])
    client.publish("q", data[:size])
    for channel in (1, 2):
        said = client.get("q", on=channel)
        assert said is not None
        assert said.body == data[:size]
        assert said.body_frames == ((size,) if size else ())


def test_a_body_of_several_frames_keeps_its_cuts() -> None:
    """Frames are handed on as they came when the consumer takes frames of that size."""
    client = Broker().open(1, 2)
    client.ask("queue.declare", queue="q")
    client.send(
        method(1, "basic.publish", routing_key="q"), header(1, 6), body(1, b"a"), body(1, b"bc"), body(1, b"def")
    )
    said = client.get("q", on=2)
    assert said is not None
    assert (said.body, said.body_frames) == (b"abcdef", (1, 2, 3))


def test_empty_body_frames_are_left_out() -> None:
    client = Broker().open()
    client.ask("queue.declare", queue="q")
    client.send(
        method(1, "basic.publish", routing_key="q"),
        header(1, 2),
        body(1, b""),
        body(1, b"a"),
        body(1, b""),
        body(1, b"b"),
    )
    said = client.get("q")
    assert said is not None
    assert said.body == b"ab"


@pytest.mark.parametrize(("sender", "receiver"), [(131072, 4096), (4096, 131072), (131072, 5000), (4096, 4096)])
@pytest.mark.parametrize("size", [0, 1, 4088, 4089, 8176, 20_000, 131_064, 300_000])
def test_a_body_is_cut_to_the_consumers_frame_max(sender: int, receiver: int, size: int) -> None:
    """AMQP 0-9-1 §4.2.3: neither peer sends a frame larger than negotiated, so what a publisher could send is cut
    anew."""
    broker = Broker()
    one, two = broker.open(frame_max=sender), broker.open(3, frame_max=receiver)
    one.ask("queue.declare", queue="q")
    data = bytes(range(251)) * (size // 251 + 1)
    for _ in range(3):
        one.send(
            method(1, "basic.publish", routing_key="q"), content(1, data[:size], {"message_id": "m"}, frame_max=sender)
        )
    two.consume("q", "c", on=3)
    deliveries = two.deliveries()
    assert len(deliveries) == 3
    for said in deliveries:
        assert (said.channel, said.body, said.properties) == (3, data[:size], {"message_id": "m"})
        assert all(0 < piece <= receiver - 8 for piece in said.body_frames)


def test_an_unroutable_message_is_dropped() -> None:
    """RabbitMQ docs, Publisher Confirms."""
    broker = Broker()
    client = broker.open()
    client.publish("nowhere", b"x")
    client.expect_nothing()
    assert broker.counters.messages_unroutable_dropped == 1


@pytest.mark.parametrize("size", [0, 5, 200_000])
def test_an_unroutable_mandatory_message_is_returned(size: int) -> None:
    """AMQP 0-9-1 basic.publish, mandatory: 312 with the full content."""
    client = Broker().open()
    client.publish("nowhere", b"x" * size, mandatory=True, properties={"message_id": "m", "headers": {"a": 1}})
    said = client.expect_said("basic.return", 1)
    assert said.method.arguments == {
        "reply_code": 312,
        "reply_text": "NO_ROUTE",
        "exchange": "",
        "routing_key": "nowhere",
    }
    assert (said.body, plain_properties(said.properties)) == (b"x" * size, {"message_id": "m", "headers": {"a": 1}})
    client.expect_nothing()


def test_a_routable_mandatory_message_is_not_returned() -> None:
    client = Broker().open()
    client.ask("queue.declare", queue="q")
    client.publish("q", b"x", mandatory=True)
    client.expect_nothing()


def test_immediate_is_not_implemented() -> None:
    """RabbitMQ docs, Specification, immediate."""
    client = Broker().open()
    client.ask("queue.declare", queue="q")
    client.send(publish(1, "", "q", b"x", immediate=True))
    assert client.connection_error(540) == "NOT_IMPLEMENTED - immediate=true"


def test_a_missing_exchange_closes_the_channel() -> None:
    """AMQP 0-9-1 basic.publish: 404; what was published behind it on the channel is dropped."""
    broker = Broker()
    client = broker.open()
    client.ask("queue.declare", queue="q")
    client.send(publish(1, "missing", "q", b"1"), publish(1, "", "q", b"2"))
    close = client.expect("channel.close", 1)
    assert (close["reply_code"], close["reply_text"]) == (404, "NOT_FOUND - no exchange 'missing' in vhost '/'")
    assert (close["class_id"], close["method_id"]) == (60, 40)
    assert broker.depth("q") == (0, 0)


def test_user_id_is_checked() -> None:
    """RabbitMQ docs, Validated User-ID."""
    client = Broker().open()
    client.ask("queue.declare", queue="q")
    client.publish("q", b"x", properties={"user_id": "guest"})
    assert client.drain("q") == [b"x"]
    client.publish("q", b"x", properties={"user_id": "other"})
    text = client.channel_error(406)
    assert text == "PRECONDITION_FAILED - user_id property set to 'other' but authenticated user was 'guest'"


@pytest.mark.parametrize(
    "expiration", ["", "x", "-1", "1.5", "10 s", " 5", "315360000001", "9" * 200, "0x10", "1_000", "\u0663"]
)
def test_expiration_must_be_a_number(expiration: str) -> None:
    """RabbitMQ docs, Time-To-Live, Per-Message TTL: milliseconds as decimal digits, at most ten years."""
    client = Broker().open()
    client.ask("queue.declare", queue="q")
    client.publish("q", b"x", properties={"expiration": expiration})
    assert client.channel_error(406).startswith(f"PRECONDITION_FAILED - invalid expiration '{expiration}'"[:255])


def test_each_message_is_judged_by_its_own_properties() -> None:
    """What was learnt of one header must not be used for the next, however alike they are."""
    client = Broker().open()
    client.ask("queue.declare", queue="q", arguments={"x-max-priority": 5})
    for priority in (1, 5, 1, 3):
        client.publish("q", b"%d" % priority, properties={"priority": priority})
    assert client.drain("q") == [b"5", b"3", b"1", b"1"]


def test_delivered_exchange_and_key_are_the_publishers() -> None:
    client = Broker().open()
    client.ask("queue.declare", queue="q")
    for key in ("a.b", "a.c"):
        client.ask("queue.bind", queue="q", exchange="amq.topic", routing_key=key)
    for key in ("a.b", "a.c", "a.b"):
        client.publish(key, b"x", exchange="amq.topic")
        said = client.get("q", no_ack=True)
        assert said is not None
        assert (said.method["exchange"], said.method["routing_key"]) == ("amq.topic", key)


def test_many_publishes_in_one_read_keep_their_order() -> None:
    client = Broker().open()
    client.ask("queue.declare", queue="q")
    client.send(*(publish(1, "", "q", b"%d" % number) for number in range(500)))
    assert client.drain("q") == [b"%d" % number for number in range(500)]


def test_a_message_larger_than_allowed_is_refused_by_its_header() -> None:
    """RabbitMQ docs, Configuration, max_message_size: 406, before any of the body is kept; the body that still comes is
    ignored."""
    broker = Broker()
    broker.limits.message_size_max = 1000
    client = broker.open()
    client.ask("queue.declare", queue="q")
    client.publish("q", b"x" * 1000)
    client.send(method(1, "basic.publish", routing_key="q"), header(1, 1001))
    text = "PRECONDITION_FAILED - message size 1001 is larger than configured max size 1000"
    close = client.expect("channel.close", 1)
    assert (close["reply_code"], close["reply_text"]) == (406, text)
    client.send(body(1, b"x" * 500), body(1, b"x" * 501))
    client.expect_nothing()
    client.send(method(1, "channel.close-ok"), method(1, "channel.open"))
    client.expect("channel.open-ok")
    assert len(client.drain("q")) == 1


@pytest.mark.parametrize("split", [[], [40]])
def test_the_same_limit_holds_for_a_message_that_came_in_one_read(split: list[int]) -> None:
    broker = Broker()
    broker.limits.message_size_max = 1000
    client = broker.open()
    client.ask("queue.declare", queue="q")
    client.send(publish(1, "", "q", b"x" * 1001), chunks=split)
    client.channel_error(406)
    assert broker.depth("q") == (0, 0)


def test_counters() -> None:
    broker = Broker()
    client = broker.open()
    client.ask("queue.declare", queue="q")
    client.publish("q", b"x")
    client.publish("nowhere", b"x", mandatory=True)
    assert (broker.counters.messages_received, broker.counters.messages_unroutable_returned) == (2, 1)
