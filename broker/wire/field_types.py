"""The types that a field of a table may have: their tags, their sizes, and how RabbitMQ calls them (AMQP 0-9-1
§4.2.5.5, in RabbitMQ's dialect; see table.py)."""

from typing import Final

from librt.strings import read_i32_be

from broker.native import i64

LONGSTR: Final = 0x53  # S
BINARY: Final = 0x78  # x
ARRAY: Final = 0x41  # A
TABLE: Final = 0x46  # F
BOOL: Final = 0x74  # t
VOID: Final = 0x56  # V
TIMESTAMP: Final = 0x54  # T
DECIMAL: Final = 0x44  # D
FLOAT: Final = 0x66  # f
DOUBLE: Final = 0x64  # d
BYTE: Final = 0x62  # b
UNSIGNED_BYTE: Final = 0x42  # B
SHORT: Final = 0x73  # s
UNSIGNED_SHORT: Final = 0x75  # u
SIGNED_INT: Final = 0x49  # I
UNSIGNED_INT: Final = 0x69  # i
LONG: Final = 0x6C  # l
LONG_TOO: Final = 0x4C  # L

TYPE_NAMES: Final[dict[int, str]] = {
    LONGSTR: "longstr",
    BINARY: "binary",
    ARRAY: "array",
    TABLE: "table",
    BOOL: "bool",
    VOID: "void",
    TIMESTAMP: "timestamp",
    DECIMAL: "decimal",
    FLOAT: "float",
    DOUBLE: "double",
    BYTE: "byte",
    UNSIGNED_BYTE: "unsignedbyte",
    SHORT: "short",
    UNSIGNED_SHORT: "unsignedshort",
    SIGNED_INT: "signedint",
    UNSIGNED_INT: "unsignedint",
    LONG: "long",
    LONG_TOO: "long",
}
"""Type tag -> the name RabbitMQ prints in its error texts."""

TIMESTAMP_MAX: Final = (1 << 64) - 1
"""Seconds."""

# what stands in ``SIZES`` where the size is not fixed
STRING: Final = 250
NESTED_ARRAY: Final = 251
NESTED_TABLE: Final = 252
UNKNOWN: Final = 255


def _sizes() -> bytes:
    sizes = bytearray([UNKNOWN] * 256)
    for tags, size in (
        (b"V", 0),
        (b"tbB", 1),
        (b"su", 2),
        (b"Iif", 4),
        (b"D", 5),
        (b"lLdT", 8),
        (b"Sx", STRING),
        (b"A", NESTED_ARRAY),
        (b"F", NESTED_TABLE),
    ):
        for tag in tags:
            sizes[tag] = size
    return bytes(sizes)


SIZES: Final = _sizes()
"""Type tag -> size of its value, or one of the four above."""


def after_value(data: bytes, at: i64) -> i64:
    """Where the value whose tag is at ``at`` ends."""
    size = i64(SIZES[data[at]])
    if size < STRING:
        return at + 1 + size
    return at + 5 + (i64(read_i32_be(data, at + 1)) & 0xFFFFFFFF)
