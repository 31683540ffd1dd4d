"""What a leader knows of one other member's log (etcd/raft's Progress: probe, replicate, snapshot)."""

from __future__ import annotations

from typing import Final, final

from broker.native import i64

PROBE: Final[i64] = 0
"""One append is on its way at most, to find out where the logs are equal."""
REPLICATE: Final[i64] = 1
"""Appends follow each other without waiting for answers, within the limits of what may be in flight."""
SNAPSHOTTING: Final[i64] = 2
"""It needs entries that no longer exist, and is sent a snapshot: no append until it has it."""

_FEW: Final[i64] = 64
_NONE: Final[list[int]] = []
"""Shared, and nothing is put into it: most members send nothing, as those of groups of one."""


@final
class Inflights:
    """Appends that are not answered yet: the last index of each, ascending, and its bytes."""

    def __init__(self) -> None:
        self._indexes = _NONE
        self._sizes = _NONE
        self._first: i64 = 0
        self.bytes: i64 = 0

    def count(self) -> i64:
        """How many there are."""
        return len(self._indexes) - self._first

    def add(self, last: i64, size: i64) -> None:
        """An append was sent whose last entry is at this index."""
        if self._indexes is _NONE:
            self._indexes = []
            self._sizes = []
        self._indexes.append(last)
        self._sizes.append(size)
        self.bytes += size

    def free_through(self, index: i64) -> None:
        """Everything up to there was answered."""
        at = self._first
        while at < len(self._indexes) and self._indexes[at] <= index:
            self.bytes -= self._sizes[at]
            at += 1
        if at == len(self._indexes):
            self._indexes.clear()
            self._sizes.clear()
            at = 0
        elif at > _FEW and at > len(self._indexes) // 2:
            del self._indexes[:at]
            del self._sizes[:at]
            at = 0
        self._first = at

    def clear(self) -> None:
        """Nothing is waited for any more."""
        self._indexes.clear()
        self._sizes.clear()
        self._first = 0
        self.bytes = 0


@final
class Progress:
    """Of one member, as its leader sees it."""

    def __init__(self, next_index: i64, is_learner: bool) -> None:
        self.match: i64 = 0
        """The logs are known to be equal up to there, and the member has it on its disk."""
        self.next: i64 = next_index
        """What is sent next; what is between is on its way."""
        self.sent_commit: i64 = 0
        """The highest commit index that was sent."""
        self.state: i64 = PROBE
        self.pending_snapshot: i64 = 0
        """The index of the snapshot that is being sent, 0: none."""
        self.recent_active = False
        """It was heard of since the last look at whether a quorum is alive."""
        self.is_paused = False
        """No append until something is answered."""
        self.inflights = Inflights()
        self.is_learner = is_learner

    def reset(self, next_index: i64) -> None:
        """Nothing is known of it: another term begins."""
        self.match = 0
        self.next = next_index
        self.sent_commit = 0
        self.recent_active = False
        self._enter(PROBE)

    def _enter(self, state: i64) -> None:
        self.is_paused = False
        self.pending_snapshot = 0
        self.state = state
        self.inflights.clear()

    def become_probe(self) -> None:
        """Where the logs are equal is uncertain."""
        if self.state == SNAPSHOTTING:
            behind = self.pending_snapshot + 1
            self._enter(PROBE)
            self.next = max(self.match + 1, behind)
        else:
            self._enter(PROBE)
            self.next = self.match + 1
        self.sent_commit = min(self.sent_commit, self.next - 1)

    def become_replicate(self) -> None:
        """The logs are equal up to ``match``."""
        self._enter(REPLICATE)
        self.next = self.match + 1

    def become_snapshot(self, index: i64) -> None:
        """A snapshot of this index is sent."""
        self._enter(SNAPSHOTTING)
        self.pending_snapshot = index
        self.next = index + 1
        self.sent_commit = index

    def lost(self, hint: i64) -> None:
        """It has lost entries that it had, and the logs may be equal at ``hint``."""
        self.match = 0
        self._enter(PROBE)
        self.next = hint + 1
        self.sent_commit = min(self.sent_commit, hint)

    def may_send(self) -> bool:
        """Whether an append may leave now."""
        return not self.is_paused and self.state != SNAPSHOTTING

    def is_full(self, max_messages: i64, max_bytes: i64) -> bool:
        """Whether as much is on its way as may be."""
        return self.inflights.count() >= max_messages or self.inflights.bytes >= max_bytes

    def sent(self, count: i64, size: i64, max_messages: i64, max_bytes: i64) -> None:
        """An append with ``count`` entries of ``size`` bytes left."""
        if self.state == REPLICATE:
            if count > 0:
                self.next += count
                self.inflights.add(self.next - 1, size)
            self.is_paused = self.is_full(max_messages, max_bytes)
        elif count > 0:
            self.is_paused = True

    def can_bump_commit(self, commit: i64) -> bool:
        """Whether an append without entries would tell it of more that is committed."""
        return commit > self.sent_commit and self.sent_commit < self.next - 1

    def update(self, index: i64) -> bool:
        """It has everything up to ``index``. Whether that is news."""
        if index <= self.match:
            return False
        self.match = index
        self.next = max(self.next, index + 1)
        self.is_paused = False
        return True

    def decrease(self, rejected: i64, hint: i64) -> bool:
        """An append behind ``rejected`` was refused: the logs may be equal at ``hint``. False: an answer of long ago,
        which says nothing any more."""
        if self.state == REPLICATE:
            if rejected <= self.match:
                return False
            self.next = self.match + 1
        else:
            if self.next - 1 != rejected:
                return False
            self.next = max(min(rejected, hint + 1), self.match + 1)
            self.is_paused = False
        self.sent_commit = min(self.sent_commit, self.next - 1)
        return True
