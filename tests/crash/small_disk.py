"""A node on a real disk that is full: a tmpfs of a few MiB in a mount namespace of its own.

The namespace belongs to a process that only waits; nodes enter it (nsenter), and this process sees the disk through
/proc. Nothing is mounted where anybody else could see it, and nothing is left when the process ends.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time
from pathlib import Path
from typing import Final, Self

from tests.crash.actors import Publisher
from tests.crash.cycles import START_DEADLINE_MS, TUNING, History
from tests.crash.link import Crowd
from tests.support import wait
from tests.support.node import STARTED

DISK_SIZE: Final = 64 << 20
WAL_FILE: Final = 4 << 20
FILL_DEADLINE_S: Final = 60.0
GOES_ON_DEADLINE_S: Final = 20.0


class SmallDisk:
    """`with SmallDisk(folder) as disk`: `disk.folder` is on it as nodes see it, `disk.inside` as this process does."""

    def __init__(self, folder: Path, size: int = DISK_SIZE) -> None:
        self.folder = folder
        self.size = size
        self.inside = folder
        self.wrapper: list[str] = []
        self._holder: subprocess.Popen[bytes] | None = None

    @staticmethod
    def missing() -> str:
        """Why there can be none here; '' if there can."""
        if os.geteuid() != 0:
            return "only root may mount a disk"
        for command in ("unshare", "nsenter", "mount"):
            if shutil.which(command) is None:
                return f"there is no {command} here"
        tried = subprocess.run(
            ["unshare", "-m", "sh", "-c", "mount -t tmpfs none /mnt"], capture_output=True, text=True, check=False
        )
        return f"a mount namespace is not permitted: {tried.stderr.strip()}" if tried.returncode else ""

    def __enter__(self) -> Self:
        script = f'mount -t tmpfs -o size={self.size} none "$0" && echo mounted && exec cat'
        self._holder = subprocess.Popen(
            ["unshare", "-m", "sh", "-c", script, str(self.folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == b"mounted\n"
        self.inside = Path(f"/proc/{self._holder.pid}/root{self.folder}")
        self.wrapper = ["nsenter", "-t", str(self._holder.pid), "-m", "--"]
        return self

    def __exit__(self, *_: object) -> None:
        assert self._holder is not None
        self._holder.communicate(timeout=10)  # the end of its input ends it, and the disk with it

    def free(self) -> int:
        """Bytes that a file may still take."""
        found = os.statvfs(self.inside)
        return found.f_bavail * found.f_frsize

    def fill(self) -> None:
        """Take what is left, so that there are zero bytes free."""
        with (self.inside / "ballast").open("ab", buffering=0) as ballast:
            try:
                while self.free():
                    ballast.write(bytes(self.free()))
            except OSError:
                pass  # it is full
        assert self.free() == 0

    def release(self) -> None:
        """Give back what `fill` has taken."""
        (self.inside / "ballast").unlink(missing_ok=True)

    def grow(self) -> None:
        """Make it twice as large: what an operator does when nothing can be written any more."""
        self.size *= 2
        subprocess.run([*self.wrapper, "mount", "-o", f"remount,size={self.size}", str(self.folder)], check=True)


class FullDisk:
    """Fills a small disk until publishers are blocked or the node ends, kills it, starts it again without a free byte,
    drains, goes on.

    With an alarm, publishers are blocked while the log has room to note what consumers take: the full disk is drained
    as it is. Without one the log is full in the end; the node then starts, and works again when there is space.
    """

    def __init__(self, disk: SmallDisk, seed: int, alarm_bytes: int) -> None:
        """The alarm is raised when less than so much is free; 0 is none."""
        self.disk = disk
        self.alarm_bytes = alarm_bytes
        self.history = History(
            seed,
            disk.folder / "data",
            tuning=(*TUNING, "--wal-file", str(WAL_FILE)),
            # A disk of this size is full within the usual second between two looks.
            settings=(f"disk_free_limit.absolute = {alarm_bytes}", "memory_monitor_interval = 10"),
            wrapper=disk.wrapper,
            restless=False,
        )
        self.outcomes: dict[str, int] = {"blocked": 0, "ended": 0}

    def cycle(self) -> None:
        """One fill, one restart at zero bytes free, one drain.

        Raises: Broken
        """
        history = self.history
        self.disk.release()
        with history.explained():
            history.start()
            history.inspect(0.0)
            crowd = self._fill()
            self.disk.fill()
            history.kill(crowd)
            if not self.alarm_bytes:
                self._start_and_grow()
            history.start()
            history.inspect(1.0)
            self._goes_on()
            history.judge()

    def _start_and_grow(self) -> None:
        """A start needs no space, though the log may end with the first write."""
        node = self.history.node
        node.launch()
        wait.until(lambda: STARTED in node.output() or not node.is_running(), START_DEADLINE_MS)
        assert STARTED in node.output(), f"no start on a full disk\n{node.output()}"
        node.kill()
        self.history.ledger.crash()
        self.disk.grow()

    def _publishers(self) -> list[Publisher]:
        history = self.history
        node = history.node

        def publisher(name: str, exchange: str, queues: list[str]) -> Publisher:
            random_ = random.Random(history.random.getrandbits(64))
            values = (f"publisher of {name}", history.ledger, random_, node.host, node.port)
            return Publisher(*values, exchange=exchange, routing_key=name, queues=queues, window=50, large=0.1)

        return [
            publisher("classic", "", ["classic"]),
            publisher("fanout", "fanout", ["fanout-1", "fanout-2", "fanout-transient"]),
            publisher("tx-1", "", ["tx-1"]),
        ]

    def _fill(self) -> Crowd:
        node = self.history.node
        publishers = self._publishers()
        crowd = self.history.crowd(publishers)

        crowd.run(lambda: all(actor.link.blocked for actor in publishers), time.monotonic() + FILL_DEADLINE_S)
        if all(actor.link.blocked for actor in publishers):
            self.outcomes["blocked"] += 1
            return crowd
        assert all(actor.link.ended for actor in publishers), f"neither blocked nor ended\n{node.output()}"
        self.outcomes["ended"] += 1
        status = node.wait_for_end(5)
        assert status == 1, f"the node ended with {status}\n{node.output()}"
        assert "No space left" in node.output(), node.output()
        return crowd

    def _goes_on(self) -> None:
        """Everything was drained: publishing is possible again, soon.

        Raises: AssertionError with the node's output
        """
        history = self.history
        before = history.ledger.counts["confirmed"]
        crowd = history.crowd(self._publishers())
        done = crowd.run(
            lambda: history.ledger.counts["confirmed"] >= before + 100, time.monotonic() + GOES_ON_DEADLINE_S
        )
        confirmed = history.ledger.counts["confirmed"] - before
        assert done, (
            f"after the drain, {confirmed} messages were confirmed, {self.disk.free()} bytes are free\n"
            f"{history.node.output()}"
        )
        history.kill(crowd)
