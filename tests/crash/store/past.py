"""What was done on a disk, and what a store must hold of it."""

from __future__ import annotations

from typing import NamedTuple

from tests.crash.store.members import LOGS, GroupWorld

ALONE = b"a group of one"
SEVERAL = b"a group of several"
"""What is declared of a group."""


class Operation(NamedTuple):
    """Something that was told to the disk."""

    sequence: int
    """Of its record, or of a later one: it counts when that is on the disk."""
    kind: str
    log: int
    first: int = 0
    last: int = 0
    body: bytes = b""


class World:
    """What a store should hold."""

    def __init__(self) -> None:
        self.declared: dict[bytes, bytes] = {}
        self.live: dict[int, dict[int, bytes]] = {}
        """Log -> position -> body."""
        self.groups: dict[int, GroupWorld] = {}
        """By the log with its entries."""

    def apply(self, operation: Operation) -> None:
        live = self.live.get(operation.log, {})
        if operation.kind == "declare":
            self.live[operation.log] = {}
            self.declared[b"%d" % operation.log] = operation.body
        elif operation.kind == "found":
            self.groups[operation.log] = GroupWorld(operation.body == ALONE)
            self.declared[b"%d" % operation.log] = operation.body
        elif operation.kind == "drop":
            self.live.pop(operation.log, None)
            self.groups.pop(operation.log, None)
            self.declared.pop(b"%d" % operation.log, None)
        elif operation.log in self.groups:
            self.groups[operation.log].apply(operation.kind, operation.first, operation.last, operation.body)
        elif operation.kind == "append":
            live[operation.first] = operation.body
        elif operation.kind == "settle":
            for position in [position for position in live if operation.first <= position <= operation.last]:
                del live[position]

    def logs(self) -> set[int]:
        """That belong to something."""
        return {*self.live, *(number + at for number in self.groups for at in range(LOGS))}


class Past:
    """Everything that was done on a disk, in order."""

    def __init__(self, has_groups: bool = False) -> None:
        self.has_groups = has_groups
        self.has_failed = False
        """Something has failed on this disk, in this life or an earlier one."""
        self.operations: list[Operation] = []
        self.durable_through = 0
        self.delivered: set[tuple[int, int]] = set()
        """Log and position."""

    def world(self, through: int) -> World:
        world = World()
        for operation in self.operations:
            if operation.sequence <= through:
                world.apply(operation)
        return world

    def copied(self) -> Past:
        made = Past(self.has_groups)
        made.has_failed = self.has_failed
        made.operations = list(self.operations)
        made.durable_through = self.durable_through
        made.delivered = set(self.delivered)
        return made

    def found(self, through: int) -> None:
        """The store was opened, with everything up to there."""
        self.operations = [operation for operation in self.operations if operation.sequence <= through]
        self.durable_through = through
        # What was delivered and is forgotten as a whole leaves its position to others.
        self.delivered &= {
            (operation.log, operation.first) for operation in self.operations if operation.kind == "append"
        }
