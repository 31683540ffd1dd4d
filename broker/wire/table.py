"""Field tables: key, type tag, value, one field after the other (AMQP 0-9-1 §4.2.5.5, in RabbitMQ's dialect).

    field  = size:1 key:size tag:1 value
    value  = t b B:1  s u:2  I i f:4  l L d T:8  D:1+4  V:0  S x:4+n  A F:4+n of values, of fields

Two departures from the specification, both RabbitMQ's (RabbitMQ docs, AMQP 0-9-1 Errata): ``s`` is a signed 16-bit
integer and ``L`` a signed 64-bit one like ``l``; ``x`` is a byte string. ``T`` is unsigned.

A table stays the bytes it came in: it is walked once for bounds, depth and count (``check``), then read where needed.
So every field goes out with the type it came with. Three kinds of functions: ``check`` and ``decode`` take anything;
``find``, ``split``, ``canonical``, ``comparable`` and ``FieldTable`` take checked content; ``encode`` makes tables of
the server's own values. Content means the bytes after the table's 4-byte length. The types stand in field_types.py,
what values are in Python in field_values.py.
"""

import struct
from collections.abc import Mapping
from decimal import Decimal
from typing import Final, final

from librt.strings import read_f32_be, read_f64_be, read_i32_be

from broker.errors import SYNTAX_ERROR, ConnectionException
from broker.native import i64
from broker.wire.erlang import binary
from broker.wire.field_types import (
    ARRAY,
    BINARY,
    BOOL,
    DECIMAL,
    DOUBLE,
    FLOAT,
    LONG_TOO,
    LONGSTR,
    NESTED_TABLE,
    SIZES,
    STRING,
    TABLE,
    TIMESTAMP_MAX,
    TYPE_NAMES,
    UNKNOWN,
    VOID,
    after_value,
)
from broker.wire.field_values import Timestamp, field_name, integer, read_table
from broker.wire.spec import SHORTSTR_MAX, TABLE_DEPTH_MAX, TABLE_ELEMENTS_MAX

_INTEGER_MIN: Final = -(1 << 63)
_INTEGER_MAX: Final = (1 << 63) - 1


def _fault(text: str) -> ConnectionException:
    return ConnectionException(SYNTAX_ERROR, f"malformed field table: {text}")


def check(data: bytes, start: i64, end: i64) -> None:
    """Walk the content of a table in ``data[start:end]`` without making objects; return when it is sound.

    Raises: SYNTAX_ERROR (502) if a length runs past its container, a type tag is unknown, or there are more than
    TABLE_DEPTH_MAX levels or TABLE_ELEMENTS_MAX elements.
    """
    if start < 0 or start > end or end > len(data):
        raise _fault("longer than its frame")
    _walk(data, start, end, True, 1, TABLE_ELEMENTS_MAX)


def _walk(data: bytes, start: i64, end: i64, keyed: bool, depth: i64, budget: i64) -> i64:
    """Check one container; returns how many more elements the whole table may have."""
    at = start
    while at < end:
        budget -= 1
        if budget < 0:
            raise _fault(f"more than {TABLE_ELEMENTS_MAX} elements")
        if keyed:
            at += 1 + i64(data[at])
            if at >= end:
                raise _fault("a key runs past the end")
        size = i64(SIZES[data[at]])
        at += 1
        if size < STRING:
            at += size
        else:
            if size == UNKNOWN:
                raise _fault(f"unknown type tag {data[at - 1]}")
            if end - at < 4:
                raise _fault("a length runs past the end")
            length = i64(read_i32_be(data, at)) & 0xFFFFFFFF
            at += 4
            if length > end - at:
                raise _fault("a value runs past the end")
            if size != STRING:
                if depth >= TABLE_DEPTH_MAX:
                    raise _fault(f"more than {TABLE_DEPTH_MAX} levels")
                budget = _walk(data, at, at + length, size == NESTED_TABLE, depth + 1, budget)
            at += length
    if at != end:
        raise _fault("a value runs past the end")
    return budget


def find(data: bytes, start: i64, end: i64, key: bytes) -> i64:
    """Offset of the type tag of the first top-level field called ``key``, -1 if there is none."""
    wanted: i64 = len(key)
    at = start
    while at < end:
        size = i64(data[at])
        tag_at = at + 1 + size
        if size == wanted and data[at + 1 : tag_at] == key:
            return tag_at
        at = after_value(data, tag_at)
    return -1


def split(data: bytes, start: i64, end: i64) -> list[tuple[bytes, bytes]]:
    """The top-level fields as (key, type tag and value): ``join`` of it gives the same bytes."""
    pairs: list[tuple[bytes, bytes]] = []
    at = start
    while at < end:
        tag_at = at + 1 + i64(data[at])
        after = after_value(data, tag_at)
        pairs.append((data[at + 1 : tag_at], data[tag_at:after]))
        at = after
    return pairs


def join(pairs: list[tuple[bytes, bytes]]) -> bytes:
    """Table content made of (key, type tag and value) pairs. Raises ValueError if a key is longer than 255 bytes."""
    parts: list[bytes] = []
    for key, value in pairs:
        if len(key) > SHORTSTR_MAX:
            raise ValueError(f"a field name of {len(key)} bytes does not fit a short string")
        parts.append(bytes([len(key)]))
        parts.append(key)
        parts.append(value)
    return b"".join(parts)


def canonical(content: bytes) -> bytes:
    """The same table with its top-level fields in key order: what tells two bindings apart (RabbitMQ sorts binding
    arguments)."""
    if not content:
        return content
    pairs = split(content, 0, len(content))
    for i in range(len(pairs)):
        key, value = pairs[i]
        if value[0] == LONG_TOO:  # one type to RabbitMQ
            pairs[i] = (key, b"l" + value[1:])
    pairs.sort(key=_key_of)
    return join(pairs)


def _key_of(pair: tuple[bytes, bytes]) -> bytes:
    return pair[0]


def comparable(data: bytes, at: i64) -> bytes:
    """Bytes that are equal for two values exactly when a headers exchange holds the values equal; ``at`` is the type
    tag's offset.

    Integers of all widths (timestamps too) by value, both float widths by value, both string types by their bytes; a
    bool or a float is never an integer, a table or an array equals only the same bytes (RabbitMQ 3.13,
    `rabbit_exchange_type_headers`).
    """
    tag = i64(data[at])
    if tag in (LONGSTR, BINARY):
        return b"s" + data[at + 5 : after_value(data, at)]
    if tag == BOOL:
        return b"t1" if data[at + 1] else b"t0"
    if tag in (FLOAT, DOUBLE):
        number = read_f32_be(data, at + 1) if tag == FLOAT else read_f64_be(data, at + 1)
        return b"d" + struct.pack(">d", number + 0.0)  # makes -0.0 the same as 0.0
    if tag in (VOID, DECIMAL, ARRAY, TABLE):
        return data[at : after_value(data, at)]
    return b"i" + integer(data, at).to_bytes(9, "big", signed=True)


def printed(data: bytes, at: i64) -> str:
    """The value whose type tag is at ``at`` as RabbitMQ's error texts print it, in Erlang's notation: ``<<"a">>``,
    ``[{signedint,1}]``."""
    tag = i64(data[at])
    after = after_value(data, at)
    if tag in (LONGSTR, BINARY):
        return binary(data[at + 5 : after])
    if tag == BOOL:
        return "true" if data[at + 1] else "false"
    if tag in (FLOAT, DOUBLE):
        text = repr(read_f32_be(data, at + 1) if tag == FLOAT else read_f64_be(data, at + 1)).replace("e+", "e")
        return text.replace("e", ".0e") if "e" in text and "." not in text else text
    if tag == DECIMAL:
        return f"{{{data[at + 1]},{int(i64(read_i32_be(data, at + 2)) & 0xFFFFFFFF)}}}"
    if tag == VOID:
        return "undefined"
    parts: list[str] = []
    if tag == TABLE:
        for key, value in split(data, at + 5, after):
            parts.append(f"{{{binary(key)},{TYPE_NAMES[value[0]]},{printed(value, 0)}}}")
    elif tag == ARRAY:
        at += 5
        while at < after:
            parts.append(f"{{{TYPE_NAMES[data[at]]},{printed(data, at)}}}")
            at = after_value(data, at)
    else:
        return str(integer(data, at))
    return f"[{','.join(parts)}]"


@final
class FieldTable:
    """A field table of a client or of the server: ``raw`` is its content, exact; values and types are read when asked
    for.

    Immutable. ``raw`` has been checked; who has not done so uses ``decode``. Of fields with equal keys the first
    counts.
    """

    __slots__ = ("_canonical", "_types", "_values", "raw")

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self._values: dict[str, object] | None = None
        self._types: dict[str, str] | None = None
        self._canonical: bytes | None = None

    @property
    def is_empty(self) -> bool:
        """Whether there is no field at all."""
        return not self.raw

    @property
    def values(self) -> dict[str, object]:
        """Field name -> value: S str (bytes when not UTF-8), x bytes, t bool, all integers int, f d float, T Timestamp,
        D Decimal, V None, F dict, A list. Not to be changed."""
        values = self._values
        if values is None:
            values = read_table(self.raw, 0, len(self.raw))
            self._values = values
        return values

    @property
    def types(self) -> dict[str, str]:
        """Field name -> type name as RabbitMQ prints it. Not to be changed."""
        types = self._types
        if types is None:
            types = {}
            data = self.raw
            at: i64 = 0
            end: i64 = len(data)
            while at < end:
                tag_at = at + 1 + i64(data[at])
                key = field_name(data, at + 1, tag_at)
                if key not in types:
                    types[key] = TYPE_NAMES[data[tag_at]]
                at = after_value(data, tag_at)
            self._types = types
        return types

    @property
    def canonical(self) -> bytes:
        """``raw`` in key order: equal for tables that differ in the order of their fields only."""
        found = self._canonical
        if found is None:
            found = canonical(self.raw)
            self._canonical = found
        return found

    def get(self, key: str, default: object = None) -> object:
        """The value of a field; a void field gives None like a missing one: ask ``has``."""
        if not self.raw:
            return default
        return self.values.get(key, default)

    def get_str(self, key: str, default: str = "") -> str:
        """The value of a long string field; the default if it is missing, of another type, or not UTF-8."""
        value = self.get(key)
        return value if isinstance(value, str) else default

    def type_of(self, key: str) -> str:
        """The name of a field's type, '' if it is missing."""
        return self.types.get(key, "")

    def has(self, key: str) -> bool:
        """Whether there is such a field."""
        return bool(self.raw) and key in self.values

    def find(self, key: bytes) -> int:
        """Offset in ``raw`` of a field's type tag, -1 if it is missing."""
        return int(find(self.raw, 0, len(self.raw), key))

    def __len__(self) -> int:
        return len(self.values)

    def __eq__(self, other: object) -> bool:
        """Same fields with the same types and values, in any order."""
        return isinstance(other, FieldTable) and (other.raw == self.raw or other.canonical == self.canonical)

    def __hash__(self) -> int:
        return hash(self.canonical)

    def __repr__(self) -> str:
        return f"FieldTable({self.values!r})"


EMPTY: Final = FieldTable(b"")
"""The table without fields."""


def decode(data: bytes, start: i64, end: i64) -> FieldTable:
    """The table whose content is ``data[start:end]``. Raises: SYNTAX_ERROR (502) as ``check`` does."""
    check(data, start, end)
    return EMPTY if start == end else FieldTable(data[start:end])


def encode(values: Mapping[str, object]) -> bytes:
    """Table content for values of the server's own making; the inverse of ``FieldTable.values``, with every integer
    sent as ``l``.

    Raises ValueError if a name is longer than 255 bytes, a number does not fit its type, or a value has no type.
    """
    return _encode_table(values, 1)


def make(values: Mapping[str, object]) -> FieldTable:
    """The FieldTable of the server's own values. Raises ValueError as ``encode`` does."""
    return FieldTable(encode(values)) if values else EMPTY


def encode_value(value: object) -> bytes:
    """Type tag and value, as ``join`` takes it. Raises ValueError as ``encode`` does."""
    return _encode_value(value, 1)


def _encode_table(values: Mapping[str, object], depth: i64) -> bytes:
    if depth > TABLE_DEPTH_MAX:
        raise ValueError(f"a table of more than {TABLE_DEPTH_MAX} levels")
    pairs: list[tuple[bytes, bytes]] = []
    for key, value in values.items():
        pairs.append((key.encode("utf-8", "surrogateescape"), _encode_value(value, depth)))
    return join(pairs)


def _encode_value(value: object, depth: i64) -> bytes:
    if isinstance(value, str):
        return _long(b"S", value.encode("utf-8", "surrogateescape"))
    if isinstance(value, bool):
        return b"t\x01" if value else b"t\x00"
    if isinstance(value, int):
        if value < _INTEGER_MIN or value > _INTEGER_MAX:
            raise ValueError(f"{value} does not fit 64 bits")
        return b"l" + value.to_bytes(8, "big", signed=True)
    if value is None:
        return b"V"
    if isinstance(value, Timestamp):
        if value.seconds < 0 or value.seconds > TIMESTAMP_MAX:
            raise ValueError(f"{value.seconds} does not fit a timestamp")
        return b"T" + value.seconds.to_bytes(8, "big")
    if isinstance(value, float):
        return b"d" + struct.pack(">d", value)
    if isinstance(value, bytes):
        return _long(b"x", value)
    if isinstance(value, FieldTable):
        return _long(b"F", value.raw)
    if isinstance(value, Mapping):
        return _long(b"F", _encode_table(value, depth + 1))
    if isinstance(value, (list, tuple)):
        if depth >= TABLE_DEPTH_MAX:
            raise ValueError(f"a table of more than {TABLE_DEPTH_MAX} levels")
        return _long(b"A", b"".join([_encode_value(element, depth + 1) for element in value]))
    if isinstance(value, Decimal):
        return _encode_decimal(value)
    raise ValueError(f"a field table has no type for {type(value).__name__}")


def _encode_decimal(value: Decimal) -> bytes:
    sign, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int) or sign or exponent > 9:
        raise ValueError(f"{value} does not fit a decimal")
    number = 0
    for digit in digits:
        number = number * 10 + digit
    if exponent > 0:
        number *= 10**exponent
        exponent = 0
    if number > 0xFFFFFFFF or exponent < -255:
        raise ValueError(f"{value} does not fit a decimal")
    return b"D" + bytes([-exponent]) + number.to_bytes(4, "big")


def _long(tag: bytes, value: bytes) -> bytes:
    return tag + len(value).to_bytes(4, "big") + value
