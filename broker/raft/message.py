"""What members of a group say to each other. The kinds have the numbers and meanings of etcd/raft's ``MsgApp`` ..."""

from __future__ import annotations

from typing import Final, final

from broker.native import i64
from broker.raft.configuration import Configuration
from broker.raft.entry import Entry

NOBODY: Final[i64] = 0
"""Where the id of a member stands, and there is none."""

PROPOSE: Final[i64] = 2  # MsgProp
APPEND: Final[i64] = 3  # MsgApp
APPEND_RESPONSE: Final[i64] = 4  # MsgAppResp
VOTE: Final[i64] = 5  # MsgVote
VOTE_RESPONSE: Final[i64] = 6  # MsgVoteResp
SNAPSHOT: Final[i64] = 7  # MsgSnap
HEARTBEAT: Final[i64] = 8  # MsgHeartbeat
HEARTBEAT_RESPONSE: Final[i64] = 9  # MsgHeartbeatResp
UNREACHABLE: Final[i64] = 10  # MsgUnreachable
SNAPSHOT_STATUS: Final[i64] = 11  # MsgSnapStatus
TRANSFER_LEADER: Final[i64] = 13  # MsgTransferLeader
TIMEOUT_NOW: Final[i64] = 14  # MsgTimeoutNow
READ_INDEX: Final[i64] = 15  # MsgReadIndex
READ_INDEX_RESPONSE: Final[i64] = 16  # MsgReadIndexResp
PRE_VOTE: Final[i64] = 17  # MsgPreVote
PRE_VOTE_RESPONSE: Final[i64] = 18  # MsgPreVoteResp
FORGET_LEADER: Final[i64] = 23  # MsgForgetLeader

NAMES: Final = {
    2: "propose",
    3: "append",
    4: "append response",
    5: "vote",
    6: "vote response",
    7: "snapshot",
    8: "heartbeat",
    9: "heartbeat response",
    10: "unreachable",
    11: "snapshot status",
    13: "transfer leader",
    14: "timeout now",
    15: "read index",
    16: "read index response",
    17: "pre-vote",
    18: "pre-vote response",
    23: "forget leader",
}


@final
class Snapshot:
    """A state that stands for all entries up to an index (dissertation, chapter 5)."""

    def __init__(self, index: i64, term: i64, configuration: Configuration, data: object = None) -> None:
        self.index: i64 = index
        self.term: i64 = term
        self.configuration = configuration
        self.data = data
        """Never looked at here."""

    def __repr__(self) -> str:
        return f"<Snapshot {self.term}/{self.index} {self.configuration!r}>"


@final
class Message:
    """One message. Which fields mean something depends on the kind; the others are 0."""

    def __init__(self, kind: i64, to: i64, sender: i64 = 0, term: i64 = 0) -> None:
        self.kind: i64 = kind
        self.to: i64 = to
        self.sender: i64 = sender
        self.term: i64 = term
        """The sender's term, or for a request for a vote and its grant, the one the candidate asks for; 0 in what
        does not belong to a term: proposals and reads on their way to the leader."""
        self.index: i64 = 0
        """The entry before ``entries``; in answers, the last one that is known to be equal; the candidate's last."""
        self.log_term: i64 = 0
        """The term of the entry at ``index``."""
        self.commit: i64 = 0
        self.entries: list[Entry] = []
        self.reject = False
        self.reject_hint: i64 = 0
        """With a rejected append: where the logs may be equal."""
        self.context: i64 = 0
        """Which read is asked for or confirmed."""
        self.is_transfer = False
        """A request for a vote that the leader has asked for (section 3.10): no lease of his stands against it."""
        self.is_damaged = False
        """With a rejected append: the sender has lost entries that it may have acknowledged."""
        self.snapshot: Snapshot | None = None

    def __repr__(self) -> str:
        fields = ["index", "log_term", "commit", "reject", "reject_hint", "context", "is_transfer", "is_damaged"]
        said = " ".join(f"{field}={getattr(self, field)}" for field in fields if getattr(self, field))
        many = f" {len(self.entries)} entries" if self.entries else ""
        carried = f" {self.snapshot!r}" if self.snapshot is not None else ""
        return f"<{NAMES.get(self.kind, self.kind)} {self.sender}->{self.to} term={self.term} {said}{many}{carried}>"
