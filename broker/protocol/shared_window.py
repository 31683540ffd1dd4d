"""The window that the consumers of a channel share (basic.qos with global=true): who gets what becomes free of it.

RabbitMQ docs, Consumer Prefetch: it bounds what is outstanding on the channel, whichever of its consumers got it.
Consumers whose queue has messages when the window is full stand in line, and what becomes free goes to them in turn,
whatever queues they consume from; nobody else gets any of it before. Of one queue's consumers, the one with the highest
priority goes first. A consumer without acknowledgements does not fill the window, but waits while it is full (RabbitMQ:
``rabbit_limiter:can_send``).

What an acknowledgement costs does not depend on how many stand in line.
"""

from __future__ import annotations

from collections import OrderedDict
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Final, final

from broker.native import i64
from broker.protocol.unacked import Unacked
from broker.queues.queue import Queue
from broker.turn import Dispatchable, Turn

if TYPE_CHECKING:
    from broker.protocol.channel_consumer import ChannelConsumer

_PER_LOOK: Final[i64] = 16
"""Consumers that get their share between two looks at the clock."""
_SPARE: Final = 16


@final
class _Rank:
    """The consumers of one queue that stand in line, by priority and place."""

    def __init__(self) -> None:
        self.count: i64 = 0
        self._heap: list[tuple[int, int, ChannelConsumer]] = []
        """Priority with the sign changed, place; and of some that have left the row."""

    def add(self, consumer: ChannelConsumer) -> None:
        """It stands in line."""
        self.count += 1
        heappush(self._heap, (-consumer.priority, int(consumer.place), consumer))

    def take(self) -> ChannelConsumer:
        """Whoever goes first; there must be one."""
        while True:
            _, place, consumer = heappop(self._heap)
            if consumer.place == place:
                self.count -= 1
                return consumer

    def drop(self) -> None:
        """One of them has no place any more."""
        self.count -= 1
        if len(self._heap) > 2 * self.count + _SPARE:
            self._heap = [entry for entry in self._heap if entry[2].place == entry[1]]
            heapify(self._heap)


@final
class SharedWindow(Dispatchable):
    """The window of one channel, and who waits for it."""

    def __init__(self, turn: Turn, unacked: Unacked) -> None:
        self.size: i64 = 0
        """How many deliveries may be outstanding; 0 for no limit."""
        self._turn = turn
        self._unacked = unacked
        self._line: OrderedDict[ChannelConsumer, None] = OrderedDict()
        self._ranks: dict[Queue, _Rank] = {}
        self._last_place: i64 = 0
        self._served: ChannelConsumer | None = None
        """Whose share is being delivered."""
        self._served_until: i64 = 0
        """What is outstanding once it has that."""
        self._marked = False
        """It is served in this turn."""

    def _used(self) -> i64:
        return self._unacked.consumer_count + self._unacked.uncommitted + self._unacked.reserved

    def room(self, consumer: ChannelConsumer) -> i64:
        """How many deliveries ``consumer``, whose queue has messages, may have now; where there are none, it stands in
        line."""
        left = self.size - self._used()
        if left > 0:
            if not self._line:
                return left
            if consumer is self._served:
                share = self._served_until - self._used()
                if share > 0:
                    return share
            self.mark()
        if consumer.place == 0:
            self._line_up(consumer)
        return 0

    def _line_up(self, consumer: ChannelConsumer) -> None:
        self._last_place += 1
        consumer.place = self._last_place
        self._line[consumer] = None
        queue = _queue_of(consumer)
        rank = self._ranks.get(queue)
        if rank is None:
            rank = _Rank()
            self._ranks[queue] = rank
        rank.add(consumer)

    def leave(self, consumer: ChannelConsumer) -> None:
        """It consumes no more."""
        if consumer not in self._line:
            return
        consumer.place = 0
        del self._line[consumer]
        queue = _queue_of(consumer)
        rank = self._ranks[queue]
        rank.drop()
        if rank.count == 0:
            del self._ranks[queue]

    def end(self) -> None:
        """Nothing is delivered to its consumers any more."""
        self._line = OrderedDict()
        self._ranks = {}

    def mark(self) -> None:
        """There may be room for those in line: they get it in this turn."""
        if not self._marked and self._line:
            self._marked = True
            self._turn.schedule_dispatch(self)

    def dispatch(self) -> None:
        """Those in line get what is free, each its share."""
        is_done = True
        try:
            is_done = self._serve()
        finally:
            self._marked = False
        if not is_done:
            self.mark()

    def dispatch_some(self) -> None:
        """The same now, for whoever must come behind it, as far as the time goes."""
        if self._marked:  # it stays: the rest is done in the turn
            self._serve()

    def _serve(self) -> bool:
        """Some of it; False if the time is over."""
        waiting: i64 = 0
        share: i64 = 0
        looks = _PER_LOOK
        while self._line:
            if waiting == 0:  # a round for all that stand in line
                waiting = len(self._line)
                share = (self.size - self._used()) // waiting
            if self.size and self._used() >= self.size:
                return True
            waiting -= 1
            if not self._deliver(self._next(), share if share > 0 else 1):
                return False
            looks -= 1
            if looks == 0:
                looks = _PER_LOOK
                if self._line and self._turn.out_of_time():
                    return False
        return True

    def _deliver(self, consumer: ChannelConsumer, share: i64) -> bool:
        """Deliver its share, as far as its queue has messages; False if the time is over."""
        queue = _queue_of(consumer)
        queue.unblock(consumer)
        if self.size == 0:
            return True  # it is as any other, and gets what there is at the end of the turn
        self._served = consumer
        self._served_until = self._used() + share
        try:
            return queue.dispatch_some()
        finally:
            self._served = None

    def _next(self) -> ChannelConsumer:
        """Whose turn it is; it has left the row."""
        line = self._line
        first = next(iter(line))
        queue = _queue_of(first)
        rank = self._ranks[queue]
        consumer = rank.take()
        consumer.place = 0
        if consumer is not first:
            line.move_to_end(first)  # its queue has had its turn
        del line[consumer]
        if rank.count == 0:
            del self._ranks[queue]
        return consumer


def _queue_of(consumer: ChannelConsumer) -> Queue:
    """Who stands in the row has a queue: it leaves the row before it forgets that (``ChannelConsumer.left``)."""
    queue = consumer.queue
    assert queue is not None
    return queue
