"""A node for crash tests: `tests.support.node.Node` with the options of `node_main.py`, and with starts that are killed
before they end."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from tests.support.node import ROOT, Node

MAIN: Final = Path(__file__).resolve().parent / "node_main.py"
STARTING: Final = "Server starting"


class CrashNode(Node):
    """A node on a data directory that outlives it. `tuning` are options of node_main.py; `interpreted` runs the
    checkout uncompiled."""

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
