"""Resource alarms: while one is raised, connections that publish are told so and not read (RabbitMQ docs, Blocked
Connections).

Only publishers stop: the first content header or body during an alarm blocks its connection, and an alarm blocks at
once whoever is in the middle of a content; consumers, heartbeats and connections that do not publish go on. Who watches
memory and disk (watermarks.py) raises and clears alarms here.

Ten thousand publishers are told in slices (turn.py), in the order in which they came. Who is not told yet and sends
another frame is blocked by that; who waits to be told that all alarms are cleared stays blocked if one comes back
meanwhile, and hears nothing.

What is on its way in is counted here as well, so that memory is looked at before it could have filled what was free at
the last look.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, final

from mypy_extensions import mypyc_attr

from broker.faults import FaultOwner
from broker.native import i64
from broker.turn import SlicedWork, Turn

NO_LIMIT: Final[i64] = 1 << 62
MEMORY: Final = "memory"
DISK: Final = "disk"
_AT_ONCE: Final[i64] = 32
"""Connections that are told in a turn: each is written to behind it, and who has an answer then waits for all of
them."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Blockable:
    """A connection that an alarm may block."""

    def block(self) -> None:
        """It publishes, and there is an alarm: do not read it any more."""
        raise NotImplementedError

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
class _Telling(SlicedWork):
    """Tells connections what has changed for them."""

    def __init__(self, alarms: Alarms) -> None:
        self._alarms = alarms

    def step(self) -> bool:
        return self._alarms.tell()


@final
class Alarms:
    """The alarms of one node and the connections they block."""

    def __init__(self, turn: Turn) -> None:
        self.figures = Figures()
        self.reason = ""
        """Why publishers are blocked, as connection.blocked words it; '' when they are not."""
        self.faults = turn.faults
        self.receiving: i64 = 0
        """Bytes of contents and frames that have arrived and are not whole or cannot be used yet, of all
        connections."""
        self.receiving_max: i64 = NO_LIMIT
        """With more than this, memory is looked at before the next look is due."""
        self.look_at_memory: Callable[[], object] | None = None
        """Looks, and sets ``receiving_max`` anew."""
        self._turn = turn
        self._raised: set[str] = set()
        self._blocked: dict[Blockable, None] = {}
        self._publishing: dict[Blockable, None] = {}
        self._untold: list[Blockable] = []
        """Whom the last change may concern, ..."""
        self._told: i64 = 0
        """... and how many of them need not be looked at any more."""
        self._is_telling = False

    def set(self, resource: str, raised: bool) -> None:
        """Raise or clear the alarm of one resource; the last one cleared unblocks everybody. They are told in the turns
        that follow."""
        if raised:
            self._raised.add(resource)
        else:
            self._raised.discard(resource)
        # RabbitMQ's texts: each resource "low on X", joined by " & "
        self.reason = " & ".join([f"low on {name}" for name in sorted(self._raised, reverse=True)])
        self._untold = list(self._publishing if self._raised else self._blocked)
        self._told = 0
        if not self._is_telling and self._untold:
            self._is_telling = True
            self._turn.begin(_Telling(self))

    def tell(self) -> bool:
        """Tell some of those who do not know it yet; whether all do."""
        end = self._told + _AT_ONCE
        while self._told < len(self._untold):
            if self._told == end:
                return False
            connection = self._untold[self._told]
            self._told += 1
            if self._raised:
                if connection in self._publishing:
                    self.faults.run("alarm raised", connection.fault_owner(), connection.block)
            elif connection in self._blocked:
                del self._blocked[connection]
                self.faults.run("alarm cleared", connection.fault_owner(), connection.unblock)
        self._untold = []
        self._told = 0
        self._is_telling = False
        return True

    def is_raised(self, resource: str) -> bool:
        """Whether there is an alarm for this resource."""
        return resource in self._raised

    def received(self, size: i64) -> None:
        """So many bytes have arrived that are not whole, or cannot be used yet; fewer again with a negative size."""
        self.receiving += size
        if self.receiving > self.receiving_max:
            self.receiving_max = NO_LIMIT  # until it has been looked
            look = self.look_at_memory
            if look is not None:
                self.faults.run("memory", None, look)

    def begin_content(self, connection: Blockable) -> None:
        """It is in the middle of a content."""
        self._publishing[connection] = None

    def end_content(self, connection: Blockable) -> None:
        """It is not any more."""
        self._publishing.pop(connection, None)

    def block(self, connection: Blockable) -> None:
        """Remember a connection that published during an alarm."""
        self._blocked[connection] = None

    def forget(self, connection: Blockable) -> None:
        """The connection is gone."""
        self._blocked.pop(connection, None)
