"""What a queue is made of: what was declared, and what it needs of its node."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from broker.clock import Clock
from broker.cluster.group_environment import GroupEnvironment
from broker.native import i64
from broker.queues.memory import QueueMemory
from broker.queues.queue_type import QueueType
from broker.queues.shared_arguments import shared
from broker.raft.raft import Options
from broker.raft.system_randomness import SystemRandomness
from broker.store.logs import Logs
from broker.store.nowhere import Nowhere
from broker.turn import Turn
from broker.wire.table import FieldTable

if TYPE_CHECKING:
    from broker.queues.queue import QueueHost


@final
class QueueDeclaration:
    """One queue as it was declared."""

    def __init__(
        self,
        name: str,
        queue_type: QueueType,
        arguments: FieldTable,
        *,
        durable: bool = False,
        auto_delete: bool = False,
        owner: object | None = None,
        log_number: i64 = 0,
    ) -> None:
        self.name = name
        self.type = queue_type
        self.arguments, self.options = shared(arguments)
        self.durable = durable
        """It survives the node, as an exclusive queue does not."""
        self.auto_delete = auto_delete
        self.owner = owner
        """The connection it is exclusive to, or None."""
        self.log_number: i64 = log_number
        """The first of its logs; 0 for a queue that need not survive the node."""


@final
class QueueEnvironment:
    """What the queues of a virtual host share."""

    def __init__(self, host: QueueHost, turn: Turn, clock: Clock, logs: Logs | None, memory: QueueMemory) -> None:
        self.host = host
        self.turn = turn
        self.clock = clock
        self.logs = logs
        """None on a node that keeps nothing on disk."""
        self.memory = memory
        self._groups: GroupEnvironment | None = None

    def groups(self) -> GroupEnvironment:
        """What the Raft groups of quorum queues share."""
        groups = self._groups
        if groups is None:
            logs = self.logs
            if logs is None:
                logs = Nowhere(self.turn).logs
            groups = GroupEnvironment(logs, self.clock, Options(), SystemRandomness())
            self._groups = groups
        return groups
