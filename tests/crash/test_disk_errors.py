"""Real files on a disk that fails: the node ends at the first error, says so, has confirmed nothing that it lost, and
starts again.

docs/durability-format.md, "Promises": the first error of a write or sync ends the log. The errors come from a library
that is compiled here with gcc and preloaded into the node (disk_shim.c); what a failed fdatasync was for is lost, as it
is on a real disk.
"""

from __future__ import annotations

import errno
import os
import random
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from tests.crash.cycles import TUNING, Broken, History
from tests.crash.link import Crowd

SOURCE: Final = Path(__file__).resolve().parent / "disk_shim.c"
ACTORS: Final = ("classic", "fanout", "transactions", "busy", "declarer")
pytestmark = pytest.mark.once


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler to make a failing disk with")
    library = tmp_path_factory.mktemp("shim") / "disk_shim.so"
    command = [compiler, "-shared", "-fPIC", "-O1", "-Wall", "-o", str(library), str(SOURCE), "-ldl", "-lpthread"]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    if built.returncode:
        pytest.skip(f"the failing disk does not compile here: {built.stderr[:300]}")
    return library


class Failing:
    """A history on a disk that can be made to fail."""

    def __init__(self, folder: Path, shim: Path, fault: str, seed: int, *plants: str, path: str = "/wal/") -> None:
        self.armed = folder / "armed"
        tuning = [*TUNING, *(word for name in plants for word in ("--plant", name))]
        self.history = History(seed, folder / "data", actors=ACTORS, tuning=tuning, interpreted=bool(plants))
        self.history.node.environment |= {
            "LD_PRELOAD": str(shim),
            "SHIM_PATH": path,
            "SHIM_FAULT": fault,
            "SHIM_ARMED": str(self.armed),
        }

    def faults(self) -> int:
        """How many calls have failed so far."""
        return self.armed.stat().st_size

    def load(self, seconds: float, until: Callable[[], bool] = lambda: False) -> Crowd:
        """All actors at work, for a while on a disk without errors, then on one with them, until the node ends or the
        time is over."""
        history = self.history
        history.start()
        history.inspect(0.0)
        actors = [actor for name in ACTORS for actor in history.make(name)]
        crowd = history.crowd(actors)
        crowd.run(lambda: False, time.monotonic() + 0.1)
        self.armed.touch()
        crowd.run(lambda: until() or not history.node.is_running(), time.monotonic() + seconds)
        return crowd

    def recover(self, crowd: Crowd) -> None:
        """The node has ended: start it on a disk that works, and compare everything.

        Raises: Broken
        """
        crowd.read_to_end()
        crowd.close()
        history = self.history
        history.ledger.crash()
        history.node.environment.pop("SHIM_FAULT")
        history.finish()


@pytest.mark.parametrize("call", ["fdatasync", "write"])
@pytest.mark.parametrize("number", [1, 2, 7, random.Random(0).randrange(10, 40)])
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_the_first_error_ends_the_node_and_nothing_confirmed_is_lost(
    shim: Path, tmp_path: Path, call: str, number: int, code: int
) -> None:
    """Exit status 1, a message that names the file and the error, no promise after it; the next start has everything
    promised.

    Files of the log only: when there is no space for a spare one, publishers are blocked and the node goes on.
    """
    failing = Failing(tmp_path, shim, f"{call}:{number}:{code}", number, path=".wal")
    node = failing.history.node
    try:
        crowd = failing.load(20)
        status = node.wait_for_end(5)
        assert status == 1, node.output()
        message = next(line for line in node.output().splitlines() if "critical" in line)
        assert os.strerror(code) in message, message
        assert "/wal/" in message, message
        failing.recover(crowd)
        assert failing.history.ledger.counts["confirmed"] > 0
    finally:
        failing.history.end()


@pytest.mark.parametrize("call", ["fdatasync", "write"])
@pytest.mark.parametrize("path", ["/segments/", "/manifest"])
def test_an_error_while_moving_does_no_harm(shim: Path, tmp_path: Path, call: str, path: str) -> None:
    """What is live in old files of the log moves to segments, later or again when the disk fails: the node goes on,
    nothing is lost."""
    failing = Failing(tmp_path, shim, f"{call}:1:{errno.EIO}", 3, path=path)
    node = failing.history.node
    try:
        crowd = failing.load(20, until=lambda: failing.faults() > 0)
        assert failing.faults() == 1, "nothing has moved"
        crowd.run(lambda: False, time.monotonic() + 0.5)
        assert node.is_running(), node.output()
        node.kill()
        failing.recover(crowd)
        assert failing.history.ledger.counts["confirmed"] > 0
    finally:
        failing.history.end()


@pytest.mark.parametrize("fault", ["short", "eintr"])
def test_short_writes_and_interrupted_calls_are_no_errors(shim: Path, tmp_path: Path, fault: str) -> None:
    """write(2): less than asked may be written, and a signal may interrupt: the rest is written, and nothing is lost by
    a kill."""
    failing = Failing(tmp_path, shim, fault, 1)
    node = failing.history.node
    try:
        crowd = failing.load(0.4)
        assert node.is_running(), node.output()
        assert failing.faults() > 10
        node.kill()
        failing.recover(crowd)
        assert failing.history.ledger.counts["confirmed"] > 0
    finally:
        failing.history.end()


@pytest.mark.parametrize("plant", ["sync_error_ignored", "sync_tried_again"])
def test_a_node_that_goes_on_after_a_failed_sync_is_found_out(shim: Path, tmp_path: Path, plant: str) -> None:
    """Planted mistakes: it confirms what the disk has lost, and the ledger knows. The fault comes under load: early
    batches hold little."""
    failing = Failing(tmp_path, shim, f"fdatasync:60:{errno.EIO}", 1, plant)
    node = failing.history.node
    try:
        crowd = failing.load(20, until=lambda: failing.faults() > 0)
        assert failing.faults() == 1
        crowd.run(lambda: False, time.monotonic() + 0.2)  # what it confirms now is lost
        assert node.is_running(), node.output()
        node.kill()
        with pytest.raises(Broken) as found:
            failing.recover(crowd)
        assert any(invariant in str(found.value) for invariant in ("I1:", "I5:", "I8:")), found.value
    finally:
        failing.history.end()
