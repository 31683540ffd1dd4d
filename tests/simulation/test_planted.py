"""Mistakes planted into the core, the disk or the owner are found, each within its number of seeds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.planted import PLANTED, first_found

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", [name for name, mistake in PLANTED.items() if not mistake.core])
def test_mistakes_of_the_disk_and_the_owner_are_found(name: str) -> None:
    broken = first_found(name)
    assert broken is not None, PLANTED[name].told
    first, *events = str(broken).splitlines()
    assert first.startswith("seed ")
    assert ", event " in first
    assert len(events) > 10, "what happened last is told"


@pytest.mark.parametrize("name", [name for name, mistake in PLANTED.items() if mistake.core])
@pytest.mark.timeout(300)
def test_mistakes_of_the_core_are_found(name: str) -> None:
    """They need the uncompiled package, which is the checkout."""
    environment = os.environ | {"PYTHONPATH": str(CHECKOUT), "PYTHONSAFEPATH": "1"}
    result = subprocess.run(
        [sys.executable, "-m", "tests.simulation.planted", name],
        cwd=CHECKOUT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.startswith("seed "), result.stdout + result.stderr
