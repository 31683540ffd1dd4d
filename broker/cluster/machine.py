"""The contract of a state machine of a Raft group: what the entries are applied to."""

from __future__ import annotations

from mypy_extensions import mypyc_attr


@mypyc_attr(allow_interpreted_subclasses=True)
class Machine:
    """The state machine of a group."""

    def take(self) -> bytes:
        """The commands that were gathered since the last call, as the data of one entry; empty: none were."""
        raise NotImplementedError

    def apply(self, data: bytes) -> None:
        """An entry is committed. The same on every member."""
        raise NotImplementedError

    def snapshot(self) -> bytes:
        """What stands for everything that was applied."""
        raise NotImplementedError

    def restore(self, data: bytes) -> None:
        """The state that ``snapshot`` has told of."""
        raise NotImplementedError

    def is_small(self) -> bool:
        """Whether a snapshot costs next to nothing."""
        return False

    def rest(self) -> None:
        """Nothing was written to it for a while."""

    def make_do(self, following: list[bytes]) -> None:
        """There is no state to begin with, because damage has taken it, or because nothing ever was; these entries are
        going to be applied."""
