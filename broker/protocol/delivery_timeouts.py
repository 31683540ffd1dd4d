"""What happens to deliveries that stay unacknowledged for too long (RabbitMQ docs, Consumers, Delivery Acknowledgement
Timeout; queues/consumer_timeout.py says how long that is).

What is overdue goes back to its queue, and its consumer is cancelled; what else that consumer has stays with it until
that is overdue too. Whoever cannot be told so loses the channel: a client that does not understand a basic.cancel from
the server, one that has cancelled the consumer itself, and whoever has used basic.get.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast, final

from broker.clock import Timed, Timer
from broker.errors import PRECONDITION_FAILED, ChannelException
from broker.faults import FaultOwner
from broker.native import i64
from broker.protocol.channel_consumer import ChannelConsumer
from broker.protocol.delivery_run import Run
from broker.protocol.delivery_watch import DeliveryWatch
from broker.protocol.sliced import Settling
from broker.protocol.unacked import RUN_MS
from broker.queues.consumer_timeout import UNSET, timeout_ms
from broker.queues.queue import Queue
from broker.queues.refusal import TIMED_OUT
from broker.turn import SlicedWork

if TYPE_CHECKING:
    from broker.protocol.channel import Channel

_LOOK_MS: Final[i64] = 100
"""At least so long lies between two looks at a channel, and one millisecond more for each so many runs that were looked
at."""
_RUNS_PER_MS: Final[i64] = 64
_PER_LOOK: Final[i64] = 64


def expect(channel: Channel, queue: Queue, argument_ms: i64 = UNSET) -> i64:
    """This queue is going to deliver to the channel, with this argument of basic.consume: from now on it is seen to
    that nothing stays for too long. Returns the timeout in milliseconds; 0 for none."""
    timeout = timeout_ms(queue, argument_ms, channel.session.limits.consumer_timeout_ms)
    if timeout > 0:
        unacked = channel.unacked
        watch = unacked.watch
        if watch is None:
            watch = DeliveryTimeouts(channel)
            unacked.watch = watch
        cast(DeliveryTimeouts, watch).include(timeout)
    return timeout


@final
class DeliveryTimeouts(DeliveryWatch, Timed):
    """The timer of one channel. It runs while something is outstanding."""

    def __init__(self, channel: Channel) -> None:
        self.is_looking = False
        """Something was outstanding when it looked last, or was delivered since."""
        self._channel = channel
        self._shortest_ms: i64 = 0
        """Of all the timeouts that ever were."""
        self._timer: Timer | None = None

    def include(self, timeout: i64) -> None:
        """Something may be overdue after so many milliseconds."""
        if self._shortest_ms == 0 or timeout < self._shortest_ms:
            self._shortest_ms = timeout
            if self.is_looking:
                self.look_at(self._channel.session.clock.now_ms + timeout)

    def begin(self) -> None:
        if not self.is_looking:
            self.look_at(self._channel.session.clock.now_ms + self._shortest_ms)

    def look_at(self, at_ms: i64) -> None:
        """Look at that time, if not before."""
        self.is_looking = True
        self._timer = self._channel.session.clock.call_by(at_ms, self, self._timer)

    def on_timer(self, now_ms: i64) -> None:
        self._timer = None
        channel = self._channel
        channel.session.turn.start(_Look(channel, self, self._shortest_ms))

    def stop(self) -> None:
        timer = self._timer
        if timer is not None:
            timer.cancel()
            self._timer = None

    def fault_owner(self) -> FaultOwner | None:
        return self._channel.session.owner


@final
class _Look(SlicedWork):
    """One look at what is outstanding."""

    def __init__(self, channel: Channel, timeouts: DeliveryTimeouts, shortest_ms: i64) -> None:
        self._channel = channel
        self._timeouts = timeouts
        self._shortest_ms: i64 = shortest_ms
        self._tag: i64 = 1
        """Everything before it was looked at."""
        self._count: i64 = 0
        """Runs that were."""
        self._next_ms: i64 = 0
        """When the next one of these is overdue."""
        self._settling: Settling | None = None

    def step(self) -> bool:
        channel = self._channel
        while True:
            settling = self._settling
            if settling is not None:
                try:
                    if not settling.step():
                        return False
                except Exception:
                    channel.working -= 1
                    raise
                channel.working -= 1
                self._settling = None
            if channel.closing:
                return True
            if self._look_on():
                return True
            if self._settling is None or channel.session.turn.out_of_time():
                return False

    def _look_on(self) -> bool:
        """Look for the next run that is overdue, and begin to give it back; whether there is none."""
        unacked = self._channel.unacked
        now_ms = self._channel.session.clock.now_ms
        left = _PER_LOOK
        while left > 0:
            run = unacked.next_run(self._tag)
            if run is None:
                if unacked.count > 0:
                    self._wait(now_ms)
                else:
                    self._timeouts.is_looking = False
                return True
            left -= 1
            self._count += 1
            if run.since_ms + self._shortest_ms > now_ms:
                self._is_due(run.since_ms + self._shortest_ms)
                self._wait(now_ms)
                return True
            self._tag = run.last_tag() + 1
            timeout = self._timeout_of(run)
            if timeout == 0:
                continue
            due_ms = run.since_ms + timeout
            if run.size > 1:
                due_ms += RUN_MS
            if due_ms > now_ms:
                self._is_due(due_ms)
                continue
            return not self._give_back(run, timeout)
        return False

    def _is_due(self, at_ms: i64) -> None:
        if self._next_ms == 0 or at_ms < self._next_ms:
            self._next_ms = at_ms

    def _wait(self, now_ms: i64) -> None:
        """Look again when something can be overdue."""
        at_ms = now_ms + _LOOK_MS + self._count // _RUNS_PER_MS
        if self._next_ms == 0:  # nothing of what is there ever is
            self._next_ms = now_ms + self._shortest_ms
        self._timeouts.look_at(self._next_ms if self._next_ms > at_ms else at_ms)

    def _timeout_of(self, run: Run) -> i64:
        queue = run.link.queue
        if queue is None:
            return 0
        consumer = run.consumer
        if isinstance(consumer, ChannelConsumer):
            return consumer.timeout_ms
        return timeout_ms(queue, UNSET, self._channel.session.limits.consumer_timeout_ms)

    def _give_back(self, run: Run, timeout: i64) -> bool:
        """A run is overdue. False if its channel is closed for that, which gives back all it holds."""
        channel = self._channel
        session = channel.session
        consumer = run.consumer
        queue = run.link.queue
        if (
            queue is None
            or not isinstance(consumer, ChannelConsumer)
            or not _can_be_told(channel, consumer)
            or channel.unacked.keeps_places  # a rollback might put something back into the run
        ):
            owner = session.owner
            if owner is not None:
                owner.fail_channel(channel, _overdue(channel, timeout))
            return False
        if not consumer.timed_out:
            consumer.timed_out = True
            owner = session.owner
            if owner is not None:
                owner.consumer_timed_out(channel, consumer, queue.name, timeout)
            queue.remove_consumer(consumer)
            consumer.cancelled()
        self._settling = Settling(channel, [channel.unacked.give_back(run)], TIMED_OUT)
        channel.working += 1
        return True

    def fault_owner(self) -> FaultOwner | None:
        return self._channel.session.owner


def _can_be_told(channel: Channel, consumer: ChannelConsumer) -> bool:
    """Whether the client can hear that the consumer is cancelled, or has heard it."""
    if consumer.timed_out:
        return True
    return channel.session.cancel_notify and channel.consumers.get(consumer.tag) is consumer


def _overdue(channel: Channel, timeout: i64) -> ChannelException:
    return ChannelException(
        PRECONDITION_FAILED,
        f"delivery acknowledgement on channel {channel.number} timed out. Timeout value used: {timeout} ms. This "
        "timeout value can be configured, see consumers doc guide to learn more",
    )
