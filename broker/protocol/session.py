"""What the channels of one connection share with it: who the client is, what was negotiated, and the way out to it.

Channels know their session, never the connection: the connection owns both. All that is written to the client leaves
with the session's ``flush``, once a turn: the confirms that are due, what the outbox holds, and what has to come behind
both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from mypy_extensions import mypyc_attr

from broker.alarms import Blockable
from broker.errors import ChannelException
from broker.faults import FaultOwner
from broker.native import i64
from broker.protocol.client_properties import has_capability
from broker.protocol.outbox import Outbox
from broker.queues.consumer import Consumer
from broker.queues.queue import Queue
from broker.stats import ConnectionFigures, Traffic
from broker.turn import Deferred, Flushable
from broker.wire import spec
from broker.wire.methods import method_frame
from broker.wire.table import EMPTY, FieldTable

if TYPE_CHECKING:
    from broker.protocol.channel import Channel
    from broker.protocol.server import Server
    from broker.vhost.vhost import VHost

_PRUNE_AT: Final = 64
_REFILLED_PER_LOOK: Final[i64] = 64


@final
class Negotiated:
    """What the handshake has settled with a client: who it is, and what both sides keep to."""

    def __init__(self, name: str, user: str, vhost: VHost, client_properties: FieldTable = EMPTY) -> None:
        self.name = name
        """Of the connection, as RabbitMQ names it: ``peer:port -> own:port``."""
        self.user = user
        self.vhost = vhost
        self.client_properties = client_properties
        """As connection.start-ok had them."""
        self.channel_max = 0
        """Open channels; 0 for no limit."""
        self.frame_max = 0
        """Octets of a frame; 0 for no limit."""
        self.heartbeat_s = 0
        """0 for no heartbeats."""


@mypyc_attr(allow_interpreted_subclasses=True)
class SessionOwner(FaultOwner):
    """The connection, as its session sees it: what ends when work of the session fails by a mistake of ours."""

    def resume_channels(self) -> None:
        """Take the frames of channels that need not wait any more (``Session.take_released``)."""
        raise NotImplementedError

    def fail_channel(self, channel: Channel, error: ChannelException) -> None:
        """Close a channel of the session for something that no frame of the client has asked for."""
        raise NotImplementedError

    def consumer_timed_out(self, channel: Channel, consumer: Consumer, queue: str, timeout_ms: i64) -> None:
        """A consumer is cancelled that has had a message for longer than that."""
        raise NotImplementedError

    def traffic(self) -> Traffic:
        """Who knows what it has received and sent; nothing leads back to it."""
        raise NotImplementedError


@final
class _Resume(Deferred):
    """Takes the frames of channels that need not wait any more."""

    def __init__(self, owner: SessionOwner) -> None:
        self._owner = owner

    def resume(self) -> None:
        self._owner.resume_channels()

    def fault_owner(self) -> FaultOwner | None:
        return self._owner


@final
class _Refill(Deferred):
    """Gives consumers that waited for the outbox their turn again, at the beginning of the next turn."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def resume(self) -> None:
        self._session.refill()

    def fault_owner(self) -> FaultOwner | None:
        return self._session.owner


@final
class Session(Blockable, Flushable):
    """One client's connection as its channels see it. Created at connection.open; its identity owns exclusive
    queues."""

    def __init__(self, server: Server, negotiated: Negotiated, outbox: Outbox) -> None:
        self.name = negotiated.name
        self.user = negotiated.user
        self.vhost = negotiated.vhost
        self.access = server.access_control.access(negotiated.user, negotiated.vhost.name)
        """What he may do there."""
        self.outbox = outbox
        self.turn = server.turn
        self.clock = server.clock
        self.counters = server.counters
        self.limits = server.limits
        self.alarms = server.alarms
        self.logs = server.logs
        """Where promises come from; None on a node that keeps nothing."""
        self.contents = 0
        """Channels in the middle of a content."""
        self.payload_max: i64 = negotiated.frame_max - spec.FRAME_OVERHEAD if negotiated.frame_max else 0
        """Largest frame payload to send; 0 for no limit."""
        self.exclusive_queues: list[Queue] | None = None
        self.figures: ConnectionFigures | None = None
        """What was counted; None while nothing has happened."""
        self._prune_at = _PRUNE_AT
        self.owner: SessionOwner | None = None
        """None before the connection is open, and when it is over."""
        self.dirty: list[Flushable] = []
        """Channels with confirms to write at the next flush."""
        self.answers_held = 0
        """Channels whose answer waits for the disk."""
        self.waiting_for_outbox: list[tuple[Consumer, Queue]] = []
        """Consumers that have no room because the outbox is full."""
        self._released: list[Channel] | None = None
        """Channels that waited for the disk and need not any more: their frames are due."""
        self._notices: list[bytes] | None = None
        """Frames that must come behind the answers of this turn, and those that wait for the disk: a basic.cancel never
        overtakes the queue.delete-ok of the client that deleted the queue."""
        self.blocked = False
        """It published during an alarm: its socket is not read until the alarm is cleared."""
        self.cancel_notify = has_capability(negotiated.client_properties, "consumer_cancel_notify")
        """The client understands a basic.cancel from the server."""
        self.blocked_notify = has_capability(negotiated.client_properties, "connection.blocked")
        """The client understands connection.blocked."""
        self._is_flush_scheduled = False
        self._is_refill_scheduled = False
        self._delivers = True
        """Nothing is delivered any more to a client whose connection closes."""

    def stir(self) -> None:
        """Something happens on a channel: the rates of the connection are taken from now on."""
        figures = self.figures
        owner = self.owner
        if figures is None and owner is not None:
            figures = ConnectionFigures(self.vhost.sampler, owner.traffic())
            self.figures = figures
        if figures is not None:
            figures.stir()

    def attach(self, owner: SessionOwner) -> None:
        """Name the connection; from now on what is written to the client is flushed."""
        self.owner = owner

    def detach(self) -> None:
        """The connection is over: what leads back to it is cut, so that nothing of it waits for the collector of
        cycles."""
        self.owner = None
        self.dirty = []
        self.waiting_for_outbox = []
        self._released = None

    # ---- bytes out ---------------------------------------------------------------------------------------------------

    def schedule_flush(self) -> None:
        """The outbox has something to write: flush at the end of this turn."""
        if not self._is_flush_scheduled and self.owner is not None:
            self._is_flush_scheduled = True
            self.turn.schedule_flush(self)

    def send(self, frame: bytes) -> None:
        """Queue a whole frame."""
        self.outbox.writer.write(frame)
        self.schedule_flush()

    def notify(self, frame: bytes) -> None:
        """Queue a frame behind the answers of this turn."""
        notices = self._notices
        if notices is None:
            notices = []
            self._notices = notices
        notices.append(frame)
        self.schedule_flush()

    def flush(self) -> None:
        """Write the confirms that are due and everything the outbox holds, in one go."""
        self._is_flush_scheduled = False
        if self.dirty:
            dirty = self.dirty
            self.dirty = []
            for channel in dirty:
                channel.flush()
        notices = self._notices
        if notices is not None and self.answers_held == 0:
            self._notices = None
            for notice in notices:
                self.outbox.write(notice)
        self.outbox.flush()
        self._schedule_refill()

    def writable(self, ready: bool) -> None:
        """The socket's buffer passed its high water (False) or fell below its low water (True)."""
        self.outbox.paused = not ready
        if ready:
            self.outbox.flush()
            self._schedule_refill()

    def wait_for_outbox(self, consumer: Consumer, queue: Queue) -> None:
        """``consumer`` has no room because the outbox is full; ``refill`` brings it back."""
        self.waiting_for_outbox.append((consumer, queue))

    def _schedule_refill(self) -> None:
        """``refill`` in the next turn, if somebody waits for it, or some of what waits to be written."""
        outbox = self.outbox
        if (
            (self.waiting_for_outbox or outbox.size() > 0)
            and not self._is_refill_scheduled
            and not outbox.paused
            and not outbox.closed
        ):
            self._is_refill_scheduled = True
            self.turn.defer(_Refill(self))

    def refill(self) -> None:
        """The outbox has room again, or the next part of what is in it may leave."""
        self._is_refill_scheduled = False
        outbox = self.outbox
        if outbox.paused or outbox.closed:
            return
        if outbox.size() > 0:
            self.schedule_flush()
        if self._delivers and outbox.room() > 0:
            self._offer_room()
            self._schedule_refill()

    def _offer_room(self) -> None:
        """Consumers that waited for the outbox may have messages again; those that are left when the time is over have
        their turn later."""
        waiting = self.waiting_for_outbox
        index: i64 = 0
        while index < len(waiting):
            consumer, queue = waiting[index]
            queue.unblock(consumer)
            index += 1
            if index % _REFILLED_PER_LOOK == 0 and self.turn.out_of_time():
                break
        self.waiting_for_outbox = waiting[index:]

    def stop_deliveries(self) -> None:
        """The connection closes: consumers that wait for the outbox wait no more."""
        self._delivers = False

    # ---- channels that wait ------------------------------------------------------------------------------------------

    def release(self, channel: Channel, again: bool = False) -> None:
        """``channel`` need not wait any more; ``again``: it had its share of this turn, and others come first."""
        owner = self.owner
        if owner is None:
            return
        released = self._released
        if released is not None:
            released.append(channel)
            return
        self._released = [channel]
        if again:
            self.turn.defer_again(_Resume(owner))
        else:
            self.turn.defer(_Resume(owner))

    def take_released(self) -> list[Channel]:
        """Channels that need not wait any more; each is given once."""
        released = self._released
        self._released = None
        return [] if released is None else released

    # ---- contents and alarms -----------------------------------------------------------------------------------------

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
