"""An open connection: channel 0, the channel table, close; the one place that turns an error into a close frame.

States: running -> closing (the server sent connection.close and ignores everything but close and close-ok) -> closed.
Bytes in by ``receive``, bytes out through the outbox; the time comes from the clock's timers.
"""

from __future__ import annotations

from typing import Final, final

from librt.strings import read_i32_be

from broker.clock import Timed, Timer
from broker.errors import (
    CHANNEL_ERROR,
    COMMAND_INVALID,
    CONNECTION_FORCED,
    FRAME_ERROR,
    NOT_ALLOWED,
    UNEXPECTED_FRAME,
    ChannelException,
    ConnectionException,
    ProtocolException,
)
from broker.faults import FaultOwner
from broker.native import i64
from broker.protocol.channel import Channel
from broker.protocol.connection_steps import (
    ChannelEnded,
    CloseChannel,
    CloseConnection,
    EndByFault,
    GoOn,
    Refill,
    Released,
    Relief,
    Resume,
)
from broker.protocol.dispatch import handle
from broker.protocol.dispatching import Dispatching
from broker.protocol.heartbeats import Heartbeats
from broker.protocol.outbox import BACKLOG_MAX, Outbox
from broker.protocol.refusals import close_frame, second_open, unexpected_frame, unknown_frame
from broker.protocol.send_timeout import SendTimeout
from broker.protocol.server import Server
from broker.protocol.session import Session
from broker.protocol.sliced import ChannelEnd, ConnectionEnd
from broker.queues.queue import Queue
from broker.store.logs import Logs
from broker.turn import Deferred, Flushable
from broker.wire import spec
from broker.wire.frames import FrameReader
from broker.wire.methods import decode, method_frame
from broker.wire.table import FieldTable

_CLOSE_TIMEOUT_MS: Final[i64] = 30_000
_HELD_BYTES_MAX: Final[i64] = 1 << 20
"""Of the frames kept for channels that wait for the disk."""
_FRAMES_PER_LOOK: Final[i64] = 32
"""So many frames are taken between two looks at the clock, unless one of them may have cost much (``Turn.costly``)."""
RUNNING: Final = 0
CLOSING: Final = 1
CLOSED: Final = 2


@final
class Connection(FaultOwner, Flushable, Timed):
    """One client's open connection. Created by the handshake, driven by the transport."""

    def __init__(
        self,
        server: Server,
        session: Session,
        reader: FrameReader,
        channel_max: int,
        heartbeat_s: int,
        client_properties: FieldTable,
    ) -> None:
        self.server = server
        self.session = session
        self.number = 0
        self.channel_max = channel_max
        self.heartbeat_s = heartbeat_s
        self.client_properties = client_properties
        self.state = RUNNING
        self.bytes_received: i64 = 0
        self.connected_at_s = server.clock.wall_s()
        self.channels: dict[int, Channel] = {}
        self._reader = reader
        self._outbox: Outbox = session.outbox
        self._last: Channel | None = None
        self._timer: Timer | None = None
        """How long the client's answer to connection.close is waited for."""
        self._heartbeats = Heartbeats(self, self._outbox, server.clock, heartbeat_s)
        self._send_timeout = SendTimeout(self, self._outbox, server.clock, server.limits.send_timeout_ms)
        self.refill_armed = False
        """Consumers that wait for room in the outbox have their turn in the next one."""
        self._paused_for_output = False
        """Not read because it does not read."""
        self._rest_bytes: i64 = 0
        self._held_bytes: i64 = 0
        self._held_back = False
        """Not read because channels wait and too many of their frames are kept."""
        self._is_releasing = False
        self._is_released = False
        """What it held has gone back, and its last frame was written."""
        self._last_frame = b""
        self._ends_stream = False
        self._waits = False
        self._is_deaf = False
        """The frames were wrong: what follows cannot be told apart from frames any more, and is not looked at."""
        self._unfinished = False
        """Not read because frames of an earlier read wait for the next turn."""
        self._later: list[bytes] | None = None
        """Reads that came nevertheless."""
        self._close_asked = False
        """The client has closed the connection, behind frames of channels that wait."""
        self.in_flow = False
        """Not read because it publishes faster than the disk writes (RabbitMQ's state "flow")."""
        self._ending = False
        """A mistake of ours was found in its work."""
        self._is_given_up = False
        """Its socket was closed from our side, and the log says why."""
        session.resumer = Resume(self)

    def start(self) -> None:
        """Register with the server, and begin heartbeats: connection.open-ok has been sent."""
        server = self.server
        self.number = server.next_connection
        server.next_connection += 1
        server.connections[self.number] = self
        self._heartbeats.start()
        self._send_timeout.start()

    # ---- bytes in ----------------------------------------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Take what the socket delivered. Never raises for anything a client can send; a mistake of ours ends the
        connection."""
        self.bytes_received += len(data)
        self._heartbeats.hear()
        if self._takes_nothing():
            return
        if self._unfinished:
            if self._later is None:
                self._later = []
            self._later.append(data)
            return
        self._take(data)

    def hear(self) -> None:
        """Something has come, and waits undecoded: the client lives."""
        self._heartbeats.hear()

    def is_unread(self) -> bool:
        """Whether its socket is not read, for whatever reason: it cannot be heard then."""
        return self.session.blocked or self._held_back or self.in_flow or self._paused_for_output or self._unfinished

    def _takes_nothing(self) -> bool:
        return self.state == CLOSED or self._is_deaf or (self._ending and self.state == RUNNING)

    def _take(self, data: bytes) -> None:
        logs = self.session.logs
        appended: i64 = 0 if logs is None else logs.appended()
        was_unfinished = len(data) == 0
        try:
            if not was_unfinished:
                self._reader.feed(data)
        except ConnectionException as error:
            self.fail(error)
        self._take_all()
        if self._unfinished and not was_unfinished:
            self._outbox.sink.pause_reading()
        if logs is not None and logs.appended() != appended and logs.is_congested():
            self._slow_down(logs)
        self._count_rest(0 if self.state == CLOSED else self._reader.waiting)
        if self._outbox.paused and not self._paused_for_output and self._outbox.size() > BACKLOG_MAX:
            self._paused_for_output = True
            self._outbox.sink.pause_reading()

    def _take_all(self) -> None:
        """Take the frames that are there. Those behind a hard error are passed over one by one: what follows them in
        the next read, close-ok at last, begins where the last of them ends."""
        while not self._is_deaf:
            if self._waits_to_close():
                self._pass_over()
                return
            try:
                self._take_frames(self._reader)
                return
            except ConnectionException as error:
                self.fail(error)

    def _pass_over(self) -> None:
        """What follows connection.close is not taken; but where its frames end has to be known."""
        try:
            while self._reader.next():
                pass
        except ConnectionException:
            self._is_deaf = True

    def go_on(self) -> None:
        """A new turn: take what was read, and could not be taken in the time of the last one."""
        self._unfinished = False
        if self._takes_nothing():
            self._later = None
        else:
            self._take(b"")
        while self._later and not self._unfinished:
            self._take(self._later.pop(0))
        if not self._unfinished:
            self._outbox.sink.resume_reading()

    def _wait_for_time(self) -> None:
        """The rest of what was read waits for the next turn; others come first."""
        self._unfinished = True
        self.server.turn.defer_again(GoOn(self))

    def _slow_down(self, logs: Logs) -> None:
        """It has added to what waits for the disk: read no more while that is too much, before the memory grows with
        it."""
        if not self.in_flow:
            self.in_flow = True
            logs.when_relieved(Relief(self))
            self._outbox.sink.pause_reading()

    def relieve(self) -> None:
        """The disk has caught up."""
        self.in_flow = False
        self._outbox.sink.resume_reading()

    def client_name(self) -> str:
        """What the client calls this connection (its property connection_name); '' if it gives no name."""
        return connection_name(self.client_properties)

    def missing(self) -> int:
        """Bytes that have not come yet of the contents that were begun."""
        return sum([channel.missing for channel in self.channels.values()])

    def _count_rest(self, size: i64) -> None:
        """So many bytes of a frame that is not whole are kept."""
        if size != self._rest_bytes:
            self.server.alarms.received(size - self._rest_bytes)
            self._rest_bytes = size

    def continue_reading(self) -> None:
        """Take the frames that the handshake's last read left behind."""
        self._take_all()
        if self._unfinished:
            self._outbox.sink.pause_reading()

    def resume_channels(self) -> None:
        """Take the frames of channels that need not wait any more."""
        session = self.session
        released = session.released
        session.released = []
        for each in released:
            assert isinstance(each, Channel)
            channel: Channel = each
            if self.state != RUNNING or channel.closing or not channel.held:
                continue
            try:
                self._resume_channel(channel)
            except ChannelException as refusal:
                self._fail_channel(channel, refusal)
            except ConnectionException as error:
                self.fail(error)
        self._read_on()
        self._close_if_asked()

    def _read_on(self) -> None:
        """Some of what was kept for channels that wait is not kept any more: read again, if that was too much."""
        if self._held_back and self._held_bytes < _HELD_BYTES_MAX:
            self._held_back = False
            self._outbox.sink.resume_reading()

    def _resume_channel(self, channel: Channel) -> None:
        channel.held = False
        retry = channel.retry
        if retry is not None:
            channel.retry = None
            retry.resume()
            if channel.held:
                return
        frames = channel.take_held()
        if not frames:
            return
        self._let_go(channel)
        reader = FrameReader(0)
        reader.feed(frames)
        self._take_frames(reader)
        rest = reader.rest()
        if rest and not channel.closing:
            self._hold_again(channel, rest)

    def _hold_again(self, channel: Channel, rest: bytes) -> None:
        """The turn's time was over before all frames that were kept were taken."""
        if not channel.held:
            channel.held = True
            self.session.release(channel, True)
        later = channel.take_held()
        self._keep(channel, rest)
        if later:
            channel.hold_frame(later)

    def _keep(self, channel: Channel, frames: bytes) -> None:
        """Keep frames of a channel that waits, and count them."""
        channel.hold_frame(frames)
        channel.held_bytes += len(frames)
        self._held_bytes += len(frames)
        self.server.alarms.received(len(frames))

    def _let_go(self, channel: Channel) -> None:
        """Its frames are not kept any more."""
        self._held_bytes -= channel.held_bytes
        self.server.alarms.received(-channel.held_bytes)
        channel.held_bytes = 0

    def _hold(self, channel: Channel, reader: FrameReader) -> None:
        frame = reader.data[reader.start - 7 : reader.end + 1]
        self._keep(channel, frame)
        if self._held_bytes >= _HELD_BYTES_MAX and not self._held_back:
            self._held_back = True
            self._outbox.sink.pause_reading()

    def _take_frames(self, reader: FrameReader) -> None:
        channel = self._last
        turn = self.server.turn
        left = _FRAMES_PER_LOOK
        while True:
            if left == 0 or turn.costly:
                turn.costly = False
                left = _FRAMES_PER_LOOK
                if reader is self._reader and self._waits_to_close():
                    return
                if turn.out_of_time():
                    if reader is self._reader:
                        self._wait_for_time()
                    return
            left -= 1
            if not reader.next():
                return
            kind = reader.frame_type
            number = reader.channel
            if self.state != RUNNING:
                if self.state == CLOSED:
                    return
                self._closing_frame(reader)
                continue
            if channel is None or channel.number != number:
                channel = self.channels.get(number)
                self._last = channel
            if channel is None:
                channel = self._other_frame(reader, kind, number)
                self._last = channel
                continue
            if channel.closing:
                self._closing_channel_frame(channel, reader)
                channel = self._last
                continue
            if channel.held:
                self._hold(channel, reader)
                continue
            try:
                if kind == spec.FRAME_METHOD:
                    if channel.expects_content:
                        raise channel.unexpected_method()
                    if reader.end - reader.start < 4:
                        raise unknown_frame(reader)
                    method = i64(read_i32_be(reader.data, reader.start)) & 0xFFFFFFFF
                    if not channel.receive_hot(reader, method):
                        self._cold(channel, reader, int(method))
                elif kind == spec.FRAME_HEADER:
                    channel.receive_header(reader)
                elif kind == spec.FRAME_BODY:
                    channel.receive_body(reader)
                else:
                    raise unexpected_frame(reader)
            except ChannelException as error:
                self._fail_channel(channel, error)
            channel = self._last

    def _cold(self, channel: Channel, reader: FrameReader, index: int) -> None:
        self.server.turn.costly = True
        method = decode(reader.data, reader.start, reader.end)
        if index == spec.CHANNEL_CLOSE:
            self._close_channel(channel)
            self._last = None
            return
        if index == spec.CHANNEL_OPEN:
            raise second_open()
        if index == spec.CHANNEL_CLOSE_OK:
            raise ConnectionException(COMMAND_INVALID, "unimplemented method", 20, 41)
        try:
            handle(channel, method)
        except ProtocolException as error:
            error.name_method(index)
            raise

    def _other_frame(self, reader: FrameReader, kind: i64, number: i64) -> Channel | None:
        """A frame for channel 0 or for a channel that is not open; returns the channel that it opened."""
        if number == 0:
            if kind == spec.FRAME_HEARTBEAT and reader.end == reader.start:
                return None
            if kind != spec.FRAME_METHOD:
                raise unexpected_frame(reader)
            self._control(reader)
            return None
        if kind == spec.FRAME_HEADER or kind == spec.FRAME_BODY:
            raise ConnectionException(UNEXPECTED_FRAME, "expected method frame, got non method frame instead")
        if kind != spec.FRAME_METHOD:
            raise unexpected_frame(reader)
        index = decode(reader.data, reader.start, reader.end).index
        if index != spec.CHANNEL_OPEN:
            raise ConnectionException(CHANNEL_ERROR, "expected 'channel.open'", index >> 16, index & 0xFFFF)
        return self._open_channel(number)

    def _open_channel(self, number: i64) -> Channel:
        server = self.server
        limit = self.channel_max
        if limit and len(self.channels) >= limit:  # RabbitMQ counts channels, their numbers may be any
            raise ConnectionException(
                NOT_ALLOWED,
                f"number of channels opened ({len(self.channels)}) has reached the negotiated channel_max ({limit})",
            )
        if server.channels_max and server.channels_open >= server.channels_max:
            raise ConnectionException(
                NOT_ALLOWED,
                f"number of channels opened on node '{server.identity.node}' has reached the maximum allowed limit of "
                f"({server.channels_max})",
            )
        channel = Channel(number, self.session)
        self.channels[number] = channel
        server.channels_open += 1
        server.sampler.wake()
        server.counters.channels_opened += 1
        self.session.send(method_frame(int(number), spec.CHANNEL_OPEN_OK, [("longstr", "")]))
        return channel

    # ---- channel 0 ---------------------------------------------------------------------------------------------------

    def _control(self, reader: FrameReader) -> None:
        index = decode(reader.data, reader.start, reader.end).index
        if index == spec.CONNECTION_CLOSE:
            self._ask_to_close()
        elif index == spec.CONNECTION_UPDATE_SECRET:
            self.session.send(method_frame(0, spec.CONNECTION_UPDATE_SECRET_OK, []))
        else:
            raise self._misplaced(index)

    def _ask_to_close(self) -> None:
        """The client closes: what it said before on channels that wait comes first, messages perhaps; for a time, the
        disk may hang."""
        self._close_asked = True
        self.server.turn.costly = True
        self._close_if_asked()
        if self._waits_to_close():
            self._arm(_CLOSE_TIMEOUT_MS)

    def _waits_to_close(self) -> bool:
        return self._close_asked and self.state == RUNNING

    def _close_if_asked(self) -> None:
        if self._waits_to_close() and self._held_bytes == 0:
            self._close_now()

    def _close_now(self) -> None:
        self.state = CLOSING  # nothing more is taken
        self._arm(_CLOSE_TIMEOUT_MS)
        queues: list[Queue] = []
        for channel in self.channels.values():
            if not channel.closing:
                queues += channel.consumed_queues()
        self.server.turn.start(Dispatching(self.server.turn, queues, self, CloseConnection(self)))

    def close_as_asked(self) -> None:
        """What was published before the client has closed the connection was dispatched."""
        if self.state == CLOSING:
            self._begin_closing(method_frame(0, spec.CONNECTION_CLOSE_OK, []), False, False)

    def _misplaced(self, index: int) -> ConnectionException:
        return ConnectionException(
            CHANNEL_ERROR, "unexpected method in connection state running", index >> 16, index & 0xFFFF
        )

    def _closing_frame(self, reader: FrameReader) -> None:
        if (
            reader.channel
            or reader.frame_type != spec.FRAME_METHOD
            or reader.end - reader.start < 4
            or not self._is_released
        ):
            return
        index = i64(read_i32_be(reader.data, reader.start)) & 0xFFFFFFFF
        if index == spec.CONNECTION_CLOSE_OK:
            self._finish()
        elif index == spec.CONNECTION_CLOSE:
            self.session.send(method_frame(0, spec.CONNECTION_CLOSE_OK, []))
            self._finish()

    # ---- channels ----------------------------------------------------------------------------------------------------

    def _close_channel(self, channel: Channel) -> None:
        dispatching = Dispatching(self.server.turn, channel.consumed_queues(), self)
        channel.carry_out(dispatching, CloseChannel(self, channel))

    def end_channel(self, channel: Channel) -> None:
        """What was published before the client has closed this channel was dispatched."""
        frame = method_frame(int(channel.number), spec.CHANNEL_CLOSE_OK, [])
        self.server.turn.start(self._end_of(channel, ChannelEnded(self, channel, frame, True)))

    def channel_ended(self, channel: Channel, frame: bytes, forget: bool) -> None:
        """What it held has gone back."""
        if self.state != RUNNING:
            return
        if forget:
            self._forget_channel(channel)
        else:
            channel.awaits_close_ok = True
        self.session.send(frame)
        self._close_if_asked()

    def _end_of(self, channel: Channel, then: Deferred | None) -> ChannelEnd:
        """Nothing is taken from this channel nor delivered to it any more; the rest is the caller's to carry out."""
        self._let_go(channel)
        return channel.end(then)

    def _forget_channel(self, channel: Channel) -> None:
        if self.channels.pop(channel.number, None) is not None:
            self.server.channels_open -= 1
            self.server.counters.channels_closed += 1

    def _forget_channels(self) -> None:
        self.server.channels_open -= len(self.channels)
        self.server.counters.channels_closed += len(self.channels)
        self.channels = {}

    def _fail_channel(self, channel: Channel, error: ChannelException) -> None:
        self.server.client_log.channel_error(self, channel.number, error)
        frame = close_frame(int(channel.number), spec.CHANNEL_CLOSE, error)
        self.server.turn.start(self._end_of(channel, ChannelEnded(self, channel, frame, False)))

    def _closing_channel_frame(self, channel: Channel, reader: FrameReader) -> None:
        """Until close-ok everything on a channel that the server closed is ignored (AMQP 0-9-1 channel.close), but for
        channel.open: its number is not free yet, and a client that thinks so would wait for ever for an answer."""
        if reader.frame_type != spec.FRAME_METHOD or reader.end - reader.start < 4:
            return
        index = i64(read_i32_be(reader.data, reader.start)) & 0xFFFFFFFF
        if index == spec.CHANNEL_CLOSE_OK:
            if channel.awaits_close_ok:
                self._forget_channel(channel)
                self._last = None
        elif index == spec.CHANNEL_OPEN:
            raise second_open()
        elif index == spec.CHANNEL_CLOSE:
            self.session.send(method_frame(int(channel.number), spec.CHANNEL_CLOSE_OK, []))

    # ---- end ---------------------------------------------------------------------------------------------------------

    def fail(self, error: ConnectionException) -> None:
        """Close the connection for a hard error: resources go first, then connection.close leaves."""
        if error.code == FRAME_ERROR:
            self._lose_track()
        if self.state != RUNNING:
            return
        self.server.client_log.connection_error(self, error)
        self.server.closing[self.number] = self
        self._begin_closing(close_frame(0, spec.CONNECTION_CLOSE, error), True, not self._is_deaf)

    def _lose_track(self) -> None:
        """Nothing is read any more, nor is close-ok waited for: it could not be told apart from what it may be part
        of."""
        self._is_deaf = True
        self._later = None
        if self.state == CLOSING:
            self._waits = False
            if self._is_released:
                self._finish()

    def _begin_closing(self, last_frame: bytes, ends_stream: bool, waits: bool) -> None:
        self.state = CLOSING
        self._stop_watching()
        self._arm(_CLOSE_TIMEOUT_MS)
        self._release(last_frame, ends_stream, waits, True)

    def fault_owner(self) -> FaultOwner | None:
        return self

    def fault_label(self) -> str:
        return self.session.name

    def end_by_fault(self) -> None:
        """Close with INTERNAL_ERROR (541); the socket alone if that fails, too."""
        if self._ending:
            self.abort()
            return
        self._ending = True
        self._outbox.discard()  # it may end in half a frame
        self.server.turn.defer(EndByFault(self))

    def abort(self) -> None:
        """Close the socket without waiting for the client."""
        self._is_given_up = True
        self._outbox.sink.abort()
        self._stop_watching()
        self._outbox.closed = True  # nothing is written any more

    def shut_down(self, reason: str) -> None:
        """Close from our side: an operator, or the node going down (CONNECTION_FORCED, 320)."""
        self.fail(ConnectionException(CONNECTION_FORCED, reason))

    def _release(self, last_frame: bytes, ends_stream: bool, waits: bool, in_slice: bool) -> None:
        """Give back everything the connection held: channels, then exclusive queues. Only then ``last_frame`` leaves: a
        client that has read it may declare the same queues again. Afterwards the client's answer is waited for, or the
        connection is closed. The first part is done now if this is a slice of a turn: time is bounded nowhere else."""
        if self._is_releasing:
            return
        self._is_releasing = True
        self._last_frame = last_frame
        self._ends_stream = ends_stream
        self._waits = waits
        # nothing is delivered to them any more; the rest is done in slices
        ends = [self._end_of(channel, None) for channel in self.channels.values() if not channel.closing]
        self._forget_channels()
        self._last = None
        self._count_rest(0)
        work = ConnectionEnd(self.session, ends, Released(self))
        if in_slice:
            self.server.turn.start(work)
        else:
            self.server.turn.begin(work)

    def released(self) -> None:
        """Everything has gone back."""
        self._is_released = True
        self.session.leave_alarms()
        if self.server.connections.pop(self.number, None) is not None:
            self.server.sampler.wake()
            self.server.counters.connections_closed += 1
        if self.state == CLOSED:
            self.session.detach()
            return
        self.session.send(self._last_frame)
        if self._waits:
            self._arm(_CLOSE_TIMEOUT_MS)
            self._read_on()
        else:
            self._finish(self._ends_stream)

    def _finish(self, end_stream: bool = True) -> None:
        self.state = CLOSED
        self._count_rest(0)
        self.server.closed(self.number)
        self._disarm()
        self._outbox.paused = False  # the last frames go out even to a socket whose buffer is full
        self._outbox.flush_all()
        self._outbox.closed = True
        if end_stream:
            self._outbox.sink.close()
        else:
            self._outbox.sink.await_close()

    def lost(self) -> None:
        """The socket is gone."""
        if self.state == RUNNING and not self._is_given_up:
            self.server.client_log.vanished(self)
        self.state = CLOSED
        self._count_rest(0)
        self.server.closed(self.number)
        self._disarm()
        self._stop_watching()
        self._outbox.closed = True
        self._outbox.discard()
        self._release(b"", False, False, False)
        if self._is_released:
            self.session.detach()

    # ---- time --------------------------------------------------------------------------------------------------------

    def _arm(self, delay_ms: i64) -> None:
        self._disarm()
        clock = self.server.clock
        self._timer = clock.call_at(clock.now_ms + delay_ms, self)

    def _disarm(self) -> None:
        timer = self._timer
        if timer is not None:
            timer.cancel()
            self._timer = None

    def on_timer(self, now_ms: i64) -> None:
        """The client has not answered connection.close in time, or what it said before its own still waits."""
        if self.state == CLOSING:
            self._finish()
        elif self._waits_to_close():
            self._close_now()

    def miss_heartbeats(self) -> None:
        """Nothing came from the client for too long: end without a close frame."""
        self.server.client_log.heartbeats_missed(self)
        self.abort()

    def give_up_sending(self, pending: i64) -> None:
        """The client's socket has accepted nothing for too long: end without a close frame, which it would not read
        either."""
        self.server.client_log.send_timeout(self, pending)
        self.abort()

    def _stop_watching(self) -> None:
        self._heartbeats.stop()
        self._send_timeout.stop()

    # ---- bytes out ---------------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Write the confirms that are due and everything the outbox holds, in one go."""
        session = self.session
        session.flush_marked = False
        if session.dirty:
            dirty = session.dirty
            session.dirty = []
            for channel in dirty:
                channel.flush()
        if session.notices and session.answers_held == 0:
            notices = session.notices
            session.notices = []
            for notice in notices:
                self._outbox.write(notice)
        if self.state != CLOSED:
            self._outbox.flush()
            self._ask_for_refill()

    def _ask_for_refill(self) -> None:
        """``refill`` in the next turn, if somebody waits for it, or some of what waits to be written."""
        if (
            (self.session.waiting_for_outbox or self._outbox.size() > 0)
            and not self.refill_armed
            and not self._outbox.paused
        ):
            self.refill_armed = True
            self.server.turn.defer(Refill(self))

    def refill(self) -> None:
        """The outbox has room again, or the next part of what is in it may leave."""
        if self._outbox.paused or self.state == CLOSED:
            return
        if self._outbox.size() > 0:
            self.session.schedule_flush()
        if self.state == RUNNING and self._outbox.room() > 0:
            self.session.refill()
            self._ask_for_refill()

    def writable(self, ready: bool) -> None:
        """The socket's buffer passed its high water (False) or fell below its low water (True)."""
        self._outbox.paused = not ready
        if ready:
            if self._paused_for_output:
                self._paused_for_output = False
                self._outbox.sink.resume_reading()
            self._outbox.flush()
            self._ask_for_refill()


def connection_name(client_properties: FieldTable) -> str:
    """The property connection_name; '' if there is none."""
    name = client_properties.get("connection_name")
    return name if isinstance(name, str) else ""
