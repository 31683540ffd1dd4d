"""Mistakes planted into the core, the log or the owner of the simulated members, to see that the simulation finds them.

    python -m tests.simulation.planted NAME [--from SEED] [--count N] [--events N]

runs seeds until one fails, and prints it. Mistakes of the core replace a function or a method of broker.raft, which
works with the uncompiled package only: run it with the checkout on PYTHONPATH. Another one is an entry of ``PLANTED``;
a replacement gets the real thing as its first argument.
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FunctionType
from typing import Any, Final, NamedTuple

from broker.raft import membership
from broker.raft.entry import CONF_CHANGE, Entry
from broker.raft.message import VOTE, Message
from broker.raft.raft import Raft
from broker.raft.raft_log import RaftLog
from broker.raft.snapshot_transfer import SliceAnswer, SnapshotReceiver, SnapshotSlice
from broker.raft.storage import HardState
from broker.raft.tracker import Tracker
from tests.simulation.disk import HARD_STATE, TRUNCATE, Record, SimulatedLog
from tests.simulation.simulation import EVENTS, Broken, Plant, Simulation

Replacement = tuple[object, str, Callable[..., Any]]


class Planted(NamedTuple):
    """One mistake."""

    told: str
    """What is wrong."""
    within: int
    """Seeds of 2,000 events, from 1 on, within which it is found."""
    plant: Plant = Plant()
    core: tuple[Replacement, ...] = ()
    """Functions of modules and methods of classes, by their owner and name."""


# -- Mistakes of disks


class ForgetsVotes(SimulatedLog):
    """Terms are kept, votes are not."""

    def _append(self, record: Record) -> None:
        kind, value = record
        if kind == HARD_STATE:
            record = (kind, HardState(value.term, 0, value.commit))
        super()._append(record)


class ForgetsTruncations(SimulatedLog):
    """What was replaced comes back with the next start."""

    def end_sync(self, number: int) -> None:
        self._pending = [(written, record) for written, record in self._pending if record[0] != TRUNCATE]
        super().end_sync(number)


class LiesOnce(SimulatedLog):
    """Every eighth sync does nothing, and says that it has."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._syncs = 0

    def end_sync(self, number: int) -> None:
        self._syncs += 1
        if self._syncs % 8:
            super().end_sync(number)


# -- Mistakes of the core


def _maybe_commit(real: Callable[[Raft], bool], raft: Raft) -> bool:
    index = raft.tracker.committed()
    if index <= raft.log.committed:
        return False
    raft.log.commit_to(index)  # of whatever term
    return True


def _maybe_append(real: Callable[..., bool], log: RaftLog, index: int, term: int, entries: list[Entry]) -> bool:
    if not log.matches(index, term):
        return False
    behind = [entry for entry in entries if entry.index > log.committed]
    if behind:
        log.append(behind)  # even if they are there, with others behind them
    return True


def _check_proposal(real: Callable[..., None], raft: Raft, entries: list[Entry]) -> None:
    for at, entry in enumerate(entries):
        if entry.kind == CONF_CHANGE:
            raft.pending_conf_index = raft.log.last_index() + at + 1


def _send(real: Callable[..., None], raft: Raft, message: Message) -> None:
    real(raft, message)
    if message.kind == VOTE:
        raft.messages.append(raft.responses.pop())


def _take_slice(
    real: Callable[..., tuple[Message | None, SliceAnswer | None]], receiver: Any, part: SnapshotSlice
) -> tuple[Message | None, SliceAnswer | None]:
    at = receiver._received if receiver._of is not None and receiver._of.is_that(part.of) else part.offset
    return real(receiver, SnapshotSlice(part.of, part.to, part.configuration, at, part.data, part.size))


def _committed(real: Callable[[Tracker], int], ours: Tracker) -> int:
    matches = sorted(progress.match for progress in ours.progress.values())
    return matches[(len(matches) - 1) // 2]


PLANTED: Final = {
    "vote_not_saved": Planted("a vote is forgotten in a crash", 100, Plant(log=ForgetsVotes)),
    "truncation_not_saved": Planted("entries that were replaced come back", 100, Plant(log=ForgetsTruncations)),
    "sync_lies": Planted("a sync does nothing", 20, Plant(log=LiesOnce)),
    "answers_before_sync": Planted("answers leave before the disk has it", 20, Plant(answers_early=True)),
    "commits_old_terms": Planted(
        "entries of an earlier term are counted", 1000, core=((Raft, "maybe_commit", _maybe_commit),)
    ),
    "deletes_without_conflict": Planted(
        "a late append takes away what came since", 100, core=((RaftLog, "maybe_append", _maybe_append),)
    ),
    "two_changes_at_once": Planted(
        "a change of the members does not wait for the one before", 200,
        core=((membership, "check_proposal", _check_proposal),),
    ),
    "asks_for_votes_before_sync": Planted(
        "a candidate's requests leave before its term is saved", 20, core=((Raft, "send", _send),)
    ),
    "slices_anywhere": Planted(
        "a slice of a snapshot is taken wherever it stood", 100, core=((SnapshotReceiver, "take", _take_slice),)
    ),
    "learner_counted": Planted("learners count for commits", 100, core=((Tracker, "committed", _committed),)),
}  # fmt: skip


@contextmanager
def planted(name: str) -> Iterator[Plant]:
    """The mistake is in the core in this block; simulations are given what is returned."""
    mistake = PLANTED[name]
    undo: list[tuple[object, str, object]] = []
    try:
        for owner, attribute, new in mistake.core:
            real = getattr(owner, attribute)
            if not isinstance(real, FunctionType):
                raise RuntimeError("mistakes can be planted into the uncompiled core only")
            replacement = _bound(new, real)
            for place in [owner] if isinstance(owner, type) else _importers(attribute, real):
                undo.append((place, attribute, real))
                setattr(place, attribute, replacement)
        yield mistake.plant
    finally:
        for place, attribute, real in undo:
            setattr(place, attribute, real)


def _bound(new: Callable[..., Any], real: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(real)
    def replacement(*arguments: Any) -> Any:
        return new(real, *arguments)

    return replacement


def _importers(name: str, real: object) -> list[object]:
    modules = [module for path, module in sys.modules.items() if path.startswith("broker.raft.")]
    return [module for module in modules if getattr(module, name, None) is real]


def first_found(name: str, first: int = 1, count: int = 0, events: int = EVENTS) -> Broken | None:
    """The first seed that fails with this mistake; None: none of them does."""
    with planted(name) as plant:
        for seed in range(first, first + (count or PLANTED[name].within)):
            try:
                Simulation(seed, events, plant).run()
            except Broken as broken:
                return broken
    return None


def main(arguments: list[str]) -> int:
    """Looks for one; 1 if it is not found."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.planted")
    parser.add_argument("name", choices=PLANTED)
    parser.add_argument("--from", dest="first", type=int, default=1, help="the first seed (1)")
    parser.add_argument("--count", type=int, default=0, help="seeds at most (as PLANTED says)")
    parser.add_argument("--events", type=int, default=EVENTS, help=f"of each ({EVENTS})")
    given = parser.parse_args(arguments)
    broken = first_found(given.name, given.first, given.count, given.events)
    print(broken or "not found")
    return 0 if broken else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
