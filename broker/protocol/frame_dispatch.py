"""Whose a frame is: channel 0's, a channel's that is open, or one's that is being opened or closed (AMQP 0-9-1 §4.2.3).
Methods of a channel that are not hot go on to the table in dispatch.py."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from librt.strings import read_i32_be

from broker.errors import (
    CHANNEL_ERROR,
    COMMAND_INVALID,
    UNEXPECTED_FRAME,
    ChannelException,
    ConnectionException,
    ProtocolException,
)
from broker.native import i64
from broker.protocol import channel_methods, connection_methods
from broker.protocol.channel import Channel
from broker.protocol.connection_state import CLOSED, RUNNING
from broker.protocol.dispatch import handle
from broker.protocol.refusals import second_open, unexpected_frame, unknown_frame
from broker.wire import spec
from broker.wire.frames import FrameReader
from broker.wire.methods import decode

if TYPE_CHECKING:
    from broker.protocol.connection import Connection

_FRAMES_PER_LOOK: Final[i64] = 32
"""So many frames are taken between two looks at the clock, unless one of them may have cost much (``Turn.costly``)."""


def take_frames(connection: Connection, reader: FrameReader) -> bool:
    """Take the frames of ``reader``: those that came last, or those that were kept for a channel. False if the time of
    the turn is over, and some may be left; no more are taken once the client has closed the connection.

    Raises: the ConnectionException that a frame is answered with.
    """
    turn = connection.server.turn
    while not _take_some(connection, reader):
        turn.costly = False
        if reader is connection.input.reader and connection.waits_to_close():
            return True
        if turn.out_of_time():
            return False
    return True


def _take_some(connection: Connection, reader: FrameReader) -> bool:
    """As many as may be taken without a look at the clock; whether there are no more."""
    channels = connection.channels
    turn = connection.server.turn
    channel = channels.last
    left = _FRAMES_PER_LOOK
    while left > 0 and not turn.costly:
        left -= 1
        if not reader.next():
            return True
        if connection.closing is not None and connection.state != RUNNING:
            if connection.state == CLOSED:
                return True
            connection.ends().take_frame(connection, reader)
            continue
        if channel is None or channel.number != reader.channel:
            channel = channels.find(reader.channel)
        if channel is None:
            _take_other(connection, reader)
        elif channel.closing:
            channel_methods.while_closing(connection, channel, reader)
        elif channel.held:
            connection.hold(channel, reader)
        else:
            try:
                if reader.frame_type != spec.FRAME_METHOD or channel.expects_content or reader.end - reader.start < 4:
                    _take_content(channel, reader)
                else:
                    method = i64(read_i32_be(reader.data, reader.start)) & 0xFFFFFFFF
                    if not channel.receive_hot(reader, method):
                        _take_method(connection, channel, reader, int(method))
            except ChannelException as error:
                channel_methods.fail(connection, channel, error)
        channel = channels.last
    return False


def _take_content(channel: Channel, reader: FrameReader) -> None:
    """A frame of a content, or one that should be."""
    kind = reader.frame_type
    if kind == spec.FRAME_HEADER:
        channel.receive_header(reader)
    elif kind == spec.FRAME_BODY:
        channel.receive_body(reader)
    elif kind != spec.FRAME_METHOD:
        raise unexpected_frame(reader)
    elif channel.expects_content:
        raise channel.unexpected_method()
    else:
        raise unknown_frame(reader)


def _take_method(connection: Connection, channel: Channel, reader: FrameReader, index: int) -> None:
    """A method that is not hot."""
    connection.server.turn.costly = True
    method = decode(reader.data, reader.start, reader.end)
    if index == spec.CHANNEL_CLOSE:
        channel_methods.close(connection, channel)
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


def _take_other(connection: Connection, reader: FrameReader) -> None:
    """A frame for channel 0 or for a channel that is not open."""
    kind = reader.frame_type
    if reader.channel == 0:
        if kind == spec.FRAME_HEARTBEAT and reader.end == reader.start:
            return
        if kind != spec.FRAME_METHOD:
            raise unexpected_frame(reader)
        connection_methods.handle(connection, reader)
        return
    if kind == spec.FRAME_HEADER or kind == spec.FRAME_BODY:
        raise ConnectionException(UNEXPECTED_FRAME, "expected method frame, got non method frame instead")
    if kind != spec.FRAME_METHOD:
        raise unexpected_frame(reader)
    index = decode(reader.data, reader.start, reader.end).index
    if index != spec.CHANNEL_OPEN:
        raise ConnectionException(CHANNEL_ERROR, "expected 'channel.open'", index >> 16, index & 0xFFFF)
    channel_methods.open_channel(connection, reader.channel)
