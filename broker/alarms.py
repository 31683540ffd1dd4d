"""Resource alarms: while one is raised, connections that publish are told so and not read (RabbitMQ docs, Blocked Connections).

Only publishers stop: the first publish during an alarm blocks its connection; consumers, heartbeats and connections that do not
publish go on. Who watches memory and disk (watermarks.py) raises and clears alarms here.
"""

from typing import Final, final

from mypy_extensions import mypyc_attr

from broker.faults import FaultOwner, Faults

MEMORY: Final = "memory"
DISK: Final = "disk"


@mypyc_attr(allow_interpreted_subclasses=True)
class Blockable:
    """A connection that an alarm has blocked."""

    def unblock(self) -> None:
        """All alarms are cleared."""
        raise NotImplementedError

    def fault_owner(self) -> FaultOwner | None:
        """Whose work it is, which ends when it fails by a mistake of ours."""
        return None


@final
class Figures:
    """What the alarms of a node depend on, as it was seen last; in bytes."""

    def __init__(self) -> None:
        self.memory_limit = 0
        """Memory that the process may use before the alarm is raised; 0 where nobody watches it."""
        self.disk_free = -1
        """What the node may still write to the disk; -1 where nobody watches it."""
        self.disk_free_limit = 0
        """The alarm is raised when less than this is free."""


@final
class Alarms:
    """The alarms of one node and the connections they block."""

    def __init__(self, faults: Faults) -> None:
        self.figures = Figures()
        self.reason = ""
        """Why publishers are blocked, as connection.blocked words it; '' when they are not."""
        self.faults = faults
        self._raised: set[str] = set()
        self._blocked: list[Blockable] = []

    def set(self, resource: str, raised: bool) -> None:
        """Raise or clear the alarm of one resource; the last one cleared unblocks everybody."""
        if raised:
            self._raised.add(resource)
        else:
            self._raised.discard(resource)
        # RabbitMQ's texts: each resource "low on X", joined by " & "
        self.reason = " & ".join([f"low on {name}" for name in sorted(self._raised, reverse=True)])
        if self._raised:
            return
        blocked = self._blocked
        self._blocked = []
        for connection in blocked:
            self.faults.run("alarm cleared", connection.fault_owner(), connection.unblock)

    def is_raised(self, resource: str) -> bool:
        """Whether there is an alarm for this resource."""
        return resource in self._raised

    def block(self, connection: Blockable) -> None:
        """Remember a connection that published during an alarm."""
        self._blocked.append(connection)

    def forget(self, connection: Blockable) -> None:
        """The connection is gone."""
        if connection in self._blocked:
            self._blocked.remove(connection)
