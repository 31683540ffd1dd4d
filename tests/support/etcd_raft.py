"""etcd/raft as a child process that answers the events of tests/support/raft_stream.py; its source is in
tests/comparison/etcd_raft."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from pathlib import Path
from typing import IO, Final, Self

from tests.support.raft_generator import Generator

SOURCE: Final = Path(__file__).resolve().parents[1] / "comparison" / "etcd_raft"
GO: Final = shutil.which("go")


BUILD_S: Final = 240
"""The modules may have to be fetched."""
EVENTS: Final = 300
"""Of a stream."""
BEFORE: Final = 12
"""Events that are shown before the one at which the two differ."""


class Difference(AssertionError):
    """The two cores have made different things of the same events."""


class CannotBuild(Exception):
    """There is no Go that is new enough, or its modules cannot be had."""


def build() -> Path:
    """The program, built anew if its source has changed; in the user's cache, not in the checkout.

    Raises: CannotBuild
    """
    if GO is None:
        raise CannotBuild("no Go to build etcd/raft with")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "leveret-tests"
    cache.mkdir(parents=True, exist_ok=True)
    program = cache / "etcd_raft"
    command = [GO, "build", "-mod=readonly", "-o", str(program), "."]
    environment = os.environ | {"GOFLAGS": "-buildvcs=false", "GOTOOLCHAIN": "local"}
    try:
        result = subprocess.run(
            command, cwd=SOURCE, env=environment, capture_output=True, text=True, timeout=BUILD_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise CannotBuild(f"Go has not built {SOURCE.name} within {BUILD_S} s") from None
    if result.returncode:
        raise CannotBuild(f"Go cannot build {SOURCE.name}: {result.stderr.strip()[-300:]}")
    return program


class EtcdRaft:
    """The running program."""

    def __init__(self) -> None:
        self._process = subprocess.Popen([build()], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def answers(self, lines: list[str]) -> list[str]:
        """To a whole stream, the first line among it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        writer = threading.Thread(target=self._write, args=(self._process.stdin, lines))
        writer.start()  # more than fits into a pipe may come before all of it is taken
        found = [self._process.stdout.readline().rstrip("\n") for _ in lines]
        writer.join()
        return found

    @staticmethod
    def _write(stream: IO[str], lines: list[str]) -> None:
        stream.write("\n".join([*lines, "flush", ""]))
        stream.flush()


def compare(seed: int, etcd: EtcdRaft, events: int = EVENTS) -> Generator:
    """One stream to both cores.

    Raises: Difference
    """
    stream = Generator(seed)
    stream.run(events)
    theirs = etcd.answers(stream.lines)
    check(f"seed {seed}", stream.lines, stream.answers, theirs)
    return stream


def check(name: str, lines: list[str], ours: list[str], theirs: list[str]) -> None:
    """The answers to a stream.

    Raises: Difference
    """
    for at, (line, our, their) in enumerate(zip(lines, ours, theirs, strict=True)):
        if our != their:
            shown = [f"{lines[each]}  ->  {ours[each]}" for each in range(max(at - BEFORE, 0), at)]
            said = [f"{name}, event {at}: {lines[0]}", *shown, line, f"    here      {our}", f"    etcd/raft {their}"]
            raise Difference("\n".join(said))
