"""What came back to a quorum queue and waits for its delay (RabbitMQ 4.3, Quorum Queues, Delayed Retry), at the leader.

A message that is delayed stays where it stood when a consumer had it. After a start it stands among those that wait,
and is set aside when its turn comes.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Final, final

from broker.clock import Clock, Timed, Timer
from broker.native import i64
from broker.queues.block import MESSAGE_BYTES, body_size
from broker.queues.quorum.commands import Delay
from broker.queues.quorum.delayed_retry import DelayedRetry, delayed_ranges, split_by_delay
from broker.queues.quorum.level import LedgerLevel
from broker.queues.quorum.pieces import Pieces
from broker.store.run_map import RunMap
from broker.turn import SlicedWork, Turn

if TYPE_CHECKING:
    from broker.queues.quorum.queue import QuorumQueue

_LOOK_MS: Final[i64] = 60_000
"""The wall clock, which the times are told in, may be set: it is asked again after so long at the latest."""
_UNSEEN: Final[i64] = 1
_GONE: Final[i64] = 2
"""It has left the queue before its delay was over."""


@final
class _AreDue(SlicedWork):
    """The delay of some is over."""

    def __init__(self, delays: Delays) -> None:
        self._delays = delays

    def step(self) -> bool:
        return self._delays.take_due()


@final
class Delays(Timed):
    """Of one queue. ``queue.delayed`` counts them."""

    def __init__(self, queue: QuorumQueue, retry: DelayedRetry, clock: Clock, turn: Turn) -> None:
        self.retry = retry
        self.unseen: i64 = 0
        """How many of them stand among those that wait."""
        self._queue = queue
        self._clock = clock
        self._turn = turn
        self._ranges: list[tuple[int, int, int, int, int, int]] = []
        """A heap: until when (wall time in milliseconds), in which order, level, first, count and stride."""
        self._serial = 0
        self._unseen: dict[int, RunMap] = {}
        """By level: the positions of those."""
        self._timer: Timer | None = None

    # ---- in ----------------------------------------------------------------------------------------------------------

    def delay(self, found: LedgerLevel, first: i64, count: i64, stride: i64, cause: i64) -> None:
        """Messages come back for a cause that delays them; no consumer has them any more."""
        queue = self._queue
        writer = queue.replica.gather()
        level = found.number
        now_ms = self._clock.wall_ms
        for group in split_by_delay(Pieces(found.runs, first, count, stride), cause, self.retry):
            delay = Delay(cause, now_ms + group.delay_ms)
            ranges = group.ranges
            at: i64 = 0
            while at < len(ranges):
                writer.delay(level, ranges[at], ranges[at + 1], ranges[at + 2], delay)
                self._add(delay.until_ms, level, ranges[at], ranges[at + 1], ranges[at + 2])
                at += 3
        queue.delayed += count
        backlog = queue.backlog_at(level)
        disk = backlog.disk
        if disk is not None:
            size = MESSAGE_BYTES + body_size(backlog.table.item(first))
            disk.evict((queue.unacked + queue.delayed) * size, count)
        self._arm()

    def _add(self, until_ms: i64, level: i64, first: i64, count: i64, stride: i64) -> None:
        self._serial += 1
        heapq.heappush(self._ranges, (int(until_ms), self._serial, int(level), int(first), int(count), int(stride)))

    def recover(self, level: LedgerLevel) -> None:
        """Those of a level that were delayed when the node ended."""
        ranges = delayed_ranges(level)
        at: i64 = 0
        while at < len(ranges):
            first: i64 = ranges[at]
            count: i64 = ranges[at + 1]
            self._add(ranges[at + 2], level.number, first, count, 1)
            self._unseen.setdefault(int(level.number), RunMap()).assign(first, first + count - 1, _UNSEEN)
            self.unseen += count
            self._queue.delayed += count
            at += 3
        self._arm()

    # ---- those that stand among the waiting ones ---------------------------------------------------------------------

    def set_aside(self, level: i64, position: i64) -> bool:
        """A message would be next: whether it is one of them, and does not wait there any more."""
        unseen = self._unseen.get(int(level))
        if unseen is None or unseen.value_at(position) != _UNSEEN:
            return False
        unseen.remove(position, position)
        self.unseen -= 1
        return True

    def forget(self, level: i64, first: i64, count: i64, stride: i64) -> None:
        """What waited at these positions is gone."""
        unseen = self._unseen.get(int(level))
        if unseen is None:
            return
        for start, length, value in _pieces(unseen, first, count, stride):
            if value == _UNSEEN:
                self._queue.delayed -= length
                self._see(unseen, start, length, stride, _GONE)

    def _see(self, unseen: RunMap, first: i64, count: i64, stride: i64, value: i64) -> None:
        """They are among those no more, and have this value from now on."""
        self.unseen -= count
        unseen.assign_each(first, count, stride, value)

    # ---- out ---------------------------------------------------------------------------------------------------------

    def _arm(self) -> None:
        if not self._ranges:
            return
        left: i64 = self._ranges[0][0] - self._clock.wall_ms
        if left < 1:
            left = 1
        elif left > _LOOK_MS:
            left = _LOOK_MS
        self._timer = self._clock.call_by(self._clock.now_ms + left, self, self._timer)

    def on_timer(self, now_ms: i64) -> None:
        self._timer = None
        self._turn.start(_AreDue(self))  # there may be very many

    def take_due(self) -> bool:
        """Those whose delay is over wait again, as far as the slice of the turn goes; whether that is all of them."""
        ranges = self._ranges
        now_ms = self._clock.wall_ms
        while ranges and ranges[0][0] <= now_ms:
            if self._turn.out_of_time():
                return False
            _, _, level, first, count, stride = heapq.heappop(ranges)
            self._are_due(level, first, count, stride)
        self._arm()
        return True

    def _are_due(self, level: i64, first: i64, count: i64, stride: i64) -> None:
        queue = self._queue
        unseen = self._unseen.get(int(level))
        if unseen is None:
            self._come_back(level, first, count, stride)
            return
        for start, length, value in _pieces(unseen, first, count, stride):
            if value == 0:
                self._come_back(level, start, length, stride)
            elif value == _UNSEEN:
                queue.delayed -= length
                queue.replica.gather().due(level, start, length, stride)
                self._see(unseen, start, length, stride, 0)
        queue.schedule_dispatch()

    def _come_back(self, level: i64, first: i64, count: i64, stride: i64) -> None:
        queue = self._queue
        queue.delayed -= count
        queue.replica.gather().due(level, first, count, stride)
        queue.are_due(level, first, count, stride)

    # ---- the end -----------------------------------------------------------------------------------------------------

    def purge(self) -> i64:
        """All of them are gone; how many."""
        ranges = self._ranges
        self._ranges = []
        count = self._queue.delayed
        self._queue.delayed = 0
        self._unseen = {}
        self.unseen = 0
        for _, _, level, first, length, stride in ranges:
            self._queue.backlog_at(level).settle(first, length, stride)
        return count

    def stop(self) -> None:
        """The queue is deleted."""
        self._ranges = []
        self._unseen = {}
        timer = self._timer
        if timer is not None:
            timer.cancel()
            self._timer = None


def _pieces(runs: RunMap, first: i64, count: i64, stride: i64) -> list[tuple[int, int, int]]:
    """First position, count and value of each piece of a range."""
    pieces = Pieces(runs, first, count, stride)
    found: list[tuple[int, int, int]] = []
    while pieces.step():
        found.append((int(pieces.first), int(pieces.count), int(pieces.value)))
    return found
