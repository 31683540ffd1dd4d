"""Mistakes of ours: an exception that nobody expected costs the one it belongs to, is logged once, and everything else
goes on.

Whoever calls many things one after the other (a turn, the timers, those who wait for a batch) catches what each of them
raises, tells ``Faults`` whose it was, and goes on with the next. What must end is the *owner* of the work: the
connection that a flush, a timer or a delivery belongs to, closed with INTERNAL_ERROR (541). Work without an owner, such
as a queue's expiry, is given up for this time.

What a client did wrong, and what the disk cannot do, are not mistakes of ours: they have their own ways (errors.py,
DiskError).
"""

from collections.abc import Callable
from typing import Final

from mypy_extensions import mypyc_attr

from broker.logsetup import get_logger

_log: Final = get_logger("faults")


@mypyc_attr(allow_interpreted_subclasses=True)
class FaultOwner:
    """The smallest thing that ends when work of its own fails by a mistake of ours."""

    def fault_label(self) -> str:
        """How the log calls it."""
        raise NotImplementedError

    def end_by_fault(self) -> None:
        """End it, soon and without harm to others. May be called more than once."""
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class Faults:
    """Where a node's mistakes are told."""

    def __init__(self) -> None:
        self.count = 0
        """Mistakes since the start; the last one follows."""
        self.last_where = ""
        self.last_error: Exception | None = None

    def caught(self, where: str, owner: FaultOwner | None, error: Exception) -> None:
        """Log ``error``, which was raised in ``where``, and end whose work it was. Never raises."""
        self._tell(where, owner, error)
        if owner is not None:
            try:
                owner.end_by_fault()
            except Exception as further:
                self._tell(f"{where}, ending its owner", owner, further)

    def run(self, where: str, owner: FaultOwner | None, call: Callable[[], object]) -> None:
        """``call``; what it raises is told. For what is done now and then: hot code has a ``try`` of its own."""
        try:
            call()
        except Exception as error:
            self.caught(where, owner, error)

    def _tell(self, where: str, owner: FaultOwner | None, error: Exception) -> None:
        self.count += 1
        self.last_where = where
        self.last_error = error
        label = "" if owner is None else owner.fault_label()
        _log.error("Internal error", where=where, owner=label, exc_info=error)
