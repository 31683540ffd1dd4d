"""A toy source of promises, and a toy queue type whose messages it keeps, `x-queue-type: promising`: the test says when
what was gathered is kept, of which source first.

It is what a replicated queue is to its publishers; the module and its registration are all of it.
"""

from __future__ import annotations

from broker.message import PENDING, REJECTED, Message
from broker.promises import PromiseSource, PromiseWaiter
from broker.queues.declaration import QueueDeclaration, QueueEnvironment
from broker.queues.queue_type import QueueType
from tests.toys.counting_queue import CountingQueue


class ToySource(PromiseSource):
    """Keeps what it gathered when the test says so."""

    def __init__(self, is_prompt: bool = False) -> None:
        super().__init__(is_prompt)
        self.open = 1
        self.kept = 0
        self.waiters: list[tuple[int, PromiseWaiter]] = []
        self.asked = 0
        """How often somebody wanted to hear of a ticket."""

    def ticket(self) -> int:
        return self.open

    def durable_through(self) -> int:
        return self.kept

    def when(self, ticket: int, waiter: PromiseWaiter) -> None:
        assert self.kept < ticket <= self.open
        self.asked += 1
        self.waiters.append((int(ticket), waiter))

    def gather(self) -> int:
        """What comes belongs to the next ticket; the one that was closed."""
        self.open += 1
        return self.open - 1

    def keep(self, through: int | None = None) -> None:
        """Everything is kept up to this ticket, or all there is."""
        if through is None:
            through = self.gather()
        self.kept = through
        due = [waiter for ticket, waiter in self.waiters if ticket <= through]
        self.waiters = [each for each in self.waiters if each[0] > through]
        for waiter in due:
            waiter.kept(self)

    def lose(self) -> None:
        """It ends."""
        waiters, self.waiters = self.waiters, []
        for _, waiter in waiters:
            waiter.lost(self)


class PromisingQueue(CountingQueue):
    """Takes `x-max-age: N` messages at the most, if that is declared."""

    def __init__(self, declared: QueueDeclaration, environment: QueueEnvironment) -> None:
        super().__init__(declared, environment)
        self.source = ToySource()
        self.promises = self.source
        limit = declared.arguments.get("x-max-age")
        self.limit = limit if isinstance(limit, int) else 1 << 30

    def enqueue(self, message: Message) -> int:
        if len(self.waiting) >= self.limit:
            return REJECTED
        super().enqueue(message)
        return PENDING

    def close(self) -> int:
        self.source.keep()  # nobody wants its messages any more
        return super().close()


PROMISING = QueueType("promising", "rabbit_promising_queue", PromisingQueue, arguments=("x-max-age",))
