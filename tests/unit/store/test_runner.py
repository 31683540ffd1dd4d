"""broker/store/runner.py: jobs run on the other thread, in order; their end is told on the owner's."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

from broker.store.runner import Job, WriterThread


class Noted(Job):
    def __init__(
        self, number: int, log: list[tuple[str, int, str]], following: Callable[[], object] | None = None
    ) -> None:
        self.number = number
        self.log = log
        self.following = following

    def run(self) -> None:
        self.log.append(("run", self.number, threading.current_thread().name))

    def finished(self) -> None:
        self.log.append(("finished", self.number, threading.current_thread().name))
        if self.following is not None:
            self.following()


def test_jobs_run_on_the_writers_thread_and_end_on_the_owners() -> None:
    calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
    thread = WriterThread(calls.put)
    log: list[tuple[str, int, str]] = []
    here = threading.current_thread().name
    thread.submit(Noted(1, log))
    calls.get(timeout=30)()
    assert log == [("run", 1, "leveret-log"), ("finished", 1, here)]
    thread.stop()


def test_collect_never_waits_and_tells_each_job_once() -> None:
    """The owner's thread is woken again whenever something is finished after its last look, and not more often."""
    calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
    thread = WriterThread(calls.put)
    thread.collect()
    log: list[tuple[str, int, str]] = []
    for number in range(20):
        thread.submit(Noted(number, log))
    told: list[tuple[str, int, str]] = []
    while len(told) < 20:
        calls.get(timeout=30)()
        told = [entry for entry in log if entry[0] == "finished"]
    while not calls.empty():
        calls.get()()
    for number in range(20, 23):  # nobody looks meanwhile
        thread.submit(Noted(number, log))
    thread.submit(Noted(23, log))
    calls.get(timeout=30)
    thread.drain()
    assert calls.empty(), "woken once for all of them"
    log = [entry for entry in log if entry[1] < 20]
    for kind in ("run", "finished"):
        assert [number for what, number, _ in log if what == kind] == list(range(20))
    thread.stop()


def test_drain_waits_for_jobs_that_finished_ones_submit() -> None:
    thread = WriterThread(lambda call: None)
    log: list[tuple[str, int, str]] = []
    thread.submit(Noted(1, log, lambda: thread.submit(Noted(2, log))))
    thread.drain()
    assert [entry[:2] for entry in log] == [("run", 1), ("finished", 1), ("run", 2), ("finished", 2)]
    thread.stop()
    thread.drain()


def test_a_job_runs_at_once_on_the_owners_thread_unless_others_are_not_over() -> None:
    thread = WriterThread(lambda call: None)
    log: list[tuple[str, int, str]] = []
    here = threading.current_thread().name
    assert thread.run_now(Noted(1, log))
    assert log == [("run", 1, here), ("finished", 1, here)]
    thread.submit(Noted(2, log))
    assert not thread.run_now(Noted(3, log))
    thread.drain()
    assert thread.run_now(Noted(4, log))
    assert [number for what, number, _ in log if what == "finished"] == [1, 2, 4]
    thread.stop()
