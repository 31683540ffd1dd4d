"""The disk work of a log in the test's hands: its jobs wait until the test runs them, in the test's thread."""

from __future__ import annotations

from collections import deque

from broker.faults import FaultOwner, Faults
from broker.store.runner import Job, Runner, carry_out, tell


class StrictFaults(Faults):
    """For searches that look for mistakes: whatever the broker would tell, and go on, is raised."""

    def caught(self, where: str, owner: FaultOwner | None, error: Exception) -> None:
        raise error


class HandRunner(Runner):
    """Runs jobs when the test says so."""

    def __init__(self, faults: Faults | None = None) -> None:
        self.jobs: deque[Job] = deque()
        self.faults = faults or Faults()
        """Where a job's mistakes are told."""
        self.direct = False
        """Jobs may run at once, on the owner's thread."""

    def submit(self, job: Job) -> None:
        self.jobs.append(job)

    def run_now(self, job: Job) -> bool:
        if self.jobs or not self.direct:
            return False
        tell(job, carry_out(job), self.faults)
        return True

    def step(self) -> None:
        """Run the oldest job."""
        job = self.jobs.popleft()
        tell(job, carry_out(job), self.faults)

    def drain(self) -> None:
        while self.jobs:
            self.step()

    def stop(self) -> None:
        self.drain()
