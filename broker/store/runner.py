"""Who does the disk work of a log: a thread of its own, so that the event loop never waits for a disk.

A log submits one job at a time. A job touches the disk in ``run``; ``finished`` comes back to the thread that owns the
log. A mistake of ours in either is told on the owner's thread (faults.py), and the jobs behind it are run and told all
the same.
"""

import queue
import threading
from collections.abc import Callable

from mypy_extensions import mypyc_attr

from broker.faults import Faults


@mypyc_attr(allow_interpreted_subclasses=True)
class Job:
    """One piece of disk work."""

    def run(self) -> None:
        """Do it, on the thread that writes; keep errors for ``finished``."""
        raise NotImplementedError

    def finished(self) -> None:
        """Told on the owner's thread, afterwards; may submit the next job."""
        raise NotImplementedError

    def crashed(self, error: Exception) -> None:
        """Told on the owner's thread instead of ``finished`` when ``run`` has raised by a mistake of ours, which is
        told already."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Runner:
    """Runs jobs one after the other, in the order of submission."""

    def submit(self, job: Job) -> None:
        """Run the job soon, and then tell it so."""
        raise NotImplementedError

    def run_now(self, job: Job) -> bool:
        """Run the job before returning, on the owner's thread, and tell it so; False (and nothing done) where others
        are not over."""
        return False

    def drain(self) -> None:
        """Return when no job is left, also of those that finished ones have submitted. Owner's thread."""
        raise NotImplementedError

    def stop(self) -> None:
        """Drain, and take no more."""
        raise NotImplementedError


def carry_out(job: Job) -> Exception | None:
    """Run a job, on whatever thread; what it raised."""
    try:
        job.run()
    except Exception as error:
        return error
    return None


def tell(job: Job, error: Exception | None, faults: Faults) -> None:
    """Tell a job that it was run. Owner's thread."""
    try:
        if error is not None:
            faults.caught("disk work", None, error)
            job.crashed(error)
        else:
            job.finished()
    except Exception as mistake:
        faults.caught("end of disk work", None, mistake)


class WriterThread(Runner):
    """A thread for the jobs of one log. ``stop`` ends it; it does not keep a process alive that ends otherwise."""

    def __init__(
        self, wake: Callable[[Callable[[], None]], object], name: str = "leveret-log", faults: Faults | None = None
    ) -> None:
        """``wake`` lets the owner's thread call what it is given, soon: ``loop.call_soon_threadsafe``."""
        self._wake = wake
        self._faults = faults or Faults()
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._finished: queue.SimpleQueue[tuple[Job, Exception | None]] = queue.SimpleQueue()
        self._left = 0
        self._told = False
        """The owner's thread was woken, and will look at all that is finished."""
        self._worker = threading.Thread(target=self._work, name=name, daemon=True)
        self._worker.start()

    def submit(self, job: Job) -> None:
        self._left += 1
        self._jobs.put(job)

    def run_now(self, job: Job) -> bool:
        if self._left:
            return False
        tell(job, carry_out(job), self._faults)
        return True

    def collect(self) -> None:
        """Tell the jobs that are done; never waits. Owner's thread."""
        self._told = False  # before the look: whatever is finished from now on wakes it again
        while True:
            try:
                job, error = self._finished.get_nowait()
            except queue.Empty:
                return
            self._left -= 1
            tell(job, error, self._faults)

    def drain(self) -> None:
        while self._left:
            job, error = self._finished.get()
            self._left -= 1
            tell(job, error, self._faults)

    def stop(self) -> None:
        """Drain, then end the thread."""
        self.drain()
        self._jobs.put(None)
        self._worker.join()

    def _work(self) -> None:
        while True:
            job = self._jobs.get()
            if job is None:
                return
            self._finished.put((job, carry_out(job)))
            if not self._told:
                self._told = True
                self._wake(self.collect)
