"""Frames of channels that wait (for the disk, for a message from it, for work that takes more than a turn): kept, and
taken in order when the wait is over. Other channels of the connection go on; all of them are read no more when too much
is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from broker.errors import ChannelException, ConnectionException
from broker.native import i64
from broker.protocol import channel_methods
from broker.protocol.channel import Channel
from broker.protocol.connection_state import RUNNING
from broker.protocol.frame_dispatch import take_frames
from broker.protocol.session import Session
from broker.wire.frames import FrameReader

if TYPE_CHECKING:
    from broker.protocol.connection import Connection

HELD_BYTES_MAX: Final[i64] = 1 << 20


@final
class HeldFrames:
    """How much is kept for the channels of one connection, which owns this; the frames are with the channels. Made when
    a channel waits for the first time."""

    def __init__(self, session: Session) -> None:
        self.size: i64 = 0
        """Bytes that are kept."""
        self.stops_reading = False
        """The socket is not read because this is too much."""
        self._session = session

    def hold(self, channel: Channel, reader: FrameReader) -> None:
        """Keep the frame that ``reader`` is at."""
        self._keep(channel, reader.data[reader.start - 7 : reader.end + 1])
        if self.size >= HELD_BYTES_MAX and not self.stops_reading:
            self.stops_reading = True
            self._session.outbox.sink.pause_reading()

    def _keep(self, channel: Channel, frames: bytes) -> None:
        channel.hold_frame(frames)
        self._count(len(frames))

    def take(self, channel: Channel) -> bytes:
        """The frames of a channel, which are not kept any more."""
        frames = channel.take_held()
        self._count(-len(frames))
        return frames

    def _count(self, size: i64) -> None:
        self.size += size
        self._session.alarms.received(size)

    def read_on(self) -> None:
        """Some of it is not kept any more: read again, if it was too much."""
        if self.stops_reading and self.size < HELD_BYTES_MAX:
            self.stops_reading = False
            self._session.outbox.sink.resume_reading()

    def resume(self, connection: Connection) -> None:
        """Take the frames of channels that need not wait any more."""
        for channel in self._session.take_released():
            if connection.state != RUNNING or channel.closing or not channel.held:
                continue
            try:
                self._resume_channel(connection, channel)
            except ChannelException as refusal:
                channel_methods.fail(connection, channel, refusal)
            except ConnectionException as error:
                connection.fail(error)
        self.read_on()
        closing = connection.closing
        if closing is not None:
            closing.go_on(connection)

    def _resume_channel(self, connection: Connection, channel: Channel) -> None:
        channel.held = False
        retry = channel.retry
        if retry is not None:
            channel.retry = None
            retry.resume()
            if channel.held:
                return
        frames = self.take(channel)
        if not frames:
            return
        reader = FrameReader(0)
        reader.feed(frames)
        take_frames(connection, reader)
        rest = reader.rest()
        if rest and not channel.closing:
            self._hold_again(channel, rest)

    def _hold_again(self, channel: Channel, rest: bytes) -> None:
        """The turn's time was over before all frames that were kept were taken."""
        if not channel.held:
            channel.held = True
            self._session.release(channel, True)
        later = self.take(channel)
        self._keep(channel, rest)
        if later:
            self._keep(channel, later)
