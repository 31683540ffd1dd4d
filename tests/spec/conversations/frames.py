"""Frames: their shape, their size, the channel they are on and the order of a content's frames (AMQP 0-9-1 §4.2.3,
§4.2.6)."""

from __future__ import annotations

from collections.abc import Callable

from tests.spec.talk import Departure, Speaker, Talk, add, cannot_decode, conversation
from tests.support.wire import BODY, HEADER, METHOD, body, frame, header, heartbeat, method, method_payload, publish

SHAPE = "AMQP 0-9-1 §4.2.3"
CONTENT = "AMQP 0-9-1 §4.2.6"
CHANNELS = "AMQP 0-9-1 §4.2.3 and §2.2.5, channel numbers"
PUBLISH = method(1, "basic.publish", routing_key="nowhere")


def odd(name: str, rule: str, source: str, data: bytes, words: str) -> None:
    """Registers bytes that are no well-formed frame, said on an open connection with channel 1."""

    def start(talk: Talk) -> None:
        client = talk.client()
        client.raw(data, words)
        client.hear()

    add("frames", name, rule, source, start)


def said(
    name: str,
    rule: str,
    source: str,
    *frames: bytes,
    then: Callable[[Speaker], None] | None = None,
    leveret: Departure | None = None,
) -> None:
    """Registers well-formed frames that are out of place, said on an open connection with channel 1."""

    def start(talk: Talk) -> None:
        client = talk.client()
        client.say(*frames)
        if then is None:
            client.hear()
        else:
            then(client)

    add("frames", name, rule, source, start, leveret)


TOO_LONG = Departure(
    "in the words of RabbitMQ's later versions; 3.10 notices it with the next frame only, and says that this one is no "
    "body",
    (
        "< a0 connection.close reply_code=501 reply_text='FRAME_ERROR - content body frame exceeds remaining content"
        " size' class_id=60 method_id=40",
        "< a closes the socket",
    ),
)
QOS = method_payload("basic.qos")
odd(
    "frame: wrong end octet",
    "a frame that does not end in 0xCE ends the connection",
    SHAPE,
    frame(METHOD, 1, QOS, end=0xCD),
    "basic.qos with the end octet CD",
)
odd(
    "frame: size too small", "the end octet is looked for where the size says", SHAPE,
    frame(METHOD, 1, QOS, size=len(QOS) - 1), "basic.qos with a size of one octet less",
)  # fmt: skip
odd(
    "frame: size too big", "the end octet is looked for where the size says", SHAPE,
    frame(METHOD, 1, QOS, size=len(QOS) + 1) + heartbeat(), "basic.qos with a size of one octet more, then a heartbeat",
)  # fmt: skip
for number in (0, 4, 5, 7, 9, 255):
    said(f"frame: type {number}", "an unknown frame type ends the connection", SHAPE, frame(number, 1, b"abc"))
said("frame: type 9 on channel 0", "an unknown frame type ends the connection", SHAPE, frame(9, 0, b"abc"))
said(
    "frame: type 9 on a channel that is not open",
    "an unknown frame type ends the connection",
    SHAPE,
    frame(9, 5, b"abc"),
)
said("frame: empty method frame", "a method frame holds at least class and method id", SHAPE, frame(METHOD, 1, b""))
said(
    "frame: method frame of three octets",
    "a method frame holds at least class and method id",
    SHAPE,
    frame(METHOD, 1, b"\x00\x3c\x00"),
)
said(
    "frame: empty method frame on channel 0",
    "a method frame holds at least class and method id",
    SHAPE,
    frame(METHOD, 0, b""),
)

said(
    "heartbeat on channel 0",
    "a heartbeat is taken in silence",
    "AMQP 0-9-1 §4.2.7",
    heartbeat(),
    then=lambda client: client.quiet(),
)
said("heartbeat on channel 1", "heartbeats belong to channel 0", "AMQP 0-9-1 §4.2.7", heartbeat(1))
said("heartbeat on a channel that is not open", "heartbeats belong to channel 0", "AMQP 0-9-1 §4.2.7", heartbeat(7))
said(
    "heartbeat with a payload", "a heartbeat has no payload", "AMQP 0-9-1 §4.2.7", frame(8, 0, b"tick"),
    then=lambda client: client.quiet(),
)  # fmt: skip
said(
    "heartbeat between method and header", "a heartbeat may come between any two frames", "AMQP 0-9-1 §4.2.7",
    method(1, "confirm.select"), PUBLISH, heartbeat(), header(1, 2), heartbeat(), body(1, b"hi"),
    then=lambda client: none(client.hear(2)),
)  # fmt: skip


def none(_: object) -> None:
    """Forgets a value."""


def oversized(name: str, rule: str, size: int, kind: int) -> None:
    """Registers a frame of this many octets in all, on a connection tuned to 4096."""

    def start(talk: Talk) -> None:
        client = talk.client(frame_max=4096)
        client.ask(1, "confirm.select")
        payload = bytes(size - 8)
        if kind == BODY:
            client.say(PUBLISH, header(1, len(payload)), frame(BODY, 1, payload))
        else:
            client.say(frame(kind, 1, payload))
        client.hear()

    add("frames", name, rule, "AMQP 0-9-1 §4.2.3, connection.tune frame-max", start)


oversized("frame: body frame of frame_max", "frame_max counts the whole frame, header and end octet too", 4096, BODY)
oversized("frame: body frame one octet over frame_max", "a frame above frame_max ends the connection", 4097, BODY)
oversized("frame: body frame eight octets over frame_max", "a frame above frame_max ends the connection", 4104, BODY)
oversized("frame: body frame nine octets over frame_max", "a frame above frame_max ends the connection", 4105, BODY)
oversized("frame: method frame over frame_max", "a frame above frame_max ends the connection", 6000, METHOD)


@conversation("frame: size of 4 GiB", "the size is judged before anything is kept", SHAPE)
def gigantic(talk: Talk) -> None:
    """Only the seven octets of the frame header are ever sent."""
    client = talk.client()
    client.raw(frame(METHOD, 1, b"", size=0xFFFFFFFF)[:7], "the head of a frame of 4 GiB")
    client.hear()


@conversation("frame: body above default frame_max", "a frame above frame_max ends the connection", SHAPE)
def above_default(talk: Talk) -> None:
    """131072 is the broker's proposal."""
    client = talk.client()
    client.say(PUBLISH, header(1, 131073), frame(BODY, 1, bytes(131073)))
    client.hear()


@conversation(
    "content: body cut to frame_max on delivery",
    "the broker cuts bodies to the reader's frame_max, eight octets less",
    CONTENT,
)
def cut_to_frame_max(talk: Talk) -> None:
    """Published in one frame, read by a client of 4096."""
    writer = talk.client("a")
    writer.ask(1, "queue.declare", queue="frames.cut")
    writer.say(publish(1, routing_key="frames.cut", data=bytes(9000)))
    writer.until_ready("frames.cut", 1)
    reader = talk.client("b", frame_max=4096)
    reader.ask(1, "basic.get", queue="frames.cut", no_ack=True)


@conversation("content: empty body has no body frame", "a content of size 0 is complete with its header", CONTENT)
def empty_content(talk: Talk) -> None:
    """Confirmed without a body frame."""
    client = talk.client()
    client.ask(1, "confirm.select")
    client.say(PUBLISH, header(1, 0))
    client.hear()


# channels

said(
    "channel: method on a channel never opened",
    "the first method of a channel is channel.open",
    CHANNELS,
    method(2, "basic.qos"),
)
said(
    "channel: close-ok on a channel never opened",
    "the first method of a channel is channel.open",
    CHANNELS,
    method(2, "channel.close-ok"),
)
said(
    "channel: close on a channel never opened",
    "the first method of a channel is channel.open",
    CHANNELS,
    method(2, "channel.close", reply_code=200),
)
said(
    "channel: body on a channel never opened", "the first method of a channel is channel.open", CHANNELS, body(2, b"x")
)
said(
    "channel: header on a channel never opened", "the first method of a channel is channel.open", CHANNELS, header(2, 1)
)
said(
    "channel: opened twice",
    "a channel is opened once",
    "AMQP 0-9-1 channel.open, rule state",
    method(1, "channel.open"),
)
said(
    "channel: channel method on channel 0",
    "channel 0 carries class connection only",
    CHANNELS,
    method(0, "channel.open"),
)
said("channel: basic.qos on channel 0", "channel 0 carries class connection only", CHANNELS, method(0, "basic.qos"))
said(
    "channel: connection method on channel 1",
    "class connection belongs to channel 0",
    CHANNELS,
    method(1, "connection.close", reply_code=200),
)
said("channel: header on channel 0", "channel 0 carries no content", CHANNELS, header(0, 1))
said("channel: body on channel 0", "channel 0 carries no content", CHANNELS, body(0, b"x"))


@conversation(
    "channel: number above channel_max",
    "channel numbers above the negotiated limit are refused",
    "AMQP 0-9-1 connection.tune-ok channel-max",
)
def above_channel_max(talk: Talk) -> None:
    """Three channels were negotiated, the number is 4, and only one channel is open."""
    client = talk.client(channel_max=3)
    client.ask(4, "channel.open")


@conversation(
    "channel: as many as channel_max",
    "every channel up to the negotiated limit can be opened",
    "AMQP 0-9-1 connection.tune-ok channel-max",
)
def up_to_channel_max(talk: Talk) -> None:
    """Channels 1, 2 and 3 of three, then one more."""
    client = talk.client(channel_max=3, channels=(1, 2))
    client.ask(3, "channel.open")
    client.ask(4, "channel.open")


@conversation(
    "channel: 65535 without being negotiated",
    "channel numbers above the negotiated limit are refused",
    "AMQP 0-9-1 connection.tune-ok channel-max",
)
def highest_channel(talk: Talk) -> None:
    """The broker's proposal is 2047."""
    client = talk.client()
    client.ask(65535, "channel.open")


# the order of content

said("content: header without method", "a content header follows a method that carries content", CONTENT, header(1, 1))
said("content: body without header", "a body follows its header", CONTENT, body(1, b"x"))
said("content: body right after the method", "a header comes before the body", CONTENT, PUBLISH, body(1, b"x"))
said(
    "content: method instead of the header",
    "nothing comes between method and header on one channel",
    CONTENT,
    PUBLISH,
    method(1, "basic.qos"),
)
said(
    "content: method instead of the body",
    "nothing comes between header and body on one channel",
    CONTENT,
    PUBLISH,
    header(1, 5),
    method(1, "basic.qos"),
)
said("content: second header", "a content has one header", CONTENT, PUBLISH, header(1, 5), header(1, 5))
said(
    "content: header after a method without content",
    "only some methods carry content",
    CONTENT,
    method(1, "channel.flow", active=True),
    header(1, 1),
    then=lambda client: none(client.hear(2)),
)
said(
    "content: header of class 50",
    "the header's class is the method's",
    "AMQP 0-9-1 §4.2.6.1",
    PUBLISH,
    header(1, 5, class_id=50),
)
said(
    "content: header of class 0",
    "the header's class is the method's",
    "AMQP 0-9-1 §4.2.6.1",
    PUBLISH,
    header(1, 5, class_id=0),
)
said(
    "content: body larger than announced",
    "the bodies add up to the announced size",
    CONTENT,
    PUBLISH,
    header(1, 2),
    body(1, b"abc"),
    then=lambda client: client.quiet(),
    leveret=TOO_LONG,
)
said(
    "content: second body over the size",
    "the bodies add up to the announced size",
    CONTENT,
    PUBLISH,
    header(1, 3),
    body(1, b"ab"),
    body(1, b"cd"),
    then=lambda client: client.quiet(),
    leveret=TOO_LONG,
)
said(
    "content: body after an empty content",
    "a content of size 0 has no body",
    CONTENT,
    PUBLISH,
    header(1, 0),
    body(1, b"x"),
)
said(
    "content: empty body after an empty content",
    "a content of size 0 has no body",
    CONTENT,
    PUBLISH,
    header(1, 0),
    body(1, b""),
)
said(
    "content: another channel in between",
    "frames of channels may be mixed",
    CONTENT,
    PUBLISH,
    header(1, 2),
    method(2, "channel.open"),
    body(1, b"hi"),
)


INTERNAL = "RabbitMQ answers with an internal error; the client is told as for method arguments that cannot be read"


def confirmed(name: str, rule: str, source: str, *frames: bytes, unreadable: bytes | None = None) -> None:
    """Registers a publish in confirm mode, made of these frames, and what the broker says of it.

    `unreadable` is the property list when RabbitMQ crashes over it.
    """
    departure = None
    if unreadable is not None:
        departure = Departure(INTERNAL, ("< a1 confirm.select-ok", *cannot_decode(unreadable, 60, 40)))

    def start(talk: Talk) -> None:
        client = talk.client()
        client.ask(1, "confirm.select")
        client.say(*frames)
        client.hear()

    add("frames", name, rule, source, start, departure)


confirmed(
    "content: header weight 1",
    "the weight is 0 and not looked at",
    "AMQP 0-9-1 §4.2.6.1",
    PUBLISH,
    header(1, 2, weight=1),
    body(1, b"hi"),
)
confirmed(
    "content: empty body frames",
    "empty body frames add nothing",
    CONTENT,
    PUBLISH,
    header(1, 2),
    body(1, b""),
    body(1, b"h"),
    body(1, b""),
    body(1, b"i"),
)
confirmed(
    "content: header cut",
    "a header that ends early is refused",
    "AMQP 0-9-1 §4.2.6.1",
    PUBLISH,
    frame(HEADER, 1, b"\x00\x3c\x00\x00\x00\x00\x00\x00"),
)
confirmed(
    "content: header empty",
    "a header that ends early is refused",
    "AMQP 0-9-1 §4.2.6.1",
    PUBLISH,
    frame(HEADER, 1, b""),
)
HEAD = b"\x00\x3c\x00\x00" + bytes(8)
confirmed(
    "content: header without flags",
    "a header that ends early is refused",
    "AMQP 0-9-1 §4.2.6.1",
    PUBLISH,
    frame(HEADER, 1, HEAD),
    unreadable=b"",
)
confirmed(
    "content: property missing",
    "every flagged property is there",
    "AMQP 0-9-1 §4.2.6.1",
    PUBLISH,
    frame(HEADER, 1, HEAD + b"\x80\x00"),
    unreadable=b"\x80\x00",
)
confirmed(
    "content: property cut",
    "a property ends inside its header",
    "AMQP 0-9-1 §4.2.6.1",
    PUBLISH,
    frame(HEADER, 1, HEAD + b"\x80\x00\x05ab"),
    unreadable=b"\x80\x00\x05ab",
)
confirmed(
    "content: octets after the properties",
    "nothing follows the properties",
    "AMQP 0-9-1 §4.2.6.1",
    PUBLISH,
    frame(HEADER, 1, HEAD + b"\x80\x00\x02abxyz"),
    unreadable=b"\x80\x00\x02abxyz",
)
confirmed(
    "content: flag 14 set",
    "properties beyond cluster-id are unknown",
    "AMQP 0-9-1 §4.2.6.1",
    PUBLISH,
    frame(HEADER, 1, HEAD + b"\x00\x02\x02ab"),
    unreadable=b"\x00\x02\x02ab",
)
confirmed(
    "content: flag continuation",
    "bit 0 of the flags announces more flags",
    "AMQP 0-9-1 §4.2.6.1",
    PUBLISH,
    frame(HEADER, 1, HEAD + b"\x00\x01\x00\x00"),
    unreadable=b"\x00\x01\x00\x00",
)
confirmed(
    "content: headers table cut",
    "a table ends inside its header",
    "AMQP 0-9-1 §4.2.5.5",
    PUBLISH,
    frame(HEADER, 1, HEAD + b"\x20\x00\x00\x00\x00\x09\x01aS\x00"),
    unreadable=b"\x20\x00\x00\x00\x00\x09\x01aS\x00",
)
confirmed(
    "content: headers table with an unknown type",
    "unknown field types are refused",
    "RabbitMQ errata, field types",
    PUBLISH,
    frame(HEADER, 1, HEAD + b"\x20\x00\x00\x00\x00\x04\x01aZ\x00"),
    unreadable=b"\x20\x00\x00\x00\x00\x04\x01aZ\x00",
)


@conversation(
    "content: body of 2^63",
    "the announced size is judged before anything is kept",
    CONTENT,
    leveret=Departure(
        "no octet of a body that is too large has to be waited for: the header tells",
        (
            "< a1 channel.close reply_code=406 reply_text='PRECONDITION_FAILED - message size 9223372036854775808"
            " is larger than configured max size 1048576' class_id=60 method_id=40",
        ),
    ),
)
def endless_body(talk: Talk) -> None:
    """RabbitMQ waits for the body; a method on the channel then comes where body frames are due."""
    client = talk.client()
    client.say(PUBLISH, header(1, 2**63))
    client.quiet()
