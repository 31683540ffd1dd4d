"""The fuzz over real sockets (live.py says what must hold), for a few seconds; and that it finds the mistakes of
node_main.py.

More of it: scripts/soak fuzz.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Final

import pytest

from tests.fuzz.health import faults_in
from tests.fuzz.live import LiveFuzz
from tests.support.node import Node
from tests.support.report import say

SEED: Final = int(os.environ.get("FUZZ_SEED", "1"))
SECONDS: Final = 5.0
PLANT_SECONDS: Final = 30.0
"""At the most; mostly two rounds are enough."""
MAIN: Final = Path(__file__).resolve().parent / "node_main.py"

pytestmark = pytest.mark.once

FOUND: Final = {
    "internal_error": "Internal error",
    "wrong_reply_code": "'reply_code': 541",
    "stall": "took",
    "memory_leak": "has grown by",
    "descriptor_leak": "this is left",
    "end": "has ended with 3",
    "request_error": "RuntimeError: planted",
}


class PlantedNode(Node):
    """A node with a mistake."""

    def __init__(self, data_dir: Path, mistake: str) -> None:
        super().__init__(data_dir=data_dir)
        self.mistake = mistake

    def command(self) -> list[str]:
        command = super().command()
        return [sys.executable, "-P", str(MAIN), self.mistake, *command[command.index("serve") :]]


def test_a_node_is_well_whatever_is_said_to_it(capsys: pytest.CaptureFixture[str]) -> None:
    with LiveFuzz(restarts=2) as fuzz:
        end = time.monotonic() + SECONDS
        number = 0
        while time.monotonic() < end:
            fuzz.round(f"{SEED}/{number}")
            number += 1
        tally = fuzz.tally
    say(capsys, f"fuzz: {tally}, slowest round trip of a bystander {fuzz.bystander.slowest_s * 1000:.1f} ms")
    assert tally.closed_channels > 0
    assert tally.closed_connections > 0
    assert tally.answers > 0


@pytest.mark.parametrize("mistake", FOUND)
def test_a_planted_mistake_is_found(mistake: str) -> None:
    """A check that has never found anything proves nothing."""
    end = time.monotonic() + PLANT_SECONDS
    number = 0
    fuzz = LiveFuzz(lambda data_dir: PlantedNode(data_dir, mistake), restarts=0, settle_ms=2000)
    found = ""
    try:
        with fuzz:
            while time.monotonic() < end:
                fuzz.round(f"{SEED}/{number}")
                number += 1
    except AssertionError as error:
        found = str(error)
    assert FOUND[mistake] in found


@pytest.mark.parametrize(
    ("output", "lines"),
    [
        ("leveret: 3 of 200 C files compiled, 5 s\n2026-11-26T10:00:00.1Z info     Server starting source=node\n", 0),
        ("2026-11-26T10:00:00.1Z warning  Channel error code=404 text='no Trace' source=connection\n", 0),
        (
            (
                "2026-11-26T10:00:00.1Z error    Internal error where=x\n    Traceback (most recent call last):\n"
                "    ValueError\n"
            ),
            3,
        ),
        (
            (
                "2026-11-26T10:00:00.1Z warning  Something source=x\n    Traceback (most recent call last):\n"
                "    ValueError\n"
            ),
            2,
        ),
        ("2026-11-26T10:00:00.1Z info     Fine source=x\nException ignored in: <function>\n    more\n", 2),
        (
            (
                "2026-11-26T10:00:00.1Z critical The event loop stands still source=watchdog\n"
                "2026-11-26T10:00:00.1Z info     Fine source=x\n"
            ),
            1,
        ),
    ],
    ids=["start", "client", "error", "traceback", "not logged", "critical"],
)
def test_what_a_well_node_does_not_print(output: str, lines: int) -> None:
    assert len(faults_in(output)) == lines
