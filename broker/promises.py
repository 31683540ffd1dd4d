"""Promises as tickets: who keeps what publishers and clients that declare are told, and how far that has come.

A source gathers what it is told and keeps it together: the node's log its commit groups, a replicated queue its
commits. What is gathered now has a ticket; tickets ascend. Whoever has told a source something notes the ticket, and
may promise it once the source has kept everything up to there:

    ticket = source.ticket()                    what was told so far is kept with this ticket
    ticket <= source.durable_through()          it is kept
    source.when(ticket, waiter)                 waiter.kept(source) once it is

So what is promised is known by two numbers, however many messages it is, and runs of messages with the same ticket are
one run for everybody who waits (protocol/confirms.py).
"""

from __future__ import annotations

from typing import final

from mypy_extensions import mypyc_attr

from broker.faults import FaultOwner
from broker.native import i64


@mypyc_attr(allow_interpreted_subclasses=True)
class PromiseWaiter:
    """Whoever waits for a ticket."""

    def kept(self, source: PromiseSource) -> None:
        """Everything up to ``source.durable_through()`` is kept, the ticket that was waited for among it. Called once
        for each ``when``, on the thread that owns the state."""
        raise NotImplementedError

    def lost(self, source: PromiseSource) -> None:
        """``source`` has ended, and nobody will ever know what became of the rest. Called instead of ``kept``."""
        raise NotImplementedError

    def fault_owner(self) -> FaultOwner | None:
        """Whose work it is, which ends when it fails by a mistake of ours."""
        return None


@mypyc_attr(allow_interpreted_subclasses=True)
class PromiseSource:
    """Who keeps what it is told, and says when.

    One that ends tells every waiter: ``lost``, or ``kept`` where nobody wants what it had any more, as that of a queue
    that is deleted.
    """

    def __init__(self, is_prompt: bool) -> None:
        self.is_prompt = is_prompt
        """It depends on this node alone, and keeps a ticket within milliseconds: what need not wait for it may wait
        nevertheless, where that makes one answer of many."""

    def ticket(self) -> i64:
        """With which ticket everything is kept that it was told so far."""
        raise NotImplementedError

    def full_ticket(self) -> i64:
        """The same, also for what it would otherwise gather later, such as settlements."""
        return self.ticket()

    def durable_through(self) -> i64:
        """Everything with this ticket, and with those before, is kept."""
        raise NotImplementedError

    def when(self, ticket: i64, waiter: PromiseWaiter) -> None:
        """Tell ``waiter`` once this ticket, which was given out and is not kept yet, is kept; never at once."""
        raise NotImplementedError

    def is_held_for_long(self) -> bool:
        """Whether something that belongs under one ticket has kept it open for so long that nothing else may do the
        same before it is closed."""
        return False


@final
class Promise:
    """What somebody waits for."""

    def __init__(self, source: PromiseSource, ticket: i64) -> None:
        self.source = source
        self.ticket: i64 = ticket

    def is_kept(self) -> bool:
        """Whether it need not be waited for."""
        return self.ticket <= self.source.durable_through()


class PromiseSources:
    """The sources that a message, or all of a transaction, depends on: mostly one, and mostly the same as before."""

    def __init__(self) -> None:
        self.usual: PromiseSource | None = None
        """The one that is expected; whoever finds another one adds it."""
        self.others: list[PromiseSource] = []

    def add(self, source: PromiseSource | None) -> None:
        """This one, too, has to be asked; once is enough."""
        if source is not None and source not in self.others:
            self.others.append(source)

    def take_others(self) -> list[PromiseSource]:
        """Those that were added, which are forgotten here."""
        others = self.others
        if others:
            self.others = []
        return others
