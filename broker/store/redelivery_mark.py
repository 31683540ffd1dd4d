"""Which positions of a log may have been delivered before a crash: all up to its mark.

The mark is moved ahead of what is delivered, by thousands of positions, so that it is seldom written. A position may be
delivered when the mark that covers it is on the disk, or when its record was written behind that mark: a crash that
forgets the mark forgets the record as well.
"""

from typing import Final, final

from broker.native import i64

MARK_AHEAD: Final[i64] = 10_000


@final
class RedeliveryMark:
    """The mark of one log; whoever moves it writes it to the log."""

    def __init__(self) -> None:
        self.position: i64 = -1
        """Up to and including it, positions may have been delivered."""
        self.durable: i64 = -1
        """The same, as the disk knows it."""
        self._written_before: i64 = 0
        """Records from this position on are written behind the mark."""
        self._taken: i64 = -1

    def is_near(self, position: i64) -> bool:
        """Whether it is to be moved before ``position`` is delivered."""
        return position + MARK_AHEAD // 2 > self.position

    def move(self, position: i64, next_position: i64) -> bool:
        """Move it ahead of ``position``; records from ``next_position`` on are written behind it. Whether it has
        moved."""
        if self.position > self.durable and position <= self.position:
            return False  # one at a time: what was written behind an older mark counts on that one
        self.position = position + MARK_AHEAD
        self._written_before = next_position
        return True

    def allowance(self, position: i64) -> i64:
        """How many positions may be delivered from this one on: a crash will know of it."""
        if position <= self.durable:
            return self.durable - position + 1
        if position >= self._written_before and position <= self.position:
            return self.position - position + 1
        return 0

    def taken(self) -> None:
        """The open commit group leaves."""
        self._taken = self.position

    def committed(self) -> None:
        """The commit group that left is on the disk."""
        self.durable = self._taken

    # ---- recovery ----------------------------------------------------------------------------------------------------

    def raise_to(self, position: i64) -> None:
        """Everything up to there may have been delivered."""
        if position > self.position:
            self.position = position

    def reset(self, position: i64) -> None:
        """Nothing behind ``position`` was ever delivered."""
        self.position = position

    def recovered(self) -> None:
        """What was found is on the disk."""
        self.durable = self.position


UNMARKED: Final = RedeliveryMark()
"""That of all logs of which nothing was ever delivered. It is not changed; ``taken`` and the like do nothing to it."""
