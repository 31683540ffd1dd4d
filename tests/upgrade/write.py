"""Writes the data directories that are kept of a release, with the release itself.

    python -m tests.upgrade.write CHECKOUT NAME

CHECKOUT is a checkout of the release, built (its own .venv); NAME is its version, or the commit. Two directories of
the same world come to tests/transcripts/disk/nodes/format-<version of the format>-NAME: of a node that was stopped
(SIGTERM) and of one that was killed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.support.node import Node
from tests.upgrade.expected import World
from tests.upgrade.fixtures import ENDS, KEPT, pack
from tests.upgrade.world import write

NODE_MAIN: Final = Path(__file__).with_name("node_main.py")
FEATURES: Final = """
import importlib
from broker.store.datadir import FORMAT

def has(module, name):
    try:
        return hasattr(importlib.import_module(module), name)
    except ModuleNotFoundError:
        return False

print(FORMAT, has("broker.hidden_keys", "stored"), has("broker.queues.deaths", "whole_deaths_of"))
"""


class OldNode(Node):
    """A node of a release with an interpreter, and a package, of its own."""

    def __init__(self, python: Path, data_dir: Path | None = None) -> None:
        super().__init__(environment={"PYTHONPATH": "", "PYTHONSAFEPATH": "1"}, data_dir=data_dir)
        self.python = python

    def command(self) -> list[str]:
        arguments = super().command()
        return [str(self.python), str(NODE_MAIN), *arguments[arguments.index("serve") :]]


def features(python: Path) -> tuple[int, bool, bool]:
    """Of the release: its format, whether it keeps the keys of a BCC header, whether x-death keeps partial entries."""
    output = subprocess.run([python, "-P", "-c", FEATURES], capture_output=True, text=True, check=True, cwd="/").stdout
    version, hidden_keys, whole_deaths = output.split()
    return int(version), hidden_keys == "True", whole_deaths == "False"


def write_directory(python: Path, name: str, end: str) -> tuple[World, OldNode]:
    """A directory written by the release: what must be in it, and the node that has ended."""
    version, keeps_hidden_keys, keeps_partial_deaths = features(python)
    world = World(name, version, end, keeps_hidden_keys)
    node = OldNode(python)
    try:
        node.start()
        write(node, world, keeps_partial_deaths=keeps_partial_deaths)
    except BaseException:
        print(node.output(), file=sys.stderr)
        node.end()
        raise
    return world, node


def main(arguments: list[str]) -> int:
    """See above."""
    parser = argparse.ArgumentParser(prog="python -m tests.upgrade.write", description=__doc__, add_help=True)
    parser.add_argument("checkout", type=Path, help="a built checkout of the release")
    parser.add_argument("name", help="its version, or the commit")
    given = parser.parse_args(arguments)
    python = given.checkout.absolute() / ".venv/bin/python"
    folder = KEPT / f"format-{features(python)[0]}-{given.name}"
    if folder.exists():
        parser.error(f"{folder} is kept already, and never written again")
    folder.mkdir(parents=True)
    for end in ENDS:
        world, node = write_directory(python, given.name, end)
        pack(node.data_dir, folder / f"{end}.tar.xz")
        world.save(folder / f"{end}.json")
        node.end()
        print(folder / end, (folder / f"{end}.tar.xz").stat().st_size, "bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
