"""Content header properties (broker/wire/properties.py): one walk, values, rewriting; pamqp is the oracle."""

import datetime
import itertools
import random
import struct

import pytest
from pamqp import commands

from broker.errors import SYNTAX_ERROR, ConnectionException
from broker.wire import properties, spec, table
from broker.wire.properties import Properties
from broker.wire.table import FieldTable

FLAGS = {
    "content_type": spec.CONTENT_TYPE,
    "content_encoding": spec.CONTENT_ENCODING,
    "headers": spec.HEADERS,
    "delivery_mode": spec.DELIVERY_MODE,
    "priority": spec.PRIORITY,
    "correlation_id": spec.CORRELATION_ID,
    "reply_to": spec.REPLY_TO,
    "expiration": spec.EXPIRATION,
    "message_id": spec.MESSAGE_ID,
    "timestamp": spec.TIMESTAMP,
    "type": spec.TYPE,
    "user_id": spec.USER_ID,
    "app_id": spec.APP_ID,
    "cluster_id": spec.CLUSTER_ID,
}
SHORT_STRINGS = [
    "content_type", "content_encoding", "correlation_id", "reply_to", "expiration", "message_id", "type", "user_id",
    "app_id", "cluster_id",
]  # fmt: skip
HEADERS = table.make({"x-a": "hello", "n": 5, "deep": {"list": [1, "two"]}})


def short(text: str) -> bytes:
    data = text.encode()
    return bytes([len(data)]) + data


def wire(fields: dict[str, object]) -> bytes:
    """Property bytes written by hand from §4.2.6.1."""
    flags, parts = 0, []
    for name, flag in FLAGS.items():
        if name not in fields:
            continue
        flags |= flag
        match fields[name]:
            case FieldTable() as headers:
                parts.append(struct.pack(">I", len(headers.raw)) + headers.raw)
            case str() as text:
                parts.append(short(text))
            case int() as number:
                parts.append(struct.pack(">Q" if name == "timestamp" else ">B", number))
    return struct.pack(">H", flags) + b"".join(parts)


def random_fields(seed: int) -> dict[str, object]:
    pick = random.Random(seed)
    fields: dict[str, object] = {name: "\u00e9x"[: pick.randrange(3)] * pick.randrange(60) for name in SHORT_STRINGS}
    fields |= {
        "headers": pick.choice([HEADERS, table.EMPTY]),
        "delivery_mode": pick.choice([1, 2]),
        "priority": pick.choice([0, 9, 255]),
    }
    fields["timestamp"] = pick.choice([0, 1700000000, 0x7FFFFFFFFFFFFFFF, 0xFFFFFFFFFFFFFFFF])
    return {name: fields[name] for name in FLAGS if pick.random() < 0.5}


def as_fields(found: Properties) -> dict[str, object]:
    return {name: getattr(found, name) for name in FLAGS if getattr(found, name) is not None}


def refused(data: bytes) -> bool:
    fault: ConnectionException | None = None
    try:
        properties.summarize(data, 0, len(data))
    except ConnectionException as raised:
        fault = raised
    assert fault is None or fault.code == SYNTAX_ERROR
    return fault is not None


@pytest.mark.parametrize("seed", range(120))
def test_bytes_and_values_turn_into_each_other(seed: int) -> None:
    """§4.2.6.1: flags, then the fields in the order of their flags; properties never set stay unset."""
    fields = random_fields(seed)
    data = wire(fields)
    framed = b"\x00" * 12 + data + b"\xce"
    found = properties.decode(framed, 12, 12 + len(data))
    assert as_fields(found) == fields, f"seed {seed}"
    assert properties.encode(found) == data


@pytest.mark.parametrize("seed", range(60))
def test_pamqp_reads_and_writes_the_same_bytes(seed: int) -> None:
    """pamqp's Basic.Properties is the oracle; it cannot express empty strings, big timestamps or a cluster id, so those
    are left out."""
    fields = {
        name: value
        for name, value in random_fields(seed).items()
        if value not in ("", table.EMPTY) and name != "cluster_id"
    }
    if "timestamp" in fields:
        fields["timestamp"] = 1700000000 + seed
    oracle = commands.Basic.Properties()
    for name, value in fields.items():
        other: object = value
        if isinstance(value, FieldTable):
            other = value.values
        elif name == "timestamp" and isinstance(value, int):
            other = datetime.datetime.fromtimestamp(value, tz=datetime.UTC)
        setattr(oracle, {"type": "message_type"}.get(name, name), other)
    marshalled = oracle.marshal()
    found = properties.decode(marshalled, 0, len(marshalled))
    expected = {name: value.values if isinstance(value, FieldTable) else value for name, value in fields.items()}
    assert {
        name: value.values if isinstance(value, FieldTable) else value for name, value in as_fields(found).items()
    } == expected
    assert properties.encode(found) == marshalled


@pytest.mark.parametrize("seed", range(120))
def test_the_summary_points_at_the_fields(seed: int) -> None:
    """One walk notes what a publish must know: flags, delivery mode, priority and four ranges counted from the
    flags."""
    fields = random_fields(seed)
    data = wire(fields)
    found = properties.summarize(b"frame" + data + b"\xce", 5, 5 + len(data))
    assert found.flags == struct.unpack(">H", data[:2])[0]
    assert found.end == len(data)
    assert found.delivery_mode == fields.get("delivery_mode", 0)
    assert found.priority == fields.get("priority", -1)
    ranges = {
        "reply_to": (found.reply_to_start, found.reply_to_end),
        "expiration": (found.expiration_start, found.expiration_end),
        "user_id": (found.user_id_start, found.user_id_end),
    }
    for name, (start, end) in ranges.items():
        assert (data[start:end].decode() if start >= 0 else None) == fields.get(name), f"seed {seed}"
        assert (start >= 0) == (end >= 0) == (name in fields)
    headers = fields.get("headers")
    assert (found.headers_start >= 0) == ("headers" in fields)
    if isinstance(headers, FieldTable):
        assert data[found.headers_start : found.headers_end] == headers.raw


@pytest.mark.parametrize("seed", range(30))
def test_a_header_that_is_cut_or_goes_on_is_refused(seed: int) -> None:
    """Everything must be there and nothing besides: the walk ends exactly where the payload does."""
    data = wire(random_fields(seed))
    for cut in range(len(data)):
        assert refused(data[:cut]), f"seed {seed}, cut at {cut}"
        with pytest.raises(ConnectionException):
            properties.summarize(data, 0, cut)
    assert refused(data + b"\x00")
    assert not refused(data)


def test_each_property_is_checked_on_its_own() -> None:
    for name, flag in FLAGS.items():
        assert refused(struct.pack(">H", flag)), name
        whole = wire(
            {name: HEADERS if name == "headers" else 1 if name in ("delivery_mode", "priority", "timestamp") else "x"}
        )
        assert not refused(whole), name


def test_malformed_headers_are_refused_on_the_way_in() -> None:
    """Nobody decodes a table that was not walked: depth, count, tags and lengths (see test_table)."""
    for content in (b"\x01kZ", b"\x01kS\xff\xff\xff\xff", b"\x01kA\x00\x00\x00\x05" + b"V" * 4, b"\x01k"):
        assert refused(struct.pack(">HI", spec.HEADERS, len(content)) + content)
    assert refused(struct.pack(">HI", spec.HEADERS, 0xFFFFFFFF) + b"\x01kV")
    assert refused(struct.pack(">HI", spec.HEADERS, 131_006) + b"\x01kA" + struct.pack(">I", 131_000) + b"V" * 131_000)


def test_a_second_word_of_flags_is_refused() -> None:
    """Basic has 14 properties. RabbitMQ ignores the bit, but a consumer's library would read the first field as
    flags."""
    assert refused(b"\x00\x01")
    assert refused(b"\x00\x01\x00\x00")
    assert not refused(b"\x00\x02"), "the other spare bit means nothing to anybody"


def test_a_range_outside_the_data_is_refused() -> None:
    for start, end in ((-1, 2), (0, 5), (3, 2)):
        with pytest.raises(ConnectionException):
            properties.summarize(b"\x00\x00\x00\x00", start, end)


@pytest.mark.parametrize("seed", range(40))
def test_rewriting_changes_what_it_is_told_and_nothing_else(seed: int) -> None:
    """Dead-lettering (RabbitMQ docs, Dead Letter Exchanges): headers replaced, expiration removed; direct reply-to:
    reply_to replaced."""
    fields = random_fields(seed)
    data = b"pre" + wire(fields) + b"\xce"
    for headers, drop, reply_to in itertools.product(
        (None, HEADERS, table.EMPTY), (False, True), (None, "", "amq.rabbitmq.reply-to.x")
    ):
        expected = dict(fields)
        if headers is not None:
            expected["headers"] = headers
        if drop:
            expected.pop("expiration", None)
        if reply_to is not None:
            expected["reply_to"] = reply_to
        content = None if headers is None else headers.raw
        result = properties.rewrite(
            data, 3, len(data) - 1, content, drop, None if reply_to is None else reply_to.encode()
        )
        assert result == wire(expected), f"seed {seed}: {headers!r} {drop} {reply_to!r}"


def test_rewriting_checks_what_it_reads_and_writes() -> None:
    with pytest.raises(ConnectionException):
        properties.rewrite(b"\x80\x00\x05ab", 0, 5, None, True, None)
    with pytest.raises(ValueError, match="256 bytes"):
        properties.rewrite(b"\x00\x00", 0, 2, None, False, b"r" * 256)


def test_values_that_do_not_fit_are_refused_when_encoding() -> None:
    for broken in (
        Properties(app_id="a" * 256),
        Properties(timestamp=-1),
        Properties(timestamp=1 << 64),
        Properties(priority=256),
    ):
        with pytest.raises(ValueError, match=r"fit|range"):
            properties.encode(broken)


def test_bytes_that_are_not_utf8_survive() -> None:
    """Short strings are octets on the wire; the surrogates stand for them until they are written again."""
    data = struct.pack(">H", spec.MESSAGE_ID) + b"\x02\xff\xfe"
    found = properties.decode(data, 0, len(data))
    assert found.message_id == "\udcff\udcfe"
    assert properties.encode(found) == data
