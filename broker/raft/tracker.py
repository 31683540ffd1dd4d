"""Who belongs to the group, how far each has come, and what a majority says (etcd/raft's ProgressTracker)."""

from __future__ import annotations

from typing import Final, final

from broker.native import i64
from broker.raft.configuration import Configuration
from broker.raft.progress import Progress

VOTE_PENDING: Final[i64] = 0
VOTE_LOST: Final[i64] = 1
VOTE_WON: Final[i64] = 2


@final
class Tracker:
    """The members."""

    def __init__(self, configuration: Configuration, last_index: i64) -> None:
        self.configuration = configuration
        self.progress: dict[int, Progress] = {}
        """Of every member, ourselves among them, in the order of their ids."""
        self._votes: dict[int, bool] = {}
        self.switch(configuration, last_index)

    def switch(self, configuration: Configuration, last_index: i64) -> None:
        """The members are these now. One that is new is tried with the last entry first."""
        before = self.progress
        self.configuration = configuration
        self.progress = {}
        for member in configuration.members():
            is_learner = member in configuration.learners
            progress = before.get(member)
            if progress is None:
                progress = Progress(max(last_index, 1), is_learner)
                # or the leader would think that there is no quorum before a newcomer has had time to answer
                progress.recent_active = True
            progress.is_learner = is_learner
            self.progress[member] = progress

    def is_single(self, member: i64) -> bool:
        """Whether this one is the only voter."""
        voters = self.configuration.voters
        return len(voters) == 1 and voters[0] == member

    def is_voter(self, member: i64) -> bool:
        """Whether it counts."""
        progress = self.progress.get(member)
        return progress is not None and not progress.is_learner

    def committed(self) -> i64:
        """The last index that a majority of the voters has on its disks (section 3.5; sorted, the middle one)."""
        voters = self.configuration.voters
        progress = self.progress
        if len(voters) == 1:
            return progress[voters[0]].match
        if len(voters) == 3:
            first = progress[voters[0]].match
            second = progress[voters[1]].match
            third = progress[voters[2]].match
            if first > second:
                first, second = second, first
            return second if second < third else (third if third > first else first)
        matches = sorted([progress[voter].match for voter in voters])
        return matches[(len(matches) - 1) // 2]

    def quorum_active(self, ourselves: i64) -> bool:
        """Whether a majority of the voters was heard of since this was asked last (section 6.2: a leader that hears
        of no majority for an election timeout steps down)."""
        active: i64 = 0
        for voter in self.configuration.voters:
            if voter == ourselves or self.progress[voter].recent_active:
                active += 1
        for member, progress in self.progress.items():
            if member != ourselves:
                progress.recent_active = False
        return active > len(self.configuration.voters) // 2

    # -- Votes

    def reset_votes(self) -> None:
        """Another election begins."""
        self._votes.clear()

    def record_vote(self, member: i64, granted: bool) -> None:
        """The first answer of each counts."""
        if member not in self._votes:
            self._votes[member] = granted

    def has_voted(self, member: i64) -> bool:
        """Whether its vote is known."""
        return member in self._votes

    def tally(self) -> i64:
        """``VOTE_WON``, ``VOTE_LOST``, or ``VOTE_PENDING`` while either may still come of it. Only voters count."""
        voters = self.configuration.voters
        granted: i64 = 0
        missing: i64 = 0
        for voter in voters:
            vote = self._votes.get(voter)
            if vote is None:
                missing += 1
            elif vote:
                granted += 1
        quorum = len(voters) // 2 + 1
        if granted >= quorum:
            return VOTE_WON
        return VOTE_PENDING if granted + missing >= quorum else VOTE_LOST
