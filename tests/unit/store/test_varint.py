"""Integers in as few bytes as they need (broker/store/varint.py)."""

from __future__ import annotations

import pytest
from librt.strings import BytesWriter

from broker.store.varint import VARINT_MAX, VarintReader, write_signed, write_varint


@pytest.mark.parametrize(
    ("number", "data"),
    [(0, b"\x00"), (127, b"\x7f"), (128, b"\x80\x01"), (300, b"\xac\x02"), (VARINT_MAX, b"\xff" * 8 + b"\x3f")],
)
def test_small_numbers_are_short(number: int, data: bytes) -> None:
    writer = BytesWriter()
    write_varint(writer, number)
    assert writer.getvalue() == data
    reader = VarintReader(data + b"\x05")
    assert (reader.number(), reader.number(), reader.at) == (number, 5, len(data) + 1)


@pytest.mark.parametrize("number", [0, 1, -1, 63, -64, 10**9, -(10**9), (1 << 61) - 1, -(1 << 61) + 1])
def test_signed_numbers_come_back(number: int) -> None:
    writer = BytesWriter()
    write_signed(writer, number)
    assert VarintReader(writer.getvalue()).signed() == number


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80",
        b"\x80\x00",  # 0 has one encoding
        b"\xff" * 8 + b"\x40",  # 2^62 and more
        b"\xff" * 8 + b"\x80\x01",
        b"\xff" * 20,
    ],
)
def test_junk_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="no number"):
        VarintReader(data).number()


def test_bytes_end() -> None:
    reader = VarintReader(b"\xfe")
    assert reader.byte() == 254
    with pytest.raises(ValueError, match="too early"):
        reader.byte()
