"""The code reads the same everywhere: ruff and strict mypy, with the rules and the reasoned waivers of
pyproject.toml."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.once

CHECKOUT = Path(__file__).resolve().parents[2]


def run(*command: str) -> tuple[int, str]:
    """Exit code and output of a tool, run on the checkout."""
    # Without the suite's own variables: the tools look at the checkout, whatever build is under test.
    names = {name: value for name, value in os.environ.items() if name not in ("PYTHONSAFEPATH", "PYTHONPATH")}
    result = subprocess.run(command, cwd=CHECKOUT, env=names, capture_output=True, text=True, check=False)
    return result.returncode, f"\n{result.stdout}{result.stderr}"


def test_ruff_finds_nothing() -> None:
    code, output = run(sys.executable, "-m", "ruff", "check", "--quiet", "--output-format=concise")
    assert code == 0, output


def test_ruff_format_changes_nothing() -> None:
    code, output = run(sys.executable, "-m", "ruff", "format", "--check")
    assert code == 0, output


@pytest.mark.timeout(300)
def test_strict_mypy_finds_nothing() -> None:
    code, output = run(sys.executable, "-m", "mypy", "--no-error-summary")
    if code:
        # mypy's cache goes on missing a module that was once imported before it existed: only what a fresh run finds
        # counts.
        code, output = run(sys.executable, "-m", "mypy", "--no-error-summary", f"--cache-dir={os.devnull}")
    assert code == 0, output


def test_scripts_are_executable_and_stop_at_the_first_error() -> None:
    """A script that goes on after a failed step reports success for what it has not done."""
    shared = (CHECKOUT / "scripts" / "_venv.sh").read_text()
    assert "set -euo pipefail" in shared
    scripts = [
        path
        for path in (*(CHECKOUT / "scripts").iterdir(), CHECKOUT / ".ci" / "run")
        if path.is_file() and not path.suffix
    ]
    assert {"serve", "test", "run"} <= {path.name for path in scripts}
    for path in scripts:
        text = path.read_text()
        assert path.stat().st_mode & 0o111, path
        if text.startswith("#!/usr/bin/env bash"):
            assert "set -euo pipefail" in text or "/_venv.sh" in text, path
            subprocess.run(["bash", "-n", str(path)], check=True)
