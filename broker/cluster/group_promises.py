"""What a Raft group promises: a ticket is kept once its entry is applied (broker/promises.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from broker.clock import Clock
from broker.native import i64
from broker.promises import PromiseSource, PromiseWaiter

if TYPE_CHECKING:
    from broker.cluster.group import Group

_NO_WAITERS: Final[list[PromiseWaiter]] = []
"""All groups share these while they have nothing, so nothing is ever put into them:"""
_NO_TICKETS: Final[list[int]] = []
"""there are new ones instead."""


@final
class GroupPromises(PromiseSource):
    """Of one group."""

    def __init__(self, group: Group, is_alone: bool) -> None:
        super().__init__(is_alone)
        self._group = group
        self._waiters = _NO_WAITERS
        self._tickets = _NO_TICKETS

    def ticket(self) -> i64:
        return self._group.open_ticket if self._group.is_gathering else self._group.open_ticket - 1

    def durable_through(self) -> i64:
        return self._group.applied_ticket

    def when(self, ticket: i64, waiter: PromiseWaiter) -> None:
        if self._waiters is _NO_WAITERS:
            self._waiters = []
            self._tickets = []
        self._waiters.append(waiter)
        self._tickets.append(int(ticket))

    def kept(self, ticket: i64, clock: Clock) -> None:
        """Everything up to this ticket is applied."""
        if not self._waiters:
            return
        count: i64 = 0
        for each in self._tickets:
            if each > ticket:
                break
            count += 1
        waiters = self._waiters[:count]
        del self._waiters[:count]
        del self._tickets[:count]
        for waiter in waiters:
            try:
                waiter.kept(self)
            except Exception as error:
                clock.faults.caught("promise of a group", waiter.fault_owner(), error)

    def rest(self) -> None:
        """Nobody has waited for a while."""
        if not self._waiters:
            self._waiters = _NO_WAITERS
            self._tickets = _NO_TICKETS

    def end(self, clock: Clock) -> None:
        """The group is no more, as its queue was deleted: nobody wants to know what became of it."""
        waiters = self._waiters
        self._waiters = _NO_WAITERS
        self._tickets = _NO_TICKETS
        for waiter in waiters:
            try:
                waiter.kept(self)
            except Exception as error:
                clock.faults.caught("end of a group", waiter.fault_owner(), error)
