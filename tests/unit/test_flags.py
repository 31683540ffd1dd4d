"""Flags of neighbouring numbers (broker/flags.py)."""

from __future__ import annotations

from broker.flags import next_flag, zeros


def test_flags_are_found_by_their_value() -> None:
    flags = zeros(8)
    for index in (2, 3, 6):
        flags[index] = 1
    assert [int(next_flag(flags, 1, index, 8)) for index in range(9)] == [2, 2, 2, 3, 6, 6, 6, 8, 8]
    assert [int(next_flag(flags, 0, index, 8)) for index in (0, 2, 6, 7)] == [0, 4, 7, 7]
    assert int(next_flag(flags, 1, 4, 6)) == 6, "the end, if there is none before it"
