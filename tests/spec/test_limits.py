"""Bad input: an open connection answers with a close and touches nothing else (RabbitMQ's security advisories; AMQP
0-9-1 §4.2, §4.10)."""

from __future__ import annotations

import pytest

from tests.support.memory import Broker, Client
from tests.support.wire import (
    BODY,
    FRAME_END,
    METHOD,
    Typed,
    body,
    content,
    field_value,
    frame,
    header,
    longstr,
    method,
    method_payload,
    publish,
    shortstr,
)

DECLARE = method_payload("queue.declare", queue="q")


def refused(client: Client, *data: bytes, codes: tuple[int, ...] = (501, 502, 503, 505)) -> str:
    """The broker closes the connection with one of these codes; gives its text."""
    client.send(*data)
    close = client.expect("connection.close", 0)
    assert close["reply_code"] in codes, close
    return close.text("reply_text")


def declare_with(arguments: bytes) -> bytes:
    """A queue.declare with this table, as octets, length and all."""
    return frame(METHOD, 1, DECLARE[:-4] + arguments)


# frames


@pytest.mark.parametrize("end", [0, 0xCD, 0xCF, 0xFF])
def test_a_frame_must_end_with_its_octet(end: int) -> None:
    """AMQP 0-9-1 §4.2.3: frame-end %xCE; 501 and the socket is closed, since nothing that follows can be trusted."""
    client = Broker().open()
    refused(client, frame(METHOD, 1, DECLARE, end=end), codes=(501,))
    assert client.sink.closed


@pytest.mark.parametrize("chunks", [[], [100], [1] * 60])
def test_a_frame_larger_than_negotiated_is_refused_by_its_header(chunks: list[int]) -> None:
    """AMQP 0-9-1 §4.2.3: before its payload has arrived; RabbitMQ tolerates the 8 octets of the frame itself."""
    client = Broker().open(frame_max=4096)
    client.ask("queue.declare", queue="q")
    client.send(method(1, "basic.publish", routing_key="q"), header(1, 4096), body(1, b"x" * 4096), chunks=chunks)
    assert len(client.drain("q")) == 1
    refused(client, b"\x01\x00\x01" + (4097).to_bytes(4, "big"), codes=(501,))
    assert client.sink.closed


@pytest.mark.parametrize("chunks", [[], [1], [60], [4000]])
def test_a_body_frame_larger_than_negotiated_is_refused_however_it_arrives(chunks: list[int]) -> None:
    """A whole publish in one read must not be let through where its frames would be refused one by one."""
    broker = Broker()
    client = broker.open(frame_max=4096)
    client.ask("queue.declare", queue="q")
    client.send(publish(1, "", "q", b"x" * 5000), chunks=chunks)
    assert client.expect("connection.close", 0)["reply_code"] == 501
    assert broker.depth("q") == (0, 0)


@pytest.mark.parametrize("chunks", [[], [1], [60], [4000]])
def test_a_header_frame_larger_than_negotiated_is_refused_however_it_arrives(chunks: list[int]) -> None:
    broker = Broker()
    client = broker.open(frame_max=4096)
    client.ask("queue.declare", queue="q")
    client.send(publish(1, "", "q", b"x", properties={"headers": {"large": "y" * 5000}}), chunks=chunks)
    assert client.expect("connection.close", 0)["reply_code"] == 501
    assert broker.depth("q") == (0, 0)


@pytest.mark.parametrize("kind", [0, 4, 5, 6, 7, 9, 65, 255])
@pytest.mark.parametrize("channel", [0, 1, 2])
def test_an_unknown_frame_type(kind: int, channel: int) -> None:
    """AMQP 0-9-1 §1.1, unexpected-frame: 501."""
    refused(Broker().open(), frame(kind, channel, b"??"), codes=(501,))


def test_nothing_is_kept_of_a_frame_that_is_announced_too_large() -> None:
    """RabbitMQ's security advisories: four gigabytes are refused by their first seven octets."""
    client = Broker().open()
    refused(client, b"\x03\x00\x01\xff\xff\xff\xff" + b"x" * 1000, codes=(501,))


def test_more_body_than_announced() -> None:
    """AMQP 0-9-1 §4.2.6; RabbitMQ advisory 67235."""
    for parts in ([b"abcd"], [b"ab", b"cd"], [b"abc", b"d"]):
        broker = Broker()
        client = broker.open()
        client.ask("queue.declare", queue="q")
        refused(
            client,
            method(1, "basic.publish", routing_key="q"),
            header(1, 3),
            *(body(1, part) for part in parts),
            codes=(501, 505),
        )
        assert broker.depth("q")[0] <= 1


@pytest.mark.parametrize("size", [1 << 63, (1 << 64) - 1, (1 << 63) - 1, 1 << 40])
def test_an_absurd_body_size(size: int) -> None:
    """RabbitMQ's security advisories: refused by the header, before anything is allocated."""
    for chunks in ([], [70]):
        client = Broker().open()
        client.send(method(1, "basic.publish", routing_key="q"), header(1, size), chunks=chunks)
        said = client.hear()[0]
        assert said.method.name in ("channel.close", "connection.close")
        assert said.method["reply_code"] in (406, 501, 502)


# methods


@pytest.mark.parametrize(
    "name",
    [
        "queue.declare",
        "exchange.declare",
        "basic.consume",
        "queue.bind",
        "basic.qos",
        "basic.get",
        "channel.close",
        "tx.select",
    ],
)
def test_a_method_cut_at_every_octet(name: str) -> None:
    """AMQP 0-9-1 §4.2.5: no prefix of a method is taken for a whole one, and none escapes as anything but a close."""
    arguments: dict[str, dict[str, object]] = {
        "queue.declare": {"queue": "qq", "arguments": {"x-max-length": 5, "y": [1, {"z": "w"}]}},
        "exchange.declare": {"exchange": "xx", "type": "topic", "arguments": {"a": True}},
        "basic.consume": {"queue": "qq", "consumer_tag": "c", "arguments": {"x-priority": 1}},
        "queue.bind": {"queue": "qq", "exchange": "amq.topic", "routing_key": "a.b"},
    }
    payload = method_payload(name, **arguments.get(name, {}))
    for size in range(len(payload)):
        refused(Broker().open(), frame(METHOD, 1, payload[:size]))


@pytest.mark.parametrize(
    "name", ["queue.declare", "basic.qos", "basic.publish", "tx.select", "confirm.select", "channel.open"]
)
def test_octets_behind_a_method(name: str) -> None:
    """What stands behind the last argument is no part of the method; the broker may pass over it or refuse it, but not
    fall over."""
    broker = Broker()
    client = broker.connect()
    if name != "channel.open":
        client.ask("channel.open")
    client.send(frame(METHOD, 1, method_payload(name) + b"\x00\x00\x00"))
    heard = client.hear()
    if heard and heard[0].method.name == "connection.close":
        assert heard[0].method["reply_code"] in (501, 502, 503, 505)


@pytest.mark.parametrize(
    "arguments",
    [
        b"\xff\xff\xff\xff",
        b"\x00\x00\x00\x01",
        longstr(b"\x05ab"),
        longstr(b"\x01a"),
        longstr(b"\x01aI\x00"),
        longstr(b"\x01aS\xff\xff\xff\xff"),
        longstr(b"\x01aA\x00\x00\x00\x09"),
        longstr(b"\x01aF\x00\x00\x00\x05\x01b"),
        longstr(b"\x01a?"),
        longstr(b"\x01a\x00"),
        longstr(b"\x01aA" + longstr(b"?")),
    ],
)
def test_a_malformed_table(arguments: bytes) -> None:
    """AMQP 0-9-1 §4.2.5."""
    refused(Broker().open(), declare_with(arguments))


def test_a_table_inside_tables_has_a_bottom() -> None:
    """RabbitMQ's security advisories: nested tables must not overflow a stack; 32 levels are more than anyone uses."""
    for kind in ("F", "A"):
        inner = b"\x01xV" if kind == "F" else b"V"
        for _ in range(2000):
            inner = (b"\x01x" if kind == "F" else b"") + kind.encode() + longstr(inner)
        refused(
            Broker().open(frame_max=131072),
            declare_with(longstr(inner if kind == "F" else b"\x01x" + inner)),
            codes=(501, 502),
        )


def test_a_table_of_many_elements_has_an_end() -> None:
    """RabbitMQ's security advisories: elements without width (void) cost memory and time, not octets."""
    refused(Broker().open(), declare_with(longstr(b"\x01xA" + longstr(b"V" * 100_000))), codes=(501, 502))
    refused(Broker().open(), declare_with(longstr(b"\x00V" * 40_000)), codes=(501, 502))


def test_hostile_headers_are_refused_too() -> None:
    """The headers of a message are walked once, by the same bounds."""
    inner = b"\x01xV"
    for _ in range(2000):
        inner = b"\x01xF" + longstr(inner)
    for headers in (inner, b"\x01xA" + longstr(b"V" * 100_000), b"\x01xS\xff\xff\xff\xff"):
        for chunks in ([], [90]):
            client = Broker().open()
            payload = b"\x00\x3c\x00\x00" + (0).to_bytes(8, "big") + b"\x20\x00" + longstr(headers)
            client.send(method(1, "basic.publish", routing_key="q") + frame(2, 1, payload), chunks=chunks)
            said = client.hear()[0]
            assert said.method.name == "connection.close"
            assert said.method["reply_code"] in (501, 502)


@pytest.mark.parametrize(
    "flags", [b"", b"\x00", b"\x80\x00", b"\xff\xff", b"\x00\x01", b"\x80\x00\xff", b"\x00\x40\x00", b"\x00\x00junk"]
)
def test_malformed_properties(flags: bytes) -> None:
    """AMQP 0-9-1 §4.2.5: a property that runs past the frame, unknown flags, octets left over."""
    for chunks in ([], [60], [1] * 50):
        client = Broker().open()
        client.ask("queue.declare", queue="q")
        payload = b"\x00\x3c\x00\x00" + (1).to_bytes(8, "big") + flags
        client.send(method(1, "basic.publish", routing_key="q") + frame(2, 1, payload) + body(1, b"x"), chunks=chunks)
        heard = client.hear()
        assert len(heard) == 1, heard
        assert heard[0].method.name == "connection.close"
        assert heard[0].method["reply_code"] in (501, 502, 505, 541)


def test_a_short_string_is_never_longer_than_255_octets_on_the_way_out() -> None:
    """RabbitMQ advisory c5pq: a length that does not fit its octet would let a client inject frames."""
    client = Broker().open()
    for name in ("é" * 127, "x" * 255, "€" * 85):
        text = client.ask_error(404, "queue.declare", queue=name, passive=True)
        assert len(text.encode()) <= 255
        assert text.startswith("NOT_FOUND - no queue '")


def test_names_of_the_whole_255_octets() -> None:
    client = Broker().open()
    queue, tag, key = "q" * 255, "t" * 255, "k" * 255
    client.ask("queue.declare", queue=queue)
    client.ask("queue.bind", queue=queue, exchange="amq.topic", routing_key=key)
    client.consume(queue, tag)
    client.publish(key, b"x", exchange="amq.topic")
    said = client.expect_said("basic.deliver")
    assert (said.method["consumer_tag"], said.method["routing_key"]) == (tag, key)


def test_a_routing_key_that_is_no_utf_8() -> None:
    """A key is octets (AMQP 0-9-1 §4.2.5.3)."""
    client = Broker().open()
    client.ask("queue.declare", queue="q")
    client.ask("queue.bind", queue="q", exchange="amq.fanout")
    payload = b"\x00\x3c\x00\x28\x00\x00" + shortstr("amq.fanout") + shortstr(b"\xff\xfe") + b"\x00"
    client.send(frame(METHOD, 1, payload) + content(1, b"x"))
    client.tell("basic.get", queue="q")
    heard = client.hear()
    if heard[0].method.name == "basic.get-ok":
        assert heard[0].method.text("routing_key").encode("utf-8", "surrogateescape") == b"\xff\xfe"
    else:
        assert heard[0].method["reply_code"] in (501, 502)


def test_deep_topic_patterns_are_matched_in_time() -> None:
    """RabbitMQ advisory 67419: many `#` in one key must not multiply the work."""
    client = Broker().open()
    client.ask("queue.declare", queue="q")
    client.ask("queue.bind", queue="q", exchange="amq.topic", routing_key="#." * 100 + "x")
    client.publish("a." * 120 + "x", b"1", exchange="amq.topic")
    client.publish("a." * 120 + "y", b"2", exchange="amq.topic")
    assert client.drain("q") == [b"1"]


def test_other_connections_go_on() -> None:
    """Whatever one client says, another's messages are untouched."""
    broker = Broker()
    good = broker.open()
    good.ask("queue.declare", queue="q")
    good.publish("q", b"x")
    good.consume("q")
    for said in (
        b"\xff" * 100,
        frame(METHOD, 1, b""),
        declare_with(b"\xff\xff\xff\xff"),
        frame(BODY, 7, b"x"),
        publish(9, "", "q", b"x"),
    ):
        bad = broker.open()
        bad.send(said)
        bad.expect("connection.close", 0)
        bad.drop()
    assert good.bodies() == [b"x"]
    good.tell("basic.ack", delivery_tag=1)
    assert broker.depth("q") == (0, 0)
    assert len(broker.server.connections) == 1


@pytest.mark.parametrize(
    "value",
    [
        Typed("l", 1 << 62),
        Typed("d", float("nan")),
        Typed("d", float("inf")),
        Typed("T", (1 << 64) - 1),
        Typed("D", (255, 1)),
    ],
)
def test_extreme_values_in_arguments(value: Typed) -> None:
    """A value of any size is a value; it may not fit the argument it is given for."""
    client = Broker().open()
    client.ask("queue.declare", queue="q", arguments={"mine": value})
    for name in (
        "x-max-length",
        "x-message-ttl",
        "x-expires",
        "x-max-priority",
        "x-dead-letter-exchange",
        "x-single-active-consumer",
    ):
        client.tell("queue.declare", queue=f"q-{name}", arguments={name: value})
        heard = client.hear()
        if heard[0].method.name == "channel.close":
            assert heard[0].method["reply_code"] == 406
            client.send(method(1, "channel.close-ok"), method(1, "channel.open"))
            client.expect("channel.open-ok")


def test_field_values_round_trip_in_the_tests_own_encoder() -> None:
    """The tests' frames are right where they are meant to be."""
    assert field_value(Typed("S", "a")) == b"S\x00\x00\x00\x01a"
    assert frame(8, 0)[-1] == FRAME_END
