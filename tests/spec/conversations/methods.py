"""Methods that are unknown, come from the wrong side, are cut or too long, and field tables of every shape (AMQP 0-9-1
§4.2.4, §4.2.5)."""

from __future__ import annotations

import struct

from tests.spec.talk import Departure, Talk, add, cannot_decode, conversation
from tests.support.wire import (
    METHOD,
    METHODS,
    PROPERTIES,
    Typed,
    content,
    frame,
    longstr,
    method,
    method_payload,
    shortstr,
    table,
)

SHAPE = "AMQP 0-9-1 §4.2.4 and §4.2.5"
TABLES = "AMQP 0-9-1 §4.2.5.5; RabbitMQ docs, AMQP 0-9-1 Errata, field types"
CRASH = (
    "RabbitMQ's connection process crashes and the client learns nothing; it is told as for other arguments that "
    "cannot be read"
)
INTERNAL = "RabbitMQ answers with an internal error; the client is told as for other arguments that cannot be read"
IDS = "AMQP 0-9-1 §2.2, classes and methods; reply codes 503 and 540"


def payload(name: str, rule: str, source: str, data: bytes, channel: int = 1, leveret: Departure | None = None) -> None:
    """Registers a method frame with this payload on an open channel."""

    def start(talk: Talk) -> None:
        client = talk.client()
        client.say(frame(METHOD, channel, data))
        client.quiet()

    add("methods", name, rule, source, start, leveret)


def ids(class_id: int, method_id: int) -> bytes:
    """Class and method id alone."""
    return struct.pack(">HH", class_id, method_id)


def unknown(class_id: int, method_id: int, channel: int = 1) -> None:
    """Registers a method that does not exist."""
    text = "COMMAND_INVALID - unimplemented method"
    lines = (
        f"< a0 connection.close reply_code=503 reply_text={text!r} class_id={class_id} method_id={method_id}",
        "< a closes the socket",
    )
    name = f"unknown method {class_id}.{method_id}" + (" on channel 0" if channel == 0 else "")
    reason = (
        "RabbitMQ's connection process crashes and the client learns nothing; a client is told as for other "
        "methods that it may not say"
    )
    departure = Departure(reason, lines)
    payload(name, "an unknown method ends the connection", IDS, ids(class_id, method_id) + bytes(8), channel, departure)


for number in ((0, 0), (60, 0), (60, 12), (60, 130), (70, 10), (100, 10), (65535, 65535), (20, 30), (50, 60), (85, 20)):
    unknown(*number)
unknown(99, 1, 0)
unknown(10, 99, 0)
payload(
    "obsolete method basic.recover-async with requeue",
    "recover-async has no answer",
    "AMQP 0-9-1 basic.recover-async",
    method_payload("basic.recover-async", requeue=True),
)

SERVER_METHODS = (
    "channel.open-ok", "channel.flow-ok", "access.request-ok", "exchange.declare-ok", "exchange.delete-ok",
    "exchange.bind-ok", "exchange.unbind-ok",
    "queue.declare-ok", "queue.bind-ok", "queue.purge-ok", "queue.delete-ok", "queue.unbind-ok", "basic.qos-ok",
    "basic.consume-ok", "basic.cancel-ok", "basic.get-empty", "basic.recover-ok", "confirm.select-ok", "tx.select-ok",
    "tx.commit-ok", "tx.rollback-ok",
)  # fmt: skip
for name in SERVER_METHODS:
    payload(
        f"from the wrong side: {name}",
        "a method that only the server says ends the connection",
        IDS,
        method_payload(name),
    )


def with_content(name: str) -> None:
    """Registers a content method that only a server says."""

    def start(talk: Talk) -> None:
        client = talk.client()
        client.say(method(1, name), content(1, b"hi"))
        client.hear()

    add("methods", f"from the wrong side: {name}", "a method that only the server says ends the connection", IDS, start)


for name in ("basic.deliver", "basic.return", "basic.get-ok"):
    with_content(name)


@conversation(
    "from the wrong side: channel.close-ok without a close", "a close-ok that nobody waits for ends the connection", IDS
)
def stray_close_ok(talk: Talk) -> None:
    """On an open channel."""
    client = talk.client()
    client.tell(1, "channel.close-ok")
    client.hear()


# methods cut short or too long

FULL: dict[str, dict[str, object]] = {
    "channel.close": {"reply_code": 200, "reply_text": "x"},
    "exchange.declare": {"exchange": "methods.x", "type": "direct"},
    "queue.declare": {"queue": "methods.q"},
    "queue.bind": {"queue": "methods.q", "exchange": "amq.direct", "routing_key": "k"},
    "basic.qos": {"prefetch_count": 1},
    "basic.consume": {"queue": "methods.q", "consumer_tag": "c"},
    "basic.publish": {"routing_key": "methods.q"},
    "basic.ack": {"delivery_tag": 1},
    "confirm.select": {},
}
for name, arguments in FULL.items():
    whole = method_payload(name, **arguments)
    payload(f"cut: {name}", "a method that ends inside its arguments ends the connection", SHAPE, whole[:-1])
    payload(
        f"cut: {name} without arguments",
        "a method that ends inside its arguments ends the connection",
        SHAPE,
        whole[:4],
    )
    payload(f"too long: {name}", "nothing follows the last argument", SHAPE, whole + b"\x00")
payload("too long: tx.select", "nothing follows the last argument", SHAPE, method_payload("tx.select") + b"\x00")
payload(
    "cut: connection.close", "a method that ends inside its arguments ends the connection", SHAPE,
    method_payload("connection.close")[:-1], 0,
    Departure(INTERNAL, cannot_decode(method_payload("connection.close")[4:-1], 10, 50)),
)  # fmt: skip
payload(
    "too long: connection.close", "nothing follows the last argument", SHAPE,
    method_payload("connection.close") + b"\x00", 0,
    Departure(INTERNAL, cannot_decode(method_payload("connection.close")[4:] + b"\x00", 10, 50)),
)  # fmt: skip
payload(
    "shortstr runs past its frame", "a string that runs past its frame ends the connection", SHAPE,
    ids(50, 10) + b"\x00\x00" + b"\xffabc",
)  # fmt: skip
payload("unused bits set", "bits that no argument uses are not looked at", SHAPE, ids(85, 10) + b"\xfe")


def arguments_of(name: str, rule: str, data: bytes, crashes: bool = False, reason: str = "") -> None:
    """Registers a queue.declare whose arguments are these octets; `crashes` when RabbitMQ then drops the socket without
    a word.

    With that or another `reason` Leveret refuses them as arguments that cannot be read.
    """
    start = ids(50, 10) + b"\x00\x00" + shortstr("methods.table") + b"\x00"
    reason = CRASH if crashes else reason
    departure = Departure(reason, cannot_decode((start + data)[4:], 50, 10)) if reason else None

    def say(talk: Talk) -> None:
        talk.queues.add("methods.table")
        client = talk.client()
        client.say(frame(METHOD, 1, start + data))
        client.hear()

    add("methods", f"table: {name}", rule, TABLES, say, departure)


def fields(*items: bytes) -> bytes:
    """A table with its length."""
    return longstr(b"".join(items))


def item(tag: bytes, data: bytes, name: str = "x-other") -> bytes:
    """One field."""
    return shortstr(name) + tag + data


CUT = "a table that runs past its frame or its own length ends the connection"
TYPES = "the field types of RabbitMQ's errata are taken, others end the connection"
arguments_of("longer than its frame", CUT, struct.pack(">I", 50) + item(b"t", b"\x01"))
arguments_of("shorter than its fields", CUT, struct.pack(">I", 5) + item(b"S", longstr("abc")))
arguments_of("4 GiB", CUT, struct.pack(">I", 0xFFFFFFFF))
arguments_of("field name runs past the table", CUT, fields(b"\x50abc"), True)
arguments_of("field without type", CUT, fields(shortstr("x-other")), True)
arguments_of("value missing", CUT, fields(item(b"I", b"")), True)
arguments_of("value cut", CUT, fields(item(b"I", b"\x00\x00")), True)
arguments_of("longstr runs past the table", CUT, fields(item(b"S", struct.pack(">I", 100) + b"abc")), True)
arguments_of("inner table runs past the outer", CUT, fields(item(b"F", struct.pack(">I", 100) + b"abc")), True)
arguments_of("array runs past the table", CUT, fields(item(b"A", struct.pack(">I", 100) + b"t\x01")), True)
arguments_of("array cut inside a value", CUT, fields(item(b"A", longstr(b"I\x00"))), True)
KNOWN = {
    "t": b"\x01", "b": b"\xff", "B": b"\xff", "s": b"\xff\xff", "u": b"\xff\xff", "I": b"\xff" * 4, "i": b"\xff" * 4,
    "l": b"\xff" * 8, "L": b"\xff" * 8, "f": b"\x3f\x80\x00\x00", "d": struct.pack(">d", 1.5),
    "D": b"\x02\x00\x00\x00\x7b", "S": longstr("abc"), "A": longstr(b"t\x01"), "T": bytes(8), "F": table({"a": True}),
    "V": b"", "x": longstr(b"\x00\xff"),
}  # fmt: skip
for tag, data in KNOWN.items():
    arguments_of(f"type {tag}", TYPES, fields(item(tag.encode(), data)))
for tag in "UCZs\x00"[:3]:
    arguments_of(f"unknown type {tag}", TYPES, fields(item(tag.encode(), bytes(8))), True)
arguments_of("type NUL", TYPES, fields(item(b"\x00", bytes(8))), True)
arguments_of("bool of 2", "any octet but 0 is true", fields(item(b"t", b"\x02")))
arguments_of(
    "same name twice",
    "a name that comes twice is taken",
    fields(item(b"I", bytes(4), "x-max-length"), item(b"I", b"\x00\x00\x00\x05", "x-max-length")),
)
arguments_of("empty field name", "an empty name is taken", fields(item(b"t", b"\x01", "")))
arguments_of(
    "field name of 255 octets", "names may be as long as a short string", fields(item(b"t", b"\x01", "n" * 255))
)
arguments_of("field name with a NUL", "names are octets", fields(item(b"t", b"\x01", "a\x00b")))


def nested(depth: int, array: bool = False) -> bytes:
    """A table (or array) inside a table, `depth` times."""
    value = b""
    for _ in range(depth):
        value = (
            longstr(b"A" + value if value else b"")
            if array
            else longstr(shortstr("a") + b"F" + value if value else b"")
        )
    return value


arguments_of("20 tables deep", "tables may be nested", fields(item(b"F", nested(20))))
arguments_of(
    "100 tables deep",
    "tables may be nested, RabbitMQ sets no limit",
    fields(item(b"F", nested(100))),
    reason="nesting has a limit, so that no frame can exhaust the stack",
)
arguments_of("20 arrays deep", "arrays may be nested", fields(item(b"A", nested(20, array=True))))


UTF8 = "AMQP 0-9-1 §4.2.5.3; RabbitMQ checks that short strings of methods are UTF-8"


def bad_utf8(place: str, *frames: bytes) -> None:
    """Registers octets that are no UTF-8 in a short string."""

    def say(talk: Talk) -> None:
        client = talk.client()
        client.say(*frames)
        client.quiet()

    add("methods", f"string: bad UTF-8 in {place}", "names are UTF-8", UTF8, say)


bad_utf8("queue.declare", method(1, "queue.declare", queue=b"bad-\xff\xfe"))
bad_utf8("a queue cut inside a character", method(1, "queue.declare", queue="é".encode()[:1]))
bad_utf8("basic.consume's tag", method(1, "basic.consume", queue="q", consumer_tag=b"\xff"))
bad_utf8("a routing key", method(1, "basic.publish", routing_key=b"\xff"), content(1, b""))
bad_utf8("an exchange's type", method(1, "exchange.declare", exchange="x", type=b"\xff"))
bad_utf8("channel.close's text", method(1, "channel.close", reply_code=200, reply_text=b"\xff"))
bad_utf8("a field name", method(1, "queue.declare", queue="methods.utf8", arguments=longstr(b"\x01\xfft\x01")))
bad_utf8(
    "a long string of a table",
    method(1, "queue.declare", queue="methods.utf8", arguments={"x-other": Typed("S", b"\xff")}),
)
bad_utf8("a property", method(1, "basic.publish", routing_key="nowhere"), content(1, b"", {"content_type": b"\xff"}))
bad_utf8(
    "message-id returned",
    method(1, "basic.publish", routing_key="nowhere", mandatory=True),
    content(1, b"", {"message_id": b"\xff"}),
)


@conversation("string: UTF-8 in names", "names may be any UTF-8", "AMQP 0-9-1 §4.2.5.3")
def utf8_names(talk: Talk) -> None:
    """Two octets, three octets, four octets."""
    client = talk.client()
    client.ask(1, "queue.declare", queue="é€𝄞")
    client.ask(1, "queue.declare", queue="é€𝄞-", passive=True)


@conversation(
    "string: long names in an error text",
    "a reply text is a short string: a long one is cut to 255 octets",
    "AMQP 0-9-1 §4.2.5.3",
)
def long_reply_text(talk: Talk) -> None:
    """The name alone has 255 octets."""
    client = talk.client()
    client.ask(1, "queue.declare", queue="n" * 255, passive=True)


@conversation(
    "string: long names in UTF-8 in an error text",
    "a reply text is cut to 255 octets",
    "AMQP 0-9-1 §4.2.5.3",
    leveret=Departure(
        "RabbitMQ cuts inside a character; clients decode reply texts as UTF-8, so the cut falls between two",
        (
            "< a1 channel.close reply_code=404 reply_text=\"NOT_FOUND - no queue '"
            + "€" * 76
            + '..." class_id=50 method_id=10',
        ),
    ),
)
def long_utf8_reply_text(talk: Talk) -> None:
    """The cut may fall inside a character."""
    client = talk.client()
    client.ask(1, "queue.declare", queue="€" * 85, passive=True)


@conversation(
    "content: every property and every field type",
    "properties and headers come back as they were sent",
    "AMQP 0-9-1 §4.2.6.1; RabbitMQ errata, field types",
)
def round_trip(talk: Talk) -> None:
    """All fourteen properties, all field types."""
    values: dict[str, object] = {
        "t": True, "b": Typed("b", -5), "B": Typed("B", 250), "s": Typed("s", -3000), "u": Typed("u", 60000),
        "I": Typed("I", -(2**31)), "i": Typed("i", 2**32 - 1), "l": Typed("l", -(2**63)), "f": Typed("f", 1.5),
        "d": Typed("d", -2.25), "D": Typed("D", (2, 12345)), "S": "text é", "x": b"\x00\xff", "T": Typed("T", 2**33),
        "V": None, "F": {"in": {"deep": 1}}, "A": [1, "two", None, [True], {"k": 2}],
    }  # fmt: skip
    texts: dict[str, object] = {name: name for name, kind in PROPERTIES if kind == "shortstr"}
    properties = texts | {
        "headers": values,
        "delivery_mode": 2,
        "priority": 7,
        "timestamp": 1234567890,
        "expiration": "60000",
        "user_id": "guest",
    }
    client = talk.client()
    client.ask(1, "queue.declare", queue="methods.types")
    client.say(method(1, "basic.publish", routing_key="methods.types"), content(1, b"body", properties))
    client.until_ready("methods.types", 1)
    client.ask(1, "basic.get", queue="methods.types", no_ack=True)


@conversation("content: no properties", "properties that were not sent stay unset", "AMQP 0-9-1 §4.2.6.1")
def no_properties(talk: Talk) -> None:
    """Not even a delivery mode is added."""
    client = talk.client()
    client.ask(1, "queue.declare", queue="methods.none")
    client.say(method(1, "basic.publish", routing_key="methods.none"), content(1, b""))
    client.until_ready("methods.none", 1)
    client.ask(1, "basic.get", queue="methods.none", no_ack=True)


assert set(SERVER_METHODS) < set(METHODS)
