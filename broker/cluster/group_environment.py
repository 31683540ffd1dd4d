"""What the Raft groups of a node share, and when they rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from broker.clock import Clock, Timed, Timer
from broker.native import i64
from broker.raft.configuration import Configuration
from broker.raft.raft import Options, Randomness
from broker.store.logs import Logs

if TYPE_CHECKING:
    from broker.cluster.group import Group

REST_MS: Final[i64] = 5000
"""A group of one that nothing was written to for so long, and up to as long again, keeps no Raft state in memory."""
AWAKE_MANY: Final[i64] = 512
"""With more groups than this that do,"""
CROWDED_REST_MS: Final[i64] = 250
"""so long is enough: waking one costs a tenth of what its next message does."""
_PER_LOOK: Final[i64] = 512
"""Groups that are looked at in one go, and"""
_LOOK_MS: Final[i64] = 50
"""how long after them the next."""


@final
class GroupEnvironment(Timed):
    """What the groups of a node share."""

    def __init__(self, logs: Logs, clock: Clock, options: Options, randomness: Randomness) -> None:
        self.logs = logs
        self.clock = clock
        self.options = options
        self.randomness = randomness
        self._alone: Configuration | None = None
        self._awake: list[Group] = []
        self._looked: i64 = 0
        """How many of them this look has seen."""
        self._timer: Timer | None = None
        """For the next look; None: nobody is awake."""

    def alone(self, member: i64) -> Configuration:
        """That of a group of one; the same for all those of a node."""
        found = self._alone
        if found is None or found.voters != [member]:
            self._alone = found = Configuration([int(member)])
        return found

    def woken(self, group: Group) -> None:
        """It keeps Raft state in memory now."""
        self._awake.append(group)
        timer = self._timer
        if timer is None:
            self._look_in(REST_MS)
        elif len(self._awake) == AWAKE_MANY + 1 and self._looked == 0:
            timer.cancel()
            self._look_in(CROWDED_REST_MS)

    def _look_in(self, wait_ms: i64) -> None:
        self._timer = self.clock.call_at(self.clock.now_ms + wait_ms, self)

    def on_timer(self, now_ms: i64) -> None:
        awake = self._awake
        at = self._looked
        end = at + _PER_LOOK
        kept = [group for group in awake[at:end] if not group.rest()]
        awake[at:end] = kept
        self._looked = at + len(kept)
        self._timer = None
        if self._looked < len(awake):
            self._look_in(_LOOK_MS)
            return
        self._looked = 0
        if awake:
            self._look_in(REST_MS if len(awake) <= AWAKE_MANY else CROWDED_REST_MS)
