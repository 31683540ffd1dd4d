"""Whether the owner's thread may write a commit group itself, instead of handing it to the thread that writes.

Two changes of threads cost as much as the sync itself (measured: 300 us instead of 220 us for one message at a time).
Under load the thread writes, and so it does where the disk is slow: the owner's thread must not wait for it.
"""

from typing import Final, final

from broker.native import i64
from broker.turn import Turn

DIRECT_SIZE_MAX: Final[i64] = 16384
"""Bytes of the largest group that is written on the owner's thread, and of the largest input of a turn that does it."""
DIRECT_MS_MAX: Final = 0.5
"""A disk that took longer in the mean of the last dozen or so is slow: it is not waited for during a pause."""
DIRECT_STALL_MS: Final[i64] = 10
"""So is one that took so long a single time."""
DIRECT_PAUSE_MS_MIN: Final[i64] = 50
"""The first pause; each further one is twice as long as the one before."""
DIRECT_PAUSE_MS_MAX: Final[i64] = 10_000
"""The longest pause: a disk that is always slow costs the owner's thread a few syncs in ten seconds."""
_MEAN_OF: Final = 16


@final
class DirectWrites:
    """How quick the disk has been."""

    def __init__(self) -> None:
        self._allowed_from_ms: i64 = 0
        self._pause_ms: i64 = DIRECT_PAUSE_MS_MIN
        self._mean_ms = 0.0

    def may_write(self, size: i64, turn: Turn, now_ms: i64) -> bool:
        """Whether the owner's thread may write a group of this size now."""
        return size <= DIRECT_SIZE_MAX and turn.input_bytes <= DIRECT_SIZE_MAX and now_ms >= self._allowed_from_ms

    def wrote(self, took_ms: i64, now_ms: i64) -> None:
        """It has, and it took so long: whether it may wait for this disk again."""
        self._mean_ms += (int(took_ms) - self._mean_ms) / _MEAN_OF
        if self._mean_ms > DIRECT_MS_MAX or took_ms >= DIRECT_STALL_MS:
            self._mean_ms = 0.0
            self._allowed_from_ms = now_ms + self._pause_ms
            self._pause_ms *= 2
            if self._pause_ms > DIRECT_PAUSE_MS_MAX:
                self._pause_ms = DIRECT_PAUSE_MS_MAX
        elif now_ms >= self._allowed_from_ms + self._pause_ms:
            self._pause_ms = DIRECT_PAUSE_MS_MIN  # quick for as long as it was not asked before
