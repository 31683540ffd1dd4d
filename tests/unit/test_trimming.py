"""broker/trimming.py: when freed memory is given back to the system."""

from __future__ import annotations

from collections.abc import Callable

from broker.counters import Counters
from broker.queues.memory import QueueMemory
from broker.trimming import BUSY_LOOKS, Trimmer
from broker.watermarks import UNKNOWN

MIB = 1 << 20


class Process:
    """A process whose memory the test sets."""

    def __init__(self, keeps: int = 0) -> None:
        self.resident = 30 * MIB
        self.keeps = keeps
        self.trims = 0
        self.counters = Counters()
        self.memory = QueueMemory()
        self.trimmer = Trimmer(self.counters, self.memory, lambda: self.resident, self.trim, self.run)

    def run(self, call: Callable[[], None]) -> None:
        call()

    def trim(self) -> None:
        self.trims += 1
        self.resident = min(self.resident, 30 * MIB + int(self.memory.used) + self.keeps)

    def looks(self, count: int, busy: bool = False) -> int:
        """How often memory was asked for in so many looks."""
        before = self.trims
        for _ in range(count):
            self.counters.messages_received += busy
            assert self.trimmer.look() == 1000
        return self.trims - before


def test_a_quiet_node_gives_back_what_a_backlog_has_left() -> None:
    process = Process()
    process.resident = 200 * MIB
    assert process.looks(10) == 1
    assert process.resident == 30 * MIB


def test_what_waits_in_queues_is_not_asked_for() -> None:
    process = Process()
    process.resident = 200 * MIB
    process.memory.used = 160 * MIB
    assert process.looks(50) == 0


def test_a_busy_node_does_it_now_and_then() -> None:
    process = Process(keeps=100 * MIB)
    process.resident = 400 * MIB
    assert process.looks(BUSY_LOOKS - 1, busy=True) == 0
    assert process.looks(1, busy=True) == 1


def test_it_is_not_tried_all_the_time_where_it_brings_nothing() -> None:
    process = Process(keeps=500 * MIB)
    process.resident = 200 * MIB
    assert [process.looks(1) for _ in range(18)] == [1, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1], (
        "seldom, and more so each time"
    )
    assert process.looks(1000) == 30


def test_nothing_happens_where_the_system_does_not_tell() -> None:
    process = Process()
    process.resident = UNKNOWN
    assert process.looks(50) == 0


def test_connections_that_end_later_are_not_waited_for() -> None:
    process = Process(keeps=160 * MIB)
    process.resident = 195 * MIB
    assert process.looks(3) == 1, "it has brought little, and is not tried again soon"
    process.keeps = 0
    process.counters.connections_closed = 100
    assert process.looks(2) == 1
    assert process.resident == 30 * MIB


def test_a_backlog_that_is_drained_later_is_not_waited_for() -> None:
    """It brought nothing while the backlog was there: what that has left behind is another matter."""
    process = Process(keeps=160 * MIB)
    process.resident = 195 * MIB + 300 * MIB
    process.memory.used = 300 * MIB
    assert process.looks(3) == 1
    process.keeps = 0
    process.memory.used = 0
    assert process.looks(2) == 1
    assert process.resident == 30 * MIB
