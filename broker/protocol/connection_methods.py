"""The class connection of the specification, behind the handshake: what is said on channel 0 (AMQP 0-9-1, class
connection)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker.errors import CHANNEL_ERROR, ConnectionException
from broker.wire import spec
from broker.wire.frames import FrameReader
from broker.wire.methods import decode, method_frame

if TYPE_CHECKING:
    from broker.protocol.connection import Connection


def handle(connection: Connection, reader: FrameReader) -> None:
    """Carry out the method on channel 0 that ``reader`` is at.

    Raises: CHANNEL_ERROR (504) for methods that belong to the handshake, or to a channel, and what ``decode`` raises.
    """
    index = decode(reader.data, reader.start, reader.end).index
    if index == spec.CONNECTION_CLOSE:
        connection.ends().ask(connection)
    elif index == spec.CONNECTION_UPDATE_SECRET:
        connection.session.send(method_frame(0, spec.CONNECTION_UPDATE_SECRET_OK, []))
    else:
        raise ConnectionException(
            CHANNEL_ERROR, "unexpected method in connection state running", index >> 16, index & 0xFFFF
        )
