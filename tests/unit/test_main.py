"""The command `leveret`: what it prints, its exit codes, and that nothing is imported before it is needed."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import structlog

import broker
from broker import __main__ as command
from broker.config import Config
from broker.version import VERSION


@pytest.fixture
def untouched_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, untouched_logging: None) -> list[Config]:
    """The configurations that nodes were started with; no node really starts, each "run" ends with exit code 7."""
    configs: list[Config] = []

    def run(config: Config) -> int:
        configs.append(config)
        return 7

    node = ModuleType("broker.node")
    node.run = run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "broker.node", node)
    monkeypatch.setattr(broker, "node", node, raising=False)
    return configs


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--version"]) == 0
    assert capsys.readouterr().out == f"leveret {VERSION}\n"


def test_help_names_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--help"]) == 0
    assert "serve" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["sevre"], ["--port", "1"]])
def test_what_is_no_command_ends_with_2_and_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(arguments) == 2
    assert "usage: leveret" in capsys.readouterr().err


def test_a_bad_value_ends_with_2_and_one_line(started: list[Config], capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["serve", "--port", "x"]) == 2
    assert capsys.readouterr().err == "leveret: command line --port = 'x': must be a whole number from 0 to 65535\n"
    assert started == []


def test_serve_runs_a_node_and_exits_as_it_does(
    started: list[Config], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LEVERET_PORT", "1000")
    monkeypatch.setenv("LEVERET_PROT", "1001")
    assert command.main(["serve", "--heartbeat", "9"]) == 7
    [config] = started
    assert (config.port, config.heartbeat) == (1000, 9)
    starting, warning = capfd.readouterr().out.splitlines()
    assert "Server starting" in starting
    assert f"version={VERSION}" in starting
    assert "LEVERET_PROT: not known, ignored" in warning


def test_the_version_is_told_without_loading_a_broker() -> None:
    """ARCHITECTURE: what is not asked for is not imported; a start-up of 12 ms, not of 90."""
    path = str(Path(broker.__file__).resolve().parents[1])
    code = (
        f"import sys; sys.path.insert(0, {path!r}); from broker.__main__ import main; main(['--version']); "
        "print(*sorted(name for name in sys.modules if name.partition('.')[0] in ('broker', 'asyncio', 'argparse', "
        "'structlog', 'uvloop')))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[1].split() == ["broker", "broker.__main__", "broker.version"]
