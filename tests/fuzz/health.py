"""Whether a node of the fuzz is well, seen from outside: what it prints, what it holds open, how much memory it
takes."""

from __future__ import annotations

import http.client
import os
import re
from pathlib import Path
from typing import Final

from tests.support import wait
from tests.support.node import Node

EVENT: Final = re.compile(r"\d{4}-\d\d-\d\dT\S+ (?P<level>[a-z]+) +(?P<event>.*)")
"""An event of the log, in its form for people (broker/logsetup.py); what belongs to one, such as a traceback, is
indented below it."""
STARTING: Final = re.compile(r"leveret: .*")
"""What the command itself says before it logs."""
OURS: Final = ("error", "critical")
"""Whatever a client does is told as a warning or as information (protocol/client_log.py): errors are internal or of the
disk."""
SETTLE_MS: Final = 15_000
"""How long a node may take to give back what clients held that are gone, on a busy machine."""
FILES_MORE: Final = 64
"""Open files above those of the start: logs and segments."""
FIGURES: Final = ("rabbitmq_connections", "rabbitmq_channels", "rabbitmq_consumers", "rabbitmq_queue_messages_unacked")


class Unwell(AssertionError):
    """The node has made a mistake."""


def faults_in(output: str) -> list[str]:
    """The lines that a node without mistakes does not print: errors, tracebacks, and whatever is no event of its
    log."""
    found: list[str] = []
    inside = False
    for line in output.splitlines():
        event = EVENT.fullmatch(line)
        if event is not None:
            inside = event["level"] in OURS or "Traceback" in line
        elif not line.startswith("    "):
            inside = not STARTING.fullmatch(line) and bool(line)
        elif "Traceback" in line:
            inside = True
        if inside:
            found.append(line)
    return found


class Watcher:
    """Looks at one start of a node; ``baseline`` is what it holds while only the bystander is there."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self._read = 0
        self.baseline: dict[str, float] = {}
        self.sockets = 0
        self.files = 0
        self.smallest_kib = 0
        """Resident memory at its smallest since it was warm, 0 before."""

    def note_baseline(self) -> None:
        """From now on, what a node holds when its clients have gone is what it holds now."""
        self.baseline = self.figures()
        self.sockets, self.files = self.descriptors()

    def check_output(self) -> None:
        """Nothing that it has printed since the last look is a mistake.

        Raises: Unwell with the lines
        """
        with self.node.output_file.open("rb") as output:
            output.seek(self._read)
            text = output.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._read += len(whole)
        found = faults_in(whole.decode(errors="replace"))
        if found:
            raise Unwell("the node says:\n" + "\n".join(found[:80]))

    def check_alive(self) -> None:
        """It runs.

        Raises: Unwell if it has ended
        """
        if not self.node.is_running():
            process = self.node.process
            raise Unwell(
                f"the node has ended with {process.returncode if process else '-'}\n{self.node.output()[-4000:]}"
            )

    def check_empty_handed(self, settle_ms: int = SETTLE_MS) -> None:
        """When the clients have gone nothing is left of them, within this time.

        Raises: Unwell with what is left
        """
        seen: dict[str, float] = {}

        def is_so() -> bool:
            seen.update(self.figures())
            sockets, files = self.descriptors()
            seen.update(sockets=sockets, files=files)
            if sockets > self.sockets or files > self.files + FILES_MORE:
                return False
            return all(seen[name] == value for name, value in self.baseline.items())

        try:
            wait.until(is_so, settle_ms)
        except AssertionError:
            wanted = self.baseline | {"sockets": self.sockets, "files": self.files + FILES_MORE}
            raise Unwell(f"the clients have gone, and this is left: {seen}; without them: {wanted}") from None

    def figures(self) -> dict[str, float]:
        """Some gauges of the metrics."""
        connection = http.client.HTTPConnection(self.node.host, self.node.ports["prometheus"], timeout=10)
        try:
            connection.request("GET", "/metrics", headers={"Connection": "close"})
            page = connection.getresponse().read().decode()
        finally:
            connection.close()
        return {
            name: float(value) for name, value in re.findall(r"^(\w+) (\S+)$", page, re.MULTILINE) if name in FIGURES
        }

    def descriptors(self) -> tuple[int, int]:
        """Open sockets and other open files."""
        folder = Path(f"/proc/{self.node.pid}/fd")
        sockets = files = 0
        for name in os.listdir(folder):
            try:
                is_socket = os.readlink(folder / name).startswith("socket:")
            except FileNotFoundError:
                continue
            sockets += is_socket
            files += not is_socket
        return sockets, files

    def growth_mib(self) -> float:
        """By how much the resident memory is above its smallest since it was warm (the first call)."""
        status = Path(f"/proc/{self.node.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert found is not None, status
        now = int(found[1])
        self.smallest_kib = min(self.smallest_kib or now, now)
        return (now - self.smallest_kib) / 1024
