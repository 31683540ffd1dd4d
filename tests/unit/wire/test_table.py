"""Field tables (broker/wire/table.py, field_types.py, field_values.py): every type at its borders, hostile input, and
pamqp as the oracle for random tables."""

import datetime
import random
import struct
from decimal import Decimal

import pytest
from pamqp import decode as pamqp_decode
from pamqp import encode as pamqp_encode

from broker.errors import SYNTAX_ERROR, ConnectionException
from broker.wire import table
from broker.wire.field_types import TYPE_NAMES, after_value
from broker.wire.field_values import Timestamp
from broker.wire.spec import TABLE_DEPTH_MAX, TABLE_ELEMENTS_MAX
from broker.wire.table import EMPTY, FieldTable


def field(key: bytes, value: bytes) -> bytes:
    return bytes([len(key)]) + key + value


def long(tag: bytes, content: bytes) -> bytes:
    return tag + struct.pack(">I", len(content)) + content


def sound(content: bytes) -> bool:
    """Whether check lets it pass; anything but the one fault it may raise fails the test."""
    fault: ConnectionException | None = None
    try:
        table.check(content, 0, len(content))
    except ConnectionException as raised:
        fault = raised
    assert fault is None or (fault.code == SYNTAX_ERROR and len(fault.text) < 255)
    return fault is None


SIMPLE: list[tuple[bytes, object, str]] = [
    (b"t\x00", False, "bool"),
    (b"t\x01", True, "bool"),
    (b"t\x80", True, "bool"),
    (b"b\x7f", 127, "byte"),
    (b"b\x80", -128, "byte"),
    (b"b\xff", -1, "byte"),
    (b"B\x7f", 127, "unsignedbyte"),
    (b"B\xff", 255, "unsignedbyte"),
    (b"s\x7f\xff", 32767, "short"),
    (b"s\xff\xff", -1, "short"),
    (b"u\x7f\xff", 32767, "unsignedshort"),
    (b"u\xff\xff", 65535, "unsignedshort"),
    (b"I\x7f\xff\xff\xff", 2147483647, "signedint"),
    (b"I\xff\xff\xff\xff", -1, "signedint"),
    (b"i\x7f\xff\xff\xff", 2147483647, "unsignedint"),
    (b"i\xff\xff\xff\xff", 4294967295, "unsignedint"),
    (b"l\x7f" + b"\xff" * 7, 9223372036854775807, "long"),
    (b"l" + b"\xff" * 8, -1, "long"),
    (b"L\x7f" + b"\xff" * 7, 9223372036854775807, "long"),
    (b"L" + b"\xff" * 8, -1, "long"),
    (b"f\x3f\x80\x00\x00", 1.0, "float"),
    (b"d\xbf\xf8" + b"\x00" * 6, -1.5, "double"),
    (b"D\x02\x00\x00\x00\x7b", Decimal("1.23"), "decimal"),
    (b"D\x00\xff\xff\xff\xff", Decimal(4294967295), "decimal"),
    (b"D\xff\x7f\xff\xff\xff", Decimal("2147483647E-255"), "decimal"),
    (long(b"S", b"a"), "a", "longstr"),
    (long(b"S", "\u00e9\u20ac".encode()), "\u00e9\u20ac", "longstr"),
    (long(b"S", b"\xff\x00"), b"\xff\x00", "longstr"),
    (long(b"S", b""), "", "longstr"),
    (long(b"x", b"\x00\x01"), b"\x00\x01", "binary"),
    (b"V", None, "void"),
    (long(b"A", b"B\x01V" + long(b"S", b"q")), [1, None, "q"], "array"),
    (long(b"A", b""), [], "array"),
    (long(b"F", field(b"k", b"B\x07")), {"k": 7}, "table"),
    (long(b"F", b""), {}, "table"),
]


@pytest.mark.parametrize(("wire", "value", "name"), SIMPLE, ids=lambda item: repr(item)[:24])
def test_a_value_is_read_as_rabbitmq_reads_it_and_as_pamqp_does(wire: bytes, value: object, name: str) -> None:
    """RabbitMQ docs, AMQP 0-9-1 Errata: s is signed, u unsigned 16 bit, I signed, i unsigned 32 bit, l and L signed 64
    bit."""
    content = field(b"key", wire)
    decoded = table.decode(content, 0, len(content))
    assert decoded.values == {"key": value}
    assert type(decoded.values["key"]) is type(value)
    assert decoded.types == {"key": name}
    assert decoded.raw == content
    if wire != b"D\x00\xff\xff\xff\xff":  # unsigned to RabbitMQ and in the specification, signed to pamqp
        assert pamqp_decode.field_table(struct.pack(">I", len(content)) + content)[1] == {"key": value}


@pytest.mark.parametrize("seconds", [0, 1700000000, 0x7FFFFFFFFFFFFFFF, 0xFFFFFFFFFFFFFFFF])
def test_a_timestamp_is_unsigned_and_its_own_type(seconds: int) -> None:
    """RabbitMQ `rabbit_binary_parser`: T is a 64-bit unsigned number of seconds."""
    content = field(b"at", b"T" + struct.pack(">Q", seconds))
    decoded = table.decode(content, 0, len(content))
    assert decoded.values == {"at": Timestamp(seconds)}
    assert decoded.types == {"at": "timestamp"}
    assert table.encode(decoded.values) == content
    assert int(Timestamp(seconds)) == seconds
    assert Timestamp(seconds) != seconds
    assert len({Timestamp(seconds), Timestamp(seconds)}) == 1


class Generator:
    """Random tables of every type, from a seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def value(self, depth: int) -> bytes:
        pick = self.random
        tag = pick.choice(b"tbBsuIilLfdDTSxV" if depth == 0 else b"tbBsuIilLfdDTSxVAF")
        head = bytes([tag])
        edge = pick.choice([b"\x00", b"\x7f", b"\x80", b"\xff", None])
        match chr(tag):
            case "S":
                return long(head, "".join(pick.choices("abc\u00e9\u20ac.", k=pick.randrange(9))).encode())
            case "x":
                return long(head, pick.randbytes(pick.randrange(9)))
            case "V":
                return head
            case "A":
                return long(head, b"".join(self.value(depth - 1) for _ in range(pick.randrange(4))))
            case "F":
                return long(head, self.content(depth - 1))
            case "T":  # pamqp takes larger numbers for milliseconds
                return head + struct.pack(">Q", pick.randrange(1 << 32))
            case "d":
                return head + struct.pack(">d", pick.uniform(-1e9, 1e9))
            case "f":
                return head + struct.pack(">f", pick.uniform(-1e9, 1e9))
            case "D":  # pamqp reads the digits as signed
                return head + bytes([pick.randrange(20)]) + struct.pack(">I", pick.randrange(1 << 31))
            case name:
                size = {"t": 1, "b": 1, "B": 1, "s": 2, "u": 2, "I": 4, "i": 4, "l": 8, "L": 8}[name]
                return head + (
                    pick.randbytes(size) if edge is None else edge + pick.choice([b"\x00", b"\xff"]) * (size - 1)
                )

    def pairs(self, depth: int) -> list[tuple[bytes, bytes]]:
        names = [f"key-{i}\u00e9".encode() for i in range(self.random.randrange(7))]
        return [(name, self.value(depth)) for name in names]

    def content(self, depth: int) -> bytes:
        return b"".join(field(key, value) for key, value in self.pairs(depth))


def comparable_with_pamqp(value: object) -> object:
    match value:
        case Timestamp():
            return datetime.datetime.fromtimestamp(value.seconds, tz=datetime.UTC)
        case dict():
            return {key: comparable_with_pamqp(inner) for key, inner in value.items()}
        case list():
            return [comparable_with_pamqp(inner) for inner in value]
    return value


@pytest.mark.parametrize("seed", range(150))
def test_random_tables_decode_as_pamqp_decodes_them(seed: int) -> None:
    """pamqp is the oracle; §4.2.5.5."""
    content = Generator(seed).content(3)
    expected = pamqp_decode.field_table(struct.pack(">I", len(content)) + content)[1]
    padded = b"before" + content + b"after"
    assert comparable_with_pamqp(table.decode(padded, 6, 6 + len(content)).values) == expected, f"seed {seed}"


@pytest.mark.parametrize("seed", range(60))
def test_split_and_join_keep_every_byte(seed: int) -> None:
    """Type tags round-trip exactly, so that changing one header leaves the others as the publisher wrote them."""
    pairs = Generator(seed).pairs(2)
    content = table.join(pairs)
    assert sound(content)
    assert table.split(b"xx" + content + b"x", 2, 2 + len(content)) == pairs, f"seed {seed}"
    for key, value in pairs:
        at = table.find(content, 0, len(content), key)
        assert content[at : at + len(value)] == value
        assert after_value(content, at) == at + len(value)
    assert table.find(content, 0, len(content), b"nobody") == -1
    assert table.find(content, 0, len(content), b"key-") == -1


@pytest.mark.parametrize("seed", range(40))
def test_a_table_cut_anywhere_but_between_fields_is_refused(seed: int) -> None:
    """No length is believed before the bytes are there (amqp091-go GHSA-4v58, CVE-2026-69219)."""
    pairs = Generator(seed).pairs(2)
    content = table.join(pairs)
    boundaries = {0}
    for key, value in pairs:
        boundaries.add(max(boundaries) + 1 + len(key) + len(value))
    for cut in range(len(content) + 1):
        assert sound(content[:cut]) == (cut in boundaries), f"seed {seed}, cut at {cut}"
        if cut not in boundaries:
            with pytest.raises(ConnectionException):
                table.check(content, 0, cut)


@pytest.mark.parametrize("seed", range(300))
def test_mutated_tables_are_refused_or_readable(seed: int) -> None:
    """There is no third outcome: what check passes can be read, split, compared and printed."""
    generator = Generator(seed)
    content = bytearray(generator.content(3) or b"\x01kV")
    for _ in range(generator.random.randrange(1, 4)):
        content[generator.random.randrange(len(content))] = generator.random.choice(
            [0, 1, 0x7F, 0x80, 0xFF, *b"SAFVtl"]
        )
    raw = bytes(content)
    if sound(raw):
        found = FieldTable(raw)
        assert len(found) == len(found.types) <= len(table.split(raw, 0, len(raw)))
        assert table.join(table.split(raw, 0, len(raw))) == raw
        for _, value in table.split(raw, 0, len(raw)):
            assert table.comparable(value, 0)
            assert table.printed(value, 0)


def nested(tag: bytes, levels: int) -> bytes:
    """Content of a table with ``levels`` containers inside each other, itself counted."""
    content = b""
    for _ in range(levels - 1):
        content = long(tag, content if tag == b"A" or not content else field(b"k", content))
    return field(b"k", content) if content else b""


@pytest.mark.parametrize("tag", [b"A", b"F"])
def test_nesting_is_bounded(tag: bytes) -> None:
    """Nested containers must not overflow the stack (CVE-2026-69220): 32 levels pass, one more and a thousand do
    not."""
    assert sound(nested(tag, TABLE_DEPTH_MAX))
    assert not sound(nested(tag, TABLE_DEPTH_MAX + 1))
    assert not sound(nested(tag, 1000))
    deepest = FieldTable(nested(tag, TABLE_DEPTH_MAX))
    assert deepest.has("k")
    too_deep: object = []
    for _ in range(TABLE_DEPTH_MAX):
        too_deep = [too_deep] if tag == b"A" else {"k": too_deep}
    with pytest.raises(ValueError, match="levels"):
        table.encode({"k": too_deep})


def test_elements_are_counted_even_when_they_take_no_space() -> None:
    """Zero-width arrays amplify a few kilobytes into work without end (CVE-2026-67414): 131k voids are refused."""
    assert sound(field(b"k", long(b"A", b"V" * (TABLE_ELEMENTS_MAX - 1))))
    assert not sound(field(b"k", long(b"A", b"V" * TABLE_ELEMENTS_MAX)))
    assert not sound(field(b"k", long(b"A", b"V" * 131_000)))
    assert not sound(b"\x00V" * (TABLE_ELEMENTS_MAX + 1))
    half = long(b"A", b"V" * (TABLE_ELEMENTS_MAX // 2))
    assert not sound(field(b"a", half) + field(b"b", half)), "all containers share one count"


@pytest.mark.parametrize("tag", [b"S", b"x", b"A", b"F"])
@pytest.mark.parametrize("length", [0xFFFFFFFF, 0x80000000, 0x7FFFFFFF, 4])
def test_lengths_beyond_the_end_are_refused(tag: bytes, length: int) -> None:
    """Lengths are unsigned 32-bit numbers; none may lead out of its container."""
    value = tag + struct.pack(">I", length) + b"\x01kV"
    assert not sound(field(b"k", value))
    assert not sound(field(b"k", long(b"F", field(b"k", value)) + b"\x01kV" * 9))


def test_unknown_type_tags_are_refused() -> None:
    """Only the eighteen tags RabbitMQ knows have a size."""
    known = {
        tag for tag in range(256) if sound(field(b"k", bytes([tag]) + b"\x00" * 8)) or sound(field(b"k", bytes([tag])))
    }
    known |= {tag for tag in range(256) for size in (1, 2, 4, 5) if sound(field(b"k", bytes([tag]) + b"\x00" * size))}
    assert known == set(b"tbBsuIilLfdDTSxVAF") == set(TYPE_NAMES)


def test_a_range_outside_the_data_is_refused() -> None:
    """A table's length field may promise more than its frame holds."""
    for start, end in ((0, 4), (-1, 2), (3, 2), (4, 5)):
        with pytest.raises(ConnectionException):
            table.check(b"\x01kV", start, end)


def test_of_equal_keys_the_first_counts() -> None:
    """RabbitMQ `rabbit_misc:table_lookup` stops at the first."""
    content = field(b"k", b"B\x01") + field(b"k", long(b"S", b"2"))
    found = FieldTable(content)
    assert (found.values, found.types) == ({"k": 1}, {"k": "unsignedbyte"})
    assert content[table.find(content, 0, len(content), b"k") :][:2] == b"B\x01"


def test_keys_that_are_not_utf8_survive() -> None:
    """Names are octets on the wire (§4.2.5.3): surrogates stand for the bytes that are not text."""
    content = field(b"\xff\xfe", b"V")
    found = FieldTable(content)
    assert list(found.values) == ["\udcff\udcfe"]
    assert table.encode(found.values) == content


def test_a_field_table_answers_questions() -> None:
    made = table.make({"ttl": 5, "name": "q", "none": None, "blob": b"\x00"})
    assert made.get("ttl") == 5
    assert made.get("missing") is None
    assert made.get("missing", 7) == 7
    assert made.get_str("name") == "q"
    assert made.get_str("ttl", "not a string") == "not a string"
    assert (made.type_of("ttl"), made.type_of("blob"), made.type_of("missing")) == ("long", "binary", "")
    assert made.has("none")
    assert not made.has("missing")
    assert len(made) == 4
    assert not made.is_empty
    assert made.raw[made.find(b"ttl")] == ord("l")
    assert EMPTY.is_empty
    assert not EMPTY.has("ttl")
    assert table.make({}) is EMPTY
    assert table.decode(b"abc", 1, 1) is EMPTY


def test_tables_are_equal_in_any_order_of_their_fields_but_not_across_types() -> None:
    """Binding identity: RabbitMQ sorts binding arguments by name and compares types too; l and L are one type to it."""
    one, two = field(b"a", b"B\x01"), field(b"b", b"V")
    assert FieldTable(one + two) == FieldTable(two + one)
    assert hash(FieldTable(one + two)) == hash(FieldTable(two + one))
    assert table.canonical(two + one) == one + two
    assert FieldTable(one) != FieldTable(field(b"a", b"b\x01"))
    assert FieldTable(field(b"a", b"L" + b"\x01" * 8)) == FieldTable(field(b"a", b"l" + b"\x01" * 8))
    assert FieldTable(one) != {"a": 1}


SERVER_MADE: dict[str, object] = {
    "product": "RabbitMQ",
    "capabilities": {"basic.nack": True, "consumer_priorities": False},
    "count": -9223372036854775808,
    "routing-keys": ["a", "", "\u00e9"],
    "rate": 0.25,
    "nothing": None,
    "blob": b"\x00\xff",
    "price": Decimal("12.50"),
}


def test_what_the_server_makes_is_read_alike_by_pamqp() -> None:
    """str S, bool t, int l, float d, None V, bytes x, dict F, list A, Decimal D."""
    content = table.encode({**SERVER_MADE, "time": Timestamp(1700000000)})
    assert sound(content)
    decoded = pamqp_decode.field_table(struct.pack(">I", len(content)) + content)[1]
    assert decoded == {**SERVER_MADE, "time": datetime.datetime.fromtimestamp(1700000000, tz=datetime.UTC)}
    assert FieldTable(content).types["count"] == "long"
    assert FieldTable(content).values == {**SERVER_MADE, "time": Timestamp(1700000000)}


def test_what_pamqp_makes_is_read_alike_here() -> None:
    content = pamqp_encode.field_table(
        {"a": 1, "b": {"c": [1, "x", 70000, 1 << 40, True]}, "f": "text", "g": Decimal("1.5")}
    )[4:]
    assert table.decode(content, 0, len(content)).values == {
        "a": 1,
        "b": {"c": [1, "x", 70000, 1 << 40, True]},
        "f": "text",
        "g": Decimal("1.5"),
    }


def test_a_table_goes_into_a_table_as_it_is() -> None:
    inner = FieldTable(field(b"odd", b"u\xff\xff"))
    assert table.encode({"inner": inner}) == field(b"inner", long(b"F", inner.raw))
    assert table.encode_value([{"count": 1}]) == long(b"A", long(b"F", field(b"count", b"l" + struct.pack(">q", 1))))


@pytest.mark.parametrize(
    "value",
    [
        1 << 63,
        -(1 << 63) - 1,
        Timestamp(-1),
        Timestamp(1 << 64),
        Decimal("-1"),
        Decimal("1E+999999"),
        Decimal("NaN"),
        Decimal("1E-256"),
        1j,
    ],
    ids=repr,
)
def test_values_without_a_wire_form_are_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"fit|no type"):
        table.encode({"k": value})


def test_a_name_of_256_bytes_is_refused() -> None:
    """Encode side of frame injection by overlong short strings (AMQP 0-9-1 §4.2.5.3)."""
    assert sound(table.encode({"k" * 255: 1}))
    with pytest.raises(ValueError, match="256 bytes"):
        table.encode({"k" * 256: 1})
    with pytest.raises(ValueError, match="256 bytes"):
        table.join([(b"k" * 256, b"V")])


ONE = struct.pack(">q", 1)
EQUAL_CLASSES: list[list[bytes]] = [
    [b"b\x01", b"B\x01", b"s\x00\x01", b"u\x00\x01", b"I\x00\x00\x00\x01", b"i\x00\x00\x00\x01", b"l" + ONE, b"L" + ONE,
     b"T" + ONE],
    [b"b\xff", b"s\xff\xff", b"I\xff\xff\xff\xff", b"l" + b"\xff" * 8, b"L" + b"\xff" * 8],
    [b"i\xff\xff\xff\xff", b"l" + struct.pack(">q", 0xFFFFFFFF)],
    [b"T" + b"\xff" * 8],
    [b"t\x01", b"t\x02"],
    [b"t\x00"],
    [b"d" + struct.pack(">d", 1.0), b"f" + struct.pack(">f", 1.0)],
    [b"d" + struct.pack(">d", 0.0), b"d" + struct.pack(">d", -0.0)],
    [long(b"S", b"1"), long(b"x", b"1")],
    [long(b"S", b"")],
    [b"V"],
    [b"D\x00\x00\x00\x00\x01"],
    [b"D\x01\x00\x00\x00\x0a"],
    [long(b"A", b"B\x01")],
    [long(b"A", b"b\x01")],
    [long(b"F", field(b"a", b"B\x01"))],
]  # fmt: skip


def test_values_compare_as_a_headers_exchange_compares_them() -> None:
    """RabbitMQ 3.13 `rabbit_exchange_type_headers` (exact comparison of decoded values); the classes were seen on 3.10,
    which in addition holds an integer and a float equal."""
    for i, values in enumerate(EQUAL_CLASSES):
        for j, others in enumerate(EQUAL_CLASSES):
            for value in values:
                for other in others:
                    assert (table.comparable(b"__" + value, 2) == table.comparable(other, 0)) == (i == j), (
                        value,
                        other,
                    )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (long(b"S", b"foo"), '<<"foo">>'),
        (long(b"S", b""), "<<>>"),
        (long(b"S", b'q"uo\\te'), '<<"q\\"uo\\\\te">>'),
        (long(b"S", b"a\n"), '<<"a\\n">>'),
        (long(b"S", b"a\x01"), "<<97,1>>"),
        (long(b"S", b"\xff\xfe"), "<<255,254>>"),
        (long(b"S", "\u00e9".encode()), '<<"\u00e9"/utf8>>'),
        (long(b"x", b"x"), '<<"x">>'),
        (b"I\x00\x00\x00\x01", "1"),
        (b"s\xff\xff", "-1"),
        (b"t\x01", "true"),
        (b"t\x00", "false"),
        (b"V", "undefined"),
        (b"T" + struct.pack(">Q", 5), "5"),
        (b"d" + struct.pack(">d", 2.5), "2.5"),
        (b"d" + struct.pack(">d", 1e22), "1.0e22"),
        (b"f" + struct.pack(">f", 0.1), "0.10000000149011612"),
        (b"D\x01\x00\x00\x00\x0f", "{1,15}"),
        (long(b"A", b"I\x00\x00\x00\x01"), "[{signedint,1}]"),
        (long(b"F", field(b"a", long(b"S", b"b"))), '[{<<"a">>,longstr,<<"b">>}]'),
    ],
)
def test_values_print_as_in_rabbitmqs_texts(value: bytes, text: str) -> None:
    """Answers of RabbitMQ 3.10 to a bind with each of these as x-match; non-ASCII text as 3.13's format prints it."""
    assert table.printed(value, 0) == text
