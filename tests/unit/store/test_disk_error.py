"""broker/store/disk_error.py: each place that touches the disk has its site."""

from __future__ import annotations

import ast
from pathlib import Path

from broker.store import filesystem
from broker.store.disk_error import SITES
from broker.store.filesystem import File, FileSystem

STORE = Path(filesystem.__file__).parent
BELOW = ("disk_error.py", "filesystem.py", "real_filesystem.py")
"""The table of the sites, and what carries the operations out."""
OPERATIONS = frozenset(name for kind in (File, FileSystem) for name in vars(kind) if f"do_{name}" in vars(kind))


def sites_in_the_source() -> set[str]:
    """The first argument of every operation, where it is a literal, and every literal that is a site."""
    found = set()
    for path in STORE.glob("*.py"):
        if path.name in BELOW:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in OPERATIONS
                and node.args
            ):
                if isinstance(node.args[0], ast.Constant) and isinstance(node.args[0].value, str):
                    found.add(node.args[0].value)
            elif isinstance(node, ast.Constant) and node.value in SITES:
                found.add(str(node.value))
    return found


def test_every_site_is_in_the_source_and_every_call_has_a_site() -> None:
    """ARCHITECTURE.md: the only file that opens, writes, syncs, renames, unlinks; a crash can be armed at each place
    that calls it."""
    assert sites_in_the_source() == set(SITES)


def test_nothing_else_in_the_store_touches_files() -> None:
    for path in STORE.glob("*.py"):
        if path.name in BELOW:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id != "open", path
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os":
                assert node.attr in ("path", "getpid"), f"{path}: os.{node.attr}"
