"""Field tables made from the grammar, sound and bent (AMQP 0-9-1 §4.2.5.5): what test_tables.py and `scripts/soak fuzz`
run.

The tests' own reader, which shares no code with the broker, is the oracle: what it can read (and what keeps the limits
of depth and count) the broker takes and gives back octet by octet; what it cannot read costs the connection with 501 or
502, and nothing else.
"""

from __future__ import annotations

import random
import struct
import time
from typing import Final

from broker.wire.spec import TABLE_DEPTH_MAX, TABLE_ELEMENTS_MAX
from tests.fuzz import mutate
from tests.support.memory import Broker, Client
from tests.support.wire import (
    METHOD,
    PROTOCOL_HEADER,
    Reader,
    Typed,
    WireError,
    body,
    frame,
    longstr,
    method,
    method_payload,
    shortstr,
)

READ_S: Final = 0.25
PER_BROKER: Final = 200
FIXED: Final = {
    "t": 1,
    "b": 1,
    "B": 1,
    "s": 2,
    "u": 2,
    "I": 4,
    "i": 4,
    "f": 4,
    "l": 8,
    "L": 8,
    "d": 8,
    "T": 8,
    "D": 5,
    "V": 0,
}
KEYS: Final = (
    "a", "b", "", "CC", "BCC", "x-match", "x-priority", "x-max-length", "x-message-ttl", "x-expires",
    "x-dead-letter-exchange", "x-death", "x-dead-letter-routing-key", "x-max-priority", "x-overflow", "x-queue-type",
    "x-single-active-consumer", "alternate-exchange", "x-first-death-reason", "capabilities", "connection_name",
    "k" * 255,
)  # fmt: skip


def value(chance: random.Random, depth: int) -> bytes:
    """A tagged value."""
    tag = chance.choice("tbBsuIilLfdDTVSxAF" if depth else "tbBsuIilLfdDTVSx")
    start = tag.encode()
    if tag in FIXED:
        return start + chance.choice(
            (chance.randbytes(FIXED[tag]), bytes(FIXED[tag]), b"\xff" * FIXED[tag], b"\x7f" * FIXED[tag])
        )
    if tag in "Sx":
        return start + longstr(
            chance.choice((b"", b"all", b"any", b"classic", b"drop-head", chance.randbytes(chance.randrange(20))))
        )
    if tag == "A":
        return start + longstr(b"".join(value(chance, depth - 1) for _ in range(chance.randrange(4))))
    return start + longstr(content(chance, depth - 1))


def content(chance: random.Random, depth: int) -> bytes:
    """The fields of a table; names may come twice."""
    return b"".join(
        shortstr(chance.choice(KEYS)) + value(chance, depth) for _ in range(chance.choice((0, 1, 1, 2, 3, 6)))
    )


def made(chance: random.Random) -> bytes:
    """A table's content: sound, bent, or extreme."""
    fields = content(chance, chance.choice((0, 1, 3, 6)))
    match chance.randrange(10):
        case 0 | 1 | 2 | 3:
            return mutate.octets(fields, chance)
        case 4:
            deep = chance.choice((TABLE_DEPTH_MAX - 1, TABLE_DEPTH_MAX, TABLE_DEPTH_MAX + 1, 200))
            for _ in range(deep - 1):
                fields = chance.choice(
                    (shortstr("d") + b"F" + longstr(fields), shortstr("d") + b"A" + longstr(b"F" + longstr(fields)))
                )
            return fields
        case 5 if chance.random() < 0.1:
            count = chance.choice(
                (TABLE_ELEMENTS_MAX - 2, TABLE_ELEMENTS_MAX - 1, TABLE_ELEMENTS_MAX, TABLE_ELEMENTS_MAX + 1)
            )
            return shortstr("many") + b"A" + longstr(b"V" * count)
        case _:
            return fields


def measure(item: object, depth: int = 1) -> tuple[int, int]:
    """Levels and elements of what the oracle read."""
    if isinstance(item, Typed):
        return measure(item.value, depth + 1) if item.tag in "AF" else (depth, 0)
    inner = list(item.values()) if isinstance(item, dict) else item if isinstance(item, list) else []
    found = [measure(each, depth) for each in inner]
    return max([depth, *(levels for levels, _ in found)]), len(inner) + sum(count for _, count in found)


def is_sound(fields: bytes) -> bool:
    """Whether the oracle can read it and it keeps the limits."""
    try:
        reader = Reader(longstr(fields))
        depth, count = measure(reader_items(Reader(fields)))
    except (WireError, struct.error, RecursionError):
        return False
    del reader
    return depth <= TABLE_DEPTH_MAX and count <= TABLE_ELEMENTS_MAX


def reader_items(reader: Reader) -> list[object]:
    """The values of a table's fields, those whose names come twice included."""
    items: list[object] = []
    while reader.position < len(reader.data):
        reader.shortstr()
        items.append(every(reader))
    return items


def every(reader: Reader) -> object:
    """One value; tables keep all their fields, which `Reader.table` does not."""
    tag = reader.data[reader.position : reader.position + 1]
    if tag in (b"F", b"A"):
        reader.take(1)
        inner = Reader(reader.longstr())
        if tag == b"F":
            return Typed("F", reader_items(inner))
        items: list[object] = []
        while inner.position < len(inner.data):
            items.append(every(inner))
        return Typed("A", items)
    return reader.value()


def with_headers(fields: bytes) -> bytes:
    """A publish to the queue `q` with these headers."""
    header = frame(2, 1, b"\x00\x3c\x00\x00" + struct.pack(">Q", 1) + b"\x20\x00" + longstr(fields))
    return method(1, "basic.publish", routing_key="q") + header + body(1, b"x")


def timed(client: Client, *data: bytes) -> None:
    started = time.thread_time()
    client.send(*data)
    spent = time.thread_time() - started
    assert spent < READ_S, f"{sum(map(len, data))} octets took {spent:.3f} s"


def check_headers(broker: Broker, fields: bytes) -> None:
    """As headers of a message: stored and given back as they came, or refused with the connection."""
    client = broker.open()
    client.ask("queue.declare", queue="q")
    client.ask("queue.purge", queue="q")
    timed(client, with_headers(fields), method(1, "basic.get", queue="q", no_ack=True))
    frames = client.frames()
    ids = frames[0].payload[:4]
    if ids == b"\x00\x3c\x00\x47":
        assert is_sound(fields)
        if b"BCC" not in fields:
            assert frames[1].payload.endswith(b"\x20\x00" + longstr(fields)), "octet by octet"
    elif ids == b"\x00\x14\x00\x28":  # channel.close: CC or BCC of another type than array
        assert is_sound(fields)
        assert struct.unpack_from(">H", frames[0].payload, 4)[0] == 406
    else:
        assert ids == b"\x00\x0a\x00\x32", ids.hex()
        assert not is_sound(fields)
        assert struct.unpack_from(">H", frames[0].payload, 4)[0] in (501, 502)
    client.drop()
    broker.clients.remove(client)


def check_arguments(broker: Broker, fields: bytes, chance: random.Random) -> None:
    """As arguments of a method: taken, refused with the channel (their meaning) or with the connection (their form)."""
    name, arguments = chance.choice(
        [
            ("queue.declare", {"queue": "other"}),
            ("exchange.declare", {"exchange": "e", "type": "headers"}),
            ("queue.bind", {"queue": "q", "exchange": "amq.headers"}),
            ("queue.unbind", {"queue": "q", "exchange": "amq.headers"}),
            ("basic.consume", {"queue": "q", "consumer_tag": "c"}),
            ("exchange.bind", {"source": "amq.headers", "destination": "amq.match"}),
        ]
    )
    client = broker.open()
    client.ask("queue.declare", queue="q")
    payload = method_payload(name, **arguments)
    assert payload[-4:] == bytes(4), "the table is the last argument"
    timed(client, frame(METHOD, 1, payload[:-4] + longstr(fields)))
    said = [each for each in client.hear() if each.method.name != "basic.deliver"]
    assert len(said) == 1, said
    if said[0].method.name == "connection.close":
        assert said[0].method["reply_code"] in (501, 502, 540), said
        assert not is_sound(fields) or said[0].method["reply_code"] == 540, said
    else:
        assert is_sound(fields), said
        assert said[0].method.name in (f"{name}-ok", "channel.close"), said
    if said[0].method.name == f"{name}-ok" and name in ("queue.bind", "queue.declare"):
        timed(client, with_headers(fields))
        client.hear()
    client.drop()
    broker.clients.remove(client)


def check_client_properties(broker: Broker, fields: bytes) -> None:
    """Before the login, as the properties of a client: taken, or the socket is closed in silence."""
    client = broker.client()
    client.send(PROTOCOL_HEADER)
    client.expect("connection.start")
    rest = method_payload("connection.start-ok", mechanism="PLAIN", response=b"\x00guest\x00guest", locale="en_US")[8:]
    timed(client, frame(METHOD, 0, b"\x00\x0a\x00\x0b" + longstr(fields) + rest))
    if client.sink.closed:
        client.expect_nothing()
        assert not is_sound(fields) or len(fields) > 3900
    else:
        client.expect("connection.tune")
        assert is_sound(fields)
    client.drop()
    broker.clients.remove(client)


def run_round(seed_of_all: int, numbers: range) -> int:
    """One broker, some tables; gives how many of them were sound."""
    broker = Broker()
    sound = 0
    for number in numbers:
        seed = f"{seed_of_all}/{number}"
        chance = random.Random(seed)
        fields = made(chance)
        sound += is_sound(fields)
        try:
            match number % 3:
                case 0:
                    check_headers(broker, fields)
                case 1:
                    check_arguments(broker, fields, chance)
                case _:
                    check_client_properties(broker, fields)
            assert len(broker.server.connections) == 0
        except Exception as error:
            error.add_note(f"seed {seed!r} (tests.fuzz.tables), table {fields[:400].hex()}")
            raise
    return sound
