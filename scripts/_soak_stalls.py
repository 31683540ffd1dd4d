"""How long a node leaves others unserved while one client asks for much: `scripts/soak stalls`.

Each input (PARTS below) runs on a fresh node, from one ordinary client, beside a probe of 1 kHz on a connection and in
a process of its own (_stall_probe.py). The same probe without the input is measured directly before it, on the same
node with everything prepared. A round passes when the probe's 99th percentile is at most 5 ms and its maximum at most
20 ms above that; what is printed and judged are the medians of the rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Final, NamedTuple

from scripts import _stall_consumers, _stall_declarations, _stall_inputs, _stall_management, _stall_routing
from scripts._stall_client import INPUTS, SETTINGS, Client, Setting
from tests.support.node import Node

PARTS: Final = (_stall_routing, _stall_inputs, _stall_consumers, _stall_declarations, _stall_management)
PROBE: Final = Path(__file__).resolve().parent / "_stall_probe.py"
SETTLE_S: Final = 0.3
QUIET_S: Final = 1.2
AFTER_S: Final = 0.25
"""How much longer the probe is looked at when the client has its answer: what was put off until then counts too."""
P99_EXCESS_MS: Final = 5.0
MAX_EXCESS_MS: Final = 20.0
COLUMNS: Final = ("seconds", "p50", "p99", "max", "p50 with", "p99 with", "max with", "p99 excess", "max excess")


class Latency(NamedTuple):
    """Percentiles of round trips in milliseconds."""

    p50: float
    p99: float
    max: float


class Round(NamedTuple):
    """One run of an input."""

    seconds: float
    quiet: Latency
    loaded: Latency


def summary(latencies_us: list[int]) -> Latency:
    """The percentiles of what was measured."""
    ordered = sorted(latencies_us)
    p99 = ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]
    return Latency(ordered[len(ordered) // 2] / 1000, p99 / 1000, ordered[-1] / 1000)


def start_probe(node: Node, publishes: bool = True) -> subprocess.Popen[str]:
    """The probe's process, once it is connected."""
    command = [sys.executable, "-P", str(PROBE), node.host, str(node.port), "publish" if publishes else "ask"]
    probe = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert probe.stdout is not None
    assert probe.stdout.readline() == "ready\n"
    return probe


def put_first(pid: int) -> None:
    """A node that has to share its core with whatever else runs here is not what is measured: its threads come before
    others."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        try:
            os.setpriority(os.PRIO_PROCESS, int(thread.name), -20)
        except OSError:
            return  # not allowed here: the baseline has the same share of it


def run(name: str) -> Round:
    """One round of an input, on a node of its own."""
    setting = SETTINGS.get(name, Setting())
    with Node(settings=setting.lines) as node:
        client = Client(node)
        steps = INPUTS[name](client)
        next(steps)  # prepares
        put_first(node.pid)
        probe = start_probe(node, setting.publishes)
        try:
            time.sleep(SETTLE_S)
            quiet_from = time.monotonic_ns()
            time.sleep(QUIET_S)
            began = time.monotonic_ns()
            for _ in steps:
                pass
            seconds = (time.monotonic_ns() - began) / 1e9
            time.sleep(AFTER_S)
            ended = time.monotonic_ns()
            output, _ = probe.communicate()
        finally:
            if probe.poll() is None:
                probe.kill()
        client.close()
        node.kill()  # how it ends is not the question here, and it may have much to clear away
        samples: list[list[int]] = json.loads(output)
        quiet = [taken for sent, taken in samples if sent >= quiet_from and sent + taken * 1000 < began]
        loaded = [taken for sent, taken in samples if sent < ended and sent + taken * 1000 >= began]
        return Round(seconds, summary(quiet), summary(loaded))


def figures(rounds: list[Round]) -> dict[str, float]:
    """The medians of the rounds, in milliseconds except for the duration."""
    values: list[list[float]] = []
    for each in rounds:
        excess = (each.loaded.p99 - each.quiet.p99, each.loaded.max - each.quiet.max)
        values.append([each.seconds, *each.quiet, *each.loaded, *excess])
    medians = [round(statistics.median(column), 3) for column in zip(*values, strict=True)]
    return dict(zip(COLUMNS, medians, strict=True))


def passes(found: dict[str, float]) -> bool:
    """Whether nobody was left unserved for too long."""
    return found["p99 excess"] <= P99_EXCESS_MS and found["max excess"] <= MAX_EXCESS_MS


def options(parser: argparse.ArgumentParser) -> None:
    """The command line of `scripts/soak stalls`."""
    parser.add_argument("--only", default="", metavar="NAME", help="this input, or those whose name contains it")
    parser.add_argument("--rounds", type=int, default=3, help="how often each runs; medians are printed (3)")
    parser.add_argument("--json", action="store_true", help="one JSON object a line, with all rounds")


def main(given: argparse.Namespace) -> int:
    """Runs the inputs; 1 if one does not pass, 2 if there is none of that name."""
    assert all(part.__name__ for part in PARTS)  # their inputs are in the table by having been imported
    every = list(INPUTS)
    names = [given.only] if given.only in every else [name for name in every if given.only in name]
    if not names:
        print(f"no input is called {given.only}: {', '.join(INPUTS)}", file=sys.stderr)
        return 2
    if not given.json:
        print(f"| {'input':<21} | " + " | ".join(f"{column:>10}" for column in COLUMNS) + " |      |")
        print("|---|" + "--:|" * len(COLUMNS) + "---|", flush=True)
    failed = 0
    for name in names:
        rounds = [run(name) for _ in range(given.rounds)]
        found = figures(rounds)
        failed += not passes(found)
        verdict = "pass" if passes(found) else "FAIL"
        if given.json:
            print(json.dumps({"input": name, "verdict": verdict, **found, "rounds": rounds}), flush=True)
        else:
            print(
                f"| {name:<21} | " + " | ".join(f"{value:>10,.2f}" for value in found.values()) + f" | {verdict} |",
                flush=True,
            )
    if not given.json:
        print(
            f"{len(names) - failed} of {len(names)} pass (milliseconds; p99 at most {P99_EXCESS_MS:g}, max "
            f"{MAX_EXCESS_MS:g} above)"
        )
    return 1 if failed else 0
