"""Mistakes planted into the Raft core are found by recorded streams of etcd/raft (tests/support/raft_planted.py)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.raft_planted import PLANTED

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.mark.timeout(300)
def test_each_mistake_is_found() -> None:
    """The core as it is comes out equal: tests/unit/raft/test_recorded_streams.py."""
    result = subprocess.run(
        [sys.executable, "-m", "tests.support.raft_planted"],
        cwd=CHECKOUT,
        env=os.environ | {"PYTHONPATH": str(CHECKOUT), "PYTHONSAFEPATH": "1"},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    found = dict(line.split(": ") for line in result.stdout.splitlines())
    assert list(found) == list(PLANTED)
    assert [name for name, where in found.items() if ", event " not in where] == []
