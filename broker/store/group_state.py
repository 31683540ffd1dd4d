"""What the log of a Raft group keeps beside its entries (dissertation, section 3.8 and chapter 5).

The entries are records of the log as any other (MESSAGE, with the flag ENTRY), at positions that are never used again:
an entry that replaces another one, because another leader has something else at its index, is simply the later record
of the two, and whoever reads the log in order finds out. What a snapshot stands for is settled.

    hard state   term, vote and commit index: a record of its own (HARD_STATE) when it changes. The last one counts
    snapshot     the state machine's bytes: only the manifest has it. It is taken when a file of the write-ahead log
                 with records of the group is about to be emptied, and becomes visible, together with the positions that
                 it has settled and with the hard state, in the edit that lets the file go
"""

from __future__ import annotations

from typing import Final, final

from librt.strings import BytesWriter, read_i64_be, write_i64_be
from mypy_extensions import mypyc_attr

from broker.native import i64

_HEAD_SIZE: Final[i64] = 24


@mypyc_attr(allow_interpreted_subclasses=True)
class GroupOwner:
    """Whose log it is: the member of the group."""

    def gather(self) -> None:
        """The open commit group is about to be taken, and something was said to be coming (``Logs.expect``): append it
        now."""
        raise NotImplementedError

    def compact(self) -> None:
        """A file with records of the group is about to be emptied: give ``GroupState.snapshot`` what stands for all
        that was applied, and settle the entries that it stands for."""
        raise NotImplementedError


@final
class GroupState:
    """Of one group."""

    def __init__(self) -> None:
        self.term: i64 = 0
        self.vote: i64 = 0
        self.commit: i64 = 0
        self.snapshot = b""
        """Nothing of it is looked at here; empty: none was taken."""
        self.missing: i64 = 0
        """How many live entries recovery has not found."""
        self.owner: GroupOwner | None = None
        self._found: list[tuple[int, bytes]] | None = None

    def tell(self, term: i64, vote: i64, commit: i64) -> None:
        """A hard state that was found. One that is older than what is known says nothing: the manifest may be ahead of
        the records that are left. Within a term a vote is given once."""
        if term > self.term:
            self.term = term
            self.vote = vote
        elif term == self.term and vote != 0:
            self.vote = vote
        if commit > self.commit:
            self.commit = commit

    def add_found(self, position: i64, data: bytes) -> None:
        """Recovery has found an entry: where, and what the member has written there."""
        found = self._found
        if found is None:
            self._found = found = []
        found.append((int(position), data))

    def take_found(self) -> list[tuple[int, bytes]]:
        """What it has found since the last call."""
        found = self._found
        self._found = None
        return [] if found is None else found

    def encode(self) -> bytes:
        """Term (8), vote (8), commit (8), snapshot."""
        writer = BytesWriter()
        write_i64_be(writer, self.term)
        write_i64_be(writer, self.vote)
        write_i64_be(writer, self.commit)
        writer.write(self.snapshot)
        return writer.getvalue()

    def restored(self, data: bytes) -> None:
        """What the manifest says.

        Raises: ValueError if it is something else
        """
        if len(data) < _HEAD_SIZE:
            raise ValueError("no state of a group")
        self.tell(read_i64_be(data, 0), read_i64_be(data, 8), read_i64_be(data, 16))
        self.snapshot = data[_HEAD_SIZE:]
