"""Runs the groups of the test suite and adds them up; called by scripts/test, in the environment it
has made.

Every group runs on the installed, compiled package; `unit` and `spec` run a second time interpreted, on the checkout.
Where nothing could be compiled, everything runs once on what was installed. Tests that only compute share the
processors. Arguments go to pytest; with paths among them only those run.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
TESTS = ROOT / "tests"
FIRST = ("unit", "spec", "transcripts", "model", "fuzz", "integration", "crash", "simulation", "bench")
INTERPRETED_TOO = ("unit", "spec")
SIMULATED = "tests/crash/store"
"""No clock, socket or disk that is real plays a part there: these tests run in several processes at once
(pytest-xdist)."""
NO_TESTS_COLLECTED = 5
INTERRUPTED = 2


class Counts(NamedTuple):
    """What became of the tests of a group."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def __str__(self) -> str:
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


class Run(NamedTuple):
    """One call of pytest."""

    label: str
    build: str
    arguments: list[str]


def groups() -> list[str]:
    """The folders of tests/ that hold tests: the quick ones first, then the known ones, then any other."""
    found = {path.name for path in TESTS.iterdir() if path.is_dir() and any(path.rglob("test_*.py"))} - {"support"}
    return [name for name in FIRST if name in found] + sorted(found - set(FIRST))


def is_path(argument: str) -> bool:
    """Whether an argument names tests: a file or folder that exists, perhaps with ::names behind it."""
    return not argument.startswith("-") and (ROOT / argument.partition("::")[0]).exists()


def plan(arguments: list[str], build: str) -> list[Run]:
    """The calls of pytest for these arguments, when the installed package is `build` ("compiled" or "pure")."""
    paths = [argument for argument in arguments if is_path(argument)]
    options = [argument for argument in arguments if argument not in paths]
    selected = [("selected", paths)] if paths else [(name, [f"tests/{name}"]) for name in groups()]
    runs = [Run(f"{label}, {build}", build, [*options, *these]) for label, these in selected]
    if not arguments:
        runs = [run._replace(arguments=[*run.arguments, f"--ignore={SIMULATED}"]) for run in runs]
        runs.append(Run(f"simulated, {build}", build, ["-n", "auto", SIMULATED]))
    if build == "compiled":
        for label, these in selected:
            roots = [str((ROOT / path.partition("::")[0]).resolve()) + "/" for path in these]
            twice = [
                path
                for path, root in zip(these, roots, strict=True)
                if any(root.startswith(f"{TESTS / name}/") for name in INTERPRETED_TOO)
            ]
            if twice:
                runs.append(Run(f"{label}, interpreted", "interpreted", [*options, *twice]))
    return runs


def environment(build: str) -> dict[str, str]:
    """The environment of a run. PYTHONSAFEPATH keeps the working folder off the path, in pytest and in what the tests
    start."""
    names = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    names |= {"PYTHONSAFEPATH": "1", "LEVERET_BUILD": build}
    if build == "interpreted":
        names["PYTHONPATH"] = str(ROOT)
    return names


def rounds(arguments: list[str], build: str) -> list[list[Run]]:
    """The same, in the order in which they are carried out; those of one round at the same time, in a run of the whole
    suite: unit and spec tests, which are many and small, and wait for nothing."""
    runs = plan(arguments, build)
    if arguments:
        return [[run] for run in runs]
    found: list[list[Run]] = []
    for run in runs:
        group, _, how = run.label.partition(", ")
        if group == "spec" and found and [before.label for before in found[-1]] == [f"unit, {how}"]:
            found[-1].append(run)
        else:
            found.append([run])
    return found


def carry_out(run: Run, output: IO[bytes] | None = None) -> tuple[Counts, int, float]:
    """Runs pytest; what became of the tests, its exit code, and how many seconds it took."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.xml")
        command = [sys.executable, "-m", "pytest", "-q", f"--junitxml={report}", *run.arguments]
        code = subprocess.run(
            command, cwd=ROOT, env=environment(run.build), check=False, stdout=output, stderr=output
        ).returncode
        counts = read_report(report)
    if code not in (0, NO_TESTS_COLLECTED) and not counts.failed:
        # pytest itself ended badly: an option it does not know, a crash of the interpreter.
        counts = counts._replace(failed=1)
    return counts, code, time.monotonic() - started


def carry_out_together(runs: list[Run]) -> list[tuple[Counts, int, float]]:
    """The same for several at once. What the first says is seen as it goes, that of the others when it is done."""
    with contextlib.ExitStack() as stack:
        outputs = [None, *(stack.enter_context(tempfile.TemporaryFile()) for _ in runs[1:])]
        with ThreadPoolExecutor(len(runs)) as pool:
            waiting = [pool.submit(carry_out, run, output) for run, output in zip(runs, outputs, strict=True)]
            found: list[tuple[Counts, int, float]] = []
            for run, output, result in zip(runs, outputs, waiting, strict=True):
                print(f"\n=== {run.label}: pytest {' '.join(run.arguments)}", flush=True)
                found.append(result.result())
                if output is not None:
                    output.seek(0)
                    sys.stdout.buffer.write(output.read())
                    sys.stdout.flush()
    return found


def read_report(report: Path) -> Counts:
    """The counts of a JUnit report; none if pytest has not come to write it."""
    if not report.exists():
        return Counts()
    suites = list(ElementTree.parse(report).getroot().iter("testsuite"))
    tests, failures, errors, skipped = (
        sum(int(suite.get(name, "0")) for suite in suites) for name in ("tests", "failures", "errors", "skipped")
    )
    return Counts(tests - failures - errors - skipped, failures + errors, skipped)


def installed_build() -> str:
    """What the environment holds: "compiled" or "pure"."""
    code = "from broker import build; print('compiled' if build.loaded().compiled else 'pure')"
    return subprocess.run(
        [sys.executable, "-P", "-c", code], env=environment(""), capture_output=True, text=True, check=True
    ).stdout.strip()


def main(arguments: list[str]) -> int:
    """Runs all; 1 if anything failed."""
    build = installed_build()
    if build == "pure":
        print("leveret: nothing is compiled here, so there is one pass, interpreted", flush=True)
    lines: list[str] = []
    total = Counts()
    for runs in rounds(arguments, build):
        found = carry_out_together(runs)
        for run, (counts, _, seconds) in zip(runs, found, strict=True):
            lines.append(f"{run.label:<28} {seconds:7.1f} s  {counts}")
            total = Counts(*(one + other for one, other in zip(total, counts, strict=True)))
        if any(code == INTERRUPTED and not counts.failed for counts, code, _ in found):
            break
    print("\n" + "\n".join(lines))
    print(total)
    return 1 if total.failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
