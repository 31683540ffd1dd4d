"""What is counted for each queue, exchange and channel, under the names of RabbitMQ's ``message_stats``; and their
rates.

Figures are made by the first event of their object: one where nothing happens has none. What happens is counted on
integers, once for a batch where messages come in batches; nobody who reads them changes anything.

Rates come from samples: a timer looks every five seconds (RabbitMQ's ``collect_statistics_interval``) at the figures
that have changed since, and at no others. ``resting`` says that nobody looks: whoever counts on such figures calls
``stir`` first. On a node where nothing happens there is no timer.
"""

from __future__ import annotations

from typing import Final, final

from mypy_extensions import mypyc_attr

from broker.clock import Clock, Timed
from broker.counters import Counters
from broker.native import i64

INTERVAL_MS: Final[i64] = 5000
"""Between two samples."""
_PER_LOOK: Final[i64] = 256
"""Figures that are sampled before the loop goes on: each takes half a microsecond."""

_NO_RATES: Final[list[float]] = []
_NOT_COUNTED: Final[list[int]] = []
"""Shared by all figures that rest, and never changed."""

DELIVERY_NAMES: Final = ("publish", "deliver", "deliver_no_ack", "get", "get_no_ack", "get_empty", "redeliver", "ack")
QUEUE_NAMES: Final = (*DELIVERY_NAMES, "messages_ready", "messages_unacknowledged")
"""The order of ``counts``, of queues, ..."""
CHANNEL_NAMES: Final = (*DELIVERY_NAMES, "confirm", "return_unroutable", "drop_unroutable")
"""... of channels, ..."""
EXCHANGE_NAMES: Final = ("publish_in", "publish_out", "return_unroutable", "drop_unroutable")
"""... of exchanges ..."""
CONNECTION_NAMES: Final = ("recv_oct", "send_oct")
"""... of connections ..."""
NODE_NAMES: Final = (
    *CHANNEL_NAMES,
    "connection_created",
    "connection_closed",
    "channel_created",
    "channel_closed",
    "queue_declared",
    "queue_created",
    "queue_deleted",
)
"""... and of the node."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Depth:
    """Something that holds messages."""

    def depth(self) -> tuple[int, int]:
        """Messages that are ready, and that are unacknowledged; who asks changes nothing."""
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class Traffic:
    """What one connection has received and sent."""

    def octets(self) -> tuple[int, int]:
        """Bytes, both ways."""
        raise NotImplementedError


class Figures:
    """What has happened to one object."""

    def __init__(self, sampler: Sampler) -> None:
        self.sampler = sampler
        self.resting = True
        """The sampler does not look: call ``stir`` before anything is counted."""
        self.active_ms: i64 = 0
        """The last sample that has found a change, in milliseconds since 1970; 0 if none has."""
        self.rates = _NO_RATES
        """By second, between the last two samples; in the order of ``counts``. Empty where nothing has changed."""
        self._before = _NOT_COUNTED

    def counts(self) -> list[int]:
        """All that is counted."""
        raise NotImplementedError

    def stir(self) -> None:
        """Something is about to be counted: the sampler looks at it from now on."""
        if self.resting:
            self.resting = False
            self._before = self.counts()
            self.sampler.add(self)

    def sample(self, interval_ms: i64, wall_ms: i64) -> bool:
        """Take the rates of that interval, which ends now; False if nothing has changed: the figures rest."""
        counts = self.counts()
        before = self._before
        if counts == before:
            self.resting = True
            self.rates = _NO_RATES
            self._before = _NOT_COUNTED
            return False
        self.active_ms = wall_ms
        self._before = counts
        seconds = interval_ms / 1000
        self.rates = [(counts[index] - before[index]) / seconds for index in range(len(counts))]
        return True


class DeliveryFigures(Figures):
    """What queues and channels have in common."""

    def __init__(self, sampler: Sampler) -> None:
        super().__init__(sampler)
        self.publish: i64 = 0
        """To a queue also what was dead-lettered there."""
        self.deliver: i64 = 0
        """To consumers that acknowledge."""
        self.deliver_no_ack: i64 = 0
        self.get: i64 = 0
        """By a basic.get that is acknowledged."""
        self.get_no_ack: i64 = 0
        self.get_empty: i64 = 0
        self.redeliver: i64 = 0
        """Of what was delivered or got: not for the first time."""
        self.ack: i64 = 0

    def counts(self) -> list[int]:
        return self.deliveries()

    def deliveries(self) -> list[int]:
        """What is counted of queues and channels alike, in the order of ``DELIVERY_NAMES``."""
        return [
            self.publish,
            self.deliver,
            self.deliver_no_ack,
            self.get,
            self.get_no_ack,
            self.get_empty,
            self.redeliver,
            self.ack,
        ]


@final
class QueueFigures(DeliveryFigures):
    """What has happened to a queue."""

    def __init__(self, sampler: Sampler, queue: Depth | None = None) -> None:
        super().__init__(sampler)
        self._queue = queue

    def counts(self) -> list[int]:
        found = super().counts()
        ready = unacked = 0
        if self._queue is not None:
            ready, unacked = self._queue.depth()
        found.append(ready)
        found.append(unacked)
        return found


@final
class ChannelFigures(DeliveryFigures):
    """What a client has done on a channel."""

    def __init__(self, sampler: Sampler) -> None:
        super().__init__(sampler)
        self.confirm: i64 = 0
        self.return_unroutable: i64 = 0
        self.drop_unroutable: i64 = 0

    def counts(self) -> list[int]:
        found = super().counts()
        found.append(self.confirm)
        found.append(self.return_unroutable)
        found.append(self.drop_unroutable)
        return found


@final
class ExchangeFigures(Figures):
    """What has happened to an exchange: the one that a message was published to, not those that it was bound to."""

    def __init__(self, sampler: Sampler) -> None:
        super().__init__(sampler)
        self.publish_in: i64 = 0
        self.publish_out: i64 = 0
        """How often such a message was put into a queue."""
        self.return_unroutable: i64 = 0
        self.drop_unroutable: i64 = 0

    def counts(self) -> list[int]:
        return [self.publish_in, self.publish_out, self.return_unroutable, self.drop_unroutable]


@final
class ConnectionFigures(Figures):
    """The bytes of a connection: sampled while something happens on its channels."""

    def __init__(self, sampler: Sampler, traffic: Traffic) -> None:
        super().__init__(sampler)
        self._traffic = traffic
        self._sampled = [0, 0]

    def counts(self) -> list[int]:
        received, sent = self._traffic.octets()
        return [received, sent]

    def stir(self) -> None:
        if self.resting:
            self.resting = False
            # not what it is now: the read with what is about to be counted belongs to the interval
            self._before = self._sampled
            self.sampler.add(self)

    def sample(self, interval_ms: i64, wall_ms: i64) -> bool:
        self._sampled = self.counts()
        return super().sample(interval_ms, wall_ms)


@final
class NodeFigures(Figures):
    """What has happened on the node: its counters, which others add up."""

    def __init__(self, sampler: Sampler, counters: Counters) -> None:
        super().__init__(sampler)
        self._counters = counters
        self._before = self.counts()

    def counts(self) -> list[int]:
        counters = self._counters
        return [
            counters.messages_received,
            counters.messages_delivered_ack,
            counters.messages_delivered_auto_ack,
            counters.messages_got_ack,
            counters.messages_got_auto_ack,
            counters.messages_got_empty,
            counters.messages_redelivered,
            counters.messages_acked,
            counters.messages_confirmed,
            counters.messages_unroutable_returned,
            counters.messages_unroutable_dropped,
            counters.connections_opened,
            counters.connections_closed,
            counters.channels_opened,
            counters.channels_closed,
            counters.queues_declared,
            counters.queues_created,
            counters.queues_deleted,
        ]

    def begin(self) -> None:
        """An interval begins, after some that nobody has looked at."""
        self._before = self.counts()

    def sample(self, interval_ms: i64, wall_ms: i64) -> bool:
        if super().sample(interval_ms, wall_ms):
            return True
        self.begin()
        return False


@final
class Sampler(Timed):
    """Takes the rates of all figures that change, of one node."""

    def __init__(self, clock: Clock, counters: Counters | None = None) -> None:
        self._clock = clock
        self.node = NodeFigures(self, Counters() if counters is None else counters)
        """What is counted for the whole node; sampled as long as any object is."""
        self._changing: list[Figures] = []
        """To be sampled next time."""
        self._due: list[Figures] = []
        """What is left of this time."""
        self._is_armed = False
        self._since_ms: i64 = 0
        """When the interval has begun."""
        self._node_changes = False
        self._interval_ms: i64 = INTERVAL_MS
        """How long the one is whose rates are being taken."""

    def add(self, figures: Figures) -> None:
        """Sample these from now on."""
        self._changing.append(figures)
        self.wake()

    def wake(self) -> None:
        """Something is about to be counted, on the node if on no object: there is something to sample."""
        if not self._is_armed:
            self._is_armed = True
            self._since_ms = self._clock.now_ms
            self.node.begin()
            self._clock.call_at(self._since_ms + INTERVAL_MS, self)

    def on_timer(self, now_ms: i64) -> None:
        try:
            self._sample_some(now_ms)
        finally:  # also after a mistake of ours, which costs its own figures alone
            self._arm_again(now_ms)

    def _sample_some(self, now_ms: i64) -> None:
        clock = self._clock
        if not self._due:
            self._due = self._changing
            self._changing = []
            self._interval_ms = now_ms - self._since_ms
            self._since_ms = now_ms
            self._node_changes = self.node.sample(self._interval_ms, clock.wall_ms)
        left = _PER_LOOK
        due = self._due
        while due and left > 0:
            left -= 1
            figures = due.pop()
            if figures.sample(self._interval_ms, clock.wall_ms):
                self._changing.append(figures)

    def _arm_again(self, now_ms: i64) -> None:
        clock = self._clock
        if self._due:
            clock.call_at(now_ms, self)
        elif self._changing or self._node_changes:
            clock.call_at(self._since_ms + INTERVAL_MS, self)
        else:
            self._is_armed = False
