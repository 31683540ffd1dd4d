"""What a long test says of what it has met, for whoever runs the suite."""

from __future__ import annotations

import sys

import pytest


def say(capsys: pytest.CaptureFixture[str], text: str) -> None:
    """One line, at once. To the error output: in a process of pytest-xdist nothing else reaches the terminal."""
    with capsys.disabled():
        sys.stderr.write(f"\n{text}\n")
