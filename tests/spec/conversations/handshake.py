"""From the socket's first bytes to connection.open-ok, and closing the connection (AMQP 0-9-1 §4.2.2, §2.2, class
connection)."""

from __future__ import annotations

import struct

from tests.spec.talk import Departure, Speaker, Talk, add, conversation
from tests.support.wire import CAPABILITIES, PROTOCOL_HEADER, longstr, method, plain, shortstr, table

HEADER_RULE = "a protocol header the broker does not speak is answered with the one it does, then the socket is closed"
HEADER_SOURCE = "AMQP 0-9-1 §4.2.2"
TUNE_SOURCE = "AMQP 0-9-1 connection.tune-ok; RabbitMQ docs, Networking"
ORDER_SOURCE = "AMQP 0-9-1 §2.2.4, connection grammar"


def first_bytes(name: str, data: bytes, words: str) -> None:
    """Registers a conversation that starts with these bytes."""

    def start(talk: Talk) -> None:
        client = talk.socket()
        client.raw(data, words)
        client.hear_bytes()

    add("handshake", f"first bytes: {name}", HEADER_RULE, HEADER_SOURCE, start)


first_bytes("AMQP 0-9 without 1", b"AMQP\x00\x00\x09\x00", "the header of 0-9-0")
first_bytes("AMQP 0-9-2", b"AMQP\x00\x00\x09\x02", "the header of a 0-9-2")
first_bytes("AMQP 0-10", b"AMQP\x01\x01\x00\x0a", "the header of AMQP 0-10")
first_bytes("AMQP 1.0", b"AMQP\x00\x01\x00\x00", "the header of AMQP 1.0")
first_bytes("AMQP 1.0 SASL", b"AMQP\x03\x01\x00\x00", "the SASL header of AMQP 1.0")
first_bytes("HTTP", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "an HTTP request")
first_bytes("TLS", bytes.fromhex("16030100c8010000c40303") + bytes(32), "the start of a TLS client hello")
first_bytes("garbage", b"\x00\x01\x02\x03\x04\x05\x06\x07", "eight octets that mean nothing")
first_bytes("AMQP and garbage", b"AMQPAMQP", "AMQP twice")


@conversation(
    "first bytes: AMQP 1 1 0 9", "the header of 0-9-1's first publication is taken as 0-9-1", "RabbitMQ behaviour"
)
def old_091_header(talk: Talk) -> None:
    """Some very old clients write the version this way."""
    client = talk.socket()
    client.raw(b"AMQP\x01\x01\x00\x09", "the header AMQP 1 1 0 9")
    name_of_start(talk, client)


@conversation("first bytes: header in pieces", "the protocol header may arrive octet by octet", HEADER_SOURCE)
def header_in_pieces(talk: Talk) -> None:
    """Three pieces."""
    client = talk.socket()
    for piece in (PROTOCOL_HEADER[:1], PROTOCOL_HEADER[1:5], PROTOCOL_HEADER[5:]):
        client.raw(piece, f"bytes {piece.hex()}")
    name_of_start(talk, client)


def name_of_start(talk: Talk, client: Speaker) -> None:
    """Hears connection.start and writes down what is the same on every broker: keys, capabilities, mechanisms."""
    start = client.client.expect("connection.start", 0)
    properties = plain(start["server_properties"])
    assert isinstance(properties, dict)
    capabilities = properties["capabilities"]
    common = ("capabilities", "cluster_name", "copyright", "information", "platform", "product", "version")
    talk.write(
        f"< {client.name}0 connection.start {start['version_major']}.{start['version_minor']} "
        f"locales={start['locales']!r}"
    )
    mechanisms = start["mechanisms"]
    assert isinstance(mechanisms, bytes)
    talk.write(f"< {client.name}0 mechanisms {' '.join(sorted(mechanisms.decode().split()))}")
    talk.write(
        f"< {client.name}0 server-properties {' '.join(name for name in common if name in properties)} "
        f"product={properties['product']!r}"
    )
    talk.write(
        f"< {client.name}0 capabilities "
        f"{' '.join(sorted(name for name, value in capabilities.items() if value is True))}"
    )


def started(talk: Talk) -> Speaker:
    """A client that has heard connection.start, which is not written down."""
    client = talk.socket()
    client.client.send(PROTOCOL_HEADER)
    client.client.expect("connection.start", 0)
    return client


def log_in(
    client: Speaker,
    mechanism: str = "PLAIN",
    response: bytes = b"\x00guest\x00guest",
    capabilities: dict[str, object] | None = None,
    locale: str = "en_US",
) -> None:
    """Says start-ok and hears what comes."""
    properties: dict[str, object] = {} if capabilities is None else {"capabilities": capabilities}
    client.ask(
        0, "connection.start-ok", client_properties=properties, mechanism=mechanism, response=response, locale=locale
    )


def tuned(talk: Talk) -> Speaker:
    """A client that has heard connection.tune, which is not written down."""
    client = started(talk)
    client.client.send(
        method(
            0,
            "connection.start-ok",
            client_properties={"capabilities": CAPABILITIES},
            mechanism="PLAIN",
            response=b"\0guest\0guest",
            locale="en_US",
        )
    )
    client.client.expect("connection.tune", 0)
    return client


@conversation(
    "login: PLAIN",
    "after a good login the broker proposes its limits",
    "AMQP 0-9-1 connection.start-ok; RabbitMQ docs, Access Control",
)
def plain_login(talk: Talk) -> None:
    """The whole way, then close."""
    client = started(talk)
    log_in(client)
    client.tell(0, "connection.tune-ok", channel_max=2047, frame_max=131072)
    client.ask(0, "connection.open", virtual_host="/")
    client.shut()


@conversation(
    "login: AMQPLAIN",
    "AMQPLAIN carries LOGIN and PASSWORD as a table without its length",
    "RabbitMQ docs, Access Control, SASL mechanisms",
)
def amqplain_login(talk: Talk) -> None:
    """py-amqp's default in older releases."""
    client = started(talk)
    log_in(client, "AMQPLAIN", table({"LOGIN": "guest", "PASSWORD": "guest"})[4:])


@conversation("login: unused locale", "a locale that was not offered is ignored", "AMQP 0-9-1 connection.start-ok")
def strange_locale(talk: Talk) -> None:
    """RabbitMQ does not look at it."""
    client = started(talk)
    log_in(client, locale="xx_YY")


AMQPLAIN_CASES: dict[str, bytes] = {
    "without PASSWORD": table({"LOGIN": "guest"})[4:],
    "with its length": table({"LOGIN": "guest", "PASSWORD": "guest"}),
    "cut": table({"LOGIN": "guest", "PASSWORD": "guest"})[4:-3],
    "empty": b"",
    "LOGIN is a number": table({"LOGIN": 5, "PASSWORD": "guest"})[4:],
    "wrong password": table({"LOGIN": "guest", "PASSWORD": "no"})[4:],
}
PLAIN_CASES: dict[str, bytes] = {
    "wrong password": b"\x00guest\x00wrong",
    "unknown user": b"\x00nobody\x00guest",
    "empty password": b"\x00guest\x00",
    "empty": b"",
    "one part": b"guest",
    "no leading NUL": b"guest\x00guest",
    "another authorization id": b"root\x00guest\x00guest",
    "NUL in the password": b"\x00guest\x00gu\x00est",
}


def refused(mechanism: str, name: str, response: bytes, with_close: bool) -> None:
    """Registers a login that is refused."""

    def start(talk: Talk) -> None:
        client = started(talk)
        log_in(client, mechanism, response, {"authentication_failure_close": True} if with_close else None)

    told = "is told by connection.close 403" if with_close else "sees the socket close"
    announced = "with" if with_close else "without"
    add(
        "handshake", f"login: {mechanism} {name}, {announced} authentication_failure_close", f"a refused client {told}",
        "RabbitMQ docs, Authentication Failure Notifications", start,
    )  # fmt: skip


for label, answer in PLAIN_CASES.items():
    refused("PLAIN", label, answer, True)
for label, answer in AMQPLAIN_CASES.items():
    refused("AMQPLAIN", label, answer, True)
refused("PLAIN", "wrong password", PLAIN_CASES["wrong password"], False)
refused("PLAIN", "empty", PLAIN_CASES["empty"], False)
refused("AMQPLAIN", "empty", AMQPLAIN_CASES["empty"], False)


@conversation(
    "login: unknown mechanism", "a mechanism that was not offered ends the connection", "AMQP 0-9-1 connection.start-ok"
)
def unknown_mechanism(talk: Talk) -> None:
    """With the capability."""
    log_in(started(talk), "X-NONE", capabilities={"authentication_failure_close": True})


@conversation(
    "login: mechanism in lower case", "mechanism names are compared exactly", "AMQP 0-9-1 connection.start-ok"
)
def lower_case_mechanism(talk: Talk) -> None:
    """plain is not PLAIN."""
    log_in(started(talk), "plain", capabilities={"authentication_failure_close": True})


@conversation("login: EXTERNAL", "EXTERNAL is not offered without its plugin", "RabbitMQ docs, Access Control")
def external(talk: Talk) -> None:
    """No TLS, no plugin."""
    log_in(started(talk), "EXTERNAL", b"", capabilities={"authentication_failure_close": True})


@conversation("login: empty mechanism", "a mechanism has a name", "AMQP 0-9-1 connection.start-ok")
def empty_mechanism(talk: Talk) -> None:
    """Rule: shortstr must not be null."""
    log_in(started(talk), "", capabilities={"authentication_failure_close": True})


@conversation("login: capabilities of odd types", "client properties of any shape are taken", "AMQP 0-9-1 §4.2.5.5")
def odd_capabilities(talk: Talk) -> None:
    """`capabilities` is no table."""
    client = started(talk)
    properties: dict[str, object] = {"capabilities": "all of them", "product": 5, "connection_name": ["a"]}
    client.ask(
        0,
        "connection.start-ok",
        client_properties=properties,
        mechanism="PLAIN",
        response=b"\0guest\0guest",
        locale="en_US",
    )


def tune(name: str, rule: str, channel_max: int, frame_max: int, heartbeat_s: int = 0) -> None:
    """Registers a tune-ok, followed by open and a channel."""

    def start(talk: Talk) -> None:
        client = tuned(talk)
        client.tell(0, "connection.tune-ok", channel_max=channel_max, frame_max=frame_max, heartbeat=heartbeat_s)
        client.ask(0, "connection.open", virtual_host="/")
        client.ask(1, "channel.open")

    add("handshake", f"tune-ok: {name}", rule, TUNE_SOURCE, start)


tune("channel_max too big", "a client may lower the proposal, not raise it", 2048, 131072)
tune("channel_max 0", "0 means no limit, which is more than was proposed", 0, 131072)
tune("channel_max 1", "a lower limit is taken", 1, 131072)
tune("frame_max too big", "a client may lower the proposal, not raise it", 2047, 131073)
tune("frame_max 0", "0 means no limit, which is more than was proposed", 2047, 0)
tune("frame_max 4096", "4096 octets is the least that both sides must accept", 2047, 4096)
tune("frame_max 4095", "4096 octets is the least that both sides must accept", 2047, 4095)
tune("frame_max 1000", "4096 octets is the least that both sides must accept", 2047, 1000)
tune("heartbeat 0", "0 turns heartbeats off", 2047, 131072, 0)
tune("heartbeat 65535", "the client's heartbeat counts, even above the proposal", 2047, 131072, 65535)


def open_host(name: str, rule: str, vhost: str) -> None:
    """Registers a connection.open."""

    def start(talk: Talk) -> None:
        client = tuned(talk)
        client.tell(0, "connection.tune-ok", channel_max=2047, frame_max=131072)
        client.ask(0, "connection.open", virtual_host=vhost)

    add("handshake", f"open: {name}", rule, "AMQP 0-9-1 connection.open; RabbitMQ docs, Virtual Hosts", start)


open_host("missing vhost", "a virtual host that does not exist is refused", "nowhere")
open_host("empty vhost", "the empty name is a name like any other", "")
open_host("vhost //", "names are taken literally", "//")
open_host("vhost in another case", "names are compared exactly", "NOWHERE/é")


def after_start(name: str, *frames: bytes) -> None:
    """Registers frames said where start-ok is due."""

    def start(talk: Talk) -> None:
        client = started(talk)
        client.say(*frames)
        client.hear()

    add("handshake", f"instead of start-ok: {name}", "handshake methods come in their order", ORDER_SOURCE, start)


def after_tune(name: str, *frames: bytes) -> None:
    """Registers frames said where tune-ok is due."""

    def start(talk: Talk) -> None:
        client = tuned(talk)
        client.say(*frames)
        client.hear()

    add("handshake", f"instead of tune-ok: {name}", "handshake methods come in their order", ORDER_SOURCE, start)


def after_tune_ok(name: str, *frames: bytes) -> None:
    """Registers frames said where open is due."""

    def start(talk: Talk) -> None:
        client = tuned(talk)
        client.tell(0, "connection.tune-ok", channel_max=2047, frame_max=131072)
        client.say(*frames)
        client.hear()

    add("handshake", f"instead of open: {name}", "handshake methods come in their order", ORDER_SOURCE, start)


def after_open(name: str, *frames: bytes) -> None:
    """Registers frames said on channel 0 of an open connection."""

    def start(talk: Talk) -> None:
        client = talk.client()
        client.say(*frames)
        client.hear()

    add("handshake", f"after open: {name}", "handshake methods come once", ORDER_SOURCE, start)


START_OK = method(0, "connection.start-ok", mechanism="PLAIN", response=b"\0guest\0guest", locale="en_US")
TUNE_OK = method(0, "connection.tune-ok", channel_max=2047, frame_max=131072)
OPEN = method(0, "connection.open", virtual_host="/")
after_start("tune-ok", TUNE_OK)
after_start("open", OPEN)
after_start("channel.open", method(1, "channel.open"))
after_start(
    "start-ok on channel 1",
    method(1, "connection.start-ok", mechanism="PLAIN", response=b"\0guest\0guest", locale="en_US"),
)
after_start("close", method(0, "connection.close", reply_code=200))
after_start("close-ok", method(0, "connection.close-ok"))
after_start("secure-ok", method(0, "connection.secure-ok", response=b"x"))
after_tune("start-ok again", START_OK)
after_tune("open", OPEN)
after_tune("secure-ok", method(0, "connection.secure-ok", response=b"x"))
after_tune("channel.open", method(1, "channel.open"))
after_tune("close", method(0, "connection.close", reply_code=200))
after_tune_ok("tune-ok again", TUNE_OK)
after_tune_ok("start-ok", START_OK)
after_tune_ok("channel.open", method(1, "channel.open"))
after_tune_ok("close", method(0, "connection.close", reply_code=200))
after_open("open again", OPEN)
after_open("tune-ok again", TUNE_OK)
after_open("start-ok again", START_OK)
after_open("secure-ok", method(0, "connection.secure-ok", response=b"x"))
after_open("connection.start from the client", method(0, "connection.start", version_minor=9))
after_open("connection.tune from the client", method(0, "connection.tune"))
after_open("connection.open-ok from the client", method(0, "connection.open-ok"))
after_open("connection.blocked from the client", method(0, "connection.blocked", reason="x"))
after_open("close-ok without a close", method(0, "connection.close-ok"))


@conversation(
    "start-ok bigger than 4096",
    "before tune no frame may be larger than 4096 octets",
    "AMQP 0-9-1 §4.2.3; RabbitMQ frame_max before tuning",
)
def large_start_ok(talk: Talk) -> None:
    """A client-properties table of 5000 octets."""
    client = started(talk)
    properties: dict[str, object] = {"note": "n" * 5000, "capabilities": {"authentication_failure_close": True}}
    client.ask(
        0,
        "connection.start-ok",
        client_properties=properties,
        mechanism="PLAIN",
        response=b"\0guest\0guest",
        locale="en_US",
    )


@conversation(
    "start-ok of 4096",
    "before tune a frame of 4096 octets is taken",
    "AMQP 0-9-1 §4.2.3, connection.tune, minimum of frame-max",
)
def full_start_ok(talk: Talk) -> None:
    """Payload, frame header and end octet together are 4096 octets."""
    client = started(talk)
    rest = len(
        method(
            0,
            "connection.start-ok",
            client_properties={"note": ""},
            mechanism="PLAIN",
            response=b"\0guest\0guest",
            locale="en_US",
        )
    )
    properties: dict[str, object] = {"note": "n" * (4096 - rest)}
    client.ask(
        0,
        "connection.start-ok",
        client_properties=properties,
        mechanism="PLAIN",
        response=b"\0guest\0guest",
        locale="en_US",
    )


@conversation("start-ok cut", "a method that ends early is a syntax error", "AMQP 0-9-1 §4.2.3, reply code 502")
def cut_start_ok(talk: Talk) -> None:
    """The locale is missing."""
    client = started(talk)
    payload = struct.pack(">HH", 10, 11) + table({}) + shortstr("PLAIN") + longstr(b"\0guest\0guest")
    client.say(struct.pack(">BHI", 1, 0, len(payload)) + payload + b"\xce")
    client.hear()


@conversation(
    "close: by the client",
    "connection.close is answered with close-ok, then the socket closes",
    "AMQP 0-9-1 connection.close",
)
def client_close(talk: Talk) -> None:
    """Channels are open."""
    client = talk.client(channels=(1, 2))
    client.shut()


@conversation(
    "close: frames after it are dropped",
    "after connection.close nothing is heard but close-ok",
    "AMQP 0-9-1 connection.close",
)
def client_close_then_more(talk: Talk) -> None:
    """A declare behind the close has no effect."""
    client = talk.client()
    client.say(method(0, "connection.close", reply_code=200), method(1, "queue.declare", queue="later"))
    client.hear()
    other = talk.client("b")
    other.ask(1, "queue.declare", queue="later", passive=True)


@conversation(
    "close: frames after the broker's close are dropped",
    "after the broker's connection.close only close-ok counts",
    "AMQP 0-9-1 connection.close",
)
def server_close_then_more(talk: Talk) -> None:
    """A declare and a client's own close come before close-ok."""
    client = talk.client()
    client.answers_close = False
    client.ask(1, "basic.qos", prefetch_size=1)
    client.tell(1, "queue.declare", queue="late")
    client.tell(0, "connection.close", reply_code=200)
    client.hear()
    client.tell(0, "connection.close-ok")
    client.hear_end()
    other = talk.client("b")
    other.ask(1, "queue.declare", queue="late", passive=True)


@conversation(
    "exclusive queues go before close-ok",
    "who reconnects after close-ok can declare the same exclusive queue",
    "RabbitMQ docs, Queues, Exclusive Queues",
)
def exclusive_before_close_ok(talk: Talk) -> None:
    """The second client declares at once."""
    for name in ("a", "b"):
        client = talk.client(name)
        client.ask(1, "queue.declare", queue="mine", exclusive=True)
        client.shut()


@conversation(
    "update-secret",
    "a user of the internal database may not renew a secret that changes nothing",
    "RabbitMQ docs, OAuth 2, connection.update-secret",
)
def update_secret(talk: Talk) -> None:
    """guest has a password, no token."""
    client = talk.client()
    client.ask(0, "connection.update-secret", new_secret=b"guest", reason="renewal")
    client.quiet()


@conversation("heartbeat before open", "heartbeats are taken at any time", "AMQP 0-9-1 §4.2.7")
def early_heartbeat(talk: Talk) -> None:
    """Between start and start-ok."""
    client = started(talk)
    client.say(b"\x08\x00\x00\x00\x00\x00\x00\xce")
    log_in(client)


def old_version(name: str, data: bytes, departure: Departure | None) -> None:
    """Registers a header of an older AMQP, answered with a start of that version or refused."""

    def start(talk: Talk) -> None:
        client = talk.socket()
        client.raw(data, f"the header of {name}")
        answer = client.client.read_bytes(8)
        if answer.startswith(b"AMQP"):
            talk.write(f"< a bytes {answer.hex()}")
            client.hear_end()
        else:
            talk.write(f"< a0 connection.start {client.client.read_bytes(5)[-2:].hex()}")
            client.client.close()

    add("handshake", f"first bytes: {name}", HEADER_RULE, HEADER_SOURCE, start, departure)


old_version(
    "AMQP 0-8", b"AMQP\x01\x01\x08\x00",
    Departure("0-9-1 is the only version spoken", ("< a bytes 414d515000000901", "< a closes the socket")),
)  # fmt: skip
old_version(
    "AMQP 0-8 as 1 1 9 1", b"AMQP\x01\x01\x09\x01",
    Departure("0-9-1 is the only version spoken", ("< a bytes 414d515000000901", "< a closes the socket")),
)  # fmt: skip
