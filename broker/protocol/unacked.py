"""Delivery tag -> what was delivered, for one channel (AMQP 0-9-1 basic.ack; RabbitMQ docs, Consumer Acknowledgements).

Deliveries are kept as runs: consecutive delivery tags of one consumer whose messages stood in one line at equal
distances. An acknowledgement of many is then a slice, one of a single message an index; nothing is stored per message
but the message. A queue that is deleted is let go at once: the link that its deliveries share is cut
(queues/queue_link.py).
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Final, final

from broker.discard import discard
from broker.errors import PRECONDITION_FAILED, ChannelException
from broker.message import Message
from broker.native import i64
from broker.queues.consumer import Consumer
from broker.queues.entry import Entry
from broker.queues.queue import Queue
from broker.queues.queue_link import QueueLink
from broker.queues.returned_run import ReturnedRun, stretches
from broker.turn import Turn

_RUN_MAX: Final[i64] = 4096
_COMPACT_AT: Final[i64] = 64
_DISCARD_AT: Final[i64] = 4096
_SHARE: Final[i64] = 64
"""So many runs are settled or taken between two looks at the clock; a run with gaps counts for more, by its size."""
_EVICTED_MIN: Final[i64] = 256
"""So many earlier messages are looked at when a delivery finds the memory short, or twice what is delivered."""


def unknown_tag(tag: i64) -> ChannelException:
    """The answer to a settlement of something that is not outstanding."""
    return ChannelException(PRECONDITION_FAILED, f"unknown delivery tag {int(tag) & 0xFFFFFFFFFFFFFFFF}")


@final
class Run:
    """Consecutive deliveries: the one at index i has tag first_tag + i and position first_position + i * stride."""

    def __init__(
        self,
        consumer: Consumer | None,
        link: QueueLink,
        level: i64,
        first_tag: i64,
        first_position: i64,
        stride: i64,
        items: list[Message | Entry | None],
    ) -> None:
        self.consumer = consumer
        """None for a basic.get."""
        self.link = link
        """Where they came from."""
        self.level: i64 = level
        self.first_tag: i64 = first_tag
        self.first_position: i64 = first_position
        self.stride: i64 = stride
        self.items = items
        """None where it is settled."""
        self.offset: i64 = 0
        """Items before it are settled."""
        self.live: i64 = len(items)
        """Items that are not settled."""
        self.expiring = isinstance(items[0], Entry)
        """Some of them may be an ``Entry``."""

    def last_tag(self) -> i64:
        """The tag of the last item."""
        return self.first_tag + len(self.items) - 1

    def weight(self) -> i64:
        """How much work it is to settle it, in runs without gaps."""
        size: i64 = len(self.items)
        return 1 if self.live == size - self.offset else 1 + size // 32

    def settle(self, size: i64) -> None:
        """Tell the queue, if it is still there, that the unsettled ones among the first ``size`` items are settled."""
        queue = self.link.queue
        if queue is None:
            return
        level = self.level
        index = self.offset
        if self.live == len(self.items) - index:
            _settle(queue, level, self.first_position + index * self.stride, size - index, self.stride)
            return
        # what is missing was settled before, or it waits in its queue again
        for start, count in stretches(self.items, index, size, False):
            _settle(queue, level, self.first_position + start * self.stride, count, self.stride)

    def returned(self) -> ReturnedRun:
        """The unsettled messages, as their queue gets them back; they are not this run's any more."""
        items = self.items
        self.items = []
        return ReturnedRun(items, self.first_position, self.stride, self.offset, self.live, self.expiring)


def _settle(queue: Queue, level: i64, first: i64, count: i64, stride: i64) -> None:
    """These deliveries of the queue were acknowledged."""
    figures = queue.figures
    if figures is not None:  # which has counted their delivery
        if figures.resting:
            figures.stir()
        figures.ack += count
    queue.settle(level, first, count, stride)


def _first_tag(run: Run) -> int:
    return run.first_tag


@final
class Unacked:
    """The unacknowledged deliveries of one channel; hands out its delivery tags, from 1."""

    def __init__(self, turn: Turn) -> None:
        self.next_tag: i64 = 1
        self.count: i64 = 0
        """All outstanding deliveries."""
        self.consumer_count: i64 = 0
        """Those that consumers got: what basic.qos counts (a basic.get is not limited)."""
        self.uncommitted: i64 = 0
        """Settled inside a transaction: no longer outstanding, but they fill a channel-wide window until the commit."""
        self.keeps_places = False
        """What is settled in a transaction may come back: the places of its runs are kept until the transaction is
        over."""
        self._turn = turn
        self._runs: list[Run] = []
        """By their tags. The last one is not settled; those before ``_head`` are, and ``_settled_runs`` of those behind
        it."""
        self._head: i64 = 0
        self._settled_runs: i64 = 0
        self._evicted: i64 = 0
        """Below this tag, nothing that can be read back is kept in memory."""

    def skip(self, count: i64) -> i64:
        """Tags for deliveries that are never acknowledged; returns the first."""
        tag = self.next_tag
        self.next_tag += count
        return tag

    def add(
        self,
        consumer: Consumer | None,
        queue: Queue,
        level: i64,
        items: list[Message | Entry | None],
        first_position: i64,
        stride: i64,
    ) -> i64:
        """Record deliveries; returns the tag of the first."""
        runs = self._runs
        if runs:
            item = items[0]
            message = item.message if isinstance(item, Entry) else item
            if message is not None and queue.over_memory_limit(level, message):
                self._evict(2 * len(items))
        tag = self.next_tag
        count: i64 = len(items)
        self.next_tag += count
        self.count += count
        if consumer is not None:
            self.consumer_count += count
        if runs and stride == 1:
            last = runs[-1]
            size: i64 = len(last.items)
            if (
                last.link is queue.link
                and last.level == level
                and last.consumer is consumer
                and last.stride == 1
                and size < _RUN_MAX
                and last.first_tag + size == tag
                and last.first_position + size == first_position
            ):
                last.items.extend(items)
                last.live += count
                if isinstance(items[0], Entry):
                    last.expiring = True
                return tag
        runs.append(Run(consumer, queue.link, level, tag, first_position, stride, items))
        return tag

    def _evict(self, left: i64) -> None:
        """Take the content of some of what was delivered earlier out of the memory, where it can be read back
        (queues/reload.py)."""
        if left < _EVICTED_MIN:
            left = _EVICTED_MIN
        runs = self._runs
        at: i64 = bisect_right(runs, self._evicted, key=_first_tag) - 1
        if at < self._head:
            at = self._head
        while at < len(runs):
            run = runs[at]
            start = self._evicted - run.first_tag
            if start < run.offset:
                start = run.offset
            end: i64 = len(run.items)
            if start + left < end:
                end = start + left
            queue = run.link.queue
            stopped = end
            if queue is not None and start < end:
                stopped = queue.evict(run.level, run.items, start, end, run.first_position, run.stride)
            if stopped > start:
                left -= stopped - start
            left -= 1
            self._evicted = run.first_tag + stopped
            if left <= 0 or stopped < end:
                return
            at += 1
        self._evicted = self.next_tag

    def _find(self, tag: i64) -> i64:
        """Index of the run that holds ``tag``.

        Raises: PRECONDITION_FAILED (406) if it is not outstanding.
        """
        runs = self._runs
        if not runs:
            raise unknown_tag(tag)
        at = self._head
        run = runs[at]
        if tag > run.last_tag():
            at = bisect_right(runs, tag, lo=at, key=_first_tag) - 1
            run = runs[at]
        index = tag - run.first_tag
        if index < 0 or index >= len(run.items) or run.items[index] is None:
            raise unknown_tag(tag)
        return at

    def ack(self, tag: i64, multiple: bool) -> i64:
        """Settle one delivery, or all up to ``tag`` (0: all there are); returns how many.

        Raises: PRECONDITION_FAILED (406) ``unknown delivery tag N``.
        """
        if multiple:
            return self._ack_up_to(tag)
        at = self._find(tag)
        run = self._runs[at]
        index = tag - run.first_tag
        self._take_out(run, at, index)
        queue = run.link.queue
        if queue is not None:
            _settle(queue, run.level, run.first_position + index * run.stride, 1, run.stride)
        self._settled(run, 1)
        return 1

    def _take_out(self, run: Run, at: i64, index: i64) -> None:
        """The item at ``index`` of the run at index ``at`` is not its any more."""
        run.items[index] = None
        run.live -= 1
        if run.live == 0:
            self._remove(at)
        elif index == run.offset:
            run.offset += 1

    def _remove(self, at: i64) -> None:
        """The run at this index is settled."""
        runs = self._runs
        if at == self._head:
            self._remove_before(at + 1)
        elif at == len(runs) - 1:
            del runs[at]
            while runs[-1].live == 0:
                del runs[-1]
                self._settled_runs -= 1
        else:  # those behind it stay where they are until it is worth moving them
            runs[at].items = []
            runs[at].offset = 0
            self._settled_runs += 1
            if not self.keeps_places:
                self._compact()

    def _compact(self) -> None:
        if self._settled_runs >= _COMPACT_AT and self._settled_runs * 2 >= len(self._runs) - self._head:
            self._runs = self._unsettled()
            self._head = 0
            self._settled_runs = 0

    def _remove_before(self, end: i64) -> None:
        """The runs before index ``end`` are settled, and not among ``_settled_runs``."""
        runs = self._runs
        size: i64 = len(runs)
        while end < size and runs[end].live == 0:
            end += 1
            self._settled_runs -= 1
        if size < _COMPACT_AT or end * 2 >= size:
            del runs[:end]
            self._head = 0
            return
        at = self._head
        first = runs[at]
        gone = Run(None, first.link, 0, first.first_tag, 0, 1, [None])
        gone.live = 0
        while at < end:  # let go of them now, and of their slots later
            runs[at] = gone
            at += 1
        self._head = end

    def _unsettled(self) -> list[Run]:
        """The runs that are not settled."""
        if self._head == 0 and self._settled_runs == 0:
            return self._runs
        return [run for run in self._runs[self._head :] if run.live > 0]

    def _settled(self, run: Run, count: i64) -> None:
        self.count -= count
        consumer = run.consumer
        if consumer is not None:
            self.consumer_count -= count
            consumer.settled(count)

    def _ack_up_to(self, tag: i64) -> i64:
        last: i64 = len(self._runs) - 1
        if tag:
            last = self._find(tag)
        return self._ack_through(last, tag)

    def _ack_through(self, last: i64, tag: i64) -> i64:
        """The same, up to the run at index ``last`` and up to ``tag`` in it; 0: all of it."""
        runs = self._runs
        total: i64 = 0
        at = self._head
        whole = last
        if tag and runs[last].last_tag() > tag:
            whole = last - 1
        while at <= whole:
            run = runs[at]
            at += 1
            if run.live == 0:
                self._settled_runs -= 1
                continue
            total += run.live
            run.settle(len(run.items))
            self._settled(run, run.live)
        if total >= _DISCARD_AT:
            discard(self._turn, [run.items for run in runs[self._head : at]])
        if whole < last:
            run = runs[last]
            run.settle(tag - run.first_tag + 1)
            count = self._cut(run, tag - run.first_tag + 1)
            total += count
            self._settled(run, count)
            if run.live == 0:
                at += 1
        if at > self._head:
            self._remove_before(at)
        return total

    def _cut(self, run: Run, size: i64) -> i64:
        """Settle the first ``size`` items of a run; returns how many were not settled before."""
        items = run.items
        count: i64 = 0
        index = run.offset
        while index < size:
            if items[index] is not None:
                count += 1
            index += 1
        del items[:size]
        run.first_tag += size
        run.first_position += size * run.stride
        run.offset = 0
        run.live -= count
        return count

    def take(self, tag: i64) -> Run:
        """Remove one delivery, and return it as a run. Its queue is not told. (Of many: ``take_some``.)

        Raises: PRECONDITION_FAILED (406) ``unknown delivery tag N``.
        """
        at = self._find(tag)
        run = self._runs[at]
        index = tag - run.first_tag
        item = run.items[index]
        part = Run(run.consumer, run.link, run.level, tag, run.first_position + index * run.stride, run.stride, [item])
        self._take_out(run, at, index)
        self._taken(part)
        return part

    def _take_through(self, last: i64, tag: i64) -> list[Run]:
        """Remove everything up to the run at index ``last``, and up to ``tag`` in it."""
        runs = self._runs
        end = last + 1
        taken = [run for run in runs[self._head : end] if run.live > 0]
        self._settled_runs -= end - self._head - len(taken)
        if not taken:
            self._remove_before(end)
            return taken
        run = taken[-1]
        size = tag - run.first_tag + 1
        if size < len(run.items):
            part = Run(
                run.consumer, run.link, run.level, run.first_tag, run.first_position, run.stride, run.items[:size]
            )
            part.offset = run.offset if run.offset < size else size
            part.live = self._cut(run, size)
            part.expiring = run.expiring
            taken[-1] = part
            if run.live > 0:
                end = last
        self._remove_before(end)
        for run in taken:
            self._taken(run)
        return taken

    # ---- a share at a time -------------------------------------------------------------------------------------------

    def last_tag(self) -> i64:
        """No delivery with a greater tag is outstanding; 0 if none is at all."""
        return self._runs[-1].last_tag() if self._runs else 0

    def through(self, tag: i64) -> i64:
        """Up to where a settlement of many reaches that names ``tag``: to that one, or, with 0, to the last one there
        is now.

        Raises: PRECONDITION_FAILED (406) ``unknown delivery tag N``.
        """
        if tag == 0:
            return self.last_tag()
        self._find(tag)
        return tag

    def is_much(self, tag: i64) -> bool:
        """Whether a settlement of many that names ``tag`` is more than a share."""
        runs = self._runs
        at = self._head + 1
        if at >= len(runs) or (tag and tag < runs[at].first_tag):
            return False
        end = self._share_end(tag if tag else self.last_tag())
        return end < len(runs) and (tag == 0 or runs[end].first_tag <= tag)

    def _share_end(self, through: i64) -> i64:
        """Behind the last of those runs that make a share and begin up to that tag."""
        runs = self._runs
        at = self._head
        left = _SHARE
        while at < len(runs) and left > 0 and runs[at].first_tag <= through:
            left -= runs[at].weight()
            at += 1
        return at

    def ack_some(self, through: i64) -> tuple[i64, bool]:
        """Settle a share of what is outstanding up to that tag: how many, and whether that was all."""
        end = self._share_end(through)
        runs = self._runs
        if end == self._head:
            return 0, True
        last = runs[end - 1]
        size = through - last.first_tag + 1
        if size < len(last.items):  # it goes on behind what was meant, or has grown meanwhile
            if last.offset < size:
                return self._ack_through(end - 1, through), True
            end -= 1
            return (self._ack_through(end - 1, 0) if end > self._head else 0), True
        is_all = end == len(runs) or runs[end].first_tag > through
        return self._ack_through(end - 1, 0), is_all

    def take_some(self, through: i64) -> list[Run]:
        """Remove a share of what is outstanding up to that tag, and return it as ``take`` does; nothing when there is
        no more."""
        while True:
            end = self._share_end(through)
            if end == self._head:
                return []
            taken = self._take_through(end - 1, through)
            if taken or not self._runs or self._runs[self._head].first_tag > through:
                return taken

    def _taken(self, run: Run) -> None:
        self.count -= run.live
        if run.consumer is not None:
            self.consumer_count -= run.live

    # ---- transactions ------------------------------------------------------------------------------------------------

    def hold(self, runs: list[Run]) -> None:
        """These runs, just taken, are settled only when the transaction commits."""
        self.keeps_places = True
        for run in runs:
            if run.consumer is not None:
                self.uncommitted += run.live

    def end_transaction(self) -> None:
        """Nothing comes back any more."""
        self.keeps_places = False
        self.uncommitted = 0
        self._compact()

    def restore(self, runs: list[Run]) -> None:
        """Put runs that ``take`` returned back (tx.rollback): best the last first, as they leave no place that is
        looked for in vain."""
        index: i64 = len(runs)
        while index > 0:
            index -= 1
            run = runs[index]
            self.count += run.live
            if run.consumer is not None:
                self.consumer_count += run.live
            self._put_back(run)

    def _put_back(self, run: Run) -> None:
        """Into the gap that it has left in another run, or as a run of its own."""
        runs = self._runs
        tag = run.first_tag
        at: i64 = bisect_right(runs, tag, lo=self._head, key=_first_tag) - 1
        if at >= self._head:
            place = runs[at]
            if run.last_tag() <= place.last_tag():
                _fill(place, run)
                return
            if place.first_tag == tag:  # what stood there was all taken, or belongs into a gap
                runs[at] = run
                if place.live > 0:
                    _fill(run, place)
                else:
                    self._settled_runs -= 1
                self._swallow(at)
                return
        self._swallow(self._insert(at + 1, run))

    def _insert(self, at: i64, run: Run) -> i64:
        """Put it at index ``at``; which it has then."""
        runs = self._runs
        if at == self._head:
            if at == 0 and len(runs) >= _COMPACT_AT:
                at = len(runs)
                self._runs = [run] * int(at) + runs
            if at > 0:
                at -= 1
                self._runs[at] = run
                self._head = at
                return at
        self._runs.insert(int(at), run)
        return at

    def _swallow(self, at: i64) -> None:
        """Those behind it that stand in its gaps."""
        runs = self._runs
        run = runs[at]
        end = at + 1
        while end < len(runs) and runs[end].first_tag <= run.last_tag():
            other = runs[end]
            if other.live > 0:
                _fill(run, other)
            else:
                self._settled_runs -= 1
            end += 1
        del runs[at + 1 : end]


def _fill(run: Run, part: Run) -> None:
    """Put what ``part`` holds into the gaps of ``run``."""
    start = part.first_tag - run.first_tag
    index = part.offset
    while index < len(part.items):
        item = part.items[index]
        if item is not None:
            run.items[start + index] = item
            if start + index < run.offset:
                run.offset = start + index
        index += 1
    run.live += part.live
