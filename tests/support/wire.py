"""AMQP 0-9-1 on the wire, for tests: any frame that can be built, right or wrong, and what a broker says as readable
values.

Nothing here comes from the broker or from its codec library, so that one mistake cannot hide on both sides. The grammar
of the methods stands in `GRAMMAR`, one line a method (AMQP 0-9-1 specification, chapter 1.3 onwards, plus RabbitMQ's
own methods); the types of table fields are those of RabbitMQ's errata page ("Field types in AMQP 0-9-1"), which departs
from §4.2.1.

Layers, from the bottom: values and tables, frames, methods and content, `WireClient` (a blocking socket with a deadline
on every read).
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

METHOD: Final = 1
HEADER: Final = 2
BODY: Final = 3
HEARTBEAT: Final = 8
FRAME_END: Final = 0xCE
PROTOCOL_HEADER: Final = b"AMQP\x00\x00\x09\x01"
FRAME_OVERHEAD: Final = 8

GRAMMAR: Final = """
10.10 connection.start version_major:octet version_minor:octet server_properties:table mechanisms:longstr \
locales:longstr
10.11 connection.start-ok client_properties:table mechanism:shortstr response:longstr locale:shortstr
10.20 connection.secure challenge:longstr
10.21 connection.secure-ok response:longstr
10.30 connection.tune channel_max:short frame_max:long heartbeat:short
10.31 connection.tune-ok channel_max:short frame_max:long heartbeat:short
10.40 connection.open virtual_host:shortstr capabilities:shortstr insist:bit
10.41 connection.open-ok known_hosts:shortstr
10.50 connection.close reply_code:short reply_text:shortstr class_id:short method_id:short
10.51 connection.close-ok
10.60 connection.blocked reason:shortstr
10.61 connection.unblocked
10.70 connection.update-secret new_secret:longstr reason:shortstr
10.71 connection.update-secret-ok
20.10 channel.open out_of_band:shortstr
20.11 channel.open-ok channel_id:longstr
20.20 channel.flow active:bit
20.21 channel.flow-ok active:bit
20.40 channel.close reply_code:short reply_text:shortstr class_id:short method_id:short
20.41 channel.close-ok
30.10 access.request realm:shortstr exclusive:bit passive:bit active:bit write:bit read:bit
30.11 access.request-ok ticket:short
40.10 exchange.declare ticket:short exchange:shortstr type:shortstr passive:bit durable:bit auto_delete:bit \
internal:bit nowait:bit  arguments:table
40.11 exchange.declare-ok
40.20 exchange.delete ticket:short exchange:shortstr if_unused:bit nowait:bit
40.21 exchange.delete-ok
40.30 exchange.bind ticket:short destination:shortstr source:shortstr routing_key:shortstr nowait:bit arguments:table
40.31 exchange.bind-ok
40.40 exchange.unbind ticket:short destination:shortstr source:shortstr routing_key:shortstr nowait:bit arguments:table
40.51 exchange.unbind-ok
50.10 queue.declare ticket:short queue:shortstr passive:bit durable:bit exclusive:bit auto_delete:bit nowait:bit \
arguments:table
50.11 queue.declare-ok queue:shortstr message_count:long consumer_count:long
50.20 queue.bind ticket:short queue:shortstr exchange:shortstr routing_key:shortstr nowait:bit arguments:table
50.21 queue.bind-ok
50.30 queue.purge ticket:short queue:shortstr nowait:bit
50.31 queue.purge-ok message_count:long
50.40 queue.delete ticket:short queue:shortstr if_unused:bit if_empty:bit nowait:bit
50.41 queue.delete-ok message_count:long
50.50 queue.unbind ticket:short queue:shortstr exchange:shortstr routing_key:shortstr arguments:table
50.51 queue.unbind-ok
60.10 basic.qos prefetch_size:long prefetch_count:short global:bit
60.11 basic.qos-ok
60.20 basic.consume ticket:short queue:shortstr consumer_tag:shortstr no_local:bit no_ack:bit exclusive:bit nowait:bit \
arguments:table
60.21 basic.consume-ok consumer_tag:shortstr
60.30 basic.cancel consumer_tag:shortstr nowait:bit
60.31 basic.cancel-ok consumer_tag:shortstr
60.40 basic.publish ticket:short exchange:shortstr routing_key:shortstr mandatory:bit immediate:bit
60.50 basic.return reply_code:short reply_text:shortstr exchange:shortstr routing_key:shortstr
60.60 basic.deliver consumer_tag:shortstr delivery_tag:longlong redelivered:bit exchange:shortstr routing_key:shortstr
60.70 basic.get ticket:short queue:shortstr no_ack:bit
60.71 basic.get-ok delivery_tag:longlong redelivered:bit exchange:shortstr routing_key:shortstr message_count:long
60.72 basic.get-empty cluster_id:shortstr
60.80 basic.ack delivery_tag:longlong multiple:bit
60.90 basic.reject delivery_tag:longlong requeue:bit
60.100 basic.recover-async requeue:bit
60.110 basic.recover requeue:bit
60.111 basic.recover-ok
60.120 basic.nack delivery_tag:longlong multiple:bit requeue:bit
85.10 confirm.select nowait:bit
85.11 confirm.select-ok
90.10 tx.select
90.11 tx.select-ok
90.20 tx.commit
90.21 tx.commit-ok
90.30 tx.rollback
90.31 tx.rollback-ok
"""
CONTENT_METHODS: Final = frozenset({"basic.publish", "basic.return", "basic.deliver", "basic.get-ok"})
PROPERTIES: Final = (
    ("content_type", "shortstr"), ("content_encoding", "shortstr"), ("headers", "table"), ("delivery_mode", "octet"),
    ("priority", "octet"), ("correlation_id", "shortstr"), ("reply_to", "shortstr"), ("expiration", "shortstr"),
    ("message_id", "shortstr"), ("timestamp", "longlong"), ("type", "shortstr"), ("user_id", "shortstr"),
    ("app_id", "shortstr"), ("cluster_id", "shortstr"),
)  # fmt: skip


class WireError(AssertionError):
    """The broker said something that is no AMQP, or not what the test asked for."""


class SocketEnded(WireError):
    """The broker closed the socket where a frame was expected."""


class Silence(WireError):
    """Nothing (more) came before the deadline."""


# Values and tables


class Typed(NamedTuple):
    """A field value with the tag it has on the wire: `Typed("s", 5)` is a signed 16-bit 5."""

    tag: str
    value: object


NUMBERS: Final = {
    "b": ">b",
    "B": ">B",
    "s": ">h",
    "u": ">H",
    "I": ">i",
    "i": ">I",
    "l": ">q",
    "L": ">q",
    "T": ">Q",
    "f": ">f",
    "d": ">d",
}


def octets(text: str | bytes) -> bytes:
    """The bytes of a string; bytes stay as they are, which is how a test sends bad UTF-8."""
    return text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")


def shortstr(text: str | bytes) -> bytes:
    """A length octet and the bytes (§4.2.5.3)."""
    data = octets(text)
    return struct.pack(">B", len(data)) + data


def longstr(text: str | bytes) -> bytes:
    """A 32-bit length and the bytes (§4.2.5.3)."""
    data = octets(text)
    return struct.pack(">I", len(data)) + data


def typed(value: object) -> Typed:
    """The value with the tag that RabbitMQ's own clients would choose; a `Typed` stays as it is."""
    if isinstance(value, Typed):
        return value
    if value is None:
        return Typed("V", None)
    if isinstance(value, bool):
        return Typed("t", value)
    if isinstance(value, int):
        return Typed("I" if -(2**31) <= value < 2**31 else "l", value)
    if isinstance(value, float):
        return Typed("d", value)
    if isinstance(value, str):
        return Typed("S", value)
    if isinstance(value, bytes):
        return Typed("x", value)
    if isinstance(value, Mapping):
        return Typed("F", value)
    if isinstance(value, list | tuple):
        return Typed("A", value)
    raise TypeError(f"no field type for {value!r}")


def field_value(value: object) -> bytes:
    """Tag and value as they stand in a table or array."""
    tag, content = typed(value)
    start = tag.encode()
    if tag in NUMBERS:
        return start + struct.pack(NUMBERS[tag], content)
    if tag == "V":
        return start
    if tag == "t":
        return start + (b"\x01" if content else b"\x00")
    if tag in "Sx":
        assert isinstance(content, str | bytes)
        return start + longstr(content)
    if tag == "D":
        assert isinstance(content, tuple)
        return start + struct.pack(">BI", *content)
    if tag == "F":
        assert isinstance(content, Mapping)
        return start + table(content)
    if tag == "A":
        assert isinstance(content, Iterable)
        return start + longstr(b"".join(field_value(item) for item in content))
    raise TypeError(f"no encoder for the tag {tag!r}")


def table(fields: Mapping[str, object] | None = None) -> bytes:
    """A field table with its length (§4.2.5.5); values may be `Typed`."""
    return longstr(b"".join(shortstr(name) + field_value(value) for name, value in (fields or {}).items()))


class Reader:
    """Takes values off the front of a payload; `WireError` when it is too short."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 0

    def take(self, size: int) -> bytes:
        """The next `size` bytes."""
        piece = self.data[self.position : self.position + size]
        if len(piece) < size:
            raise WireError(f"{size} bytes wanted at {self.position} of {self.data.hex()}")
        self.position += size
        return piece

    def number(self, layout: str) -> int | float:
        """One number in the `struct` layout."""
        value: int | float = struct.unpack(layout, self.take(struct.calcsize(layout)))[0]
        return value

    def size(self, layout: str) -> int:
        """One unsigned number that counts bytes."""
        return int(self.number(layout))

    def shortstr(self) -> str:
        """A short string; bytes that are no UTF-8 survive as surrogates."""
        return self.take(self.size(">B")).decode("utf-8", "surrogateescape")

    def longstr(self) -> bytes:
        """The bytes of a long string."""
        return self.take(self.size(">I"))

    def table(self) -> dict[str, Typed]:
        """A field table, its values with their tags."""
        inner = Reader(self.longstr())
        fields: dict[str, Typed] = {}
        while inner.position < len(inner.data):
            name = inner.shortstr()
            fields[name] = inner.value()
        return fields

    def value(self) -> Typed:
        """One tagged value."""
        tag = self.take(1).decode("latin-1")
        if tag in NUMBERS:
            return Typed(tag, self.number(NUMBERS[tag]))
        if tag == "V":
            return Typed(tag, None)
        if tag == "t":
            return Typed(tag, self.take(1) != b"\x00")
        if tag == "S":
            return Typed(tag, self.longstr().decode("utf-8", "surrogateescape"))
        if tag == "x":
            return Typed(tag, self.longstr())
        if tag == "D":
            return Typed(tag, struct.unpack(">BI", self.take(5)))
        if tag == "F":
            return Typed(tag, self.table())
        if tag == "A":
            inner = Reader(self.longstr())
            items: list[Typed] = []
            while inner.position < len(inner.data):
                items.append(inner.value())
            return Typed(tag, items)
        raise WireError(f"unknown field type {tag!r}")


def plain(value: object) -> object:
    """A decoded value without its tags, all the way down."""
    if isinstance(value, Typed):
        return plain(value.value)
    if isinstance(value, Mapping):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


# Methods


class MethodSpec(NamedTuple):
    """What the specification says of one method."""

    name: str
    class_id: int
    method_id: int
    fields: tuple[tuple[str, str], ...]


def read_grammar(text: str) -> dict[str, MethodSpec]:
    """The methods of `GRAMMAR` by name."""
    methods: dict[str, MethodSpec] = {}
    for line in text.strip().splitlines():
        number, name, *fields = line.split()
        class_id, method_id = number.split(".")
        pairs = tuple((item.split(":")[0], item.split(":")[1]) for item in fields)
        methods[name] = MethodSpec(name, int(class_id), int(method_id), pairs)
    return methods


METHODS: Final = read_grammar(GRAMMAR)
METHODS_BY_ID: Final = {(spec.class_id, spec.method_id): spec for spec in METHODS.values()}
INTEGERS: Final = {"octet": ">B", "short": ">H", "long": ">I", "longlong": ">Q"}
EMPTY: Final[dict[str, object]] = {"shortstr": "", "longstr": b"", "table": {}, "bit": False}


def method_payload(name: str, /, **arguments: object) -> bytes:
    """Ids and arguments of a method; arguments left out are zero, empty or false."""
    spec = METHODS[name]
    unknown = arguments.keys() - {label for label, _ in spec.fields}
    if unknown:
        raise TypeError(f"{name} has no {', '.join(sorted(unknown))}")
    data = bytearray(struct.pack(">HH", spec.class_id, spec.method_id))
    bits: list[bool] = []
    for label, kind in spec.fields:
        value = arguments.get(label, EMPTY.get(kind, 0))
        if kind == "bit":
            bits.append(bool(value))
            continue
        data += pack_bits(bits)
        bits.clear()
        data += argument(kind, value)
    return bytes(data + pack_bits(bits))


def argument(kind: str, value: object) -> bytes:
    """One method argument or property, bits excepted."""
    if kind in INTEGERS:
        return struct.pack(INTEGERS[kind], value)
    if kind == "table":
        assert isinstance(value, Mapping | bytes)
        return value if isinstance(value, bytes) else table(value)
    assert isinstance(value, str | bytes)
    return shortstr(value) if kind == "shortstr" else longstr(value)


def pack_bits(bits: list[bool]) -> bytes:
    """Consecutive bits share octets, the first in the lowest place (§4.2.5.2)."""
    return bytes(
        sum(bit << place for place, bit in enumerate(bits[start : start + 8])) for start in range(0, len(bits), 8)
    )


@dataclass(frozen=True)
class Method:
    """A method as a broker or client said it; long strings are bytes, table values are `Typed`."""

    name: str
    arguments: dict[str, object] = field(default_factory=dict)

    def __getitem__(self, name: str) -> object:
        """One argument by the name it has in the specification (`class_id`, `reply_code`, ...)."""
        return self.arguments[name]

    def text(self, name: str) -> str:
        """A short string argument."""
        value = self.arguments[name]
        assert isinstance(value, str)
        return value

    def number(self, name: str) -> int:
        """An integer argument."""
        value = self.arguments[name]
        assert isinstance(value, int)
        return value


def read_method(payload: bytes) -> Method:
    """The method in a method frame's payload; `WireError` when it is unknown, too short or too long."""
    reader = Reader(payload)
    ids = (reader.size(">H"), reader.size(">H"))
    if ids not in METHODS_BY_ID:
        raise WireError(f"unknown method {ids}: {payload.hex()}")
    spec = METHODS_BY_ID[ids]
    arguments: dict[str, object] = {}
    bit_count = octet = 0
    for label, kind in spec.fields:
        if kind == "bit":
            if bit_count % 8 == 0:
                octet = reader.size(">B")
            arguments[label] = bool(octet >> (bit_count % 8) & 1)
            bit_count += 1
            continue
        bit_count = 0
        arguments[label] = read_argument(reader, kind)
    if reader.position != len(payload):
        raise WireError(f"{len(payload) - reader.position} bytes too many after {spec.name}: {payload.hex()}")
    return Method(spec.name, arguments)


def read_argument(reader: Reader, kind: str) -> object:
    """One argument or property of a kind other than bit."""
    if kind in INTEGERS:
        return reader.size(INTEGERS[kind])
    if kind == "table":
        return reader.table()
    return reader.shortstr() if kind == "shortstr" else reader.longstr()


# Frames


def frame(kind: int, channel: int, payload: bytes = b"", *, end: int = FRAME_END, size: int | None = None) -> bytes:
    """Any frame (§4.2.3); `end` and `size` may lie."""
    return struct.pack(">BHI", kind, channel, len(payload) if size is None else size) + payload + bytes([end])


def method(channel: int, name: str, /, **arguments: object) -> bytes:
    """A method frame: `method(1, "queue.declare", queue="q", durable=True)`."""
    return frame(METHOD, channel, method_payload(name, **arguments))


def properties_payload(properties: Mapping[str, object] | None) -> bytes:
    """Property flags and list (§4.2.6.1)."""
    given = properties or {}
    unknown = given.keys() - {name for name, _ in PROPERTIES}
    if unknown:
        raise TypeError(f"no such property: {', '.join(sorted(unknown))}")
    flags = 0
    data = b""
    for place, (name, kind) in enumerate(PROPERTIES):
        if name in given:
            flags |= 1 << (15 - place)
            data += argument(kind, given[name])
    return struct.pack(">H", flags) + data


def header(
    channel: int, body_size: int, properties: Mapping[str, object] | None = None, *, class_id: int = 60, weight: int = 0
) -> bytes:
    """A content header frame (§4.2.6.1)."""
    return frame(HEADER, channel, struct.pack(">HHQ", class_id, weight, body_size) + properties_payload(properties))


def body(channel: int, data: bytes) -> bytes:
    """A content body frame (§4.2.6.2)."""
    return frame(BODY, channel, data)


def heartbeat(channel: int = 0) -> bytes:
    """A heartbeat frame (§4.2.7)."""
    return frame(HEARTBEAT, channel)


def content(
    channel: int, data: bytes, properties: Mapping[str, object] | None = None, *, frame_max: int = 131072
) -> bytes:
    """Header and body frames of one content, cut to `frame_max`; an empty body has no body frame."""
    room = frame_max - FRAME_OVERHEAD
    pieces = [body(channel, data[start : start + room]) for start in range(0, len(data), room)]
    return header(channel, len(data), properties) + b"".join(pieces)


def publish(
    channel: int,
    exchange: str = "",
    routing_key: str = "",
    data: bytes = b"",
    *,
    mandatory: bool = False,
    immediate: bool = False,
    properties: Mapping[str, object] | None = None,
) -> bytes:
    """A whole basic.publish: method, header and body frames."""
    start = method(
        channel, "basic.publish", exchange=exchange, routing_key=routing_key, mandatory=mandatory, immediate=immediate
    )
    return start + content(channel, data, properties)


class Frame(NamedTuple):
    """A frame as it arrived."""

    kind: int
    channel: int
    payload: bytes


def read_header(payload: bytes) -> tuple[int, dict[str, object]]:
    """Body size and the properties that are set."""
    reader = Reader(payload)
    reader.take(4)
    size = reader.size(">Q")
    flags = reader.size(">H")
    properties: dict[str, object] = {}
    for place, (name, kind) in enumerate(PROPERTIES):
        if flags >> (15 - place) & 1:
            properties[name] = read_argument(reader, kind)
    if reader.position != len(payload):
        raise WireError(f"bytes left after the properties: {payload.hex()}")
    return size, properties


@dataclass(frozen=True)
class Said:
    """One thing the broker said on a channel: a method, with its content when it carries one."""

    channel: int
    method: Method
    properties: dict[str, object] = field(default_factory=dict)
    body: bytes = b""
    body_frames: tuple[int, ...] = ()


def split_frames(data: bytes) -> list[Frame]:
    """The whole frames in `data`; `WireError` when it ends inside one or a frame end is missing."""
    frames: list[Frame] = []
    position = 0
    while position < len(data):
        if len(data) - position < FRAME_OVERHEAD:
            raise WireError(f"half a frame: {data[position:].hex()}")
        kind, channel, size = struct.unpack_from(">BHI", data, position)
        end = position + 7 + size
        if end >= len(data) or data[end] != FRAME_END:
            raise WireError(f"no frame end after {data[position : position + 64].hex()}")
        frames.append(Frame(kind, channel, data[position + 7 : end]))
        position = end + 1
    return frames


# The client

CAPABILITIES: Final[dict[str, object]] = {
    "authentication_failure_close": True,
    "basic.nack": True,
    "connection.blocked": True,
    "consumer_cancel_notify": True,
    "publisher_confirms": True,
}


class WireClient:
    """A blocking AMQP client that says exactly what it is told to and reads with a deadline.

    Every read raises `Silence` when `deadline_s` passes and `SocketEnded` when the broker has closed the socket.
    Heartbeat frames are skipped. To learn that the broker says nothing, ask something later that it must answer and
    look at what came before the answer.
    """

    def __init__(self, host: str, port: int, *, deadline_s: float = 10.0) -> None:
        """Connects, and says nothing yet."""
        self.deadline_s = deadline_s
        self.socket = socket.create_connection((host, port), timeout=deadline_s)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.received = bytearray()
        self.ended = False

    # bytes

    def send(self, *data: bytes) -> None:
        """Sends the bytes; a socket that the broker has closed meanwhile is no error, reading will tell."""
        try:
            self.socket.settimeout(self.deadline_s)
            self.socket.sendall(b"".join(data))
        except TimeoutError:
            raise Silence("the broker has stopped reading") from None
        except OSError:
            pass

    def receive(self, deadline: float) -> bool:
        """Waits for some bytes, until `deadline` on the monotonic clock; false when the socket has ended."""
        if self.ended:
            return False
        left = deadline - time.monotonic()
        if left <= 0:
            raise Silence(f"nothing came within {self.deadline_s} s; unread: {bytes(self.received[:64]).hex()!r}")
        self.socket.settimeout(left)
        try:
            piece = self.socket.recv(262144)
        except TimeoutError:
            raise Silence(
                f"nothing came within {self.deadline_s} s; unread: {bytes(self.received[:64]).hex()!r}"
            ) from None
        except ConnectionError:
            piece = b""
        if not piece:
            self.ended = True
            return False
        self.received += piece
        return True

    def read_bytes(self, size: int) -> bytes:
        """Exactly `size` bytes."""
        deadline = time.monotonic() + self.deadline_s
        while len(self.received) < size:
            if not self.receive(deadline):
                raise SocketEnded(f"the socket ended after {bytes(self.received).hex()!r}")
        piece = bytes(self.received[:size])
        del self.received[:size]
        return piece

    def read_to_end(self) -> bytes:
        """Everything up to the end of the socket."""
        deadline = time.monotonic() + self.deadline_s
        while self.receive(deadline):
            pass
        piece = bytes(self.received)
        self.received.clear()
        return piece

    def close(self) -> None:
        """Closes the socket without a word."""
        self.socket.close()
        self.ended = True

    # frames

    def read_frame(self) -> Frame:
        """The next frame that is no heartbeat."""
        while True:
            kind, channel, size = struct.unpack(">BHI", self.read_bytes(7))
            payload = self.read_bytes(size)
            if self.read_bytes(1) != bytes([FRAME_END]):
                raise WireError(f"no frame end after frame type {kind} on channel {channel}")
            if kind != HEARTBEAT:
                return Frame(kind, channel, payload)

    def read(self) -> Said:
        """The next method with its content, whatever its channel."""
        start = self.read_frame()
        if start.kind != METHOD:
            raise WireError(f"a method expected, not {start}")
        said = read_method(start.payload)
        if said.name not in CONTENT_METHODS:
            return Said(start.channel, said)
        head = self.read_frame()
        if (head.kind, head.channel) != (HEADER, start.channel):
            raise WireError(f"a content header expected after {said}, not {head}")
        size, properties = read_header(head.payload)
        pieces: list[bytes] = []
        while sum(map(len, pieces)) < size:
            piece = self.read_frame()
            if (piece.kind, piece.channel) != (BODY, start.channel):
                raise WireError(f"a content body expected after {said}, not {piece}")
            pieces.append(piece.payload)
        return Said(start.channel, said, properties, b"".join(pieces), tuple(map(len, pieces)))

    def expect(self, name: str, channel: int | None = None) -> Method:
        """The next method, which must be `name` (and on `channel`, when given)."""
        return self.expect_said(name, channel).method

    def expect_said(self, name: str, channel: int | None = None) -> Said:
        """The next method with its content, which must be `name`."""
        said = self.read()
        if said.method.name != name or (channel is not None and said.channel != channel):
            raise WireError(f"{name} expected, the broker said {said}")
        return said

    def expect_end(self) -> None:
        """The broker closes the socket and says nothing before."""
        rest = self.read_to_end()
        if rest:
            raise WireError(f"the end of the socket expected, not {rest[:200].hex()}")

    def expect_close(self, code: int | None = None) -> Method:
        """The next thing is connection.close (with `code`, when given); answers it and sees the socket end."""
        close = self.expect("connection.close", 0)
        if code is not None and close["reply_code"] != code:
            raise WireError(f"reply code {code} expected, not {close}")
        self.send(method(0, "connection.close-ok"))
        self.expect_end()
        return close

    # conversations

    def handshake(
        self,
        *,
        user: str = "guest",
        password: str = "guest",
        vhost: str = "/",
        capabilities: Mapping[str, object] | None = CAPABILITIES,
        properties: Mapping[str, object] | None = None,
        channel_max: int | None = None,
        frame_max: int | None = None,
        heartbeat_s: int = 0,
    ) -> Method:
        """Connects up to connection.open-ok and gives connection.start; limits left out are the broker's own."""
        self.send(PROTOCOL_HEADER)
        start = self.expect("connection.start", 0)
        fields = dict(properties or {})
        if capabilities is not None:
            fields["capabilities"] = dict(capabilities)
        response = b"\x00".join((b"", octets(user), octets(password)))
        self.send(
            method(
                0, "connection.start-ok", client_properties=fields, mechanism="PLAIN", response=response, locale="en_US"
            )
        )
        tune = self.expect("connection.tune", 0)
        self.send(
            method(
                0,
                "connection.tune-ok",
                channel_max=tune["channel_max"] if channel_max is None else channel_max,
                frame_max=tune["frame_max"] if frame_max is None else frame_max,
                heartbeat=heartbeat_s,
            ),
            method(0, "connection.open", virtual_host=vhost),
        )
        self.expect("connection.open-ok", 0)
        return start

    def open_channel(self, channel: int = 1) -> None:
        """Opens a channel."""
        self.ask(channel, "channel.open")

    def ask(self, channel: int, name: str, /, **arguments: object) -> Method:
        """Sends a synchronous method and gives its `-ok`, which must be the next thing said."""
        self.send(method(channel, name, **arguments))
        return self.expect(f"{name}-ok", channel)

    def get(self, channel: int, queue: str, *, no_ack: bool = False) -> Said:
        """basic.get and its answer, get-ok with the message or get-empty."""
        self.send(method(channel, "basic.get", queue=queue, no_ack=no_ack))
        return self.read()

    def goodbye(self) -> None:
        """Closes the connection in order; whatever was said before close-ok is dropped."""
        self.send(method(0, "connection.close", reply_code=200))
        while self.read().method.name != "connection.close-ok":
            pass
        self.close()
