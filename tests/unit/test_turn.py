"""One turn of the loop (broker/turn.py): dispatch, sync, flush, then the input that had to wait."""

from __future__ import annotations

from broker.time_slice import READS_US, SLICE_US
from broker.turn import (
    INPUT_BYTES_MAX,
    Deferred,
    Dispatchable,
    Flushable,
    SlicedWork,
    Syncable,
    Turn,
)
from tests.support.fake_clock import FakeClock
from tests.support.fakes import FakeQueue, needs_traits
from tests.support.memory import Broker, CountingWaker
from tests.support.wire import publish

SLICE_MS = -(-int(SLICE_US) // 1000)
"""After so many milliseconds a slice is over."""
READS_MS = -(-int(READS_US) // 1000)


class Worker(Dispatchable, Syncable, Flushable):
    """Notes what it is asked, and may ask for more."""

    def __init__(self, name: str, log: list[str]) -> None:
        self.name = name
        self.log = log
        self.then: list[tuple[str, Worker]] = []

    def dispatch(self) -> None:
        self.note("dispatch")

    def sync(self) -> None:
        self.note("sync")

    def flush(self) -> None:
        self.note("flush")

    def note(self, what: str) -> None:
        self.log.append(f"{what} {self.name}")
        after, self.then = self.then, []
        for kind, worker in after:
            getattr(turn_of[id(self.log)], f"schedule_{kind}")(worker)


class Held(Deferred):
    def __init__(self, name: str, log: list[str]) -> None:
        self.name = name
        self.log = log

    def resume(self) -> None:
        self.log.append(f"resume {self.name}")


turn_of: dict[int, Turn] = {}


def setting() -> tuple[Turn, CountingWaker, list[str], FakeClock]:
    clock = FakeClock()
    turn = Turn(clock)
    turn.waker = waker = CountingWaker()
    log: list[str] = []
    turn_of[id(log)] = turn
    return turn, waker, log, clock


@needs_traits
def test_the_order_is_dispatch_sync_flush_whatever_was_marked_first() -> None:
    """ARCHITECTURE, a turn: promises leave after the sync, and each connection is written once."""
    turn, _, log, _ = setting()
    turn.schedule_flush(Worker("c", log))
    turn.schedule_sync(Worker("l", log))
    turn.schedule_dispatch(Worker("q1", log))
    turn.schedule_dispatch(Worker("q2", log))
    turn.run()
    assert log == ["dispatch q1", "dispatch q2", "sync l", "flush c"]


@needs_traits
def test_a_turn_is_asked_for_once() -> None:
    turn, waker, log, _ = setting()
    for number in range(5):
        turn.schedule_dispatch(Worker(str(number), log))
        turn.schedule_flush(Worker(str(number), log))
    assert (waker.wakes, turn.scheduled) == (1, True)
    turn.run()
    assert not turn.scheduled
    turn.schedule_flush(Worker("again", log))
    assert waker.wakes == 2
    assert turn.turns == 1


@needs_traits
def test_what_dispatch_causes_is_done_in_the_same_turn() -> None:
    """A dead letter reaches its queue, and its consumer, without another round of the loop."""
    turn, _, log, _ = setting()
    first, second, connection = Worker("q1", log), Worker("q2", log), Worker("c", log)
    first.then = [("dispatch", second)]
    second.then = [("flush", connection)]
    turn.schedule_dispatch(first)
    turn.run()
    assert log == ["dispatch q1", "dispatch q2", "flush c"]


@needs_traits
def test_what_a_flush_causes_is_done_too() -> None:
    turn, _, log, _ = setting()
    connection, queue = Worker("c", log), Worker("q", log)
    connection.then = [("dispatch", queue), ("flush", connection)]
    turn.schedule_flush(connection)
    turn.run()
    assert log == ["flush c", "dispatch q", "flush c"]


@needs_traits
def test_held_input_comes_after_the_work() -> None:
    turn, waker, log, _ = setting()
    turn.defer(Held("t", log))
    turn.schedule_dispatch(Worker("q", log))
    assert waker.wakes == 1
    turn.run()
    assert log == ["dispatch q", "resume t"]
    turn.run()
    assert log == ["dispatch q", "resume t"], "once"


def test_nothing_to_do() -> None:
    turn, waker, log, _ = setting()
    turn.run()
    assert (waker.wakes, log) == (0, [])


def test_a_turn_takes_so_much_input() -> None:
    """at most 1 MiB; the rest stays undecoded until the next turn."""
    turn, _, _, _ = setting()
    half = int(INPUT_BYTES_MAX) // 2
    assert turn.admit(half)
    assert turn.admit(half - 1)
    assert turn.admit(INPUT_BYTES_MAX), "what is begun is taken whole"
    assert not turn.admit(1)
    turn.run()
    assert turn.admit(INPUT_BYTES_MAX * 3)
    assert not turn.admit(1)


def test_a_turn_takes_input_for_so_long() -> None:
    """No more decoding when a slice is over, however little the input is."""
    turn, _, _, clock = setting()
    assert turn.admit(10)
    assert turn.admit(10)
    clock.time_ms += SLICE_MS
    assert not turn.admit(10)
    turn.run()
    assert turn.admit(10)
    clock.time_ms += 10_000
    turn.run()
    assert turn.admit(10), "the time counts from a turn's first read"


@needs_traits
def test_a_turn_without_a_waker_works_when_it_is_run() -> None:
    """Before the loop is there."""
    log: list[str] = []
    turn = Turn(FakeClock())
    turn.schedule_dispatch(Worker("q", log))
    turn.run()
    assert log == ["dispatch q"]


class Dispatched(FakeQueue):
    """A queue that notes when it is dispatched."""

    def __init__(self, name: str, log: list[str]) -> None:
        super().__init__(name)
        self.log = log

    def dispatch(self) -> None:
        self.log.append(self.name)


def test_queues_are_dispatched_in_the_order_in_which_they_were_marked() -> None:
    turn, waker, log, _ = setting()
    for name in ("b", "a", "c"):
        turn.schedule_dispatch(Dispatched(name, log))
    assert waker.wakes == 1
    turn.run()
    assert log == ["b", "a", "c"]


def test_connections_are_flushed_after_all_queues() -> None:
    """One write each, with the confirm and what every queue had for it."""
    broker = Broker()
    client = broker.open()
    for name in ("one", "two"):
        client.ask("queue.declare", queue=name)
        client.ask("queue.bind", queue=name, exchange="amq.fanout")
        client.consume(name, no_ack=True)
    client.ask("confirm.select")
    client.sink.writes.clear()
    turns = broker.turn.turns
    client.send(*(publish(1, "amq.fanout", "", b"x") for _ in range(3)))
    assert (broker.turn.turns - turns, len(client.sink.writes)) == (1, 1)
    assert sorted(client.names()) == ["basic.ack", *["basic.deliver"] * 6]


class Slow(Worker, SlicedWork):
    """Every piece of work takes a millisecond."""

    def __init__(self, name: str, log: list[str], clock: FakeClock, steps: int = 1) -> None:
        super().__init__(name, log)
        self.clock = clock
        self.steps = steps

    def note(self, what: str) -> None:
        self.clock.time_ms += 1
        super().note(what)

    def step(self) -> bool:
        self.note("step")
        self.steps -= 1
        return self.steps == 0

    def resume(self) -> None:
        self.note("resume")


@needs_traits
def test_what_flushes_cause_again_and_again_does_not_make_a_turn_longer() -> None:
    """Consumers that have room again when something was written: the slice of the flush is not one more for the
    dispatch."""
    turn, waker, _, clock = setting()

    class Endless(Dispatchable, Flushable):
        def __init__(self) -> None:
            self.rounds = 0

        def dispatch(self) -> None:
            clock.time_ms += 1
            self.rounds += 1
            turn.schedule_flush(self)

        def flush(self) -> None:
            turn.schedule_dispatch(self)

    endless = Endless()
    turn.schedule_dispatch(endless)
    turn.run()
    assert endless.rounds <= SLICE_MS + 1
    assert waker.wakes == 2, "it goes on in the next turn"


@needs_traits
def test_what_begins_between_two_turns_has_a_slice() -> None:
    """Timers, and what the HTTP API asks for."""
    turn, _, _, clock = setting()
    assert not turn.out_of_time()
    clock.time_ms += SLICE_MS
    assert turn.out_of_time(), "from the first look on"
    turn.run()
    assert not turn.out_of_time()


@needs_traits
def test_what_is_read_after_deferred_input_has_a_slice_as_well() -> None:
    """Without one it was taken however long it took, up to a mebibyte."""
    turn, _, log, clock = setting()

    class Waiting(Held):
        def resume(self) -> None:
            super().resume()
            assert turn.admit(10)

    turn.defer(Waiting("t", log))
    turn.run()
    assert log == ["resume t"]
    assert turn.admit(10)
    clock.time_ms += READS_MS - 1
    assert turn.admit(10)
    assert not turn.out_of_time()
    clock.time_ms += 1
    assert turn.out_of_time()
    assert not turn.admit(10)


def test_what_had_its_share_comes_behind_what_had_none() -> None:
    turn, _, log, _ = setting()
    turn.defer_again(Held("greedy", log))
    turn.defer(Held("modest", log))
    turn.run()
    assert log == ["resume modest", "resume greedy"]
    turn.run()
    assert len(log) == 2, "once"


class FineClock(FakeClock):
    """Slices are measured in microseconds."""

    def __init__(self) -> None:
        self.time_us = 1_000_000
        super().__init__()

    def slice_us(self) -> int:
        return self.time_us


class Long(Held):
    """To be resumed takes it as long as a slice."""

    def __init__(self, name: str, log: list[str], clock: FakeClock) -> None:
        super().__init__(name, log)
        self.clock = clock

    def resume(self) -> None:
        self.clock.time_ms += SLICE_MS
        super().resume()


def test_what_had_its_share_is_not_passed_over_again_and_again() -> None:
    turn, _, log, clock = setting()
    turn.defer_again(Long("greedy", log, clock))
    for number in range(4):
        turn.defer(Long(f"{number}", log, clock))
        turn.run()
    assert log == ["resume 0", "resume greedy", "resume 1", "resume 2"]


@needs_traits
def test_queues_with_much_to_do_share_a_slice() -> None:
    """Those that are marked for it come before the others are dispatched, and each has some time."""
    turn, waker, log, clock = setting()
    for name in ("a", "b", "c"):
        turn.schedule_dispatch_behind(Slow(name, log, clock))
    assert waker.wakes == 1
    for name in ("x", "y"):
        turn.schedule_dispatch(Worker(name, log))
        turn.run()
    turn.run()
    assert log == ["dispatch a", "dispatch x", "dispatch b", "dispatch y", "dispatch c"]
    assert not turn.scheduled


@needs_traits
def test_who_comes_last_in_a_turn_has_less_time() -> None:
    """All phases may have much to do at once; what waits for the next turn would wait for a whole slice of each."""
    clock = FineClock()
    turn = Turn(clock)
    slices: list[int] = []

    class Measured(Dispatchable, SlicedWork):
        def dispatch(self) -> None:
            self.step()

        def step(self) -> bool:
            began_us = clock.time_us
            while not turn.out_of_time():
                clock.time_us += 10
            slices.append(clock.time_us - began_us)
            return True

    assert turn.admit(10)
    clock.time_us += SLICE_US
    turn.begin(Measured())
    turn.schedule_dispatch_behind(Measured())
    turn.schedule_dispatch(Measured())
    turn.run()
    assert slices == [SLICE_US // 2, SLICE_US // 4, SLICE_US]
    slices.clear()
    turn.begin(Measured())
    turn.run()
    assert slices == [SLICE_US], "on its own it has a whole one"


@needs_traits
def test_what_does_not_fit_into_the_slice_of_a_phase_waits_in_its_place() -> None:
    """broker/turn.py: a turn is bounded in time, whatever is asked for; phases that come later have a slice of their
    own."""
    turn, _, log, clock = setting()
    for index in range(20):
        turn.schedule_dispatch(Slow(f"q{index}", log, clock))
        turn.schedule_flush(Slow(f"c{index}", log, clock))
    turns = 0
    while turn.scheduled:
        before = clock.time_ms
        turn.run()
        assert clock.time_ms - before <= 3 * (SLICE_MS + 8), "eight are done between two looks at the clock"
        turns += 1
    assert turns == 3
    assert [name for name in log if name.startswith("dispatch")] == [f"dispatch q{index}" for index in range(20)]
    assert [name for name in log if name.startswith("flush")] == [f"flush c{index}" for index in range(20)]


@needs_traits
def test_work_in_slices_goes_round() -> None:
    turn, _, log, clock = setting()
    for name in ("a", "b", "c"):
        turn.begin(Slow(name, log, clock, 3))
    while turn.scheduled:
        before = clock.time_ms
        turn.run()
        assert clock.time_ms - before <= 2
    assert log == ["step a", "step b", "step c"] * 3


@needs_traits
def test_work_that_fails_is_over_and_the_rest_goes_on() -> None:
    turn, _, log, clock = setting()

    class Broken(SlicedWork):
        def step(self) -> bool:
            raise ValueError("a mistake")

    turn.begin(Broken())
    turn.begin(Slow("a", log, clock))
    turn.run()
    assert (log, turn.scheduled, clock.faults.count) == (["step a"], False, 1)


@needs_traits
def test_a_drain_does_everything_however_long_it_takes() -> None:
    turn, _, log, clock = setting()
    for index in range(20):
        turn.schedule_dispatch(Slow(f"q{index}", log, clock))
    turn.begin(Slow("w", log, clock, 30))
    turn.drain()
    assert len(log) == 50
