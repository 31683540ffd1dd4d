"""What a connection does later: in the next turn, or when something that it waits for is over."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from broker.errors import INTERNAL_ERROR, ConnectionException
from broker.faults import FaultOwner
from broker.turn import Deferred

if TYPE_CHECKING:
    from broker.protocol.channel import Channel
    from broker.protocol.connection import Connection


class _Step(Deferred):
    """What one connection does later; a mistake in it is that connection's."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def fault_owner(self) -> FaultOwner | None:
        return self.connection


@final
class Refill(_Step):
    """Gives consumers that waited for the outbox their turn again, at the beginning of the next turn."""

    def resume(self) -> None:
        self.connection.refill_armed = False
        self.connection.refill()


@final
class Resume(_Step):
    """Takes the frames of channels that need not wait any more."""

    def resume(self) -> None:
        self.connection.resume_channels()


@final
class CloseChannel(_Step):
    """Ends a channel once its consumers have what was published before."""

    def __init__(self, connection: Connection, channel: Channel) -> None:
        super().__init__(connection)
        self.channel = channel

    def resume(self) -> None:
        self.connection.end_channel(self.channel)


@final
class CloseConnection(_Step):
    """Begins to close the connection, as the client has asked, once its consumers have what was published before."""

    def resume(self) -> None:
        self.connection.close_as_asked()


@final
class ChannelEnded(_Step):
    """Says that a channel has ended, once everything it held has gone back."""

    def __init__(self, connection: Connection, channel: Channel, frame: bytes, forget: bool) -> None:
        super().__init__(connection)
        self.channel = channel
        self.frame = frame
        self.forget = forget

    def resume(self) -> None:
        self.connection.channel_ended(self.channel, self.frame, self.forget)


@final
class Released(_Step):
    """Everything that a connection held has gone back."""

    def resume(self) -> None:
        self.connection.released()


@final
class GoOn(_Step):
    """Takes the rest of what was read when the turn's time was over."""

    def resume(self) -> None:
        self.connection.go_on()


@final
class Relief(_Step):
    """Reads on when the disk has caught up."""

    def resume(self) -> None:
        self.connection.relieve()


@final
class EndByFault(_Step):
    """Ends a connection for a mistake of ours, at the beginning of the next turn: where it was found, its objects may
    be in use."""

    def resume(self) -> None:
        self.connection.fail(ConnectionException(INTERNAL_ERROR, "INTERNAL_ERROR"))
