"""Delivery tag -> what was delivered, for one channel (AMQP 0-9-1 basic.ack; RabbitMQ docs, Consumer Acknowledgements).

Deliveries are kept as runs: consecutive delivery tags of one consumer whose messages stood in one line at equal distances. An
acknowledgement of many is then a slice, one of a single message an index; nothing is stored per message but the message.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Final, final

from broker.errors import PRECONDITION_FAILED, ChannelException
from broker.message import Message
from broker.native import i64
from broker.queues.consumers import Consumer
from broker.queues.entry import Entry
from broker.queues.queue import Queue
from broker.queues.ready import Ready

_RUN_MAX: Final[i64] = 4096


def unknown_tag(tag: i64) -> ChannelException:
    """The answer to a settlement of something that is not outstanding."""
    return ChannelException(PRECONDITION_FAILED, f"unknown delivery tag {int(tag) & 0xFFFFFFFFFFFFFFFF}")


@final
class Run:
    """Consecutive deliveries: the one at index i has tag first_tag + i and position first_position + i * stride."""

    def __init__(
        self,
        consumer: Consumer | None,
        queue: Queue,
        ready: Ready,
        first_tag: i64,
        first_position: i64,
        stride: i64,
        items: list[Message | Entry | None],
    ) -> None:
        self.consumer = consumer
        """None for a basic.get."""
        self.queue = queue
        self.ready = ready
        self.first_tag: i64 = first_tag
        self.first_position: i64 = first_position
        self.stride: i64 = stride
        self.items = items
        """None where it is settled."""
        self.offset: i64 = 0
        """Items before it are settled."""
        self.live: i64 = len(items)
        """Items that are not settled."""

    def last_tag(self) -> i64:
        """The tag of the last item."""
        return self.first_tag + len(self.items) - 1

    def settle(self, size: i64) -> None:
        """Tell the queue that the unsettled ones among the first ``size`` items are settled."""
        index = self.offset
        if self.live == len(self.items) - index:
            self.queue.settle(self.ready, self.first_position + index * self.stride, size - index, self.stride)
            return
        while index < size:
            if self.items[index] is None:  # settled before, or it waits in its queue again
                index += 1
                continue
            start = index
            while index < size and self.items[index] is not None:
                index += 1
            self.queue.settle(self.ready, self.first_position + start * self.stride, index - start, self.stride)

    def entries(self) -> list[Entry]:
        """The unsettled messages, with their places in the queue."""
        result: list[Entry] = []
        index: i64 = self.offset
        size: i64 = len(self.items)
        while index < size:
            item = self.items[index]
            if isinstance(item, Entry):
                result.append(item)
            elif isinstance(item, Message):
                result.append(Entry(item, self.first_position + index * self.stride, 0))
            index += 1
        return result


def _first_tag(run: Run) -> int:
    return run.first_tag


@final
class Unacked:
    """The unacknowledged deliveries of one channel; hands out its delivery tags, from 1."""

    def __init__(self) -> None:
        self.next_tag: i64 = 1
        self.count: i64 = 0
        """All outstanding deliveries."""
        self.consumer_count: i64 = 0
        """Those that consumers got: what basic.qos counts (a basic.get is not limited)."""
        self.uncommitted: i64 = 0
        """Settled inside a transaction: no longer outstanding, but they fill a channel-wide window until the commit."""
        self._runs: list[Run] = []
        self._forgotten: i64 = 0
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
        ready: Ready,
        items: list[Message | Entry | None],
        first_position: i64,
        stride: i64,
    ) -> i64:
        """Record deliveries; returns the tag of the first."""
        pager = ready.pager
        if pager is not None and self._runs:
            item = items[0]
            message = item.message if isinstance(item, Entry) else item
            if message is not None and pager.outgrown(queue.unacked, message):
                self._forget()
        tag = self.next_tag
        count: i64 = len(items)
        self.next_tag += count
        self.count += count
        if consumer is not None:
            self.consumer_count += count
        runs = self._runs
        if runs and stride == 1:
            last = runs[-1]
            size: i64 = len(last.items)
            if (
                last.ready is ready
                and last.consumer is consumer
                and last.stride == 1
                and size < _RUN_MAX
                and last.first_tag + size == tag
                and last.first_position + size == first_position
            ):
                last.items.extend(items)
                last.live += count
                return tag
        runs.append(Run(consumer, queue, ready, tag, first_position, stride, items))
        return tag

    def _forget(self) -> None:
        """Take the content of what was delivered earlier out of the memory, where it can be read back (queues/recall.py)."""
        runs = self._runs
        at: i64 = bisect_right(runs, self._forgotten, key=_first_tag) - 1
        if at < 0:
            at = 0
        while at < len(runs):
            run = runs[at]
            pager = run.ready.pager
            if pager is not None:
                start = self._forgotten - run.first_tag
                size: i64 = len(run.items)
                stopped = pager.forget(run.items, start if start > run.offset else run.offset, run.first_position, run.stride)
                if stopped < size:
                    self._forgotten = run.first_tag + stopped
                    return
            at += 1
        self._forgotten = self.next_tag

    def _find(self, tag: i64) -> i64:
        """Index of the run that holds ``tag``.

        Raises: PRECONDITION_FAILED (406) if it is not outstanding.
        """
        runs = self._runs
        if not runs:
            raise unknown_tag(tag)
        at: i64 = 0
        run = runs[0]
        if tag > run.last_tag():
            at = bisect_right(runs, tag, key=_first_tag) - 1
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
        run.items[index] = None
        run.live -= 1
        if run.live == 0:
            del self._runs[at]
        elif index == run.offset:
            run.offset += 1
        run.queue.settle(run.ready, run.first_position + index * run.stride, 1, run.stride)
        self._settled(run, 1)
        return 1

    def _settled(self, run: Run, count: i64) -> None:
        self.count -= count
        consumer = run.consumer
        if consumer is not None:
            self.consumer_count -= count
            consumer.settled(count)

    def _ack_up_to(self, tag: i64) -> i64:
        runs = self._runs
        last: i64 = len(runs) - 1
        if tag:
            last = self._find(tag)
        total: i64 = 0
        at: i64 = 0
        whole = last
        if tag and runs[last].last_tag() > tag:
            whole = last - 1
        while at <= whole:
            run = runs[at]
            total += run.live
            run.settle(len(run.items))
            self._settled(run, run.live)
            at += 1
        if whole < last:
            run = runs[last]
            run.settle(tag - run.first_tag + 1)
            count = self._cut(run, tag - run.first_tag + 1)
            total += count
            self._settled(run, count)
        if whole >= 0:
            del runs[: whole + 1]
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

    def take(self, tag: i64, multiple: bool) -> list[Run]:
        """Remove one delivery, or all up to ``tag`` (0: all), and return them as runs, in order. Their queues are not told.

        Raises: PRECONDITION_FAILED (406) ``unknown delivery tag N``.
        """
        runs = self._runs
        if not multiple:
            at = self._find(tag)
            run = runs[at]
            index = tag - run.first_tag
            item = run.items[index]
            part = Run(run.consumer, run.queue, run.ready, tag, run.first_position + index * run.stride, run.stride, [item])
            run.items[index] = None
            run.live -= 1
            if run.live == 0:
                del runs[at]
            elif index == run.offset:
                run.offset += 1
            self._taken(part)
            return [part]
        if tag == 0:
            self._runs = []
            for run in runs:
                self._taken(run)
            return runs
        last = self._find(tag)
        taken = runs[: last + 1]
        rest = runs[last + 1 :]
        run = taken[-1]
        size = tag - run.first_tag + 1
        if size < len(run.items):
            part = Run(
                run.consumer, run.queue, run.ready, run.first_tag, run.first_position, run.stride, run.items[:size]
            )
            part.offset = run.offset if run.offset < size else size
            part.live = self._cut(run, size)
            taken[-1] = part
            rest.insert(0, run)
        self._runs = rest
        for run in taken:
            self._taken(run)
        return taken

    def _taken(self, run: Run) -> None:
        self.count -= run.live
        if run.consumer is not None:
            self.consumer_count -= run.live

    def hold(self, runs: list[Run]) -> None:
        """These runs, just taken, are settled only when the transaction commits."""
        for run in runs:
            if run.consumer is not None:
                self.uncommitted += run.live

    def restore(self, runs: list[Run]) -> None:
        """Put runs that ``take`` returned back (tx.rollback).

        They come back one delivery at a time: what a transaction settled may lie between what it did not, and runs must not
        overlap.
        """
        parts: list[Run] = []
        for run in runs:
            self.count += run.live
            if run.consumer is not None:
                self.consumer_count += run.live
            _split(run, parts)
        for run in self._runs:
            _split(run, parts)
        parts.sort(key=_first_tag)
        self._runs = parts


def _split(run: Run, parts: list[Run]) -> None:
    index: i64 = 0
    for item in run.items:
        if item is not None:
            position = run.first_position + index * run.stride
            parts.append(Run(run.consumer, run.queue, run.ready, run.first_tag + index, position, run.stride, [item]))
        index += 1
