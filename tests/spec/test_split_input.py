"""TCP is a stream: however a conversation is cut into reads, the broker says and does the same (AMQP 0-9-1 §4.2.3)."""

from __future__ import annotations

import random

import pytest

from tests.support.memory import Broker, Client, opening
from tests.support.wire import Said, body, content, frame, header, heartbeat, method, publish

LONG = bytes(range(256)) * 3


def conversation() -> bytes:
    """A bit of everything: cold methods, publishes of every shape, settlements, a channel error, a heartbeat, the
    end."""
    return b"".join(
        [
            opening(),
            method(1, "channel.open"),
            method(2, "channel.open"),
            method(1, "queue.declare", queue="q", arguments={"x-max-length": 100, "nested": {"a": [1, "b"]}}),
            method(1, "queue.bind", queue="q", exchange="amq.topic", routing_key="a.#"),
            method(1, "confirm.select"),
            publish(1, "", "q", b"one"),
            publish(1, "amq.topic", "a.b", b"", properties={"headers": {"h": 1}, "delivery_mode": 2}),
            publish(1, "amq.topic", "nowhere", b"lost", mandatory=True),
            heartbeat(),
            method(1, "basic.publish", routing_key="q")
            + header(1, 6)
            + body(1, b"ab")
            + body(1, b"")
            + body(1, b"cdef"),
            publish(1, "", "q", LONG),
            method(2, "basic.qos", prefetch_count=3),
            method(2, "basic.consume", queue="q", consumer_tag="c"),
            method(2, "queue.declare", queue="q", passive=True),  # asks for the count, so what can be delivered is, now
            method(2, "basic.ack", delivery_tag=1),
            method(2, "basic.nack", delivery_tag=2, requeue=True),
            method(2, "basic.get", queue="q"),
            method(2, "basic.cancel", consumer_tag="c"),
            method(2, "queue.declare", queue="missing", passive=True),
            publish(2, "", "q", b"dropped"),
            method(2, "channel.close-ok"),
            method(2, "channel.open"),
            method(2, "basic.get", queue="q", no_ack=True),
            method(1, "queue.purge", queue="q"),
            method(0, "connection.close", reply_code=200),
        ]
    )


def play(data: bytes, chunks: list[int], *, one_turn: bool) -> tuple[Broker, Client]:
    broker = Broker()
    client = broker.client()
    position = 0
    client.auto = not one_turn
    for size in [*chunks, len(data)]:
        client.send(data[position : position + size])
        position += size
    broker.run_turn()
    return broker, client


def outcome(
    data: bytes, chunks: list[int]
) -> tuple[list[tuple[int, str, tuple[object, ...], bytes]], bool, tuple[int, int]]:
    """What was said channel by channel, whether the socket was closed, and what is left in the queue. All in one
    turn."""
    broker, client = play(data, chunks, one_turn=True)
    heard = client.hear()
    per_channel = sorted((said.channel, place, said) for place, said in enumerate(heard))
    return (
        [shown(said) for _, _, said in per_channel],
        client.sink.closed,
        broker.depth("q") if "q" in broker.vhost.queues else (-1, -1),
    )


def shown(said: Said) -> tuple[int, str, tuple[object, ...], bytes]:
    arguments = tuple(
        repr(value) for name, value in sorted(said.method.arguments.items()) if name != "server_properties"
    )
    return said.channel, said.method.name, arguments, said.body


def test_the_conversation_says_what_it_should() -> None:
    """The yardstick itself: the answers of the conversation in one read."""
    heard, closed, depth = outcome(conversation(), [])
    names = [name for _, name, _, _ in heard]
    assert closed
    assert depth[1] == 0, "everything outstanding went back when the connection closed"
    assert names.count("basic.return") == 1
    assert {
        "queue.declare-ok",
        "basic.deliver",
        "basic.get-ok",
        "channel.close",
        "queue.purge-ok",
        "connection.close-ok",
        "basic.ack",
    } <= set(names)
    assert "basic.reject" not in names


def test_cut_in_two_at_every_offset() -> None:
    data = conversation()
    whole = outcome(data, [])
    for offset in range(1, len(data)):
        assert outcome(data, [offset]) == whole, f"cut at {offset}"


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 8, 13, 64, 100, 1000])
def test_in_pieces_of_one_size(size: int) -> None:
    data = conversation()
    assert outcome(data, [size] * (len(data) // size)) == outcome(data, [])


@pytest.mark.parametrize("seed", range(50))
def test_in_random_pieces(seed: int) -> None:
    chance = random.Random(seed)
    data = conversation()
    chunks: list[int] = []
    while sum(chunks) < len(data):
        chunks.append(chance.choice([1, 2, 7, 8, 20, 100, 500]))
    assert outcome(data, chunks[:-1]) == outcome(data, []), f"seed {seed}"


@pytest.mark.parametrize("size", [1, 7, 50])
def test_with_a_turn_after_every_read(size: int) -> None:
    """Answers may be grouped otherwise (confirms, deliveries), but the same methods are said on every channel."""
    data = conversation()
    _, client = play(data, [size] * (len(data) // size), one_turn=False)
    names = [said.method.name for said in client.hear()]
    assert names.count("basic.return") == 1
    assert names[-1] == "connection.close-ok"
    assert {"queue.declare-ok", "basic.deliver", "basic.get-ok", "channel.close", "queue.purge-ok"} <= set(names)


FAULTS = {
    "bad frame end": frame(1, 1, b"\x00\x3c\x00\x0a\x00\x00\x00\x00\x00\x00\x00", end=0),
    "frame too large": publish(1, "", "q", b"x" * 200_000)[:150_000] + b"".join([frame(3, 1, b"x" * 140_000)]),
    "body too large for its frame": method(1, "basic.publish", routing_key="q")
    + header(1, 140_000)
    + frame(3, 1, b"x" * 140_000),
    "more body than announced": method(1, "basic.publish", routing_key="q") + header(1, 3) + body(1, b"four"),
    "body of another size, then more": method(1, "basic.publish", routing_key="q")
    + header(1, 3)
    + body(1, b"ab")
    + body(1, b"cd"),
    "header of another class": method(1, "basic.publish", routing_key="q") + header(1, 0, class_id=50),
    "method inside content": method(1, "basic.publish", routing_key="q") + header(1, 3) + method(1, "basic.qos"),
    "header on another channel": method(1, "basic.publish", routing_key="q") + header(2, 3) + body(1, b"abc"),
    "body on another channel": method(1, "basic.publish", routing_key="q") + header(1, 3) + body(2, b"abc"),
    "malformed properties": method(1, "basic.publish", routing_key="q")
    + frame(2, 1, b"\x00\x3c\x00\x00" + bytes(8) + b"\x80\x00")
    + heartbeat(),
    "bad end of a header": method(1, "basic.publish", routing_key="q") + header(1, 1)[:-1] + b"\x00" + body(1, b"x"),
    "bad end of a body": method(1, "basic.publish", routing_key="q") + header(1, 1) + frame(3, 1, b"x", end=7),
    "weight that is not zero": method(1, "basic.publish", routing_key="q") + header(1, 1, weight=5) + body(1, b"x"),
    "cut publish": frame(1, 1, b"\x00\x3c\x00\x28\x00\x00\x05ab") + content(1, b"x"),
    "message to nowhere": publish(1, "missing", "q", b"x") + method(1, "queue.declare", queue="later"),
    "unknown method": frame(1, 1, b"\x00\x3c\x00\xff"),
    "heartbeat with a payload": frame(8, 0, b"x"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_too_are_the_same_however_they_are_cut(fault: str) -> None:
    """A fault that a whole read hides, or one that only a cut read shows, is a hole in a check."""
    start = opening() + method(1, "channel.open") + method(1, "queue.declare", queue="q")
    data = start + FAULTS[fault]
    whole = outcome(data, [])
    chance = random.Random(fault)
    offsets = (
        range(len(start), len(data))
        if len(data) - len(start) < 300
        else sorted(chance.sample(range(len(start), len(data)), 100))
    )
    for offset in offsets:
        assert outcome(data, [offset]) == whole, f"{fault}, cut at {offset - len(start)}"
    if len(data) < 2000:
        assert outcome(data, [1] * (len(data) - 1)) == whole, f"{fault}, octet by octet"
