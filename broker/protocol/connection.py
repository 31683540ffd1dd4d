"""An open connection: what the transport, the timers and the node ask of it, without I/O.

Bytes come in by ``receive`` and go out through the outbox; the time comes from the clock's timers. Its jobs stand in
files of their own:

    input.py              bytes in, and why the socket is not read
    frame_dispatch.py     whose a frame is; connection_methods.py and channel_methods.py are the classes connection and
                          channel of the specification
    channel_table.py      the channels by their numbers
    held_frames.py        frames of channels that wait
    closing.py            how it ends
    session.py            what its channels share with it; bytes out
    heartbeats.py, send_timeout.py    whether the client is there, and reads
"""

from __future__ import annotations

from typing import final

from broker.errors import CONNECTION_FORCED, FRAME_ERROR, INTERNAL_ERROR, ChannelException, ConnectionException
from broker.faults import FaultOwner
from broker.native import i64
from broker.protocol import channel_methods
from broker.protocol.channel import Channel
from broker.protocol.channel_table import ChannelTable
from broker.protocol.closing import Closing
from broker.protocol.connection_state import CLOSED, RUNNING
from broker.protocol.connection_step import ConnectionStep
from broker.protocol.heartbeats import Heartbeats
from broker.protocol.held_frames import HeldFrames
from broker.protocol.input import Input
from broker.protocol.outbox import Outbox
from broker.protocol.refusals import close_frame
from broker.protocol.send_timeout import SendTimeout
from broker.protocol.server import Server
from broker.protocol.session import Negotiated, Session, SessionOwner
from broker.queues.consumer import Consumer
from broker.stats import Traffic
from broker.wire import spec
from broker.wire.frames import FrameReader


@final
class _EndByFault(ConnectionStep):
    """Ends a connection for a mistake of ours, at the beginning of the next turn: where it was found, its objects may
    be in use."""

    def resume(self) -> None:
        self.connection.fail(ConnectionException(INTERNAL_ERROR, "INTERNAL_ERROR"))


@final
class _Octets(Traffic):
    """Of one connection, which it does not know: figures may outlive it for a moment."""

    def __init__(self, received: Input, outbox: Outbox) -> None:
        self._input = received
        self._outbox = outbox

    def octets(self) -> tuple[int, int]:
        return int(self._input.bytes_received), int(self._outbox.bytes_written)


@final
class Connection(SessionOwner):
    """One client's open connection. Created by the handshake, driven by the transport."""

    def __init__(self, server: Server, negotiated: Negotiated, outbox: Outbox, reader: FrameReader) -> None:
        session = Session(server, negotiated, outbox)
        self.server = server
        self.session = session
        self.number = 0
        """Of the connections of this node; 0 for one that does not count among them."""
        self.channel_max = negotiated.channel_max
        self.heartbeat_s = negotiated.heartbeat_s
        self.client_properties = negotiated.client_properties
        self.connected_at_s = server.clock.wall_s()
        self.channels = ChannelTable(server)
        self.input = Input(reader)
        self.held: HeldFrames | None = None
        """None while no channel has had to wait."""
        self.closing: Closing | None = None
        """How it ends, once that has begun."""
        self._ends_by_fault = False
        """A mistake of ours was found in its work."""
        self._is_given_up = False
        """Its socket was closed from our side, and the log says why."""
        self._heartbeats = Heartbeats(self, outbox, server.clock, negotiated.heartbeat_s)
        self._send_timeout = SendTimeout(self, outbox, server.clock, server.limits.send_timeout_ms)
        session.attach(self)

    @property
    def state(self) -> int:
        """``RUNNING``, ``CLOSING`` or ``CLOSED``."""
        closing = self.closing
        return RUNNING if closing is None else closing.state

    def start(self) -> None:
        """Register with the server, and begin heartbeats: connection.open-ok has been sent."""
        self.number = self.server.connection_opened(self)
        self._heartbeats.start()
        self._send_timeout.start()

    def fail_channel(self, channel: Channel, error: ChannelException) -> None:
        if self.state == RUNNING and not channel.closing:
            channel_methods.fail(self, channel, error)

    def consumer_timed_out(self, channel: Channel, consumer: Consumer, queue: str, timeout_ms: i64) -> None:
        self.server.client_log.consumer_timed_out(self, channel.number, consumer.tag, queue, timeout_ms)

    def traffic(self) -> Traffic:
        return _Octets(self.input, self.session.outbox)

    # ---- bytes in ----------------------------------------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Take what the socket delivered. Never raises for anything a client can send; a mistake of ours ends the
        connection."""
        self.input.bytes_received += len(data)
        self._heartbeats.hear()
        self.input.receive(self, data)

    def hear(self) -> None:
        """Something has come, and waits undecoded: the client lives."""
        self._heartbeats.hear()

    def is_unread(self) -> bool:
        """Whether its socket is not read, for whatever reason: it cannot be heard then."""
        held = self.held
        return self.session.blocked or self.input.is_paused() or (held is not None and held.stops_reading)

    def takes_input(self) -> bool:
        """Whether what comes is looked at: all of it, or close and close-ok."""
        closing = self.closing
        if closing is None or closing.state == RUNNING:
            return not self._ends_by_fault
        return closing.state != CLOSED

    def missing(self) -> int:
        """Bytes that have not come yet of the contents that were begun."""
        return sum([channel.missing for channel in self.channels.values()])

    def hold(self, channel: Channel, reader: FrameReader) -> None:
        """The channel waits: keep the frame that ``reader`` is at."""
        self._held_frames().hold(channel, reader)

    def resume_channels(self) -> None:
        self._held_frames().resume(self)

    def _held_frames(self) -> HeldFrames:
        held = self.held
        if held is None:
            held = HeldFrames(self.session)
            self.held = held
        return held

    # ---- end ---------------------------------------------------------------------------------------------------------

    def ends(self) -> Closing:
        """How it ends, from now on."""
        closing = self.closing
        if closing is None:
            closing = Closing()
            self.closing = closing
        return closing

    def waits_to_close(self) -> bool:
        """Whether the client has closed the connection, behind frames of channels that wait."""
        closing = self.closing
        return closing is not None and closing.state == RUNNING

    def fail(self, error: ConnectionException) -> None:
        """Close the connection for a hard error: resources go first, then connection.close leaves."""
        if error.code == FRAME_ERROR:
            self.input.lose()
            closing = self.closing
            if closing is not None:
                closing.expect_nothing(self)
        if self.state == RUNNING:
            self.server.client_log.connection_error(self, error)
            self.ends().fail(self, close_frame(0, spec.CONNECTION_CLOSE, error))

    def shut_down(self, reason: str) -> None:
        """Close from our side: an operator, or the node going down (CONNECTION_FORCED, 320)."""
        self.fail(ConnectionException(CONNECTION_FORCED, reason))

    def abort(self) -> None:
        """Close the socket without waiting for the client; the caller has told why."""
        self._is_given_up = True
        self.session.outbox.sink.abort()
        self.stop_watching()
        self.session.outbox.close()

    def lost(self) -> None:
        """The socket is gone."""
        if self.state == RUNNING and not self._is_given_up:
            self.server.client_log.vanished(self)
        self.stop_watching()
        self.ends().lose(self)

    def stop_watching(self) -> None:
        """Whether the client is there, and reads, does not matter any more."""
        self._heartbeats.stop()
        self._send_timeout.stop()

    def fault_owner(self) -> FaultOwner | None:
        return self

    def fault_label(self) -> str:
        return self.session.name

    def end_by_fault(self) -> None:
        """Close with INTERNAL_ERROR (541); the socket alone if that fails, too."""
        if self._ends_by_fault:
            self.abort()
            return
        self._ends_by_fault = True
        self.session.outbox.discard()  # it may end in half a frame
        self.server.turn.defer(_EndByFault(self))

    # ---- bytes out ---------------------------------------------------------------------------------------------------

    def writable(self, ready: bool) -> None:
        """The socket's buffer passed its high water (False) or fell below its low water (True)."""
        self.session.writable(ready)
        if ready:
            self.input.read_after_output(self.session.outbox)
