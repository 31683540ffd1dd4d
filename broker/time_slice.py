"""How long one phase of a turn (turn.py) may go on: whatever does not fit into its slice waits for the next turn."""

from typing import Final, final

from broker.clock import NEVER
from broker.native import i64

SLICE_US: Final[i64] = 800
"""A phase of a turn goes on for so long at the most."""
READS_US: Final[i64] = 3 * SLICE_US
"""Reads are decoded for so long after what was deferred has been taken: mostly that is little, and else there is less
to do for each message when there are more in a turn (16 B: 3 % of all CPU, compared with another slice)."""
SLICE_MIN_US: Final[i64] = SLICE_US // 4
"""A phase may go on for so long, whatever came before: who comes last is not to wait for a whole slice of
everything."""


@final
class TimeSlice:
    """The slice of the phase that runs. Between two turns there is none, until somebody looks."""

    def __init__(self) -> None:
        self._until_us: i64 = NEVER
        self._is_unlimited = False

    def is_over(self, now_us: i64) -> bool:
        """Whether the phase is to end.

        What is done between two turns (timers, what the HTTP API asks for) has a slice from its first look on.
        """
        if self._until_us == NEVER and not self._is_unlimited:
            self._until_us = now_us + SLICE_US
            return False
        return now_us >= self._until_us

    def has_begun(self) -> bool:
        """Whether there is one now."""
        return self._until_us != NEVER

    def ends_by(self, now_us: i64) -> bool:
        """Whether it is over at this time."""
        return now_us >= self._until_us

    def start(self, now_us: i64, length_us: i64 = SLICE_US) -> None:
        """Another one begins."""
        self._until_us = now_us + length_us

    def start_short(self, now_us: i64, until_us: i64) -> None:
        """One begins that ends at ``until_us``, but neither at once nor later than any other."""
        left = until_us - now_us
        if left > SLICE_US:
            left = SLICE_US
        self._until_us = now_us + (left if left > SLICE_MIN_US else SLICE_MIN_US)

    def end(self) -> None:
        """No phase runs."""
        self._until_us = NEVER

    def set_unlimited(self, is_unlimited: bool) -> None:
        """Whether everything is done, however long it takes."""
        self._until_us = NEVER
        self._is_unlimited = is_unlimited
