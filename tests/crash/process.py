"""A node for crash tests: `tests.support.node.Node` with the options of `node_main.py`, and with starts that are killed before they end."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from tests.support import wait
from tests.support.node import ROOT, START_DEADLINE_MS, STARTED, Node

MAIN: Final = Path(__file__).resolve().parent / "node_main.py"
STARTING: Final = "Server starting"


class CrashNode(Node):
    """A node on a data directory that outlives it. `tuning` are options of node_main.py; `interpreted` runs the checkout uncompiled."""

    def __init__(
        self,
        data_dir: Path,
        *,
        tuning: Iterable[str] = (),
        interpreted: bool = False,
        environment: Mapping[str, str] | None = None,
        settings: Iterable[str] = (),
        wrapper: Iterable[str] = (),
    ) -> None:
        super().__init__(data_dir=data_dir, environment=environment, settings=settings)
        self.tuning = list(tuning)
        self.wrapper = list(wrapper)
        """A command that runs the node."""
        if interpreted:
            self.environment |= {"PYTHONSAFEPATH": "1", "PYTHONPATH": str(ROOT)}

    def command(self) -> list[str]:
        command = super().command()
        serve = command.index("serve")
        return [*self.wrapper, sys.executable, "-P", str(MAIN), *self.tuning, *command[serve:]]

    def launch(self) -> None:
        """Starts the process, and returns at once."""
        assert self.process is None, "the node is running"
        self.starts += 1
        self.output_file = self.home / f"output-{self.starts % 10}"
        environment = os.environ | {"NO_COLOR": "1", "PYTHONUNBUFFERED": "1"} | self.environment
        with self.output_file.open("wb") as output:
            self.process = subprocess.Popen(
                self.command(), cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )

    def await_start(self, deadline_ms: int = START_DEADLINE_MS) -> None:
        """Returns when the process says that it is ready; `ports` then holds the ports it names.

        Raises: AssertionError with the node's output when it ends or stays silent.
        """
        try:
            wait.until(self.is_started, deadline_ms, STARTED)
        except AssertionError as error:
            raise AssertionError(f"the node did not start: {error}\n{self.output()}") from None
        line = next(line for line in self.output().splitlines() if STARTED in line)
        self.ports = {name: int(port) for name, port in re.findall(r"(\w+)_port=(\d+)", line)}

    def start(self) -> None:
        self.launch()
        self.await_start()

    def is_starting(self) -> bool:
        """Whether it has come so far that it says so: Python and the options are done, the data directory is next."""
        return STARTING in self.output() or not self.is_running()

    def wait_for_end(self, timeout_s: float) -> int:
        """The exit status of a node that ends by itself.

        Raises: AssertionError with the node's output if it does not
        """
        assert self.process is not None
        try:
            status = self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the node did not end within {timeout_s} s\n{self.output()}") from None
        self.process = None
        return status
