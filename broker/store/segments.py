"""All segments of a node, by number, and those that have become empty."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

from broker.native import i64
from broker.store.segment_extent import Segment


@final
class Segments:
    """The segments in which something may be live. Page files (pages.py) count their live records here as well."""

    def __init__(self) -> None:
        self.by_number: dict[int, Segment] = {}
        self.next_number: i64 = 1
        """No segment has this number, or a greater one."""
        self.on_empty_page_file: Callable[[Segment], None] | None = None
        """Told of a page file in which nothing is live any more."""
        self._empty: list[Segment] = []

    def new_number(self) -> i64:
        """The number of a new segment. Numbers are not used twice."""
        number = self.next_number
        self.next_number = number + 1
        return number

    def skip_to(self, number: i64) -> None:
        """New segments have this number, or a greater one."""
        if number > self.next_number:
            self.next_number = number

    def add(self, segment: Segment) -> None:
        """Something in it may be live."""
        self.by_number[int(segment.number)] = segment

    def remove(self, number: i64) -> None:
        """Nothing refers to it any more."""
        del self.by_number[int(number)]

    def unload(self, segment: Segment, count: i64) -> None:
        """So many records of a segment are not live any more."""
        segment.live -= count
        if segment.live == 0 and count > 0:
            if segment.on_pages:
                on_empty_page_file = self.on_empty_page_file
                if on_empty_page_file is not None:
                    on_empty_page_file(segment)
            else:
                self._empty.append(segment)

    def look_at(self, segment: Segment) -> None:
        """What is live in it is known now: perhaps nothing is."""
        if segment.live == 0:
            self._empty.append(segment)

    def take_empty(self) -> list[Segment]:
        """Those in which nothing is live, since the last call."""
        found: dict[int, Segment] = {}
        for segment in self._empty:
            if segment.live == 0 and not segment.leaving:
                found[int(segment.number)] = segment
        self._empty = []
        return list(found.values())
