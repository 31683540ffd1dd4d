"""A run of delivered messages that come back, and a heap of such runs: the one whose next position is the smallest
comes first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from broker.message import ON_DISK, Message
from broker.native import i64
from broker.queues.entry import Entry

if TYPE_CHECKING:
    from broker.queues.message_backlog import MessageBacklog

NO_LIMIT: Final[i64] = 1 << 62
"""Behind every position."""


def is_missing(item: Message | Entry | None) -> bool:
    """Whether its content is on disk only."""
    return item is ON_DISK or (isinstance(item, Entry) and item.message is ON_DISK)


def body_size(item: Message | Entry | None) -> i64:
    """Of the content that is in memory."""
    if isinstance(item, Message):
        return item.body_size
    return item.message.body_size if isinstance(item, Entry) else 0


@final
class ReturnedRun:
    """Delivered messages that come back: the one at index i has position ``first_position + i * stride``.

    Whoever gets it owns it, and its list.
    """

    def __init__(
        self,
        items: list[Message | Entry | None],
        first_position: i64,
        stride: i64,
        offset: i64,
        live: i64,
        expiring: bool,
    ) -> None:
        self.items = items
        """None where it does not come back; an ``Entry`` where it expires; or ``ON_DISK``."""
        self.first_position: i64 = first_position
        self.stride: i64 = stride
        self.offset: i64 = offset
        """Items before it are not there any more."""
        self.live: i64 = live
        """Items that are there."""
        self.expiring = expiring
        """Some of them may be an ``Entry``."""
        self.key: i64 = 0
        """What it is sorted by: its next position, or a smaller one."""
        self.body_bytes: i64 = -1
        """Sum of the bodies' sizes; -1 before anybody has asked."""
        self.block: i64 = -1
        """Number of the block of single messages that it is; -1 if nothing is added to it any more."""

    def next_position(self) -> i64:
        """The position of the next one, if ``offset`` stands at one that is there."""
        return self.first_position + self.offset * self.stride

    def skip_missing(self) -> None:
        """Let ``offset`` stand at one that is there."""
        items = self.items
        index = self.offset
        size: i64 = len(items)
        while index < size and items[index] is None:
            index += 1
        self.offset = index

    def entries(self, end: i64) -> list[Entry]:
        """The messages before index ``end``, with their places in the queue."""
        result: list[Entry] = []
        index = self.offset
        while index < end:
            item = self.items[index]
            if isinstance(item, Entry):
                result.append(item)
            elif isinstance(item, Message):
                result.append(Entry(item, self.first_position + index * self.stride, 0))
            index += 1
        return result

    def taken(self) -> ReturnedRun:
        """The same messages as a run of its own, whose owner may do with them as he likes."""
        return ReturnedRun(self.items, self.first_position, self.stride, self.offset, self.live, self.expiring)

    def settle(self, backlog: MessageBacklog, end: i64) -> None:
        """Tell its backlog that those before index ``end`` will not come back."""
        whole = self.live == len(self.items) - self.offset
        for start, count in stretches(self.items, self.offset, end, whole):
            backlog.settle(self.first_position + start * self.stride, count, self.stride)

    def drop(self, end: i64) -> i64:
        """Let go of what stands before index ``end``; how many there were."""
        count: i64 = 0
        index = self.offset
        while index < end:
            if self.items[index] is not None:
                count += 1
                self.items[index] = None
            index += 1
        self.offset = end
        self.live -= count
        return count


def stretches(items: list[Message | Entry | None], start: i64, end: i64, whole: bool) -> list[tuple[int, int]]:
    """Where items are there from index ``start`` up to but not including ``end``, as (index, count); ``whole``:
    everywhere."""
    if whole:
        return [(int(start), int(end - start))] if end > start else []
    found: list[tuple[int, int]] = []
    index = start
    while index < end:
        if items[index] is None:
            index += 1
            continue
        first = index
        while index < end and items[index] is not None:
            index += 1
        found.append((int(first), int(index - first)))
    return found


@final
class RunHeap:
    """A binary heap of runs by their keys."""

    def __init__(self) -> None:
        self.runs: list[ReturnedRun] = []
        """The first is the one with the smallest key; the children of index i stand at 2 * i + 1 and 2 * i + 2."""

    def insert(self, run: ReturnedRun) -> None:
        """Put it where its key belongs."""
        runs = self.runs
        key = run.key
        at: i64 = len(runs)
        runs.append(run)
        while at > 0:
            parent = (at - 1) >> 1
            above = runs[parent]
            if above.key <= key:
                break
            runs[at] = above
            at = parent
        runs[at] = run

    def sink_first(self) -> None:
        """The first run's key has grown: put it where it belongs."""
        runs = self.runs
        size: i64 = len(runs)
        run = runs[0]
        key = run.key
        at: i64 = 0
        child: i64 = 1
        while child < size:
            below = runs[child]
            if child + 1 < size:
                other = runs[child + 1]
                if other.key < below.key:
                    child += 1
                    below = other
            if below.key >= key:
                break
            runs[at] = below
            at = child
            child = 2 * at + 1
        runs[at] = run

    def remove_first(self) -> ReturnedRun:
        """Take the first run out."""
        runs = self.runs
        run = runs[0]
        last = runs.pop()
        if runs:
            runs[0] = last
            self.sink_first()
        return run

    def second_key(self) -> i64:
        """The smallest key of all runs but the first."""
        runs = self.runs
        size: i64 = len(runs)
        limit = NO_LIMIT
        if size > 1:
            limit = runs[1].key
        if size > 2 and runs[2].key < limit:
            limit = runs[2].key
        return limit
