"""What a connection does later: in the next turn, or when something that it waits for is over."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from broker.errors import INTERNAL_ERROR, ConnectionException
from broker.faults import FaultOwner
from broker.turn import Deferred

if TYPE_CHECKING:
    from broker.protocol.channel import Channel
    from broker.protocol.connection import Connection


@final
class Refill(Deferred):
    """Gives consumers that waited for the outbox their turn again, at the beginning of the next turn."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def resume(self) -> None:
        self.connection.refill_armed = False
        self.connection.refill()

    def fault_owner(self) -> FaultOwner | None:
        return self.connection


@final
class Resume(Deferred):
    """Takes the frames of channels that need not wait any more."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def resume(self) -> None:
        self.connection.resume_channels()

    def fault_owner(self) -> FaultOwner | None:
        return self.connection


@final
class CloseChannel(Deferred):
    """Ends a channel once its consumers have what was published before."""

    def __init__(self, connection: Connection, channel: Channel) -> None:
        self.connection = connection
        self.channel = channel

    def resume(self) -> None:
        self.connection.end_channel(self.channel)

    def fault_owner(self) -> FaultOwner | None:
        return self.connection


@final
class CloseConnection(Deferred):
    """Begins to close the connection, as the client has asked, once its consumers have what was published before."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def resume(self) -> None:
        self.connection.close_as_asked()

    def fault_owner(self) -> FaultOwner | None:
        return self.connection


@final
class ChannelEnded(Deferred):
    """Says that a channel has ended, once everything it held has gone back."""

    def __init__(self, connection: Connection, channel: Channel, frame: bytes, forget: bool) -> None:
        self.connection = connection
        self.channel = channel
        self.frame = frame
        self.forget = forget

    def resume(self) -> None:
        self.connection.channel_ended(self.channel, self.frame, self.forget)

    def fault_owner(self) -> FaultOwner | None:
        return self.connection


@final
class Released(Deferred):
    """Everything that a connection held has gone back."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def resume(self) -> None:
        self.connection.released()

    def fault_owner(self) -> FaultOwner | None:
        return self.connection


@final
class GoOn(Deferred):
    """Takes the rest of what was read when the turn's time was over."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def resume(self) -> None:
        self.connection.go_on()

    def fault_owner(self) -> FaultOwner | None:
        return self.connection


@final
class Relief(Deferred):
    """Reads on when the disk has caught up."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def resume(self) -> None:
        self.connection.relieve()

    def fault_owner(self) -> FaultOwner | None:
        return self.connection


@final
class EndByFault(Deferred):
    """Ends a connection for a mistake of ours, at the beginning of the next turn: where it was found, its objects may
    be in use."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def resume(self) -> None:
        self.connection.fail(ConnectionException(INTERNAL_ERROR, "INTERNAL_ERROR"))

    def fault_owner(self) -> FaultOwner | None:
        return self.connection
