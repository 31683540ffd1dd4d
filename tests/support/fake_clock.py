"""A clock that stands still until a test moves it."""

from __future__ import annotations

from typing import Final

from broker.clock import NEVER, Clock

STARTS_AT_MS: Final = 1_000_000
"""Not zero: a deadline of 0 means "none" in the broker."""
WALL_STARTS_AT_S: Final = 1_700_000_000


class FakeClock(Clock):
    """The broker's clock with the operating system taken out: both times move by `advance` alone."""

    def __init__(self, start_ms: int = STARTS_AT_MS) -> None:
        self.time_ms = start_ms
        self.wall_offset_ms = WALL_STARTS_AT_S * 1000 - start_ms
        super().__init__()

    def monotonic_ms(self) -> int:
        return self.time_ms

    def monotonic_us(self) -> int:
        return self.time_ms * 1000

    def slice_us(self) -> int:
        return self.time_ms * 1000

    def system_wall_ms(self) -> int:
        return self.time_ms + self.wall_offset_ms

    def advance(self, ms: int) -> None:
        """Moves both times forward; every timer that falls due on the way runs at its own deadline, in order."""
        end = self.time_ms + ms
        while True:
            following = self.next_deadline()
            if following == NEVER or following > end:
                break
            self.time_ms = max(self.time_ms, int(following))
            self.run_due()
        self.time_ms = end
        self.refresh()


class HurriedClock(FakeClock):
    """With every look at it the slice of a turn is over: whatever can be left for the next turn is left
    (broker/turn.py)."""

    def __init__(self, start_ms: int = STARTS_AT_MS) -> None:
        self.looks = 0
        super().__init__(start_ms)

    def slice_us(self) -> int:
        self.looks += 1
        return self.looks * 10_000
