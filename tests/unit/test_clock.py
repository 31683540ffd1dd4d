"""The one heap of timers (broker/clock.py), under a clock that the test moves."""

from __future__ import annotations

import random
import time

from broker.clock import NEVER, Clock, Timed, Timer
from tests.support.fake_clock import STARTS_AT_MS, FakeClock, HurriedClock
from tests.support.fakes import needs_traits
from tests.support.memory import Broker, CountingWaker


class Alarm(Timed):
    def __init__(self, log: list[tuple[str, int]], name: str = "") -> None:
        self.log = log
        self.name = name
        self.again: tuple[Clock, int] | None = None

    def on_timer(self, now_ms: int) -> None:
        self.log.append((self.name, now_ms))
        if self.again is not None:
            clock, delay = self.again
            self.again = None
            clock.call_at(now_ms + delay, self)


@needs_traits
def test_timers_run_in_the_order_of_their_deadlines() -> None:
    clock = FakeClock(0)
    log: list[tuple[str, int]] = []
    for delay in (30, 10, 20, 10):
        clock.call_at(delay, Alarm(log, str(delay)))
    clock.advance(25)
    assert log == [("10", 10), ("10", 10), ("20", 20)]
    clock.advance(5)
    assert log[3:] == [("30", 30)]


@needs_traits
def test_equal_deadlines_run_in_the_order_in_which_they_were_set() -> None:
    clock = FakeClock(0)
    log: list[tuple[str, int]] = []
    for name in "abc":
        clock.call_at(5, Alarm(log, name))
    clock.advance(5)
    assert [name for name, _ in log] == ["a", "b", "c"]


@needs_traits
def test_a_timer_runs_at_or_after_its_deadline_and_once() -> None:
    clock = FakeClock(0)
    log: list[tuple[str, int]] = []
    clock.call_at(10, Alarm(log))
    clock.time_ms = 9
    clock.run_due()
    assert log == []
    clock.time_ms = 50
    clock.run_due()
    clock.run_due()
    assert log == [("", 50)]


@needs_traits
def test_timers_that_fall_due_at_one_moment_leave_room_for_others() -> None:
    """Ten thousand queues may expire at once."""
    clock = HurriedClock(0)
    log: list[tuple[str, int]] = []
    for number in range(3):
        clock.call_at(10, Alarm(log, str(number)))
    clock.time_ms = 20
    for number in range(3):
        clock.run_due()
        assert [name for name, _ in log] == ["0", "1", "2"][: number + 1], "with every look its time is over"
    assert clock.next_deadline() == NEVER


@needs_traits
def test_timers_that_were_cancelled_leave_the_heap_some_at_a_time() -> None:
    """A hundred thousand queues may have been deleted before they expired."""
    clock = HurriedClock(0)
    log: list[tuple[str, int]] = []
    timers = [clock.call_at(10, Alarm(log)) for _ in range(10_000)]
    clock.call_at(10, Alarm(log, "last"))
    for timer in timers:
        timer.cancel()
    clock.time_ms = 20
    calls = 0
    while clock.next_deadline() != NEVER:
        clock.run_due()
        calls += 1
    assert log == [("last", 20)]
    assert calls >= 10_000 // 512


@needs_traits
def test_a_cancelled_timer_does_not_run() -> None:
    clock = FakeClock(0)
    log: list[tuple[str, int]] = []
    timer = clock.call_at(10, Alarm(log, "first"))
    clock.call_at(20, Alarm(log, "second"))
    assert isinstance(timer, Timer)
    timer.cancel()
    timer.cancel()
    assert clock.next_deadline() == 20, "it leaves the heap"
    clock.advance(100)
    assert [name for name, _ in log] == ["second"]
    timer.cancel()


@needs_traits
def test_a_timer_may_be_set_by_a_timer() -> None:
    clock = FakeClock(0)
    log: list[tuple[str, int]] = []
    alarm = Alarm(log)
    alarm.again = (clock, 5)
    clock.call_at(10, alarm)
    clock.advance(100)
    assert [now for _, now in log] == [10, 15]


@needs_traits
def test_a_timer_that_has_run_has_no_target() -> None:
    """How whoever set it knows that it is over."""
    clock = FakeClock(0)
    timer = clock.call_at(1, Alarm([]))
    assert timer.target is not None
    clock.advance(1)
    assert timer.target is None


@needs_traits
def test_the_loop_is_told_of_earlier_deadlines_only() -> None:
    clock = FakeClock(0)
    clock.waker = waker = CountingWaker()
    for deadline in (50, 60, 40, 45, 10):
        clock.call_at(deadline, Alarm([]))
    assert waker.earlier == [50, 40, 10]


def test_no_timer_is_never() -> None:
    assert FakeClock().next_deadline() == NEVER


def test_the_time_is_cached_until_it_is_refreshed() -> None:
    """One question to the system for each read, not for each message."""
    clock = FakeClock()
    assert clock.now_ms == STARTS_AT_MS
    clock.time_ms += 7
    assert clock.now_ms == STARTS_AT_MS
    assert clock.refresh() == STARTS_AT_MS + 7
    assert (clock.now_ms, clock.now_us) == (STARTS_AT_MS + 7, (STARTS_AT_MS + 7) * 1000)


def test_the_real_clock() -> None:
    """Monotonic milliseconds for deadlines, wall seconds for people."""
    clock = Clock()
    before = time.monotonic_ns() // 1_000_000
    assert before <= clock.monotonic_ms() <= before + 5000
    assert abs(clock.wall_s() - time.time()) < 5


@needs_traits
def test_random_timers_run_when_they_should() -> None:
    """A sorted list is the model."""
    for seed in range(20):
        chance = random.Random(seed)
        clock = FakeClock(0)
        log: list[tuple[str, int]] = []
        expected: dict[str, int] = {}
        timers: dict[str, Timer] = {}
        for number in range(200):
            action = chance.random()
            if action < 0.6:
                name = str(number)
                expected[name] = int(clock.now_ms) + chance.randrange(0, 100)
                timers[name] = clock.call_at(expected[name], Alarm(log, name))
            elif action < 0.8 and timers:
                name = chance.choice(sorted(timers))
                timers.pop(name).cancel()
                if name not in dict(log):
                    expected.pop(name, None)
            else:
                clock.advance(chance.randrange(0, 30))
        clock.advance(200)
        assert dict(log) == expected, f"seed {seed}"
        assert [now for _, now in log] == sorted(now for _, now in log), f"seed {seed}"


def test_timers_of_queues_run_in_order_too() -> None:
    """The same with the broker's own timers: leases of queues, one of them given back before its time."""
    broker = Broker()
    client = broker.open()
    for name, expires in (("late", 300), ("early", 100), ("middle", 200), ("gone", 50)):
        client.ask("queue.declare", queue=name, arguments={"x-expires": expires})
    client.ask("queue.delete", queue="gone")
    alive = []
    for _ in range(4):
        broker.advance(99)
        alive.append(sorted(broker.vhost.queues))
    assert alive == [["early", "late", "middle"], ["late", "middle"], ["late"], []]


@needs_traits
def test_one_timer_serves_the_earliest_of_several_deadlines() -> None:
    clock = FakeClock(0)
    log: list[tuple[str, int]] = []
    timer = clock.call_by(50, Alarm(log, "first"), None)
    assert clock.call_by(50, Alarm(log, "as early"), timer) is timer
    assert clock.call_by(80, Alarm(log, "later"), timer) is timer
    timer = clock.call_by(20, Alarm(log, "earlier"), timer)
    clock.advance(200)
    assert log == [("earlier", 20)]
    clock.call_by(300, Alarm(log, "after it has run"), timer)
    clock.advance(200)
    assert log == [("earlier", 20), ("after it has run", 300)]
