"""What the channels of one connection share with it: the outbox, who the client is, what was negotiated.

Channels know their session, never the connection: the connection owns both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from broker.alarms import Alarms, Blockable
from broker.clock import Clock
from broker.counters import Counters
from broker.faults import FaultOwner
from broker.native import i64
from broker.protocol.outbox import Outbox
from broker.queues.consumer import Consumer
from broker.queues.queue import Queue
from broker.store.logs import Logs
from broker.turn import Deferred, Flushable, Turn
from broker.wire import spec
from broker.wire.methods import method_frame

if TYPE_CHECKING:
    from broker.vhost.vhost import VHost

_PRUNE_AT: Final = 64
_REFILLED_PER_LOOK: Final[i64] = 64


@final
class Limits:
    """Bounds from the configuration; 0 means no limit."""

    def __init__(self) -> None:
        self.channel_max = 2047
        self.frame_max = 131072
        self.heartbeat_s = 60
        self.message_size_max: i64 = 134_217_728
        self.consumers_per_channel_max = 0
        self.prefetch_default = 0
        self.handshake_timeout_ms = 10_000
        self.send_timeout_ms: i64 = 30_000


@final
class Session(Blockable):
    """One client's connection as its channels see it. Created at connection.open; its identity owns exclusive
    queues."""

    def __init__(
        self,
        name: str,
        user: str,
        vhost: VHost,
        outbox: Outbox,
        turn: Turn,
        clock: Clock,
        counters: Counters,
        limits: Limits,
        alarms: Alarms,
        logs: Logs | None = None,
    ) -> None:
        self.name = name
        self.user = user
        self.vhost = vhost
        self.outbox = outbox
        self.turn = turn
        self.clock = clock
        self.counters = counters
        self.limits = limits
        self.alarms = alarms
        self.logs = logs
        """Where promises come from; None on a node that keeps nothing."""
        self.released: list[object] = []
        """Channels that waited for the disk and need not any more: their frames are due."""
        self.resumer: Deferred | None = None
        """Takes the released channels' frames, at the beginning of the next turn."""
        self.blocked = False
        """It published during an alarm: its socket is not read until the alarm is cleared."""
        self.contents = 0
        """Channels in the middle of a content."""
        self.payload_max: i64 = 0
        """Largest frame payload to send; 0 for no limit."""
        self.cancel_notify = False
        """The client understands a basic.cancel from the server."""
        self.blocked_notify = False
        """The client understands connection.blocked."""
        self.exclusive_queues: list[Queue] | None = None
        self._prune_at = _PRUNE_AT
        self.flush_marked = False
        self.owner: FaultOwner | None = None
        """The connection: what ends when work of this session fails by a mistake of ours."""
        self._flushable: Flushable | None = None
        self.dirty: list[Flushable] = []
        """Channels with confirms to write at the next flush."""
        self.answers_held = 0
        """Channels whose answer waits for the disk."""
        self.notices: list[bytes] = []
        """Frames that must come behind the answers of this turn, and those that wait for the disk: a basic.cancel never
        overtakes the queue.delete-ok of the client that deleted the queue."""
        self.waiting_for_outbox: list[Consumer] = []
        self.queues_waiting_for_outbox: list[Queue] = []

    def attach(self, flushable: Flushable) -> None:
        """Name the connection: what is flushed when this session was touched."""
        self._flushable = flushable
        self.owner = flushable.fault_owner()

    def detach(self) -> None:
        """The connection is over: what leads back to it is cut, so that nothing of it waits for the collector of
        cycles."""
        self._flushable = None
        self.owner = None
        self.resumer = None
        self.released = []
        self.dirty = []
        self.waiting_for_outbox = []
        self.queues_waiting_for_outbox = []

    def schedule_flush(self) -> None:
        """The outbox has something to write: flush at the end of this turn."""
        if not self.flush_marked and self._flushable is not None:
            self.flush_marked = True
            self.turn.schedule_flush(self._flushable)

    def send(self, frame: bytes) -> None:
        """Queue a whole frame."""
        self.outbox.writer.write(frame)
        self.schedule_flush()

    def release(self, channel: object, again: bool = False) -> None:
        """``channel`` need not wait any more; ``again``: it had its share of this turn, and others come first."""
        resumer = self.resumer
        if resumer is not None:
            if not self.released and again:
                self.turn.defer_again(resumer)
            elif not self.released:
                self.turn.defer(resumer)
            self.released.append(channel)

    def notify(self, frame: bytes) -> None:
        """Queue a frame behind the answers of this turn."""
        self.notices.append(frame)
        self.schedule_flush()

    def begin_content(self) -> None:
        """A channel has taken the header of a content whose body is not there yet."""
        self.contents += 1
        if self.contents == 1:
            self.alarms.begin_content(self)
        if self.alarms.reason:
            self.block()

    def receive_part(self, size: i64) -> None:
        """So many bytes of a content have come, and it is not whole."""
        self.alarms.received(size)
        if self.alarms.reason:
            self.block()  # it was not told yet

    def end_content(self) -> None:
        """The body is whole, or is not wanted any more."""
        self.contents -= 1
        if self.contents == 0:
            self.alarms.end_content(self)

    def block(self) -> None:
        """The connection publishes during an alarm: say so once and stop reading from it."""
        if self.blocked:
            return
        self.blocked = True
        if self.blocked_notify:
            self.send(method_frame(0, spec.CONNECTION_BLOCKED, [("shortstr", self.alarms.reason)]))
        self.alarms.block(self)
        self.outbox.sink.pause_reading()

    def unblock(self) -> None:
        """The alarm is over: say so and read on."""
        self.blocked = False
        if self.blocked_notify:
            self.send(method_frame(0, spec.CONNECTION_UNBLOCKED, []))
        self.outbox.sink.resume_reading()

    def leave_alarms(self) -> None:
        """The connection closes: it publishes no more, and its close-ok must be read (as with RabbitMQ, whose closing
        connections are not blocked)."""
        self.alarms.forget(self)
        if self.blocked:
            self.blocked = False
            self.outbox.sink.resume_reading()

    def fault_owner(self) -> FaultOwner | None:
        return self.owner

    def own(self, queue: Queue) -> None:
        """``queue`` is exclusive to this connection; it goes with it, if it was not deleted before."""
        owned = self.exclusive_queues
        if owned is None:
            owned = []
            self.exclusive_queues = owned
        owned.append(queue)
        if len(owned) >= self._prune_at:
            # a client that declares and deletes a queue for every request must not leave a trail
            self.exclusive_queues = [one for one in owned if not one.deleted]
            self._prune_at = max(_PRUNE_AT, 2 * len(self.exclusive_queues))

    def wait_for_outbox(self, consumer: Consumer, queue: Queue) -> None:
        """``consumer`` has no room because the outbox is full; ``refill`` brings it back."""
        self.waiting_for_outbox.append(consumer)
        self.queues_waiting_for_outbox.append(queue)

    def refill(self) -> None:
        """The outbox drained: consumers that waited for it may have messages again; those that are left
        when the time is over have their turn later."""
        consumers = self.waiting_for_outbox
        queues = self.queues_waiting_for_outbox
        index: i64 = 0
        while index < len(consumers):
            queues[index].unblock(consumers[index])
            index += 1
            if index % _REFILLED_PER_LOOK == 0 and self.turn.out_of_time():
                break
        self.waiting_for_outbox = consumers[index:]
        self.queues_waiting_for_outbox = queues[index:]
