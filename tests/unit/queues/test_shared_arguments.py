"""Equal arguments are kept once, and only equal ones."""

from __future__ import annotations

from broker.queues.shared_arguments import shared
from broker.wire.table import FieldTable


def table(name: bytes, tag_and_value: bytes) -> FieldTable:
    return FieldTable(bytes([len(name)]) + name + tag_and_value)


def test_equal_tables_are_one() -> None:
    first, options = shared(table(b"x-max-length", b"I\x00\x00\x00\x05"))
    again, same = shared(table(b"x-max-length", b"I\x00\x00\x00\x05"))
    assert first is again
    assert options is same
    assert options.max_length == 5


def test_a_table_with_another_type_is_another_one() -> None:
    """It is shown, and compared, with the types that it was declared with."""
    byte, _ = shared(table(b"x-max-length", b"b\x05"))
    longer, options = shared(table(b"x-max-length", b"I\x00\x00\x00\x05"))
    assert (byte.types["x-max-length"], longer.types["x-max-length"]) != (longer.types["x-max-length"],) * 2
    assert options.max_length == 5


def test_not_all_tables_are_remembered() -> None:
    """A client that declares each queue with other arguments has nothing kept for it."""
    first, _ = shared(table(b"x-expires", b"I\x00\x00\x00\x01"))
    for number in range(2, 200):
        found, options = shared(table(b"x-expires", b"I" + number.to_bytes(4, "big")))
        assert (found.values["x-expires"], options.expires_ms) == (number, number)
    assert shared(table(b"x-expires", b"I\x00\x00\x00\x01"))[0] is not first
    large = table(b"x-dead-letter-routing-key", b"S\x00\x00\x04\x00" + b"k" * 1024)
    assert shared(large)[0] is large
    assert shared(table(b"x-dead-letter-routing-key", b"S\x00\x00\x04\x00" + b"k" * 1024))[0] is not large
