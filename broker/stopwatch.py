"""How long the event loop is kept by one turn, and by what in it: the metric ``leveret_turn_seconds``, and a warning
for one over 100 ms.

The clock is read once per phase of a turn and every few objects in it, never per message. A turn begins with its first
read.
"""

from collections.abc import Sequence
from typing import Final, final

from broker.faults import FaultOwner
from broker.logsetup import get_logger
from broker.native import i64

SLOW_US: Final[i64] = 100_000
"""A turn, or a timer, that takes longer is told."""
SLICE: Final[i64] = 8
"""So many objects are looked at together: one of them is named when the turn was slow."""
BOUNDS_US: Final[list[int]] = [
    100,
    250,
    500,
    1000,
    2500,
    5000,
    10_000,
    20_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    5_000_000,
]
"""Upper bounds of the histogram's buckets; one more holds what is longer."""

_log: Final = get_logger("turn")


def label_of(work: object) -> str:
    """How the log calls a piece of work: by the client whose it is, if it is one's."""
    if work is None:
        return ""
    whose = getattr(work, "fault_owner", None)
    owner = work if isinstance(work, FaultOwner) else whose() if whose is not None else None
    if isinstance(owner, FaultOwner):
        return owner.fault_label()
    name = getattr(work, "name", None)
    kind = type(work).__name__
    return f"{kind} '{name}'" if isinstance(name, str) else kind


@final
class Stopwatch:
    """The times of one node's turns."""

    def __init__(self) -> None:
        self.buckets: list[int] = [0] * (len(BOUNDS_US) + 1)
        self.sum_us = 0
        self.where = ""
        """What the loop does now, if it does not sleep; read by the watchdog's thread."""
        self.last_us: i64 = 0
        """When the last slice ended, and the next began."""
        self._longest_us: i64 = 0
        self._longest_where = ""
        self._longest_one: object = None
        self._longest_of: Sequence[object] = ()
        self._longest_first: i64 = 0
        self._longest_end: i64 = 0

    def start(self, where: str, now_us: i64) -> None:
        """The first slice begins; each other one begins where the one before it ends."""
        self.where = where
        self.last_us = now_us

    def slice(self, items: Sequence[object], first: i64, end: i64, now_us: i64) -> None:
        """A slice is over: it dealt with these of the items."""
        took = now_us - self.last_us
        self.last_us = now_us
        if took > self._longest_us:
            self._longest_us = took
            self._longest_where = self.where
            self._longest_of = items
            self._longest_first = first
            self._longest_end = end

    def slice_of(self, item: object, now_us: i64) -> None:
        """The same for one item, without a list."""
        took = now_us - self.last_us
        self.last_us = now_us
        if took > self._longest_us:
            self._longest_us = took
            self._longest_where = self.where
            self._longest_one = item
            self._longest_of = ()
            self._longest_end = 0

    def turn(self, took_us: i64) -> None:
        """A turn is over."""
        index = 0
        for bound in BOUNDS_US:
            if took_us <= bound:
                break
            index += 1
        self.buckets[index] += 1
        self.sum_us += int(took_us)
        self.end("A turn of the event loop took too long", took_us)

    def end(self, event: str, took_us: i64) -> None:
        """What began with the first slice is over: told, with its longest slice, if it took too long."""
        if took_us > SLOW_US:
            labels = [label_of(work) for work in self._longest_of[self._longest_first : self._longest_end]] or [
                label_of(self._longest_one)
            ]
            _log.warning(
                event,
                ms=int(took_us // 1000),
                where=self._longest_where,
                where_ms=int(self._longest_us // 1000),
                whose=", ".join(labels),
            )
        self.where = ""
        self._longest_us = 0
        self._longest_of = ()
        self._longest_one = None
