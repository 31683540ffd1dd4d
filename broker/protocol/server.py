"""What a connection asks of its node: virtual hosts, users, limits, and the list of connections."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, final

from broker.alarms import Alarms
from broker.auth.access import AccessControl
from broker.auth.users import Users
from broker.counters import Counters
from broker.metadata.journal import Journal
from broker.protocol.client_log import ClientLog
from broker.protocol.limits import Limits
from broker.queues.memory import QueueMemory
from broker.stats import Sampler
from broker.store.damage import Damage
from broker.store.logs import Logs
from broker.turn import Turn
from broker.vhost.environment import VHostEnvironment
from broker.vhost.vhost import VHost
from broker.wire import table

if TYPE_CHECKING:
    from broker.protocol.connection import Connection

CAPABILITIES: Final = (
    "publisher_confirms",
    "exchange_exchange_bindings",
    "basic.nack",
    "consumer_cancel_notify",
    "connection.blocked",
    "consumer_priorities",
    "authentication_failure_close",
    "per_consumer_qos",
    "direct_reply_to",
)


@final
class Identity:
    """The names a node goes by."""

    def __init__(
        self, product: str, product_version: str, version: str, platform: str, cluster_name: str, node: str
    ) -> None:
        self.product = product
        self.product_version = product_version
        self.version = version
        self.platform = platform
        self.cluster_name = cluster_name
        self.node = node

    def server_properties(self) -> bytes:
        """The content of connection.start's server-properties (RabbitMQ's keys, and ``broker`` for ourselves)."""
        return table.encode(
            {
                "capabilities": dict.fromkeys(CAPABILITIES, True),
                "cluster_name": self.cluster_name,
                "copyright": "Copyright (c) the Leveret developers",
                "information": "Licensed under the Apache License 2.0",
                "platform": self.platform,
                "product": self.product,
                "version": self.product_version,
                "broker": f"Leveret {self.version}",
            }
        )


@final
class Server:
    """The node as its connections see it; one per node."""

    def __init__(self, identity: Identity, users: Users, limits: Limits, turn: Turn, counters: Counters) -> None:
        self.identity = identity
        self.server_properties = identity.server_properties()
        self.users = users
        self.limits = limits
        self.channels_open = 0
        self.turn = turn
        self.clock = turn.clock
        self.counters = counters
        self.sampler = Sampler(turn.clock, counters)
        self.client_log = ClientLog(turn.clock)
        self.vhosts: dict[str, VHost] = {}
        self.connections: dict[int, Connection] = {}
        """Open connections by their number."""
        self.closing: dict[int, Connection] = {}
        """Connections that were told to close and whose socket is still open."""
        self.when_closed: Callable[[], None] | None = None
        """Called when the last of ``closing`` is gone."""
        self.sockets_open = 0
        """Of AMQP clients, whether they have logged in or not."""
        self.sockets_max = 0
        """So many there may be, at most; 0 where nobody counts descriptors."""
        self.started_ms = turn.clock.now_ms
        self.alarms = Alarms(turn)
        self.access_control = AccessControl()
        """What users may do."""
        self.logs: Logs | None = None
        """Where durable messages go; None on a node that keeps nothing."""
        self.journal: Journal | None = None
        self.queue_memory = QueueMemory()
        """What messages that wait in queues may take in memory."""
        self.damage: Damage | None = None
        """What was lost of the data."""
        self._last_connection = 0

    def connection_opened(self, connection: Connection) -> int:
        """A client has got as far as connection.open-ok; returns the number of its connection."""
        self._last_connection += 1
        self.connections[self._last_connection] = connection
        self.sampler.wake()
        self.counters.connections_opened += 1
        return self._last_connection

    def connection_released(self, number: int) -> None:
        """Everything that this connection held has gone back. Once for each counts."""
        if self.connections.pop(number, None) is not None:
            self.sampler.wake()
            self.counters.connections_closed += 1

    def channel_opened(self) -> None:
        """One more, of some connection."""
        self.channels_open += 1
        self.sampler.wake()
        self.counters.channels_opened += 1

    def channels_closed(self, count: int) -> None:
        """So many fewer."""
        self.channels_open -= count
        self.counters.channels_closed += count

    def connection_closing(self, connection: Connection) -> None:
        """It is told to close; until it is gone, a node that stops waits for it."""
        self.closing[connection.number] = connection

    def connection_closed(self, number: int) -> None:
        """A connection that was told to close is gone."""
        if self.closing.pop(number, None) is not None and not self.closing and self.when_closed is not None:
            self.when_closed()

    def add_vhost(self, name: str) -> VHost:
        """Create a virtual host."""
        environment = VHostEnvironment(self.turn, self.clock, self.counters, self.sampler)
        environment.logs = self.logs
        environment.journal = self.journal
        environment.memory = self.queue_memory
        vhost = VHost(name, environment)
        self.vhosts[name] = vhost
        return vhost
