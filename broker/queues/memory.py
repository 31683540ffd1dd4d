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
_REPORT_BYTES: Final[i64] = 4096
"""A backlog tells what it has when that has changed by so much, and a sixteenth."""
ALLOWANCE_MIN: Final[i64] = 64 << 10
"""A backlog may always have so much: what is about to be delivered."""


@final
class QueueMemory:
    """The budget, and what is taken of it. Backlogs tell what they have from time to time, not for every message."""

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


@final
class MemoryShare:
    """What one backlog has of the budget."""

    def __init__(self, memory: QueueMemory, most: i64) -> None:
        self.most: i64 = most
        """The backlog has no more than this in memory, whatever is free."""
        self.check_above: i64 = _REPORT_BYTES
        """With more ready messages in memory than these bytes, somebody should look whether they are too many."""
        self.check_below: i64 = 0
        """With fewer than these, ``tell`` is due."""
        self._memory = memory
        self._told: i64 = 0

    def tell(self, size: i64, ready: i64) -> None:
        """The backlog has ``size`` bytes in memory, ``ready`` of them in messages that were never taken."""
        self._memory.used += size - self._told
        self._told = size
        margin = _REPORT_BYTES + size // 16
        self.check_above = ready + margin
        self.check_below = ready - margin

    def allowed(self) -> i64:
        """What the backlog may have in memory now."""
        return self._memory.allowance(self.most)

    def is_over(self, size: i64) -> bool:
        """Whether that is more than a backlog may have that does not page."""
        allowed = self._memory.allowance(self.most, self._memory.tails())
        if size <= allowed and allowed < self.check_above:
            self.check_above = allowed
        return size > allowed

    def give_back(self) -> None:
        """The backlog has nothing any more."""
        self._memory.used -= self._told
        self._told = 0
