"""The end of a channel or a connection, done in slices: what it held is given back (sliced.py).

ChannelEnd      consumers leave first, then deliveries go back to their queues
ConnectionEnd   the channels of a connection one by one, then its exclusive queues
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final, final

from broker.protocol.settling import Rollback
from broker.protocol.sliced import Settling
from broker.queues.consumer import Consumer
from broker.queues.queue import Queue
from broker.queues.refusal import ABANDONED
from broker.turn import Deferred, SlicedWork

if TYPE_CHECKING:
    from broker.protocol.channel import Channel
    from broker.protocol.session import Session

_PER_LOOK: Final = 16
"""Consumers that leave between two looks at the clock."""


@final
class ChannelEnd(SlicedWork):
    """Gives back what a channel held. Nothing is delivered to it any more, and its frames are not taken."""

    def __init__(self, channel: Channel, then: Deferred | None) -> None:
        self._channel = channel
        self._then = then
        """Told when it is over."""
        self._leaves = True
        self._consumers: dict[str, Consumer] = {}
        self._queue_of: dict[str, Queue] = {}
        self._rollback: Rollback | None = None
        self._settling: Settling | None = None

    def step(self) -> bool:
        channel = self._channel
        session = channel.session
        if self._leaves:
            self._leaves = False
            self._consumers, self._queue_of = channel.leave()
        while self._consumers:
            self._remove_some()
            if self._consumers and session.turn.out_of_time():
                return False
        if channel.working > 0:
            return False  # it was asked for before: what it refuses, for example, must not go back
        rollback = self._rollback
        if rollback is None and channel.transaction is not None:
            rollback = Rollback(channel, channel.transaction)
            self._rollback = rollback
        if rollback is not None and not rollback.step():
            return False
        settling = self._settling
        if settling is None:
            settling = Settling(channel, [], ABANDONED, channel.unacked.last_tag())
            self._settling = settling
        if not settling.step():
            return False
        channel.let_go()
        if self._then is not None:
            self._then.resume()
        return True

    def _remove_some(self) -> None:
        """The next consumers leave their queues; nothing keeps them, nor queues that go with them, until the channel
        has ended."""
        for tag in list(islice(self._consumers, int(_PER_LOOK))):
            try:
                self._queue_of.pop(tag).remove_consumer(self._consumers.pop(tag))
            except Exception as error:
                self._channel.session.clock.faults.caught("consumer of a channel that ends", None, error)


@final
class ConnectionEnd(SlicedWork):
    """Gives back what a connection held: its channels, then its exclusive queues."""

    def __init__(self, session: Session, channels: list[ChannelEnd], then: Deferred) -> None:
        self._session = session
        self._channels = channels
        self._channels.reverse()  # what is done is let go at once
        self._then = then
        self._queues: list[Queue] | None = None

    def step(self) -> bool:
        session = self._session
        turn = session.turn
        faults = session.clock.faults
        while self._channels:
            try:
                if not self._channels[-1].step():
                    return False
            except Exception as error:  # the other channels, and their messages, must not stay behind
                faults.caught("channel of a connection that ends", None, error)
            self._channels.pop()
            if turn.out_of_time():
                return False
        queues = self._queues
        if queues is None:
            queues = [] if session.exclusive_queues is None else session.exclusive_queues
            queues.reverse()
            session.exclusive_queues = None
            self._queues = queues
        while queues:
            queue = queues.pop()
            try:
                session.vhost.remove_queue(queue)
            except Exception as error:
                faults.caught("exclusive queue of a connection that ends", None, error)
            if turn.out_of_time():
                return False
        self._then.resume()
        return True
