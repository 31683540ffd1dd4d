"""The command `leveret`: arguments -> configuration -> a running node.

Nothing of the broker is imported before it is known what is asked for: `leveret --version` must not pay for a node.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Sequence

from broker.version import VERSION

USAGE = """\
usage: leveret COMMAND [options]

  serve        run one node in the foreground; `leveret serve --help` lists its options
  perf         load a broker and report what it did; `leveret perf --help` lists its options
  data         check DIR, recover DIR --output FILE: read a data directory that no node uses;
               confirm: tell a node that its losses are known
  --version    print the version
  --help       print this text
"""
EXIT_USAGE = 2


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code of the command: 0 when all went well, 2 when it could not be understood."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    command = arguments[0] if arguments else ""
    if command == "serve":
        return serve(arguments[1:])
    if command == "perf":
        from broker.perf.run import main as perf

        return perf(arguments[1:])
    if command == "data":
        return data(arguments[1:])
    if command in ("--version", "-V"):
        print(f"leveret {VERSION}")
        return 0
    if command in ("--help", "-h", "help"):
        print(USAGE, end="")
        return 0
    problem = f"leveret: {command!r} is not a command\n" if command else ""
    print(problem + USAGE, end="", file=sys.stderr)
    return EXIT_USAGE


def data(argv: Sequence[str]) -> int:
    """Looks after the data of a node; the exit code."""
    if argv[:1] == ["confirm"]:
        from broker.cli.data import confirm

        return confirm(argv[1:])
    from broker.offline.main import main as offline

    return offline(argv)


def serve(argv: Sequence[str]) -> int:
    """Runs a node until it is told to stop; its exit code."""
    from broker import config

    try:
        options = config.load(argv, os.environ)
    except config.ConfigError as error:
        print(f"leveret: {error}", file=sys.stderr)
        return EXIT_USAGE

    from broker import build, logsetup

    logsetup.configure(options.log_level, options.log_format)
    log = logsetup.get_logger("leveret")
    log.info(
        "Server starting",
        version=VERSION,
        build=str(build.loaded()),
        python=platform.python_version(),
        node=options.node_name,
    )
    for warning in options.warnings:
        log.warning("Configuration", problem=warning)

    from broker import node

    return node.run(options)


if __name__ == "__main__":
    sys.exit(main())
