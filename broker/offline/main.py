"""`leveret data check DIR` and `leveret data recover DIR --output FILE`: a data directory that no node uses, read and
not changed."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from broker.offline.check import check
from broker.offline.recover import recover
from broker.store.datadir import DataDirError

EXIT_DAMAGED = 1
EXIT_REFUSED = 2


def main(argv: Sequence[str]) -> int:
    """The exit code: 0 when nothing is damaged, 1 when something is, 2 when the directory cannot be read at all."""
    parser = argparse.ArgumentParser(
        prog="leveret data", description="Read a data directory off line. Nothing in it is changed."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    checking = commands.add_parser("check", help="list the files and every damage; exit code 1 if there is any")
    checking.add_argument("directory")
    recovering = commands.add_parser("recover", help="write the messages of .lost files as lines of JSON")
    recovering.add_argument("directory")
    recovering.add_argument("--output", required=True, help="a new file")
    options = parser.parse_args(argv)
    directory = os.path.abspath(options.directory)
    try:
        return _check(directory) if options.command == "check" else _recover(directory, options.output)
    except (DataDirError, OSError) as error:
        print(f"leveret: {error}", file=sys.stderr)
        return EXIT_REFUSED


def _check(directory: str) -> int:
    found = check(directory)
    for name, size in found.files:
        print(f"{size:>14}  {name}")
    for note in found.notes:
        print(note)
    for text in found.damage:
        print(f"DAMAGE: {text}")
    print(f"{len(found.damage)} damages")
    return EXIT_DAMAGED if found.damage else 0


def _recover(directory: str, path: str) -> int:
    with open(path, "x", encoding="ascii") as output:
        count, problems = recover(directory, output)
    for problem in problems:
        print(f"leveret: {problem}", file=sys.stderr)
    print(f"{count} messages written to {path}")
    return EXIT_DAMAGED if problems else 0
