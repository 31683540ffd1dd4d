"""The values of checked fields, as Python has them (table.py says which)."""

from decimal import Decimal
from typing import final

from librt.strings import read_f32_be, read_f64_be, read_i16_be, read_i32_be, read_i64_be

from broker.native import i64
from broker.wire.field_types import (
    ARRAY,
    BINARY,
    BOOL,
    BYTE,
    DECIMAL,
    DOUBLE,
    FLOAT,
    LONG,
    LONG_TOO,
    LONGSTR,
    SHORT,
    SIGNED_INT,
    TABLE,
    TIMESTAMP,
    TIMESTAMP_MAX,
    UNSIGNED_INT,
    UNSIGNED_SHORT,
    VOID,
    after_value,
)


@final
class Timestamp:
    """A point in time in whole seconds since 1970, its own type in a field table."""

    __slots__ = ("seconds",)

    def __init__(self, seconds: int) -> None:
        self.seconds = seconds

    def __int__(self) -> int:
        return self.seconds

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Timestamp) and other.seconds == self.seconds

    def __hash__(self) -> int:
        return hash(self.seconds)

    def __repr__(self) -> str:
        return f"Timestamp({self.seconds})"


def integer(data: bytes, at: i64) -> int:
    """The integer whose type tag is at ``at``."""
    tag = i64(data[at])
    at += 1
    if tag == SIGNED_INT:
        return int(i64(read_i32_be(data, at)))
    if tag in (LONG, LONG_TOO):
        return int(read_i64_be(data, at))
    if tag == TIMESTAMP:
        return int(read_i64_be(data, at)) & TIMESTAMP_MAX
    if tag == UNSIGNED_INT:
        return int(i64(read_i32_be(data, at)) & 0xFFFFFFFF)
    if tag == SHORT:
        return int(i64(read_i16_be(data, at)))
    if tag == UNSIGNED_SHORT:
        return int(i64(read_i16_be(data, at)) & 0xFFFF)
    value = i64(data[at])
    if tag == BYTE and value > 127:
        return int(value - 256)
    return int(value)


def read_value(data: bytes, at: i64 = 0) -> object:
    """The value whose type tag is at ``at``; see ``FieldTable.values``."""
    tag = i64(data[at])
    if tag == LONGSTR:
        return _text_or_bytes(data[at + 5 : after_value(data, at)])
    if tag == BOOL:
        return data[at + 1] != 0
    if tag == BINARY:
        return data[at + 5 : after_value(data, at)]
    if tag == TABLE:
        return read_table(data, at + 5, after_value(data, at))
    if tag == ARRAY:
        return _read_array(data, at + 5, after_value(data, at))
    if tag == VOID:
        return None
    if tag == TIMESTAMP:
        return Timestamp(integer(data, at))
    if tag == DOUBLE:
        return read_f64_be(data, at + 1)
    if tag == FLOAT:
        return read_f32_be(data, at + 1)
    if tag == DECIMAL:
        digits = int(i64(read_i32_be(data, at + 2)) & 0xFFFFFFFF)
        return Decimal(f"{digits}E-{data[at + 1]}")
    return integer(data, at)


def _text_or_bytes(value: bytes) -> object:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value


def field_name(data: bytes, start: i64, end: i64) -> str:
    """The name of a field; octets that are not UTF-8 become surrogates."""
    return data[start:end].decode("utf-8", "surrogateescape")


def read_table(data: bytes, start: i64, end: i64) -> dict[str, object]:
    """The fields of a table with this content."""
    values: dict[str, object] = {}
    at = start
    while at < end:
        tag_at = at + 1 + i64(data[at])
        name = field_name(data, at + 1, tag_at)
        if name not in values:  # the first of equal names counts, as in RabbitMQ's lookups
            values[name] = read_value(data, tag_at)
        at = after_value(data, tag_at)
    return values


def _read_array(data: bytes, start: i64, end: i64) -> list[object]:
    values: list[object] = []
    at = start
    while at < end:
        values.append(read_value(data, at))
        at = after_value(data, at)
    return values
