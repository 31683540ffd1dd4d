"""Looking for a broken promise: random histories, one seed after the other, until a number of disks was looked at."""

from __future__ import annotations

import random
from collections import Counter

from tests.support.faulty_disk import FaultyDisk


class Violation(AssertionError):
    """A promise was broken."""


class Enough(Exception):
    """The budget of states is used up."""


class Search:
    """One search. What a history is, and where in it states are looked at, is the subclass's."""

    noun = "history"
    """What a failure calls the thing that has the seed."""

    def __init__(self, budget: int, seed: int) -> None:
        self.budget = budget
        self.seed = seed
        self.states = 0
        self.failures = 0
        self.met: Counter[str] = Counter()
        """How many states had what, for the test that the histories are not harmless."""

    def run(self) -> None:
        """Raises: Violation, with the seed of the history in its text"""
        while self.states < self.budget:
            self.seed += 1
            try:
                self.history(random.Random(self.seed))
            except Enough:
                return
            except Exception as error:
                raise Violation(
                    f"{self.noun} {self.seed}, state {self.states}: {type(error).__name__}: {error}"
                ) from error

    def history(self, chance: random.Random) -> None:
        """Everything that happens on one disk, drawn from ``chance``. Raises: Violation, or what the code under test
        does not catch"""
        raise NotImplementedError

    def count_state(self) -> None:
        """Raises: Enough when it was the last one"""
        self.states += 1
        if self.states >= self.budget:
            raise Enough


def new_disk(forgotten: frozenset[str]) -> FaultyDisk:
    """A disk with an empty data directory, synced like everything else unless the site is ``forgotten``."""
    disk = FaultyDisk()
    disk.forgotten = forgotten
    disk.do_make_directory("datadir.create", "/data")
    disk.do_sync_directory("datadir.create.directory", "/")
    return disk
