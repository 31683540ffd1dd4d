"""The Raft core beside etcd/raft for as long as one likes: `scripts/soak raft-differential`.

Each stream has a seed of its own, a number that goes up. The first difference ends the run with its seed, the events
before it and what each side has made of the last one; a later run goes on where one has ended with `--from`.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter

from broker import build
from scripts._progress import Progress
from tests.support.etcd_raft import EVENTS, CannotBuild, Difference, EtcdRaft, compare


def options(parser: argparse.ArgumentParser) -> None:
    """The command line of `scripts/soak raft-differential`."""
    parser.add_argument("--from", dest="seed", type=int, default=0, help="the seed of the first stream (0)")
    parser.add_argument("--count", type=int, default=10_000, help="streams (10000)")
    parser.add_argument("--events", type=int, default=EVENTS, help=f"of each ({EVENTS})")


def main(given: argparse.Namespace) -> int:
    """Runs all streams; 1 if the two cores differ, 2 if there is no etcd/raft to compare with."""
    totals: Counter[str] = Counter()
    progress = Progress(
        lambda: (
            f"seeds {given.seed}-{given.seed + totals['streams'] - 1}: "
            + ", ".join(f"{count} {name}" for name, count in totals.items())
        )
    )
    print(f"broker: {build.loaded()}", flush=True)
    try:
        with EtcdRaft() as etcd:
            for seed in range(given.seed, given.seed + given.count):
                stream = compare(seed, etcd, given.events)
                totals["streams"] += 1
                totals["events"] += len(stream.lines) - 1
                totals["messages"] += sum(len(sent) for sent in stream.world.sent.values())
                totals["entries applied"] += max(member.applied for member in stream.world.members.values())
                progress.tick()
    except CannotBuild as error:
        print(f"scripts/soak raft-differential: {error}", file=sys.stderr)
        return 2
    except Difference as error:
        progress.line()
        print(error, file=sys.stderr)
        return 1
    progress.line()
    return 0
