"""Fetches published AMQP clients and runs those of their tests that need a broker; called by scripts/client-suites.

    python -P scripts/_client_suites.py [NAME ...]

Each suite gets a node of its own (the installed one, on free ports, with empty data) and an environment of its own. The
clients come from their registries by pip and npm, in the versions below, whose tests all pass on RabbitMQ 3.10. Prints
a line per suite, `NAME VERSION: N passed, N failed, N skipped`, above it the tests that failed; exit status 1 if there
were any.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
CACHE = VENV / "client-suites"
STARTED = "Server startup complete"
START_DEADLINE_S = 30.0
TEST_LIMIT_S = 60
SUITE_LIMIT_S = 900
PYTEST = ("pytest==8.4.2", "pytest-timeout==2.4.0")


class Unavailable(Exception):
    """A suite that cannot be run here, and why."""


class Counts(NamedTuple):
    """What became of the tests of a suite."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def __str__(self) -> str:
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


class Suite(NamedTuple):
    """The tests of one client."""

    name: str
    package: str
    version: str
    needs: tuple[str, ...]
    """What its tests import beside the client and pytest."""
    arguments: tuple[str, ...]
    """What pytest or mocha is told."""
    environment: dict[str, str]
    """What the tests read; {host} and {port} are the node's."""
    fetch: Callable[[Suite], Path]
    """Gets it, if it is not there; its folder. Raises: Unavailable."""
    commands: Callable[[Suite, Path], list[list[str]]]
    """What runs its tests; each prints `live OUTCOME: NAME` for every test that reached for the broker."""

    @property
    def folder(self) -> Path:
        """Where it is kept."""
        return CACHE / f"{self.name}-{self.version}"


def call(command: list[str], what: str, folder: Path | None = None) -> None:
    """Runs a command quietly.

    Raises: Unavailable with the end of its output if it fails.
    """
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise Unavailable(f"{what} failed: {done.stdout.strip()[-500:]}")


def unpack(archive: Path, folder: Path) -> None:
    """Unpacks an archive whose files all lie in one folder."""
    with tarfile.open(archive) as files:
        # older releases of Python 3.11 have no filters yet
        files.extraction_filter = getattr(tarfile, "data_filter", files.extraction_filter)
        files.extractall(folder)
    (inner,) = folder.iterdir()
    inner.rename(folder.with_name("source"))
    folder.rmdir()


# --- clients from the Python registry


def fetch_python(suite: Suite) -> Path:
    """The unpacked source distribution, with an environment beside it that has the client installed."""
    folder = suite.folder
    if (folder / "complete").exists():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    call([sys.executable, "-m", "venv", str(folder / "venv")], "python -m venv")
    pip = [str(folder / "venv" / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--quiet"]
    call([*pip, "install", f"{suite.package}=={suite.version}", *suite.needs, *PYTEST], "pip install")
    source = ["download", "--no-deps", "--no-binary", suite.package, "--dest", str(folder / "archive")]
    call([*pip, *source, f"{suite.package}=={suite.version}"], "pip download")
    (archive,) = (folder / "archive").glob("*.tar.gz")
    (folder / "unpacked").mkdir()
    unpack(archive, folder / "unpacked")
    (folder / "complete").touch()
    return folder


def pytest_command(suite: Suite, folder: Path) -> list[list[str]]:
    """What runs the suite's tests, in its own environment; with its own settings for pytest."""
    options = [
        "--rootdir",
        ".",
        "-q",
        "-s",
        "-p",
        "no:cacheprovider",
        "-p",
        "_client_suites_live",
        "-W",
        "ignore",
        f"--timeout={TEST_LIMIT_S}",
    ]
    files = [folder / "source" / name for name in ("pytest.ini", "pyproject.toml", "tox.ini", "setup.cfg")]
    if not any(
        "[tool.pytest" in text or "pytest]" in text for text in [file.read_text() for file in files if file.exists()]
    ):
        # pytest would go on looking in the folders above, and find ours
        options += ["-c", os.devnull]
    return [[str(folder / "venv" / "bin" / "python"), "-m", "pytest", *options, *suite.arguments]]


# --- clients from the Node registry


def fetch_node(suite: Suite) -> Path:
    """The unpacked package with what it requires, and mocha."""
    folder = suite.folder
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        raise Unavailable("node and npm are not installed")
    if (folder / "complete").exists():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "unpacked").mkdir(parents=True)
    call([npm, "pack", "--silent", f"{suite.package}@{suite.version}"], "npm pack", folder)
    (archive,) = folder.glob("*.tgz")
    unpack(archive, folder / "unpacked")
    install = [npm, "install", "--silent", "--no-audit", "--no-fund"]
    call([*install, "--omit=dev"], "npm install", folder / "source")
    call([*install, "--no-save", *suite.needs], "npm install", folder / "source")
    (folder / "complete").touch()
    return folder


def mocha_commands(suite: Suite, folder: Path) -> list[list[str]]:
    """What runs the suite's tests: mocha, file by file."""
    mocha = [
        str(shutil.which("node")),
        "node_modules/mocha/bin/mocha",
        "--ui",
        "tdd",
        "--exit",
        "--timeout",
        str(TEST_LIMIT_S * 1000),
    ]
    return [
        [*mocha, "--reporter", str(ROOT / "scripts" / "_client_suites_reporter.js"), file] for file in suite.arguments
    ]


SUITES = (
    # Its TLS tests want certificates that the distribution does not carry.
    Suite(
        "py-amqp",
        "amqp",
        "5.4.2",
        (),
        ("t/integration/test_rmq.py", "-k", "not tls"),
        {"RABBITMQ_HOST": "{host}", "RABBITMQ_5672_TCP": "{port}"},
        fetch_python,
        pytest_command,
    ),
    Suite(
        "rabbitpy",
        "rabbitpy",
        "3.0.2",
        ("python-dotenv",),
        ("tests/test_integration.py", "tests/integration/test_connection.py"),
        {"RABBITMQ_URL": "amqp://guest:guest@{host}:{port}/%2F"},
        fetch_python,
        pytest_command,
    ),
    # The last release that carries its tests.
    Suite(
        "amqplib",
        "amqplib",
        "0.10.8",
        ("mocha@9.2.2",),
        ("test/connect.js", "test/channel_api.js", "test/callback_api.js"),
        {"URL": "amqp://guest:guest@{host}:{port}"},
        fetch_node,
        mocha_commands,
    ),
    Suite(
        "kombu",
        "kombu",
        "5.7.0",
        ("amqp==5.4.2",),
        ("t/integration/test_py_amqp.py",),
        {"RABBITMQ_HOST": "{host}", "RABBITMQ_5672_TCP": "{port}"},
        fetch_python,
        pytest_command,
    ),
)


@contextlib.contextmanager
def running_node() -> Iterator[dict[str, str]]:
    """The installed broker on a free port; gives host and port.

    Raises: SystemExit with its output if it does not start.
    """
    with tempfile.TemporaryDirectory(prefix="leveret-suites-", ignore_cleanup_errors=True) as folder:
        log = Path(folder, "log")
        command = [
            str(VENV / "bin" / "leveret"),
            "serve",
            "--port",
            "0",
            "--management-port",
            "0",
            "--prometheus-port",
            "0",
        ]
        with log.open("wb") as output:
            node = subprocess.Popen(
                [*command, "--data-dir", str(Path(folder, "data"))],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        try:
            deadline = time.monotonic() + START_DEADLINE_S
            while (match := re.search(rf"{STARTED}.* amqp_port=(\d+)", log.read_text(errors="replace"))) is None:
                if node.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"the broker did not start:\n{log.read_text(errors='replace')}")
                time.sleep(0.02)
            yield {"host": "127.0.0.1", "port": match[1]}
        finally:
            node.send_signal(signal.SIGTERM)
            try:
                node.wait(10)
            except subprocess.TimeoutExpired:
                node.kill()
                node.wait()


def carry_out(suite: Suite) -> Counts:
    """Fetches a suite and runs it on a node of its own; prints the names of the tests that failed.

    Raises: Unavailable.
    """
    folder = suite.fetch(suite)
    lines: list[str] = []
    with running_node() as place, (folder / "output").open("wb") as output:
        names = {
            name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST", "LEVERET_"))
        }
        names |= {name: value.format(**place) for name, value in suite.environment.items()}
        names |= {"LIVE_HOST": place["host"], "LIVE_PORT": place["port"], "PYTHONPATH": str(ROOT / "scripts")}
        for command in suite.commands(suite, folder):
            try:
                done = subprocess.run(
                    command,
                    cwd=folder / "source",
                    env=names,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    timeout=SUITE_LIMIT_S,
                    check=False,
                )
            except subprocess.TimeoutExpired:
                raise Unavailable(f"not done within {SUITE_LIMIT_S} s") from None
            output.write(done.stdout)
            lines += done.stdout.decode(errors="replace").splitlines()
    found = [match for line in lines if (match := re.fullmatch(r"live (passed|failed|skipped): (.*)", line))]
    if not found:
        raise Unavailable(f"its tests ended early: {' '.join(lines)[-500:]}")
    for match in found:
        if match[1] == "failed":
            print(f"  failed: {match[2]}")
    kinds = [match[1] for match in found]
    return Counts(kinds.count("passed"), kinds.count("failed"), kinds.count("skipped"))


def main(names: list[str]) -> int:
    """Runs the suites of these names, or all; 1 if a test failed or a suite could not be run for want of anything but
    npm."""
    known = {suite.name: suite for suite in SUITES}
    if unknown := set(names) - set(known):
        print(f"not a suite: {', '.join(sorted(unknown))}; there are {', '.join(known)}", file=sys.stderr)
        return 2
    status = 0
    for name in names or known:
        suite = known[name]
        print(f"{name} {suite.version} ...", flush=True)
        began = time.monotonic()
        try:
            counts = carry_out(suite)
        except Unavailable as reason:
            print(f"{name} {suite.version}: not run: {reason}", flush=True)
            status = max(status, 0 if "not installed" in str(reason) else 1)
            continue
        print(f"{name} {suite.version}: {counts} ({time.monotonic() - began:.0f} s)", flush=True)
        status = max(status, 1 if counts.failed else 0)
    return status


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
