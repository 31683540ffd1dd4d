"""The class channel of the specification: how channels are opened and closed, in both directions (AMQP 0-9-1, class
channel). Flow stands in the table of methods (dispatch.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from librt.strings import read_i32_be

from broker.errors import ChannelException
from broker.native import i64
from broker.protocol.channel import Channel
from broker.protocol.connection_state import RUNNING
from broker.protocol.connection_step import ConnectionStep
from broker.protocol.dispatching import Dispatching
from broker.protocol.ending import ChannelEnd
from broker.protocol.refusals import close_frame, second_open
from broker.turn import Deferred
from broker.wire import spec
from broker.wire.frames import FrameReader
from broker.wire.methods import method_frame

if TYPE_CHECKING:
    from broker.protocol.connection import Connection


@final
class _Close(ConnectionStep):
    """Ends a channel once its consumers have what was published before."""

    def __init__(self, connection: Connection, channel: Channel) -> None:
        super().__init__(connection)
        self._channel = channel

    def resume(self) -> None:
        channel = self._channel
        frame = method_frame(int(channel.number), spec.CHANNEL_CLOSE_OK, [])
        ended = _Ended(self.connection, channel, frame, True)
        self.connection.server.turn.start(end_of(self.connection, channel, ended))


@final
class _Ended(ConnectionStep):
    """Says that a channel has ended, once everything it held has gone back."""

    def __init__(self, connection: Connection, channel: Channel, frame: bytes, forget: bool) -> None:
        super().__init__(connection)
        self._channel = channel
        self._frame = frame
        self._forget = forget

    def resume(self) -> None:
        connection = self.connection
        if connection.state != RUNNING:
            return
        if self._forget:
            connection.channels.forget(self._channel)
        else:
            self._channel.awaits_close_ok = True
        connection.session.send(self._frame)
        closing = connection.closing
        if closing is not None:
            closing.go_on(connection)


def open_channel(connection: Connection, number: i64) -> None:
    """channel.open. Raises: as ``ChannelTable.open``."""
    connection.channels.open(number, connection.session, connection.channel_max)
    connection.session.send(method_frame(int(number), spec.CHANNEL_OPEN_OK, [("longstr", "")]))


def close(connection: Connection, channel: Channel) -> None:
    """channel.close from the client."""
    dispatching = Dispatching(connection.server.turn, channel.consumed_queues(), connection)
    channel.carry_out(dispatching, _Close(connection, channel))


def fail(connection: Connection, channel: Channel, error: ChannelException) -> None:
    """Close a channel for a soft error: what it held goes first, then channel.close leaves."""
    connection.server.client_log.channel_error(connection, channel.number, error)
    frame = close_frame(int(channel.number), spec.CHANNEL_CLOSE, error)
    connection.server.turn.start(end_of(connection, channel, _Ended(connection, channel, frame, False)))


def end_of(connection: Connection, channel: Channel, then: Deferred | None) -> ChannelEnd:
    """Nothing is taken from this channel nor delivered to it any more; the rest is the caller's to carry out."""
    held = connection.held
    if held is not None:
        held.take(channel)
    return channel.end(then)


def while_closing(connection: Connection, channel: Channel, reader: FrameReader) -> None:
    """A frame on a channel that the server has closed: until close-ok everything is ignored (AMQP 0-9-1 channel.close),
    but for channel.open: its number is not free yet, and a client that thinks so would wait for ever for an answer."""
    if reader.frame_type != spec.FRAME_METHOD or reader.end - reader.start < 4:
        return
    index = i64(read_i32_be(reader.data, reader.start)) & 0xFFFFFFFF
    if index == spec.CHANNEL_CLOSE_OK:
        if channel.awaits_close_ok:
            connection.channels.forget(channel)
    elif index == spec.CHANNEL_OPEN:
        raise second_open()
    elif index == spec.CHANNEL_CLOSE:
        connection.session.send(method_frame(int(channel.number), spec.CHANNEL_CLOSE_OK, []))
