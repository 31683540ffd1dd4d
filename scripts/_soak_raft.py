"""Raft groups under simulated faults for as long as one likes: `scripts/soak raft`.

Each seed is a history of its own (tests/simulation): members with their disks, a network, and everything that goes
wrong. The first that breaks a promise ends the run, and is printed with its last events. A run that was stopped says
where another one goes on.
"""

from __future__ import annotations

import argparse
import gc
import sys
from collections import Counter
from typing import Final

from broker import build
from scripts._progress import Progress
from tests.simulation.simulation import EVENTS, Broken, Simulation

COUNTED: Final = (
    "events",
    "elections",
    "commits",
    "crashes",
    "snapshots taken",
    "snapshots installed",
    "membership changes",
    "reads",
    "disks lost",
    "disks damaged",
)


def options(parser: argparse.ArgumentParser) -> None:
    """The command line of `scripts/soak raft`."""
    parser.add_argument("--from", dest="seed", type=int, default=1, help="the first seed (1)")
    parser.add_argument("--count", type=int, default=100_000, help="how many seeds (100000)")
    parser.add_argument("--events", type=int, default=EVENTS, help=f"of each, before its faults end ({EVENTS})")


class Run:
    """What `main` goes through."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.first: int = given.seed
        self.seed: int = given.seed
        self.end: int = given.seed + given.count
        self.events: int = given.events
        self.counts: Counter[str] = Counter()

    def __str__(self) -> str:
        done = ", ".join(f"{self.counts[name]} {name}" for name in COUNTED)
        return f"{self.seed - self.first} seeds ({self.first}-{self.seed - 1}), {done}"

    def command(self) -> str:
        """What goes on with the seed that is at hand."""
        count = self.end - self.seed
        events = f" --events {self.events}" if self.events != EVENTS else ""
        return f"scripts/soak raft --from {self.seed} --count {count}{events}"

    def all(self, progress: Progress) -> None:
        """One seed after the other.

        Raises: Broken
        """
        while self.seed < self.end:
            self.counts.update(Simulation(self.seed, self.events).run())
            self.seed += 1
            progress.tick()


def main(given: argparse.Namespace) -> int:
    """Runs all; 1 if a seed has found something."""
    run = Run(given)
    progress = Progress(lambda: str(run))
    print(f"broker: {build.loaded()}", flush=True)
    gc.freeze()
    try:
        run.all(progress)
    except Broken as broken:
        progress.line()
        print(broken, file=sys.stderr)
        run.end = run.seed + 1
        print(f"shown again by {run.command()}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        progress.line()
        print(f"stopped; {run.command()} goes on", file=sys.stderr)
        raise
    progress.line()
    return 0
