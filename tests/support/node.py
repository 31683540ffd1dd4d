"""A Leveret node as a child process: started, stopped, killed and started again on the same data."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.support import wait

ROOT: Final = Path(__file__).resolve().parent.parent.parent
START_DEADLINE_MS: Final = 20_000
STOP_DEADLINE_S: Final = 5.0
STARTED: Final = "Server startup complete"
COLOUR: Final = re.compile(r"\x1b\[[0-9;]*m")


class Node:
    """One node: `with Node() as node: ... node.port`. Its ports are free ones, its data lies in a folder of its own.

    `options` are added to the command line, `settings` are lines of its configuration file, `environment` is added to
    its environment. `descriptors` is the limit of open files that it runs under (ulimit -n), if it is not the test's
    own.
    With `data_dir` the data stays when the block ends. What the node prints is kept and belongs into failure texts:
    `node.output()`.
    """

    host: Final = "127.0.0.1"

    def __init__(
        self,
        *,
        options: Iterable[str] = (),
        settings: Iterable[str] = (),
        environment: Mapping[str, str] | None = None,
        data_dir: Path | None = None,
        descriptors: int = 0,
    ) -> None:
        """Prepares the folder; nothing runs yet."""
        self.folder = tempfile.TemporaryDirectory(prefix="leveret-", ignore_cleanup_errors=True)
        self.home = Path(self.folder.name)
        self.data_dir = data_dir or self.home / "data"
        self.options = list(options)
        self.settings = list(settings)
        self.environment = dict(environment or {})
        self.descriptors = descriptors
        self.output_file = self.home / "output"
        self.process: subprocess.Popen[bytes] | None = None
        self.ports: dict[str, int] = {}
        self.starts = 0

    def __enter__(self) -> Self:
        """Starts the node."""
        try:
            self.start()
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stops the node (kills it when the block failed) and removes its folder."""
        try:
            if kind is None and self.process is not None:
                self.stop()
        finally:
            self.end()

    @property
    def port(self) -> int:
        """The AMQP port."""
        return self.ports["amqp"]

    @property
    def pid(self) -> int:
        """The process id of the running node."""
        assert self.process is not None, "the node is not running"
        return self.process.pid

    def command(self) -> list[str]:
        """The command line."""
        command = [
            sys.executable,
            "-m",
            "broker",
            "serve",
            "--port",
            "0",
            "--prometheus-port",
            "0",
            "--management-port",
            "0",
        ]
        command += ["--data-dir", str(self.data_dir)]
        if self.settings:
            configuration = self.home / "leveret.conf"
            configuration.write_text("\n".join(self.settings) + "\n")
            command += ["--config", str(configuration)]
        return command + self.options

    def start(self) -> None:
        """Starts the process and returns when it says that it is ready; `ports` then holds the ports it names.

        Raises: AssertionError with the node's output when it ends or stays silent.
        """
        self.launch()
        self.await_start()

    def launch(self) -> None:
        """Starts the process, and returns at once."""
        assert self.process is None, "the node is running"
        self.starts += 1
        self.output_file = self.home / f"output-{self.starts % 10}"  # a long run starts its node thousands of times
        environment = os.environ | {"NO_COLOR": "1", "PYTHONUNBUFFERED": "1"} | self.environment
        with self.output_file.open("wb") as output:
            self.process = subprocess.Popen(
                self.command(),
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=self._limit if self.descriptors else None,
            )

    def _limit(self) -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (self.descriptors, self.descriptors))

    def await_start(self, deadline_ms: int = START_DEADLINE_MS) -> None:
        """Returns when the launched process says that it is ready; `ports` then holds the ports it names.

        Raises: AssertionError with the node's output when it ends or stays silent.
        """
        try:
            wait.until(self.is_started, deadline_ms, STARTED)
        except AssertionError as error:
            raise AssertionError(f"the node did not start: {error}\n{self.output()}") from None
        line = next(line for line in self.output().splitlines() if STARTED in line)
        self.ports = {name: int(port) for name, port in re.findall(r"(\w+)_port=(\d+)", line)}
        assert "amqp" in self.ports, f"no amqp_port in: {line}"

    def is_started(self) -> bool:
        """Whether the node has said so; AssertionError when it has ended instead."""
        assert self.process is not None
        assert self.process.poll() is None, f"it ended with {self.process.returncode}"
        whole_lines = self.output().rpartition("\n")[0]
        return STARTED in whole_lines

    def is_running(self) -> bool:
        """Whether the process lives."""
        return self.process is not None and self.process.poll() is None

    def output(self) -> str:
        """What the node has printed since its last start."""
        return COLOUR.sub("", self.output_file.read_text(errors="replace")) if self.output_file.exists() else ""

    def stop(self) -> None:
        """Sends SIGTERM; the node ends with exit status 0 within five seconds.

        Raises: AssertionError with the node's output when it does not.
        """
        assert self.process is not None, "the node is not running"
        process = self.process
        process.send_signal(signal.SIGTERM)
        try:
            status = process.wait(STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the node did not end within {STOP_DEADLINE_S} s\n{self.output()}") from None
        self.process = None
        assert status == 0, f"the node ended with {status}\n{self.output()}"

    def kill(self) -> None:
        """Ends the process at once (SIGKILL), as a crash does."""
        assert self.process is not None, "the node is not running"
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process = None

    def end(self) -> None:
        """Makes sure that nothing of the node is left."""
        if self.process is not None:
            self.kill()
        self.folder.cleanup()
