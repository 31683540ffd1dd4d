"""Turns are timed, and one that takes too long is told with what it was about (broker/stopwatch.py). The stalls are
real ones."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import structlog

from broker.clock import Clock
from broker.faults import FaultOwner
from broker.message import Message
from broker.queues.classic import ClassicQueue
from broker.queues.entry import Entry
from broker.queues.queue import Queue
from broker.stopwatch import BOUNDS_US, SLICE, SLOW_US, Stopwatch
from broker.turn import Deferred, Turn
from tests.support.fakes import FakeConsumer, FakeHost, declared, environment, make_message

STALL_S = SLOW_US / 1_000_000 + 0.02


class Client(FaultOwner):
    def fault_label(self) -> str:
        return "client:1"


class Slow(Deferred):
    def __init__(self, seconds: float) -> None:
        self.name = f"{seconds}"
        self.seconds = seconds

    def resume(self) -> None:
        time.sleep(self.seconds)


class SlowStep(Slow):
    """What one client has asked for."""

    def fault_owner(self) -> FaultOwner | None:
        return Client()


class SlowConsumer(FakeConsumer):
    def deliver(
        self,
        queue: Queue,
        level: int,
        items: list[Message | Entry | None],
        first_position: int,
        stride: int,
        redelivered: bool,
    ) -> None:
        time.sleep(STALL_S)


def told(call: Callable[[], object]) -> list[tuple[object, ...]]:
    """The warnings about turns that this causes: where, and whose."""
    with structlog.testing.capture_logs() as logs:
        call()
    assert all(log["ms"] >= log["where_ms"] >= 100 for log in logs)
    return [(log["log_level"], log["event"], log["where"], log["whose"]) for log in logs]


SLOW_TURN = "A turn of the event loop took too long"


def test_a_slow_read_names_the_client() -> None:
    turn = Turn(Clock())
    assert turn.admit(100, Client())
    time.sleep(STALL_S)
    assert told(turn.run) == [("warning", SLOW_TURN, "read", "client:1")]
    assert turn.admit(100, Client())
    assert told(turn.run) == []


def test_a_slow_read_among_others_is_told_apart() -> None:
    turn = Turn(Clock())
    turn.admit(1, None)
    turn.admit(1, Client())
    time.sleep(STALL_S)
    turn.admit(1, None)
    assert told(turn.run) == [("warning", SLOW_TURN, "read", "client:1")]


def test_a_slow_dispatch_names_the_queue() -> None:
    clock = Clock()
    turn = Turn(clock)
    queue = ClassicQueue(declared("orders"), environment(FakeHost(), turn, clock))
    queue.add_consumer(SlowConsumer())
    queue.enqueue(make_message(b"1"))
    assert told(turn.run) == [("warning", SLOW_TURN, "dispatch", "ClassicQueue 'orders'")]


def test_slow_work_names_the_client_whose_it_is() -> None:
    turn = Turn(Clock())
    turn.defer(SlowStep(STALL_S))
    assert told(turn.run) == [("warning", SLOW_TURN, "deferred", "client:1")]


def test_among_many_the_slow_one_is_one_of_a_few() -> None:
    turn = Turn(Clock())
    for index in range(5 * SLICE):
        turn.defer(Slow(STALL_S if index == 2 * SLICE + 3 else 0))

    def run() -> None:
        while turn.scheduled:  # on a busy machine some of them may have to wait for another turn
            turn.run()

    [(_, _, where, whose)] = told(run)
    assert where == "deferred"
    names = str(whose).split(", ")
    assert len(names) <= SLICE
    assert sorted(names) == sorted([f"Slow '{STALL_S}'", *["Slow '0'"] * (len(names) - 1)])


def test_what_runs_between_turns_does_not_count() -> None:
    """The loop may sleep as long as it likes."""
    turn = Turn(Clock())
    turn.admit(1)
    turn.run()
    time.sleep(STALL_S)
    turn.admit(1)
    assert told(turn.run) == []


class SetClock(Clock):
    """A machine whose time is set while a turn lasts."""

    def __init__(self) -> None:
        self.by_us = 0
        super().__init__()

    def slice_us(self) -> int:
        return time.monotonic_ns() // 1000 + self.by_us


@pytest.mark.parametrize("by_us", [3_600_000_000, -3_600_000_000])
def test_a_clock_that_is_set_is_not_a_slow_turn(by_us: int) -> None:
    clock = SetClock()
    turn = Turn(clock)
    turn.admit(1)
    clock.by_us = by_us
    assert told(turn.run) == []
    assert (clock.stopwatch.buckets[0], clock.stopwatch.sum_us) == (1, 0)
    turn.admit(1, Client())
    time.sleep(STALL_S)
    assert told(turn.run) == [("warning", SLOW_TURN, "read", "client:1")]


def test_turns_are_counted_by_how_long_they_took() -> None:
    turn = Turn(Clock())
    turn.defer(Slow(0.011))
    turn.run()
    turn.run()
    counts = turn.clock.stopwatch.buckets
    assert sum(counts) == 2
    assert sum(counts[: BOUNDS_US.index(10_000) + 1]) == 1
    assert 11_000 <= turn.clock.stopwatch.sum_us < 1_000_000


def test_bounds_belong_to_their_bucket() -> None:
    """Prometheus: le is "less or equal"."""
    stopwatch = Stopwatch()
    with structlog.testing.capture_logs():
        for bound in BOUNDS_US:
            stopwatch.turn(bound)
        stopwatch.turn(BOUNDS_US[-1] + 1)
    assert stopwatch.buckets == [1] * (len(BOUNDS_US) + 1)
