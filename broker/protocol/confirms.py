"""Publish sequence numbers of one channel, and their basic.ack / basic.nack, coalesced (RabbitMQ docs, Publisher
Confirms).

What every queue decided at once is one run per turn: a single frame with multiple=true. What waits for a promise is a
run as well: consecutive messages with the same ticket of the same source (broker/promises.py), or with the same tickets
of the same sources where messages go to queues that are kept apart. Runs stand in the order of their numbers. Those at
the front that are kept leave together; one behind others that wait leaves number by number, since multiple=true would
cover these. What need not wait does so nevertheless behind a source that is prompt, so that order and runs are kept.

A message that a queue has refused is told so at once: nobody else's promise changes that.
"""

from typing import final

from broker.native import i64
from broker.promises import Promise, PromiseSource, PromiseSources
from broker.protocol.outbox import Outbox
from broker.wire.writer import write_ack, write_nack


@final
class _Run:
    """Consecutive messages with the same outcome that wait for the same."""

    def __init__(self, sequence: i64, nack: bool, source: PromiseSource | None, ticket: i64) -> None:
        self.first: i64 = sequence
        self.last: i64 = sequence
        self.nack = nack
        self.source = source
        """Who has to keep ``ticket`` first; None if there is nothing to wait for any more."""
        self.ticket: i64 = ticket
        self.others: list[Promise] | None = None
        """What it waits for besides."""

    def waits_for(self, source: PromiseSource) -> Promise | None:
        """What it waits for from that source."""
        if self.source is source:
            return Promise(source, self.ticket)
        if self.others is not None:
            for promise in self.others:
                if promise.source is source:
                    return promise
        return None

    def waits_for_same(self, promises: list[Promise]) -> bool:
        """Whether it waits for just these, in this order."""
        others = self.others
        first = promises[0]
        if self.source is not first.source or self.ticket != first.ticket:
            return False
        if others is None or len(others) + 1 != len(promises):
            return others is None and len(promises) == 1
        for one, other in zip(others, promises[1:], strict=True):
            if one.source is not other.source or one.ticket != other.ticket:
                return False
        return True

    def look(self, source: PromiseSource, through: i64) -> bool:
        """``source`` has kept everything up to that ticket; whether that was all this run has waited for."""
        others = self.others
        if others is not None:
            others = [promise for promise in others if promise.source is not source or promise.ticket > through]
            self.others = others if others else None
        if self.source is source and self.ticket <= through:
            following = None if self.others is None else self.others.pop()
            if following is None:
                self.source = None
                return True
            self.source = following.source
            self.ticket = following.ticket
            if not self.others:
                self.others = None
        return False

    def fail(self) -> None:
        """It will never be kept."""
        self.nack = True
        self.source = None
        self.others = None


@final
class Confirms(PromiseSources):
    """The confirms of one channel: numbers only; the channel decides when to flush, and who is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.published: i64 = 0
        """The sequence number of the last message."""
        self.confirmed: i64 = 0
        """How many acks were written."""
        self._run_from: i64 = 0
        self._run_to: i64 = 0
        self._run_size: i64 = 0
        self._run_nack = False
        self._runs: list[_Run] = []
        """Behind what stands in ``_run_from`` to ``_run_to``; the first one waits, except between two flushes."""
        self._is_due = False
        """One of them need not wait any more."""

    @property
    def unconfirmed(self) -> int:
        """Messages that wait for a promise."""
        count = 0
        for run in self._runs:
            if run.source is not None:
                count += int(run.last - run.first) + 1
        return count

    # ---- messages, in the order of their numbers ---------------------------------------------------------------------

    def decided(self, sequence: i64, nack: bool, outbox: Outbox, channel: i64) -> None:
        """Message ``sequence`` is taken by all its queues, or refused by one; nothing has to be waited for."""
        if not self._runs:
            self._extend(sequence, sequence, nack, outbox, channel)
            return
        last = self._runs[-1]
        source = last.source
        if source is not None and (not source.is_prompt or last.others is not None):
            source = None
        if last.nack == nack and last.source is source and last.last + 1 == sequence:
            last.last = sequence
            return
        self._runs.append(_Run(sequence, nack, source, last.ticket))
        if source is None:
            self._is_due = True

    def joins(self, sequence: i64, ticket: i64) -> bool:
        """Whether message ``sequence``, which waits for the usual source, belongs to the run that stands last: then it
        does from now on, and otherwise ``wait`` is to be called."""
        runs = self._runs
        if not runs:
            return False
        last = runs[-1]
        if (
            last.source is not self.usual
            or last.ticket != ticket
            or last.nack
            or last.others is not None
            or last.last + 1 != sequence
        ):
            return False
        last.last = sequence
        return True

    def wait(self, sequence: i64, promises: list[Promise]) -> list[Promise]:
        """Message ``sequence`` waits for all of these, of which there is at least one and none is kept. Returns those
        that no other message waits for: their sources have to be asked."""
        runs = self._runs
        last = runs[-1] if runs else None
        if last is not None and last.last + 1 == sequence and not last.nack and last.waits_for_same(promises):
            last.last = sequence
            return []
        unasked = [promise for promise in promises if not self._is_asked(promise)]
        run = _Run(sequence, False, promises[0].source, promises[0].ticket)
        if len(promises) > 1:
            run.others = promises[1:]
        runs.append(run)
        return unasked

    def _is_asked(self, promise: Promise) -> bool:
        """Whether a run waits for the same; tickets ascend, so the last one that waits for this source tells."""
        for run in reversed(self._runs):
            found = run.waits_for(promise.source)
            if found is not None:
                return found.ticket == promise.ticket
        return False

    # ---- what sources say --------------------------------------------------------------------------------------------

    def kept(self, source: PromiseSource) -> None:
        """It has kept what it says."""
        through = source.durable_through()
        for run in self._runs:
            if run.source is not None and run.look(source, through):
                self._is_due = True

    def lost(self, source: PromiseSource) -> None:
        """It has ended: what waits for it is refused."""
        for run in self._runs:
            if run.source is not None and run.waits_for(source) is not None:
                run.fail()
                self._is_due = True

    # ---- frames ------------------------------------------------------------------------------------------------------

    def _extend(self, first: i64, last: i64, nack: bool, outbox: Outbox, channel: i64) -> None:
        if self._run_to and self._run_nack != nack:
            self._write_run(outbox, channel)
        if not self._run_to:
            self._run_from = first
            self._run_nack = nack
            self._run_size = 0
        self._run_to = last
        self._run_size += last - first + 1

    def _write_run(self, outbox: Outbox, channel: i64) -> None:
        multiple = self._run_to > self._run_from
        if self._run_nack:
            write_nack(outbox.writer, channel, self._run_to, multiple)
        else:
            write_ack(outbox.writer, channel, self._run_to, multiple)
            self.confirmed += self._run_size
        self._run_to = 0

    def flush(self, outbox: Outbox, channel: i64) -> None:
        """Write what was decided since the last flush."""
        if self._is_due:
            self._is_due = False
            self._take_due(outbox, channel)
        if self._run_to:
            self._write_run(outbox, channel)

    def _take_due(self, outbox: Outbox, channel: i64) -> None:
        runs = self._runs
        count: i64 = 0
        for run in runs:
            if run.source is not None:
                break
            self._extend(run.first, run.last, run.nack, outbox, channel)
            count += 1
        del runs[:count]
        behind = [run for run in runs if run.source is None]
        if not behind:
            return
        self._runs = [run for run in runs if run.source is not None]
        if self._run_to:
            self._write_run(outbox, channel)  # in the order of the numbers
        for run in behind:
            sequence = run.first
            while sequence <= run.last:
                if run.nack:
                    write_nack(outbox.writer, channel, sequence, False)
                else:
                    write_ack(outbox.writer, channel, sequence, False)
                sequence += 1
            if not run.nack:
                self.confirmed += run.last - run.first + 1
