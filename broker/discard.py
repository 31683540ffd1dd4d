"""Lets go of many objects a slice at a time: their memory is given back one by one, which takes 0.1 s for a million
messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, final

from broker.native import i64
from broker.turn import SlicedWork, Turn

_AT_ONCE_MAX: Final[i64] = 4096
"""So many are not worth the trouble."""
_SLICE: Final[i64] = 1024
"""Between two looks at the clock."""


@final
class _Discard(SlicedWork):
    def __init__(self, turn: Turn, lists: list[list[Any]]) -> None:
        self._turn = turn
        self._lists = lists

    def step(self) -> bool:
        lists = self._lists
        while lists:
            items = lists[-1]
            size: i64 = len(items)
            if size > _SLICE:
                del items[size - _SLICE :]
            else:
                lists.pop()
                items = []
            if self._turn.out_of_time():
                break
        return not lists


def discard(turn: Turn | None, lists: Sequence[list[Any]]) -> None:
    """Empty these lists, which nobody else may use any more, now or in the next turns; without a turn they are let go
    at once."""
    count: i64 = 0
    for items in lists:
        count += len(items)
    if count > _AT_ONCE_MAX and turn is not None:
        turn.begin(_Discard(turn, list(lists)))
