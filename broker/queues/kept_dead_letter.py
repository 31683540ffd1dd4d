"""A dead letter that stays in its queue until all its targets have it (RabbitMQ docs, Quorum Queues, Dead Lettering:
at-least-once), while it is sent: who has it already, and what is still promised.

    begin()                     an attempt; the host routes the message anew
    offered(...), circle()      for each target that it leads to, except those that ``has_it``
    end()                       that were all; ``LetterOwner.arrived`` or ``failed`` follows, at once or when every
                                promise is kept
"""

from __future__ import annotations

from typing import final

from mypy_extensions import mypyc_attr

from broker.destination import MessageTarget
from broker.message import ON_DISK, Message
from broker.native import i64
from broker.promises import PromiseSource, PromiseWaiter


@mypyc_attr(allow_interpreted_subclasses=True)
class LetterOwner:
    """Whoever sends dead letters."""

    def arrived(self, letter: KeptDeadLetter) -> None:
        """All targets have it, or there is none but those where it would go round in a circle."""
        raise NotImplementedError

    def failed(self, letter: KeptDeadLetter) -> None:
        """A target has refused it, or it leads to none: it has to be sent again later."""
        raise NotImplementedError


@final
class KeptDeadLetter(PromiseWaiter):
    """One dead letter."""

    def __init__(self, owner: LetterOwner, level: i64, position: i64) -> None:
        self.level: i64 = level
        self.position: i64 = position
        self.reason = ""
        """Why it has died."""
        self.message: Message = ON_DISK
        """Its content, from before it is sent until it is not needed."""
        self.body_bytes: i64 = 0
        """The size of its body, once that was read."""
        self.was_sent = False
        """There was an attempt before this one."""
        self._owner = owner
        self._has_it: dict[MessageTarget, None] = {}
        self._sources: dict[PromiseSource, None] = {}
        """Who is to be asked, of this attempt."""
        self._awaited: i64 = 0
        """Promises that are not kept."""
        self._was_offered = False
        self._is_refused = False
        self._goes_round = False

    def begin(self) -> None:
        """An attempt begins."""
        self._was_offered = False
        self._is_refused = False
        self._goes_round = False

    def has_it(self, target: MessageTarget) -> bool:
        """Whether this target has taken it before, and does not get it again."""
        return target in self._has_it

    def offered(self, target: MessageTarget, is_refused: bool, source: PromiseSource | None) -> None:
        """A target has taken it, if ``is_refused`` is false; then ``source``, if there is one, says when it is kept."""
        self._was_offered = True
        if is_refused:
            self._is_refused = True
            return
        self._has_it[target] = None
        if source is not None:
            self._sources[source] = None

    def circle(self) -> None:
        """It would come back to a queue in which it has died, and does not go there."""
        self._goes_round = True

    def fail(self) -> None:
        """The attempt has come to nothing, by a mistake of ours."""
        self._is_refused = True
        self.end()

    def end(self) -> None:
        """There are no more targets."""
        self.message = ON_DISK
        self.was_sent = True
        sources = self._sources
        self._sources = {}
        for source in sources:
            ticket = source.ticket()
            if ticket > source.durable_through():
                self._awaited += 1
                source.when(ticket, self)
        if self._awaited == 0:
            self._decide()

    def kept(self, source: PromiseSource) -> None:
        self._awaited -= 1
        if self._awaited == 0:
            self._decide()

    def lost(self, source: PromiseSource) -> None:
        self._is_refused = True
        self._has_it = {}  # nobody knows which of them have it
        self.kept(source)

    def _decide(self) -> None:
        if self._is_refused or not (self._was_offered or self._goes_round or self._has_it):
            self._owner.failed(self)
        else:
            self._owner.arrived(self)
