"""Consecutive deliveries of one consumer, kept as one: which of them are settled (unacked.py)."""

from __future__ import annotations

from typing import final

from librt.strings import BytesWriter

from broker.flags import next_flag, zeros
from broker.native import i64
from broker.queues.consumer import Consumer
from broker.queues.queue_link import QueueLink


@final
class Run:
    """Consecutive deliveries: the one at index i has tag first_tag + i and position first_position + i * stride."""

    def __init__(
        self, consumer: Consumer | None, link: QueueLink, level: i64, first_tag: i64, first_position: i64, stride: i64
    ) -> None:
        self.consumer = consumer
        """None for a basic.get."""
        self.link = link
        """Where they came from."""
        self.level: i64 = level
        self.first_tag: i64 = first_tag
        self.first_position: i64 = first_position
        self.stride: i64 = stride
        self.since_ms: i64 = 0
        """When the first of them was delivered, on the node's clock."""
        self.size: i64 = 0
        """Deliveries, settled or not."""
        self.offset: i64 = 0
        """Those before it are settled."""
        self.live: i64 = 0
        """Deliveries that are not settled."""
        self.settled: BytesWriter | None = None
        """1 at the index of each that is settled, as far as it does not stand before ``offset``; None if none is."""

    def sized(self, size: i64) -> Run:
        """The run, with so many deliveries that are not settled."""
        self.size = size
        self.live = size
        return self

    def grow(self, count: i64) -> None:
        """So many more."""
        self.size += count
        self.live += count
        settled = self.settled
        if settled is not None:
            settled.write(bytes(int(count)))

    def last_tag(self) -> i64:
        """The tag of the last one."""
        return self.first_tag + self.size - 1

    def weight(self) -> i64:
        """How much work it is to settle it, in short runs without gaps."""
        weight = 1 + self.live // 64
        return weight if self.settled is None else weight + self.size // 32

    def take_out(self, index: i64) -> None:
        """The one at this index is settled now."""
        self.live -= 1
        if index == self.offset:
            self.offset += 1
            return
        self._flags()[index] = 1

    def _flags(self) -> BytesWriter:
        """``settled``, from now on."""
        settled = self.settled
        if settled is None:
            settled = zeros(self.size)
            self.settled = settled
        return settled

    def cut(self, size: i64) -> i64:
        """Those before index ``size`` do not belong to it any more; how many of them were not settled."""
        count: i64 = 0
        for _, part in self.ranges(size):
            count += part
        self.live -= count
        self.first_tag += size
        self.first_position += size * self.stride
        self.size -= size
        self.offset = self.offset - size if self.offset > size else 0
        settled = self.settled
        if settled is not None:
            rest = BytesWriter()
            rest.write(settled.getvalue()[size:])
            self.settled = rest if self.live < self.size - self.offset else None
        return count

    def part(self, size: i64) -> Run:
        """Those before index ``size``, as a run of their own."""
        part = Run(self.consumer, self.link, self.level, self.first_tag, self.first_position, self.stride).sized(size)
        part.since_ms = self.since_ms
        part.offset = self.offset if self.offset < size else size
        settled = self.settled
        if settled is not None:
            part.settled = BytesWriter()
            part.settled.write(settled.getvalue()[:size])
        part.live = 0
        for _, count in self.ranges(size):
            part.live += count
        return part

    def fill(self, part: Run) -> None:
        """What ``part`` holds, which has left gaps here, belongs to it again."""
        start = part.first_tag - self.first_tag
        settled = self._flags()
        index: i64 = 0
        while index < self.offset:
            settled[index] = 1
            index += 1
        for first, count in part.ranges(part.size):
            index = start + first
            end = index + count
            if index < self.offset:
                self.offset = index
            while index < end:
                settled[index] = 0
                index += 1
        self.live += part.live

    def ranges(self, size: i64) -> list[tuple[int, int]]:
        """Where among the first ``size`` deliveries those are that are not settled, as (index, count)."""
        found: list[tuple[int, int]] = []
        index = self.offset
        settled = self.settled
        if settled is None or self.live == self.size - index:
            return [(int(index), int(size - index))] if index < size else found
        first = next_flag(settled, 0, index, size)
        while first < size:
            index = next_flag(settled, 1, first, size)
            found.append((int(first), int(index - first)))
            first = next_flag(settled, 0, index, size)
        return found

    def settle(self, size: i64) -> None:
        """Tell the queue, if it is still there, that the unsettled ones among the first ``size`` are acknowledged."""
        for index, count in self.ranges(size):
            self.settle_range(index, count)

    def settle_range(self, index: i64, count: i64) -> None:
        """The same for so many from this index on, none of which is settled."""
        queue = self.link.queue
        if queue is None:
            return
        figures = queue.figures
        if figures is not None:  # which has counted their delivery
            if figures.resting:
                figures.stir()
            figures.ack += count
        queue.settle(self.level, self.first_position + index * self.stride, count, self.stride)


def swallow(runs: list[Run], at: i64) -> i64:
    """The run at this index takes in those behind it that stand in its gaps; how many of these were settled."""
    run = runs[at]
    settled: i64 = 0
    end = at + 1
    while end < len(runs) and runs[end].first_tag <= run.last_tag():
        other = runs[end]
        if other.live > 0:
            run.fill(other)
        else:
            settled += 1
        end += 1
    del runs[at + 1 : end]
    return settled
