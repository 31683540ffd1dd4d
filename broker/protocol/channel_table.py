"""The channels of one connection by their numbers: how many there may be, and which one spoke last."""

from __future__ import annotations

from collections.abc import Iterable
from typing import final

from broker.errors import NOT_ALLOWED, ConnectionException
from broker.native import i64
from broker.protocol.channel import Channel
from broker.protocol.server import Server
from broker.protocol.session import Session


@final
class ChannelTable:
    """The channels that are open, and those whose channel.close-ok is waited for. Owned by the connection."""

    def __init__(self, server: Server) -> None:
        self.last: Channel | None = None
        """The one that spoke last: mostly it speaks again."""
        self._server = server
        self._by_number: dict[int, Channel] = {}

    def __len__(self) -> int:
        return len(self._by_number)

    def __getitem__(self, number: int) -> Channel:
        return self._by_number[number]

    def values(self) -> Iterable[Channel]:
        """All of them, in the order in which they were opened."""
        return self._by_number.values()

    def find(self, number: i64) -> Channel | None:
        """The channel with this number; it is the last one to speak."""
        found = self._by_number.get(number)
        self.last = found
        return found

    def open(self, number: i64, session: Session, channel_max: int) -> Channel:
        """A new channel; it is the last one to speak.

        Raises: NOT_ALLOWED (530) if the connection has ``channel_max`` of them (0 for no limit), or the node as many as
        it may have.
        """
        server = self._server
        limits = server.limits
        count = len(self._by_number)
        if channel_max and count >= channel_max:  # RabbitMQ counts channels, their numbers may be any
            raise ConnectionException(
                NOT_ALLOWED,
                f"number of channels opened ({count}) has reached the negotiated channel_max ({channel_max})",
            )
        if limits.node_channels_max and server.channels_open >= limits.node_channels_max:
            raise ConnectionException(
                NOT_ALLOWED,
                f"number of channels opened on node '{server.identity.node}' has reached the maximum allowed limit of "
                f"({limits.node_channels_max})",
            )
        channel = Channel(number, session)
        self._by_number[number] = channel
        self.last = channel
        server.channel_opened()
        return channel

    def forget(self, channel: Channel) -> None:
        """Its number is free."""
        if self.last is channel:
            self.last = None
        if self._by_number.pop(channel.number, None) is not None:
            self._server.channels_closed(1)

    def take_all(self) -> list[Channel]:
        """All of them, which are not in the table any more: the connection ends."""
        channels = list(self._by_number.values())
        self._server.channels_closed(len(channels))
        self._by_number = {}
        self.last = None
        return channels
