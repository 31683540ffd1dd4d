"""Integers of 0 to 2^62 - 1 in as few bytes as they need: seven bits each, the lowest first; all but the last byte have
their highest bit set (Protocol Buffers, Base 128 Varints). Each number has one encoding only."""

from __future__ import annotations

from typing import Final, final

from librt.strings import BytesWriter

from broker.native import i64

VARINT_MAX: Final[i64] = (1 << 62) - 1
"""The largest number that is written or read."""


def write_varint(writer: BytesWriter, value: i64) -> None:
    """Append ``value``, which must be 0 to ``VARINT_MAX``."""
    while value > 127:
        writer.append(int(value & 127) | 128)
        value >>= 7
    writer.append(int(value))


def write_signed(writer: BytesWriter, value: i64) -> None:
    """Append ``value``, which may be negative and must be less than 2^61 either way: small ones stay short (zigzag)."""
    write_varint(writer, value * 2 if value >= 0 else -value * 2 - 1)


@final
class VarintReader:
    """Reads such numbers, one behind the other."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at: i64 = 0
        """Where the next one begins."""
        self.end: i64 = len(data)
        """Where the data end."""

    def byte(self) -> i64:
        """The next byte, whatever it is.

        Raises: ValueError if the data have ended
        """
        at = self.at
        if at >= self.end:
            raise ValueError("the data end too early")
        self.at = at + 1
        return self.data[at]

    def number(self) -> i64:
        """The next number.

        Raises: ValueError if there is none
        """
        at = self.at
        end = self.end
        data = self.data
        if at < end:
            first: i64 = data[at]
            if first < 128:
                self.at = at + 1
                return first
        value: i64 = 0
        shift: i64 = 0
        while at < end and shift < 63:
            byte: i64 = data[at]
            at += 1
            value |= (byte & 127) << shift
            if byte < 128:
                if (byte == 0 and shift > 0) or value > VARINT_MAX:
                    break
                self.at = at
                return value
            shift += 7
        raise ValueError("no number")

    def signed(self) -> i64:
        """The next number that ``write_signed`` has written.

        Raises: ValueError if there is none
        """
        value = self.number()
        return -((value + 1) >> 1) if value & 1 else value >> 1
