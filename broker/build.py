"""Which build is loaded: the compiled hot path or the same files interpreted, and from which sources it was made.

A package made by setup.py carries a generated module `_build_info` with the hash of the sources it was made from; the
checkout never has one. So a build that is older than the files next to it can be told apart from one that is current,
and the start-up line can say what runs. Standard library only: setup.py and the scripts load this file before anything
is installed.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.machinery
import importlib.util
from pathlib import Path
from typing import Final, NamedTuple

PACKAGE: Final = Path(__file__).resolve().parent
INFO_MODULE: Final = "_build_info"
# Stands for the whole hot path: it is on the path of every message, and setup.py compiles either all of its list or
# none.
WITNESS: Final = "broker.wire.frames"
_IGNORED_SUFFIXES: Final = (".pyc", ".so", ".pyd", "~", ".orig", ".rej")


class Build(NamedTuple):
    """What is loaded. `sources` is "" when the package was not made by setup.py (the checkout on the path)."""

    compiled: bool
    sources: str
    reason: str
    """Why it is not compiled; "" when it is."""

    def __str__(self) -> str:
        return "compiled" if self.compiled else f"interpreted ({self.reason})"


def source_files(package: Path = PACKAGE) -> list[Path]:
    """Every file of the package that a build is made of, sorted by its path; no caches, no compiled or generated
    files."""
    return sorted(
        path
        for path in package.rglob("*")
        if path.is_file()
        and not path.name.endswith(_IGNORED_SUFFIXES)
        and path.name != f"{INFO_MODULE}.py"
        and not any(part == "__pycache__" or part.startswith(".") for part in path.relative_to(package).parts)
    )


def sources_hash(package: Path = PACKAGE) -> str:
    """A hash over names and contents of `source_files`: equal exactly when a build of one is a build of the other."""
    digest = hashlib.sha256()
    for path in source_files(package):
        content = path.read_bytes()
        # Lengths stand before both parts, so that no shift of bytes between name and content gives the same hash.
        name = path.relative_to(package).as_posix().encode()
        digest.update(b"%d %d " % (len(name), len(content)) + name + content)
    return digest.hexdigest()


def loaded() -> Build:
    """The build that this process imports from."""
    spec = importlib.util.find_spec(WITNESS)
    origin = (spec.origin if spec is not None else None) or ""
    compiled = origin.endswith(tuple(importlib.machinery.EXTENSION_SUFFIXES))
    try:
        info = importlib.import_module(f"broker.{INFO_MODULE}")
    except ModuleNotFoundError:
        return Build(compiled, "", "" if compiled else f"from {PACKAGE}")
    return Build(compiled, str(info.SOURCES), "" if compiled else str(info.REASON))
