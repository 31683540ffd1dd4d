"""The state machine of a simulated member. Another one, such as the quorum queue's, can stand in its place."""

from __future__ import annotations

from abc import ABC, abstractmethod

from broker.raft.entry import Entry


class Machine(ABC):
    """What the entries of a group are applied to, in their order."""

    @abstractmethod
    def apply(self, entry: Entry) -> None:
        """The next entry; its data are None at the begin of a term, and bytes for a change of the members."""

    @abstractmethod
    def digest(self) -> object:
        """What two machines have in common that have applied the same entries."""

    @abstractmethod
    def snapshot(self) -> object:
        """The state, to be kept and sent; it does not change when the machine does."""

    @abstractmethod
    def restore(self, snapshot: object) -> None:
        """The state of a snapshot instead of ours; None: the state before the first entry."""


class Commands(Machine):
    """A list of commands, of which only a running hash is kept."""

    def __init__(self) -> None:
        self._hash = 0

    def apply(self, entry: Entry) -> None:
        # hashes of numbers and bytes: those of strings differ from process to process
        data = entry.data
        self._hash = hash((self._hash, entry.index, int.from_bytes(data, "big") if isinstance(data, bytes) else data))

    def digest(self) -> object:
        return self._hash

    def snapshot(self) -> object:
        return self._hash

    def restore(self, snapshot: object) -> None:
        assert snapshot is None or isinstance(snapshot, int)
        self._hash = snapshot or 0
