"""What was published before a method reaches consumers before it: queues that the method concerns are dispatched first,
in slices.

Messages are handed to consumers at the end of a turn. Where a method that came behind them in the same read has a say
in who gets them (basic.cancel, basic.consume, basic.qos of the channel, basic.recover, channel.close, connection.close)
or counts what is left (queue.declare, queue.purge, queue.delete), that is done early.
"""

from __future__ import annotations

from typing import Final, final

from broker.faults import FaultOwner
from broker.native import i64
from broker.queues.queue import Queue
from broker.turn import Deferred, SlicedWork, Turn

_PER_LOOK: Final[i64] = 64
"""Queues between two looks at the clock: most of them have nothing to dispatch."""


@final
class Dispatching(SlicedWork):
    """Queues are dispatched, as far as there were messages when their turn came: others may publish to them on and
    on."""

    def __init__(self, turn: Turn, queues: list[Queue], owner: FaultOwner | None, then: Deferred | None = None) -> None:
        self._turn = turn
        self._queues = queues
        self._owner = owner
        self._then = then
        """Told when it is over."""
        self._at: i64 = 0
        self._until: i64 = -1
        """What the queue at this index will have delivered when it may be left; -1 before its first slice."""

    def step(self) -> bool:
        queues = self._queues
        left = _PER_LOOK
        while self._at < len(queues):
            if not self._dispatch(queues[self._at]):
                return False
            self._at += 1
            left -= 1
            if left == 0:
                left = _PER_LOOK
                if self._at < len(queues) and self._turn.out_of_time():
                    return False
        if self._then is not None:
            self._then.resume()
        return True

    def _dispatch(self, queue: Queue) -> bool:
        """Some of a queue; whether that is enough."""
        if not queue.dispatch_some():
            if self._until < 0:
                count = queue.ready_count()
                self._until = queue.delivered + count
            if queue.delivered < self._until:
                return False
        self._until = -1
        return True

    def fault_owner(self) -> FaultOwner | None:
        return self._owner
