"""The packages of broker/ import each other in one direction only, and the pure ones touch no world outside."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.once

CHECKOUT = Path(__file__).resolve().parents[2]
# ARCHITECTURE, Sans-I/O: bytes and ticks come in, bytes and decisions go out.
PURE_PACKAGES = ("wire", "raft", "queues", "routing", "protocol")
WORLD = frozenset(
    {
        "asyncio",
        "uvloop",
        "socket",
        "select",
        "ssl",
        "time",
        "datetime",
        "threading",
        "subprocess",
        "os",
        "pathlib",
        "io",
    }
)
# ARCHITECTURE: "Imports the standard library, pamqp and errors.py only"; message.py and native.py stand below it.
WIRE_MAY_IMPORT = frozenset({"broker.errors", "broker.message", "broker.native", "broker.wire"})
# ARCHITECTURE, "What can be added by a module and its registration": a channel knows the contract of queues, whatever
# their type.
CONTRACT_OF_QUEUES = frozenset(
    f"broker.queues.{name}"
    for name in (
        "queue",
        "consumer",
        "entry",
        "delivery",
        "queue_link",
        "memory",
        "arguments",
        "consumer_arguments",
        "consumer_timeout",
        "dead_letter",
        "changed_message",
        "refusal",
    )
)


def imports_of(path: Path) -> set[str]:
    """The modules that a file imports, by their full names."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            module = node.module or ""
            names.update(f"{module}.{alias.name}" if module == "broker" else module for alias in node.names)
    return names


def test_imports_follow_the_order_of_the_layout() -> None:
    """ARCHITECTURE, "Layout of broker/": each entry imports only what stands above it. The contract is in
    pyproject.toml."""
    code = "import sys; from importlinter.cli import lint_imports_command; sys.exit(lint_imports_command())"
    # The contract is about the checkout, also when the compiled package is under test.
    names = os.environ | {"PYTHONPATH": str(CHECKOUT)}
    command = [sys.executable, "-c", code, "--no-cache"]
    result = subprocess.run(command, cwd=CHECKOUT, env=names, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "1 kept, 0 broken" in result.stdout, result.stdout


@pytest.mark.parametrize("package", PURE_PACKAGES)
def test_pure_packages_never_touch_files_sockets_or_the_time(package: str) -> None:
    """ARCHITECTURE, Sans-I/O."""
    for path in (CHECKOUT / "broker" / package).rglob("*.py"):
        outside = {name for name in imports_of(path) if name.partition(".")[0] in WORLD}
        assert not outside, f"{path.relative_to(CHECKOUT)} imports {sorted(outside)}"


@pytest.mark.parametrize("package", PURE_PACKAGES)
def test_pure_packages_never_await(package: str) -> None:
    """ARCHITECTURE, Sans-I/O; ARCHITECTURE, "A turn": nothing awaits inside it."""
    for path in (CHECKOUT / "broker" / package).rglob("*.py"):
        waits = [
            node
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Await | ast.AsyncFunctionDef)
        ]
        assert not waits, f"{path.relative_to(CHECKOUT)}:{waits[0].lineno}"


@pytest.mark.parametrize(
    "module",
    [
        "assembly",
        "basic_methods",
        "channel",
        "confirms",
        "dispatch",
        "exchange_methods",
        "holding",
        "publisher",
        "queue_methods",
        "settlement",
        "tx_methods",
    ],
)
def test_channels_know_promises_not_who_keeps_them(module: str) -> None:
    """ARCHITECTURE, "What can be added by a module and its registration": a source of promises."""
    found = imports_of(CHECKOUT / "broker" / "protocol" / f"{module}.py")
    assert not {name for name in found if name.startswith("broker.store")}


def test_wire_imports_the_standard_library_pamqp_and_errors_only() -> None:
    """ARCHITECTURE, "Layout of broker/", wire/."""
    for path in (CHECKOUT / "broker" / "wire").rglob("*.py"):
        ours = {name for name in imports_of(path) if name.partition(".")[0] == "broker"}
        strangers = {name for name in ours if name not in WIRE_MAY_IMPORT and not name.startswith("broker.wire.")}
        assert not strangers, f"{path.relative_to(CHECKOUT)} imports {sorted(strangers)}"
        third_party = {name.partition(".")[0] for name in imports_of(path)} - sys.stdlib_module_names - {"broker"}
        assert third_party <= {"pamqp", "librt", "mypy_extensions"}, (
            f"{path.relative_to(CHECKOUT)} imports {sorted(third_party)}"
        )


def test_channels_know_of_queues_no_more_than_their_contract() -> None:
    for path in (CHECKOUT / "broker" / "protocol").rglob("*.py"):
        inside = {name for name in imports_of(path) if name.startswith("broker.queues.")} - CONTRACT_OF_QUEUES
        assert not inside, f"{path.relative_to(CHECKOUT)} imports {sorted(inside)}"
