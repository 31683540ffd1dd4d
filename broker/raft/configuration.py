"""Who belongs to a group, and how that changes: one member at a time (Raft dissertation, section 4.1).

Two majorities that differ by one member have a member in common, so that no two leaders are elected in one term while
some already know of a change and others do not. A change is in force for whoever has applied it, and the next may be
proposed once the leader has applied the one before (section 4.1; the same rule as etcd/raft's).
"""

from __future__ import annotations

from typing import Final, final

from broker.native import i64

ADD_VOTER: Final[i64] = 0
REMOVE: Final[i64] = 1
ADD_LEARNER: Final[i64] = 3

_KINDS: Final = {ADD_VOTER: "add voter", REMOVE: "remove", ADD_LEARNER: "add learner"}


@final
class ConfChange:
    """One change: a member comes, goes, or is made a voter or a learner."""

    def __init__(self, kind: i64, member: i64, context: bytes = b"") -> None:
        self.kind: i64 = kind
        self.member: i64 = member
        """0: nothing changes, for a change that turned out to be unwanted when it was applied."""
        self.context = context
        """What whoever proposed it wants to find again when it is applied, such as an address."""

    def __repr__(self) -> str:
        return f"<ConfChange {_KINDS.get(self.kind, self.kind)} {self.member}>"

    def encode(self) -> bytes:
        """Kind (1), member (8), and the context to the end."""
        return int(self.kind).to_bytes(1, "big") + int(self.member).to_bytes(8, "big") + self.context


def decode_conf_change(data: bytes) -> ConfChange:
    """What ``encode`` made. ``ValueError`` if nobody did."""
    if len(data) < 9 or data[0] not in _KINDS:
        raise ValueError(f"no change of a configuration: {data[:16]!r}")
    return ConfChange(data[0], int.from_bytes(data[1:9], "big"), data[9:])


@final
class Configuration:
    """The members of a group: voters, who count for elections and commits, and learners, who only receive (section
    4.2.1)."""

    def __init__(self, voters: list[int], learners: list[int] | None = None) -> None:
        self.voters: list[int] = sorted(voters)
        self.learners: list[int] = sorted(learners or [])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Configuration):
            return NotImplemented
        return self.voters == other.voters and self.learners == other.learners

    def __hash__(self) -> int:
        return hash((tuple(self.voters), tuple(self.learners)))

    def __repr__(self) -> str:
        return f"<Configuration voters {self.voters} learners {self.learners}>"

    def members(self) -> list[int]:
        """Voters and learners, by their ids."""
        return sorted(self.voters + self.learners)

    def changed(self, change: ConfChange) -> Configuration:
        """The configuration after ``change``; the same one where the change would leave no voter, or changes nothing.

        Every member decides so when it applies the change, and so all decide the same.
        """
        member = change.member
        if member == 0:
            return self
        voters = [voter for voter in self.voters if voter != member]
        learners = [learner for learner in self.learners if learner != member]
        if change.kind == ADD_VOTER:
            voters.append(member)
        elif change.kind == ADD_LEARNER:
            learners.append(member)
        after = Configuration(voters, learners)
        return self if not voters or after == self else after
