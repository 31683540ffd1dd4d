"""The table of the README: loads, in turn, on a node of its own and on the brokers to compare with; called by
scripts/bench.

Each round runs every broker once before the next round starts, and the medians are printed, so a drift of the machine
falls on all alike. CPU per message (of the broker's process, all threads) is the figure that other work on the machine
touches least.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import re
import statistics
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT))  # tests/support starts nodes and RabbitMQ; the broker itself is the installed one

from scripts import _bench_durable  # noqa: E402
from tests.support.node import Node  # noqa: E402
from tests.support.rabbitmq import RabbitMQ, why_not  # noqa: E402


class Load(NamedTuple):
    """One row of the table."""

    name: str
    options: str
    limit_us: float
    """CPU per message that must not be exceeded, in microseconds; 0 for rows that are judged by latency."""


LOADS = (
    Load("24 B, auto-ack", "--size 24 --ack 0", 1.0),
    Load("24 B, confirms (window 1000), ack every 50", "--size 24 --confirm 1000 --ack 50", 1.2),
    Load("24 B, ack each", "--size 24 --ack 1", 1.8),
    Load("1 KiB, confirms, ack every 50", "--size 1024 --confirm 1000 --ack 50", 2.5),
    Load("64 KiB, auto-ack", "--size 65536 --ack 0", 80.0),
    Load(
        "100 B, 10 producers, 10 consumers, 10 queues",
        "--size 100 --producers 10 --consumers 10 --queues 10 --ack 50",
        1.5,
    ),
    Load(
        "100 B, fanout to 10 queues",
        "--size 100 --exchange perf-fan --type fanout --queues 10 --consumers 10 --ack 0",
        0.8,
    ),
    Load(
        "100 B, topic exchange, 10 queues",
        "--size 100 --exchange perf-top --type topic --queues 10 --producers 10 --consumers 10 --ack 0",
        1.5,
    ),
    Load("100 B at 2,000 messages/s", "--size 100 --rate 2000 --ack 0", 0),
)
INTERPRETED = Load("24 B, auto-ack, interpreted", "--size 24 --ack 0", 6.0)

BACKLOG = 50_000
"""Producers wait while more messages than this are on their way: the generator shares one thread between producers and
consumers, and a backlog of its own making would measure memory allocation instead."""


class Target(NamedTuple):
    """A broker under load; pid 0 when it is not ours."""

    name: str
    host: str
    port: int
    pid: int


def measure(target: Target, load: Load, seconds: float) -> dict[str, object]:
    """The load generator's report, or {"error": ...}."""
    command = [
        sys.executable,
        "-P",
        "-m",
        "broker",
        "perf",
        "--verify",
        "--host",
        target.host,
        "--port",
        str(target.port),
    ]
    command += ["--seconds", str(seconds), "--backlog", str(BACKLOG), "--pid", str(target.pid), *load.options.split()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 120, check=False)
    if done.returncode:
        return {"error": (done.stderr or done.stdout).strip()[:200] or f"exit {done.returncode}"}
    report: dict[str, object] = json.loads(done.stdout)
    return report


def median(reports: list[dict[str, object]], *keys: str) -> float:
    """The median of one figure over the rounds."""
    values: list[float] = []
    for report in reports:
        value: object = report
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        if isinstance(value, int | float):
            values.append(float(value))
    return statistics.median(values) if values else 0.0


def cell(reports: list[dict[str, object]], load: Load) -> str:
    """What the table says of one broker and one load."""
    errors = [str(report["error"]) for report in reports if "error" in report]
    if errors:
        return f"failed: {errors[0]}"
    cpu = median(reports, "broker_cpu_us_per_message")
    if not load.limit_us:
        return f"p50 {median(reports, 'latency_us', 'p50'):.0f} us, p99 {median(reports, 'latency_us', 'p99'):.0f} us"
    rate = f"{median(reports, 'consumed_per_s'):,.0f}/s"
    return f"{cpu:.2f} us, {rate}" if cpu else rate


def arguments() -> argparse.Namespace:
    """The options of scripts/bench."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--only", default="", help="loads whose name contains this")
    parser.add_argument(
        "--durable", action="store_true", help="persistent messages, a backlog on disk, a start after SIGKILL instead"
    )
    parser.add_argument("--against", metavar="HOST:PORT", help="a broker that is running already (guest/guest)")
    parser.add_argument("--against-rabbitmq", action="store_true", help="Debian's rabbitmq-server, started beside")
    return parser.parse_args()


def beam_of(home: Path) -> int:
    """The process of the Erlang machine whose files lie in ``home``: the one that does the broker's work."""
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if (
                entry.name.isdigit()
                and (entry / "comm").read_text().startswith("beam")
                and str(home) in (entry / "cmdline").read_text()
            ):
                return int(entry.name)
    return 0


def interpreted_environment() -> dict[str, str]:
    """Puts the checkout before the installed, compiled package."""
    return {"PYTHONPATH": str(ROOT), "LEVERET_BUILD": "interpreted"}


def main() -> int:
    """Exit code 1 when a load failed or a limit was missed."""
    given = arguments()
    missed: list[str] = []
    if given.durable:
        missed = _bench_durable.main(given.rounds, given.seconds)
        for text in missed:
            print(text, file=sys.stderr)
        return 1 if missed else 0
    with contextlib.ExitStack() as stack:
        node = stack.enter_context(Node())
        build = re.search(r"build=(\S+)", node.output())
        targets = [Target("Leveret", node.host, node.port, node.pid)]
        if given.against_rabbitmq:
            if reason := why_not():
                print(f"RabbitMQ is left out: {reason}", file=sys.stderr)
            else:
                rabbit = stack.enter_context(RabbitMQ())
                targets.append(Target("RabbitMQ", rabbit.host, rabbit.port, beam_of(rabbit.home)))
        if given.against:
            host, _, port = given.against.rpartition(":")
            targets.append(Target(given.against, host, int(port), 0))
        today = datetime.now(UTC).date()
        print(
            f"{today}, {os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}; "
            f"build: {build.group(1) if build else 'unknown'}; CPU per message, messages/s"
        )
        print("| load | limit | " + " | ".join(target.name for target in targets) + " |")
        print("|---|---|" + "---|" * len(targets))
        for load in (load for load in LOADS if given.only in load.name):
            reports: dict[str, list[dict[str, object]]] = {target.name: [] for target in targets}
            for _ in range(given.rounds):
                for target in targets:
                    reports[target.name].append(measure(target, load, given.seconds))
            missed += print_row(load, reports)
        if given.only in INTERPRETED.name:
            slow = stack.enter_context(Node(environment=interpreted_environment()))
            target = Target("Leveret", slow.host, slow.port, slow.pid)
            missed += print_row(
                INTERPRETED, {"Leveret": [measure(target, INTERPRETED, given.seconds) for _ in range(given.rounds)]}
            )
    for text in missed:
        print(text, file=sys.stderr)
    return 1 if missed else 0


def print_row(load: Load, reports: dict[str, list[dict[str, object]]]) -> list[str]:
    """Prints one row; returns what is wrong with our own figures."""
    limit = f"{load.limit_us:g} us" if load.limit_us else ""
    print(f"| {load.name} | {limit} | " + " | ".join(cell(runs, load) for runs in reports.values()) + " |", flush=True)
    own = reports["Leveret"]
    if any("error" in report for report in own):
        return [f"{load.name}: {cell(own, load)}"]
    if load.limit_us and median(own, "broker_cpu_us_per_message") > load.limit_us:
        return [f"{load.name}: more than {limit}"]
    return []


if __name__ == "__main__":
    sys.exit(main())
