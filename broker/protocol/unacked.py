"""Delivery tag -> what was delivered, for one channel (AMQP 0-9-1 basic.ack; RabbitMQ docs, Consumer Acknowledgements).

Deliveries are kept as runs: consecutive delivery tags of one consumer whose messages stood on one level of a queue at
equal distances. Nothing is stored per message: its content stays with its queue. A queue that is deleted is let go at
once: the link that its deliveries share is cut (queues/queue_link.py).
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Final, final

from broker.clock import Clock
from broker.errors import PRECONDITION_FAILED, ChannelException
from broker.native import i64
from broker.protocol.delivery_run import Run, swallow
from broker.protocol.delivery_watch import DeliveryWatch
from broker.queues.consumer import Consumer
from broker.queues.queue_link import NOWHERE, QueueLink

_RUN_MAX: Final[i64] = 4096
RUN_MS: Final[i64] = 1000
"""What is delivered later than so long behind the first of a run begins another one: how old the oldest is, is known
for runs."""
_COMPACT_AT: Final[i64] = 64
_SHARE: Final[i64] = 64
"""So many runs are settled or taken between two looks at the clock; a long one counts for more, and one with gaps for
more again."""


def unknown_tag(tag: i64) -> ChannelException:
    """The answer to a settlement of something that is not outstanding."""
    return ChannelException(PRECONDITION_FAILED, f"unknown delivery tag {int(tag) & 0xFFFFFFFFFFFFFFFF}")


def _first_tag(run: Run) -> int:
    return run.first_tag


@final
class Unacked:
    """The unacknowledged deliveries of one channel; hands out its delivery tags, from 1."""

    def __init__(self, clock: Clock) -> None:
        self.next_tag: i64 = 1
        self.count: i64 = 0
        """All outstanding deliveries."""
        self.consumer_count: i64 = 0
        """Those that consumers got: what basic.qos counts (a basic.get is not limited)."""
        self.reserved: i64 = 0
        """Deliveries to consumers that are decided and not made yet."""
        self.uncommitted: i64 = 0
        """Settled inside a transaction: no longer outstanding, but they fill a channel-wide window until the commit."""
        self.keeps_places = False
        """What is settled in a transaction may come back: the places of its runs are kept until the transaction is
        over."""
        self.watch: DeliveryWatch | None = None
        """None while no queue with a timeout has delivered anything."""
        self._clock = clock
        self._runs: list[Run] = []
        """By their tags. The last one is not settled; those before ``_head`` are, and ``_settled_runs`` of those behind
        it."""
        self._head: i64 = 0
        self._settled_runs: i64 = 0

    def skip(self, count: i64) -> i64:
        """Tags for deliveries that are never acknowledged; returns the first."""
        tag = self.next_tag
        self.next_tag += count
        return tag

    def add(
        self, consumer: Consumer | None, link: QueueLink, level: i64, count: i64, first_position: i64, stride: i64
    ) -> i64:
        """Record deliveries; returns the tag of the first."""
        runs = self._runs
        now_ms = self._clock.now_ms
        tag = self.next_tag
        self.next_tag += count
        self.count += count
        if consumer is not None:
            self.consumer_count += count
        if runs and stride == 1:
            last = runs[-1]
            if (
                last.link is link
                and last.level == level
                and last.consumer is consumer
                and last.stride == 1
                and last.size < _RUN_MAX
                and last.first_tag + last.size == tag
                and last.first_position + last.size == first_position
                and now_ms - last.since_ms < RUN_MS
            ):
                last.grow(count)
                return tag
        run = Run(consumer, link, level, tag, first_position, stride).sized(count)
        run.since_ms = now_ms
        runs.append(run)
        if self.watch is not None:
            self.watch.begin()
        return tag

    def oldest_ms(self, link: QueueLink | None = None) -> i64:
        """How long the oldest delivery, or the oldest of that queue, has been outstanding, in milliseconds and a second
        too long at the most; 0 if there is none."""
        runs = self._runs
        at = self._head
        size: i64 = len(runs)
        while at < size:
            run = runs[at]
            if run.live > 0 and (link is None or run.link is link):
                return self._clock.now_ms - run.since_ms
            at += 1
        return 0

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
        settled = run.settled
        if index < run.offset or index >= run.size or (settled is not None and settled[index] == 1):
            raise unknown_tag(tag)
        return at

    def ack_up_to(self, tag: i64) -> i64:
        """Settle all deliveries up to ``tag`` (0: all there are); returns how many.

        Raises: PRECONDITION_FAILED (406) ``unknown delivery tag N``.
        """
        return self._ack_through(self._find(tag) if tag else len(self._runs) - 1, tag)

    def ack_one(self, tag: i64) -> None:
        """Settle one delivery.

        Raises: PRECONDITION_FAILED (406) ``unknown delivery tag N``.
        """
        runs = self._runs
        at = self._head
        if not runs:
            raise unknown_tag(tag)
        run = runs[at]
        index = tag - run.first_tag
        if index != run.offset or index >= run.size or run.settled is not None:
            at = self._find(tag)
            run = runs[at]
            index = tag - run.first_tag
            run.take_out(index)
        else:  # mostly they are acknowledged in order
            run.offset = index + 1
            run.live -= 1
        if run.live == 0:
            self._remove(at)
        run.settle_range(index, 1)
        self.count -= 1  # ``_settled``, written out: a client that acknowledges each message comes by here for each
        consumer = run.consumer
        if consumer is not None:
            self.consumer_count -= 1
            consumer.settled(1)

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
            self._settled_runs += 1
            if not self.keeps_places:
                self._compact()

    def _compact(self) -> None:
        if self._settled_runs >= _COMPACT_AT and self._settled_runs * 2 >= len(self._runs) - self._head:
            self._runs = [run for run in self._runs[self._head :] if run.live > 0]
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
        gone = Run(None, first.link, 0, first.first_tag, 0, 1)
        gone.size = gone.offset = 1
        while at < end:  # let go of them now, and of their slots later
            runs[at] = gone
            at += 1
        self._head = end

    def _settled(self, run: Run, count: i64) -> None:
        self._count(run, -count)
        consumer = run.consumer
        if consumer is not None:
            consumer.settled(count)

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
            run.settle(run.size)
            self._settled(run, run.live)
        if whole < last:
            run = runs[last]
            run.settle(tag - run.first_tag + 1)
            count = run.cut(tag - run.first_tag + 1)
            total += count
            self._settled(run, count)
            if run.live == 0:
                at += 1
        if at > self._head:
            self._remove_before(at)
        return total

    def take(self, tag: i64) -> Run:
        """Remove one delivery, and return it as a run. Its queue is not told. (Of many: ``take_some``.)

        Raises: PRECONDITION_FAILED (406) ``unknown delivery tag N``.
        """
        at = self._find(tag)
        run = self._runs[at]
        index = tag - run.first_tag
        position = run.first_position + index * run.stride
        part = Run(run.consumer, run.link, run.level, tag, position, run.stride).sized(1)
        part.since_ms = run.since_ms
        run.take_out(index)
        if run.live == 0:
            self._remove(at)
        self._count(part, -part.live)
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
        if size < run.size:
            part = run.part(size)
            run.cut(size)
            taken[-1] = part
            if run.live > 0:
                end = last
        self._remove_before(end)
        for run in taken:
            self._count(run, -run.live)
        return taken

    def next_run(self, tag: i64) -> Run | None:
        """The first run that has a delivery with this tag or a later one, and that is not settled."""
        runs = self._runs
        at = self._head
        size: i64 = len(runs)
        if at < size and runs[at].last_tag() < tag:
            at = bisect_right(runs, tag, lo=at, key=_first_tag) - 1
            if runs[at].last_tag() < tag:
                at += 1
        while at < size:
            run = runs[at]
            if run.live > 0:
                return run
            at += 1
        return None

    def give_back(self, run: Run) -> Run:
        """What is outstanding of a run goes back to its queue. The client does not know, and may still settle it: of
        that nothing comes any more. Returns what goes back."""
        part = run.part(run.size)
        if run.consumer is not None:
            self.consumer_count -= run.live
            run.consumer = None
        run.link = NOWHERE
        return part

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
        end = _share_end(runs, self._head, tag if tag else self.last_tag())
        return end < len(runs) and (tag == 0 or runs[end].first_tag <= tag)

    def ack_some(self, through: i64) -> tuple[i64, bool]:
        """Settle a share of what is outstanding up to that tag: how many, and whether that was all."""
        end = _share_end(self._runs, self._head, through)
        runs = self._runs
        if end == self._head:
            return 0, True
        last = runs[end - 1]
        size = through - last.first_tag + 1
        if size < last.size:  # it goes on behind what was meant, or has grown meanwhile
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
            end = _share_end(self._runs, self._head, through)
            if end == self._head:
                return []
            taken = self._take_through(end - 1, through)
            if taken or not self._runs or self._runs[self._head].first_tag > through:
                return taken

    def _count(self, run: Run, count: i64) -> None:
        """So many more deliveries of the run are outstanding, or fewer."""
        self.count += count
        if run.consumer is not None:
            self.consumer_count += count

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
            self._count(run, run.live)
            self._put_back(run)
        if self.watch is not None:
            self.watch.begin()

    def _put_back(self, run: Run) -> None:
        """Into the gap that it has left in another run, or as a run of its own."""
        runs = self._runs
        tag = run.first_tag
        at: i64 = bisect_right(runs, tag, lo=self._head, key=_first_tag) - 1
        if at >= self._head:
            place = runs[at]
            if run.last_tag() <= place.last_tag():
                if place.live == 0:
                    self._settled_runs -= 1
                place.fill(run)
                return
            if place.first_tag == tag:  # what stood there was all taken, or belongs into a gap
                runs[at] = run
                if place.live > 0:
                    run.fill(place)
                else:
                    self._settled_runs -= 1
                self._settled_runs -= swallow(runs, at)
                return
        at = self._insert(at + 1, run)
        self._settled_runs -= swallow(self._runs, at)

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


def _share_end(runs: list[Run], at: i64, through: i64) -> i64:
    """Behind the last of those runs, from index ``at`` on, that make a share and begin up to that tag."""
    left = _SHARE
    while at < len(runs) and left > 0 and runs[at].first_tag <= through:
        left -= runs[at].weight()
        at += 1
    return at
