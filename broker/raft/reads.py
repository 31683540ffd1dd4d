"""Reads that see all that was committed before they were asked for, without an entry (dissertation, section 6.4).

The leader notes what is committed when it is asked, and asks a majority by a heartbeat whether it still leads; then the
read may be answered by a state machine that has applied as much. Reads are numbered in the order in which they were
asked for, and a heartbeat asks for all up to a number.
"""

from __future__ import annotations

from typing import final

from broker.native import i64
from broker.raft.message import Message


@final
class Reads:
    """Those that a leader was asked for in this term."""

    def __init__(self) -> None:
        self.confirmed: i64 = 0
        """How many were confirmed."""
        self._asked: list[Message] = []
        self._indexes: list[int] = []
        self._acknowledged: dict[int, int] = {}
        self.waiting: list[Message] = []
        """Asked for before an entry of this term was committed."""

    def add(self, message: Message, committed: i64) -> None:
        """One was asked for, and so much is committed."""
        self._asked.append(message)
        self._indexes.append(committed)

    def last(self) -> i64:
        """The number to ask for with a heartbeat; 0: nobody waits."""
        return self.confirmed + len(self._asked) if self._asked else 0

    def acknowledge(self, member: i64, number: i64) -> None:
        """A member takes us for the leader, and was asked for the reads up to this number."""
        if number > self._acknowledged.get(member, 0):
            self._acknowledged[member] = number

    def confirm(self, voters: list[int]) -> list[tuple[Message, int]]:
        """Those that a majority has confirmed now, each with what was committed when it was asked for."""
        acknowledged = sorted([self._acknowledged.get(voter, 0) for voter in voters])
        number: i64 = acknowledged[(len(acknowledged) - 1) // 2]
        count = number - self.confirmed
        if count <= 0:
            return []
        found = list(zip(self._asked[:count], self._indexes[:count], strict=True))
        del self._asked[:count]
        del self._indexes[:count]
        self.confirmed = number
        return found
