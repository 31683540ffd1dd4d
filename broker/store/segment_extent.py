"""Where the records of a log are: extents in one file, and the segment extents that have left the write-ahead log for a
segment.

A log knows an extent for each turn that is still in the write-ahead log, but of a segment (segment.py) only a summary:
the segment extent. What stands where in it is read from the segment's index when somebody comes near, and forgotten
with it. So the memory for a backlog does not grow with the number of its messages.
"""

from __future__ import annotations

from typing import Final, final

from mypy_extensions import mypyc_attr

from broker.native import i64
from broker.store.batch import BatchLocation

MIXED: Final[i64] = 0
"""Kind of an extent that may hold both MESSAGE and TRANSIENT records."""


@final
@mypyc_attr(acyclic=True)
class Extent:
    """Records of one log, with consecutive positions, one behind the other in one batch."""

    __slots__ = ("count", "end", "first", "kind", "location", "start", "body_bytes")

    def __init__(self, first: i64, location: BatchLocation, start: i64) -> None:
        self.first: i64 = first
        self.count: i64 = 1
        self.location = location
        self.start: i64 = start
        """Where the first of them begins in the payload of the batch."""
        self.end: i64 = start
        self.body_bytes: i64 = 0
        """Sum of the sizes of their bodies, where recovery has found them."""
        self.kind: i64 = MIXED
        """In a segment: of all of them."""


@final
class Segment:
    """An immutable file of records of any logs."""

    def __init__(self, number: i64, size: i64) -> None:
        self.number: i64 = number
        """Its name; never used for another one."""
        self.size: i64 = size
        """Of the file, in bytes."""
        self.count: i64 = 0
        """Records in it."""
        self.live: i64 = 0
        """How many of them are live."""
        self.leaving = False
        """It is being rewritten or dropped."""
        self.on_pages = False
        """It is a page file (pages.py): no manifest knows it."""
        self.is_still = False
        """Of a page file: little was taken out of it between the last two looks."""
        self.seen_ms: i64 = 0
        """When the last look was, and how many of its records were live then."""
        self.seen_live: i64 = 0

    def live_size(self) -> i64:
        """Bytes of the file that are still needed, about."""
        if self.count == 0:
            return 0
        return self.size * self.live // self.count


@final
class SegmentExtent:
    """The records of one log in one segment: all that are live between its first and its last position."""

    __slots__ = (
        "count",
        "first",
        "index_offset",
        "index_size",
        "last",
        "live",
        "messages",
        "segment",
        "extents",
        "body_bytes",
    )

    def __init__(self, segment: Segment, first: i64, last: i64, count: i64) -> None:
        self.segment = segment
        self.first: i64 = first
        self.last: i64 = last
        self.count: i64 = count
        """Records, live or not."""
        self.live: i64 = 0
        self.messages: i64 = count
        """How many of the records are kept when the node restarts; the others are TRANSIENT."""
        self.body_bytes: i64 = 0
        """Sum of the sizes of their bodies."""
        self.index_offset: i64 = 0
        """Where in the segment the batch of the index stands that knows its extents."""
        self.index_size: i64 = 0
        self.extents: list[Extent] | None = None
        """Read from there when they are needed."""


def reaching(extents: list[Extent], low: i64, position: i64) -> i64:
    """Index, at or behind ``low``, of the first extent that reaches up to ``position`` or behind it."""
    high: i64 = len(extents)
    while low < high:
        middle = (low + high) // 2
        extent = extents[middle]
        if extent.first + extent.count <= position:
            low = middle + 1
        else:
            high = middle
    return low
