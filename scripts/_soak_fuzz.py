"""Bent frames, field tables and HTTP requests for as long as one likes: `scripts/soak fuzz`.

    memory    bent conversations against a broker in memory (tests/fuzz/in_memory.py)
    tables    bent field tables, compared with a second reader (tests/fuzz/tables.py)
    requests  bent requests to the management API of a broker in memory (tests/fuzz/requests.py)
    live      eight clients at once, AMQP and HTTP, against a compiled node on a data directory that is killed and
              stopped now and then, beside a bystander (tests/fuzz/live.py)

They share the time. Each round has a seed of its own, a number that goes up; the first failure ends the run with its
seed and the command that begins with it. A later run goes on where one has ended with `--seed`.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import itertools
import sys
import time
from abc import ABC, abstractmethod
from typing import Final

from broker import build
from broker.logsetup import configure
from scripts._progress import Progress
from tests.fuzz import collector, in_memory, requests, tables
from tests.fuzz.live import LiveFuzz

SHARES: Final = {"memory": 10.0, "tables": 3.0, "requests": 2.0, "live": 15.0}
"""Seconds of each in turn."""


class Part(ABC):
    """One of the kinds of fuzz."""

    @abstractmethod
    def round(self, seed: int) -> None:
        """One round. Raises: what it has found."""

    def frames(self) -> int:
        """Bent frames so far."""
        return 0

    def end(self, *, failed: bool) -> None:  # noqa: B027
        """Give back what it holds. Raises: what is found at the end."""


class Memory(Part):
    """Conversations in memory."""

    def __init__(self) -> None:
        self.tally = in_memory.Tally()

    def round(self, seed: int) -> None:
        with collector.paused():
            in_memory.run_round(str(seed), self.tally, sys.maxsize)
        gc.collect()

    def frames(self) -> int:
        return self.tally.frames

    def __str__(self) -> str:
        return str(self.tally)


class Tables(Part):
    """Field tables."""

    def __init__(self) -> None:
        self.count = 0
        self.sound = 0

    def round(self, seed: int) -> None:
        with collector.paused():
            self.sound += tables.run_round(seed, range(tables.PER_BROKER))
        gc.collect()
        self.count += tables.PER_BROKER

    def __str__(self) -> str:
        return f"{self.count} field tables, {self.sound} of them sound"


class Requests(Part):
    """Requests in memory."""

    def __init__(self) -> None:
        self.count = 0
        self.succeeded = 0

    def round(self, seed: int) -> None:
        self.succeeded += requests.run_round(str(seed))
        self.count += requests.PER_BROKER

    def __str__(self) -> str:
        return f"{self.count} requests in memory, {self.succeeded} of them successful"


class Live(Part):
    """A node, started by the first round."""

    def __init__(self) -> None:
        self.fuzz = LiveFuzz()
        self._stack = contextlib.ExitStack()
        self._runs = False

    def round(self, seed: int) -> None:
        if not self._runs:
            self._stack.enter_context(self.fuzz)
            self._runs = True
        self.fuzz.round(str(seed))

    def frames(self) -> int:
        return self.fuzz.tally.frames

    def end(self, *, failed: bool) -> None:
        if failed:
            self.fuzz.end()  # how it stops is not the question any more
        else:
            self._stack.close()

    def __str__(self) -> str:
        by = self.fuzz.bystander
        return (
            f"{self.fuzz.tally}, {by.round_trips} round trips of a bystander, slowest {by.slowest_s * 1000:.0f} ms, "
            f"{by.late} above 5 ms"
        )


PARTS: Final[dict[str, type[Part]]] = {"memory": Memory, "tables": Tables, "requests": Requests, "live": Live}


def options(parser: argparse.ArgumentParser) -> None:
    """The command line of `scripts/soak fuzz`."""
    parser.add_argument("--minutes", type=float, default=10.0, help="how long it goes on (10)")
    parser.add_argument(
        "--frames", type=int, default=0, help="end after so many bent frames, if the time is not up before"
    )
    parser.add_argument("--only", choices=PARTS, default="", help="one kind")
    parser.add_argument(
        "--seed", type=int, default=int(time.time()) % 1_000_000 * 1000, help="of the first round (from the time)"
    )


class Run:
    """What `main` goes through."""

    def __init__(self, given: argparse.Namespace, parts: dict[str, Part]) -> None:
        self.given = given
        self.parts = parts
        self.seed: int = given.seed
        self.end = time.monotonic() + given.minutes * 60

    def __str__(self) -> str:
        return "; ".join(
            [f"seeds {self.given.seed}-{self.seed - 1}", *(f"{name}: {part}" for name, part in self.parts.items())]
        )

    def goes_on(self) -> bool:
        """Whether there is to be another round."""
        frames = sum(part.frames() for part in self.parts.values())
        return time.monotonic() < self.end and not 0 < self.given.frames <= frames

    def slice(self, name: str, progress: Progress) -> None:
        """Rounds of one kind, for its share of the time.

        Raises: what a round has found
        """
        end = time.monotonic() + SHARES[name]
        while time.monotonic() < end and self.goes_on():
            self.parts[name].round(self.seed)
            self.seed += 1
            progress.tick()


def main(given: argparse.Namespace) -> int:
    """Runs until the time is up; 1 if something was found."""
    configure("error", stream=sys.stderr)  # what the clients of a broker in memory do wrong is told nowhere
    run = Run(given, {name: make() for name, make in PARTS.items() if given.only in ("", name)})
    progress = Progress(lambda: str(run))
    print(f"broker: {build.loaded()}", flush=True)
    name = ""
    try:
        for name in itertools.cycle(run.parts):
            if not run.goes_on():
                break
            run.slice(name, progress)
        for name in run.parts:
            run.parts[name].end(failed=False)
    except Exception as error:
        progress.line()
        print(f"{name}: {type(error).__name__}: {error}", *getattr(error, "__notes__", ()), sep="\n", file=sys.stderr)
        print(f"seed {run.seed}: scripts/soak fuzz --only {name} --seed {run.seed} --minutes 1", file=sys.stderr)
        return 1
    finally:
        for part in run.parts.values():
            part.end(failed=True)
    progress.line()
    return 0
