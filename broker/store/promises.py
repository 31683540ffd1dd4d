"""What the node's log promises: tickets are the ordinals of its commit groups (broker/promises.py)."""

from __future__ import annotations

from typing import final

from broker.faults import FaultOwner
from broker.native import i64
from broker.promises import PromiseSource, PromiseWaiter
from broker.store.commit_group import CommitGroupWriter, Listener


@final
class _Told(Listener):
    """Passes on that a commit group is on the disk."""

    def __init__(self, source: LogPromises, waiter: PromiseWaiter) -> None:
        self._source = source
        self._waiter = waiter

    def durable(self, through: i64) -> None:
        self._waiter.kept(self._source)

    def fault_owner(self) -> FaultOwner | None:
        return self._waiter.fault_owner()


@final
class LogPromises(PromiseSource):
    """Of one log. An error of the disk ends the node, so nothing is ever lost without that."""

    def __init__(self, batch: CommitGroupWriter) -> None:
        super().__init__(True)
        self._batch = batch

    def ticket(self) -> i64:
        batch = self._batch
        return batch.group if batch.record_count > 0 else batch.group - 1

    def full_ticket(self) -> i64:
        collector = self._batch.collector
        if collector is not None:
            collector.settle()
        return self.ticket()

    def durable_through(self) -> i64:
        return self._batch.durable_group

    def when(self, ticket: i64, waiter: PromiseWaiter) -> None:
        self._batch.listen(_Told(self, waiter), ticket)

    def is_held_for_long(self) -> bool:
        return self._batch.is_held_for_long()
