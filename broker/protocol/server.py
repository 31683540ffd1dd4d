"""What a connection asks of its node: virtual hosts, users, limits, and the list of connections."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, final

from broker.alarms import Alarms
from broker.auth.access import AccessControl
from broker.auth.users import Users
from broker.clock import Clock
from broker.counters import Counters
from broker.metadata.journal import Journal
from broker.protocol.client_log import ClientLog
from broker.protocol.session import Limits, Session
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
    from broker.protocol.outbox import Outbox

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

    def __init__(
        self,
        identity: Identity,
        users: Users,
        limits: Limits,
        connections_max: int,
        turn: Turn,
        clock: Clock,
        counters: Counters,
    ) -> None:
        self.identity = identity
        self.server_properties = identity.server_properties()
        self.users = users
        self.limits = limits
        self.connections_max = connections_max
        """Open connections the node takes; 0 for no limit."""
        self.channels_max = 0
        """Open channels the node takes over all connections; 0 for no limit."""
        self.channels_open = 0
        self.turn = turn
        self.clock = clock
        self.counters = counters
        self.sampler = Sampler(clock, counters)
        self.client_log = ClientLog(clock)
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
        self.next_connection = 1
        self.started_ms = clock.now_ms
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

    def closed(self, number: int) -> None:
        """A connection that was told to close is gone."""
        if self.closing.pop(number, None) is not None and not self.closing and self.when_closed is not None:
            self.when_closed()

    def new_session(self, name: str, user: str, vhost: VHost, outbox: Outbox) -> Session:
        """What the channels of a new connection will see of it and of this node."""
        access = self.access_control.access(user, vhost.name)
        return Session(
            name, user, vhost, outbox, self.turn, self.clock, self.counters, self.limits, self.alarms, access, self.logs
        )

    def add_vhost(self, name: str) -> VHost:
        """Create a virtual host."""
        environment = VHostEnvironment(self.turn, self.clock, self.counters, self.sampler)
        environment.logs = self.logs
        environment.journal = self.journal
        environment.memory = self.queue_memory
        vhost = VHost(name, environment)
        self.vhosts[name] = vhost
        return vhost
