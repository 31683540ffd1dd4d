"""A flag for each of some neighbouring numbers: 0 or 1 in a ``BytesWriter``, whose bytes compiled code reaches fast."""

from __future__ import annotations

from librt.strings import BytesWriter

from broker.native import i64


def zeros(size: i64) -> BytesWriter:
    """So many flags, none of which is set."""
    flags = BytesWriter()
    flags.write(bytes(int(size)))
    return flags


def next_flag(flags: BytesWriter, value: i64, index: i64, end: i64) -> i64:
    """The first index from ``index`` on at which the flag is ``value``; ``end`` if there is none before it."""
    while index < end and flags[index] != value:
        index += 1
    return index
