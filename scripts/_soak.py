"""The crash tests for as long as one likes, and what a client can cost the others; called by scripts/soak, in its
environment.

    crash     nodes are killed under load and compared with a ledger (tests/crash/cycles.py)
    disk      a small real disk is filled, the node killed and started without a free byte (small_disk.py); needs root
    errors    write errors, failed syncs and planted mistakes on real files (tests/crash/test_disk_errors.py,
              test_planted.py)
    fuzz      bent frames, field tables and HTTP requests, in memory and against a node (_soak_fuzz.py)
    states    the log on a simulated disk that loses what was not synced (tests/crash/store)
    raft      members of Raft groups on simulated disks and a simulated network (tests/simulation; _soak_raft.py)
    raft-differential
              events to the Raft core and to etcd/raft, which must make the same of them (_soak_raft_differential.py)
    stalls    how long others wait while one client asks for much (_soak_stalls.py; docs/benchmarks.md)
    backlog   rates and memory while more waits in queues than fits into memory (_soak_backlog.py; docs/benchmarks.md)

Everything ends at the first failure, with its seed; `crash`, `fuzz` and `raft` print the command that shows it again,
and `crash` keeps the data directory.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT))  # tests/; behind the installed package, so that the checkout does not stand in for it

from scripts import (  # noqa: E402
    _soak_backlog,
    _soak_fuzz,
    _soak_raft,
    _soak_raft_differential,
    _soak_stalls,
)
from scripts._progress import Progress  # noqa: E402


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="scripts/soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(
        dest="command",
        required=True,
        metavar="crash|disk|errors|fuzz|states|raft|raft-differential|stalls|backlog",
    )
    crash = commands.add_parser("crash", help="SIGKILL under load")
    crash.add_argument("--cycles", type=int, default=10_000, help="kills and stops (10000)")
    crash.add_argument("--cycles-each", type=int, default=20, help="cycles on one data directory (20)")
    crash.add_argument("--queue-type", choices=["classic", "quorum"], default="classic", help="of all durable queues")
    crash.add_argument(
        "--interpreted",
        action="store_true",
        help="the uncompiled checkout, with little memory per queue and short marks",
    )
    disk = commands.add_parser("disk", help="a full disk")
    disk.add_argument("--cycles", type=int, default=500, help="times that it is filled and drained (500)")
    disk.add_argument("--size", type=int, default=64, help="MiB (64)")
    disk.add_argument("--alarm", type=int, default=12, help="MiB free at which publishers are blocked; 0 is none (12)")
    errors = commands.add_parser("errors", help="failing writes and syncs, planted mistakes")
    errors.add_argument("--rounds", type=int, default=100, help="how often all of them run (100)")
    states = commands.add_parser("states", help="simulated crash states of the log")
    states.add_argument("--states", type=int, default=1_000_000, help="disks that are looked at (1000000)")
    _soak_fuzz.options(commands.add_parser("fuzz", help="bent frames, field tables and HTTP requests"))
    _soak_raft.options(commands.add_parser("raft", help="simulated members of Raft groups"))
    _soak_stalls.options(commands.add_parser("stalls", help="a probe beside a client that asks for much"))
    _soak_backlog.options(commands.add_parser("backlog", help="more messages than fit into memory, in several queues"))
    _soak_raft_differential.options(commands.add_parser("raft-differential", help="the Raft core beside etcd/raft"))
    for each in (crash, disk, states):
        each.add_argument(
            "--seed",
            type=int,
            default=int(time.time()) % 1_000_000 * 1000,
            help="where the histories begin (from the time)",
        )
    return parser.parse_args(arguments)


def crash(options: argparse.Namespace) -> int:
    """Kill cycles."""
    from tests.crash.cycles import Broken, Campaign

    command = "scripts/soak crash --interpreted" if options.interpreted else "scripts/soak crash"
    if options.queue_type != "classic":
        command += f" --queue-type {options.queue_type}"
    campaign = Campaign(
        options.seed,
        cycles_each=options.cycles_each,
        command=command,
        interpreted=options.interpreted,
        queue_type=options.queue_type,
    )
    progress = Progress(lambda: f"seeds {options.seed}-{campaign.seed}: {campaign}")

    def goes_on() -> bool:
        progress.tick()
        return bool(campaign.totals["cycles"] < options.cycles)

    try:
        campaign.run(goes_on)
    except Broken as error:
        progress.line()
        print(error, file=sys.stderr)
        return 1
    progress.line()
    return 0


def disk(options: argparse.Namespace) -> int:
    """Full disks, a new one every ten cycles."""
    from tests.crash.small_disk import FullDisk, SmallDisk

    missing = SmallDisk.missing()
    if missing:
        print(f"scripts/soak disk: {missing}", file=sys.stderr)
        return 2
    totals: Counter[str] = Counter()
    seed = options.seed
    progress = Progress(
        lambda: f"seeds {options.seed}-{seed}: " + ", ".join(f"{count} {name}" for name, count in totals.items())
    )
    while totals["cycles"] < options.cycles:
        with (
            tempfile.TemporaryDirectory(prefix="leveret-disk-") as folder,
            SmallDisk(Path(folder), options.size << 20) as small,
        ):
            full = FullDisk(small, seed, options.alarm << 20)
            try:
                for _ in range(min(10 if options.alarm else 1, options.cycles - totals["cycles"])):
                    full.cycle()
                    totals["cycles"] += 1
                    progress.tick()
            except AssertionError as error:
                print(f"seed {seed}: {error}", file=sys.stderr)
                return 1
            finally:
                full.history.end()
                totals.update(full.outcomes)
                totals.update(full.history.ledger.counts)
        seed += 1
    progress.line()
    return 0


def run_tests(paths: list[str], environment: dict[str, str]) -> int:
    """The exit code of pytest."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", *paths]
    return subprocess.run(command, cwd=ROOT, env=os.environ | environment, check=False).returncode


def errors(options: argparse.Namespace) -> int:
    """Rounds of the tests that inject errors and plant mistakes."""
    for number in range(1, options.rounds + 1):
        print(f"round {number} of {options.rounds}", flush=True)
        code = run_tests(
            ["tests/crash/test_disk_errors.py", "tests/crash/test_planted.py"], {"LEVERET_PLANT_SECONDS": "110"}
        )
        if code:
            return code
    return 0


def states(options: argparse.Namespace) -> int:
    """The simulated disk."""
    return run_tests(
        ["tests/crash/store"], {"LEVERET_CRASH_STATES": str(options.states), "LEVERET_CRASH_SEED": str(options.seed)}
    )


def main(arguments: list[str]) -> int:
    """Runs what was asked for; 1 if it has found something."""
    options = parse(arguments)
    print(f"scripts/soak {' '.join(arguments)}: seed {getattr(options, 'seed', '-')}", flush=True)
    commands: dict[str, Callable[[argparse.Namespace], int]] = {
        "crash": crash,
        "disk": disk,
        "errors": errors,
        "fuzz": _soak_fuzz.main,
        "states": states,
        "raft": _soak_raft.main,
        "stalls": _soak_stalls.main,
        "backlog": _soak_backlog.main,
        "raft-differential": _soak_raft_differential.main,
    }
    return commands[options.command](options)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
