"""One budget of memory for the messages that wait in all queues of a node.

A backlog of messages may take as much as is free: one alone up to half of the budget, n equal ones an n-plus-first part
each, and what is left is there for the next one (dynamic thresholds: Choudhury and Hahne, "Dynamic queue length
thresholds for shared-memory packet switches", 1998). Beyond that it pages (disk_backlog.py). Nobody has to know how
many backlogs there are, nor to take memory away from one.
"""

from __future__ import annotations

from typing import Final, final

from broker.native import i64

UNLIMITED: Final[i64] = 1 << 60
ALLOWANCE_MIN: Final[i64] = 64 << 10
"""A backlog may always have so much: what is about to be delivered."""


@final
class QueueMemory:
    """The budget, and what is taken of it. Lines tell what they have from time to time, not for every message."""

    def __init__(self, limit: i64 = UNLIMITED) -> None:
        self.limit: i64 = limit
        """Bytes."""
        self.used: i64 = 0
        """Bytes that backlogs have, as far as they have told."""

    def tails(self) -> i64:
        """What is reserved for the tails of backlogs that page: an eighth of what these had when they began to."""
        return self.limit // 9

    def allowance(self, most: i64, reserve: i64 = 0) -> i64:
        """How many bytes a backlog may have now; never more than ``most``. ``reserve`` bytes of the budget are for
        others."""
        free = self.limit - reserve - self.used
        if free < ALLOWANCE_MIN:
            free = ALLOWANCE_MIN
        return free if free < most else most
