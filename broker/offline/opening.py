"""A data directory, opened off line: as a start finds it, without changing it."""

from __future__ import annotations

import os
from collections import deque

from broker.clock import Clock
from broker.offline.overlay import Overlay
from broker.store.datadir import DataDirError
from broker.store.runner import Job, Runner
from broker.store.store import Store, StoreOptions, StoreOwner, Threads


class Inline(Runner):
    """Runs jobs when it is drained."""

    def __init__(self) -> None:
        self._jobs: deque[Job] = deque()

    def submit(self, job: Job) -> None:
        self._jobs.append(job)

    def drain(self) -> None:
        while self._jobs:
            job = self._jobs.popleft()
            job.run()
            job.finished()

    def stop(self) -> None:
        self.drain()


def _fail(error: Exception) -> None:
    raise error


def open_store(path: str) -> Store:
    """The store in this directory, recovered in memory; ``close`` lets a node have it again.

    Raises: DataDirError if there is none, a node uses it or its format is unknown; DiskError
    """
    path = os.path.abspath(path)
    if not os.path.isdir(f"{path}/wal"):
        raise DataDirError(f"{path} is no data directory")
    options = StoreOptions(threads=Threads(Inline(), Inline(), Inline(), Inline()))
    return Store.open(Overlay(), path, StoreOwner(Clock(), lambda call: None, _fail), options)
