"""A number that the user of a log keeps there beside its records, and has again after a start; what it means is the
user's business. It grows, unless it is replaced. It goes with the records that are appended in the same commit group.
"""

from typing import Final, final

from broker.native import i64

NONE: Final[i64] = -1


@final
class LogNote:
    """The number of one log."""

    def __init__(self) -> None:
        self.value: i64 = NONE
        self.durable: i64 = NONE
        """The same, as the disk knows it."""
        self._taken: i64 = NONE

    def raise_to(self, value: i64) -> None:
        """It is this, if that is more."""
        if value > self.value:
            self.value = value

    def replace(self, value: i64) -> None:
        """It is this, if that is less, too."""
        self.value = value

    def taken(self) -> None:
        """The open commit group leaves."""
        self._taken = self.value

    def committed(self) -> None:
        """The commit group that left is on the disk."""
        self.durable = self._taken

    def recovered(self) -> None:
        """What was found is on the disk."""
        self.durable = self.value


NOTHING_NOTED: Final = LogNote()
"""That of all logs whose users have never told any. It is not changed; ``taken`` and the like do nothing to it."""
