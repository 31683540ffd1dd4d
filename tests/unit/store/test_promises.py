"""What the log promises (broker/store/promises.py): tickets are commit groups."""

from __future__ import annotations

from broker.promises import PromiseSource, PromiseWaiter
from broker.store.commit_group import Collector, CommitGroup, CommitGroupWriter
from broker.store.promises import LogPromises


class Told(PromiseWaiter):
    """Remembers up to where it was kept."""

    def __init__(self) -> None:
        self.through: list[int] = []

    def kept(self, source: PromiseSource) -> None:
        self.through.append(int(source.durable_through()))


class Settlements(Collector):
    """One settlement that waits."""

    def __init__(self, batch: CommitGroupWriter) -> None:
        self.batch = batch

    def settle(self) -> None:
        self.batch.append(1, 2, b"settled")


def commit(batch: CommitGroupWriter, group: CommitGroup) -> None:
    """The group is on the disk."""
    batch.committed()
    for listener in group.listeners:
        listener.durable(batch.durable_through)


def test_nothing_appended_is_nothing_to_wait_for() -> None:
    promises = LogPromises(CommitGroupWriter(1))
    assert promises.ticket() == promises.durable_through()


def test_the_ticket_is_that_of_the_open_group_once_there_is_something_in_it() -> None:
    batch = CommitGroupWriter(1)
    promises = LogPromises(batch)
    batch.append(1, 1, b"x")
    first = promises.ticket()
    batch.append(1, 1, b"y")
    assert promises.ticket() == first > promises.durable_through()
    group = batch.take()
    assert promises.ticket() == first, "nothing has come since"
    batch.append(1, 1, b"z")
    assert promises.ticket() > first
    commit(batch, group)
    assert promises.durable_through() == first < promises.ticket()


def test_who_waits_for_a_group_that_is_on_its_way_does_not_wait_for_the_next_one() -> None:
    batch = CommitGroupWriter(1)
    promises = LogPromises(batch)
    batch.append(1, 1, b"x")
    first = promises.ticket()
    group = batch.take()
    batch.append(1, 1, b"y")
    early, late = Told(), Told()
    promises.when(first, early)
    promises.when(promises.ticket(), late)
    assert batch.urgent
    commit(batch, group)
    assert (early.through, late.through) == ([first], [])
    commit(batch, batch.take())
    assert (early.through, late.through) == ([first], [first + 1])


def test_the_full_ticket_takes_settlements_along() -> None:
    batch = CommitGroupWriter(1)
    batch.collector = Settlements(batch)
    promises = LogPromises(batch)
    assert promises.ticket() == promises.durable_through()
    assert promises.full_ticket() > promises.durable_through()
