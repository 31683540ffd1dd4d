"""Wall and monotonic time, and the one heap of timers. Handed in everywhere, so that tests own the time.

No other module asks the operating system for the time. Whoever runs the loop calls ``run_due`` and sleeps until
``next_deadline``; ``on_earlier`` of a ``Waker`` tells it that an earlier deadline was added meanwhile.
"""

import heapq
import time
from typing import Final, final

from librt.time import time as system_time
from mypy_extensions import mypyc_attr, trait

from broker.faults import FaultOwner, Faults
from broker.native import i64
from broker.stopwatch import Stopwatch

NEVER: Final[i64] = 1 << 62
TIMERS_US: Final[i64] = 1000
"""So long timers are served before others have their turn: ten thousand may fall due at one moment."""
_CANCELLED_PER_LOOK: Final[i64] = 256


@trait
@mypyc_attr(allow_interpreted_subclasses=True)
class Timed:
    """Something that a timer wakes up."""

    def on_timer(self, now_ms: i64) -> None:
        """Called once, at or after the deadline, with the monotonic time in milliseconds."""
        raise NotImplementedError

    def fault_owner(self) -> FaultOwner | None:
        """Whose work it is, which ends when it fails by a mistake of ours."""
        return None


@final
class Timer:
    """One pending wake-up; ``cancel`` makes it a no-op (it leaves the heap when its time comes)."""

    def __init__(self, deadline_ms: i64, target: Timed) -> None:
        self.deadline_ms = deadline_ms
        self.target: Timed | None = target

    def cancel(self) -> None:
        """Forget the target; may be called more than once."""
        self.target = None


@mypyc_attr(allow_interpreted_subclasses=True)
class Waker:
    """How the pure part asks the event loop for attention."""

    def wake(self) -> None:
        """Run the turn soon."""
        raise NotImplementedError

    def on_earlier(self, deadline_ms: i64) -> None:
        """A timer earlier than all others was added."""
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class Clock:
    """The node's time. ``now_us`` and ``now_ms`` are monotonic and cached once per read or turn by ``refresh``."""

    def __init__(self) -> None:
        self.faults = Faults()
        """Where mistakes of ours are told: of the timers, and of everything that is handed this clock."""
        self.stopwatch = Stopwatch()
        """How long turns and timers take."""
        self._heap: list[tuple[int, int, Timer]] = []
        self._serial = 0
        self.waker: Waker | None = None
        self.now_ms: i64 = 0
        self.now_us: i64 = 0
        """The same moment in microseconds: what deadlines of messages are told in."""
        self.wall_ms: i64 = 0
        """Milliseconds since 1970 at that moment."""
        self.refresh()

    def monotonic_ms(self) -> i64:
        """Monotonic milliseconds, asked from the system."""
        return time.monotonic_ns() // 1_000_000

    def monotonic_us(self) -> i64:
        """Monotonic microseconds, asked from the system."""
        return time.monotonic_ns() // 1000

    def system_wall_ms(self) -> i64:
        """Milliseconds since 1970, asked from the system."""
        return i64(system_time() * 1000)  # compiled, a fifth of what time.time_ns costs

    def slice_us(self) -> i64:
        """Microseconds, for differences within one turn: cheap, but it jumps when somebody sets the system's clock."""
        return i64(system_time() * 1_000_000)

    def wall_s(self) -> int:
        """Seconds since 1970, for what people and other programs read (x-death, metrics)."""
        return int(self.system_wall_ms() // 1000)

    def refresh(self) -> i64:
        """Update ``now_us``, ``now_ms`` and ``wall_ms``; returns the second."""
        self.now_us = self.monotonic_us()
        self.now_ms = self.now_us // 1000
        self.wall_ms = self.system_wall_ms()
        return self.now_ms

    def call_at(self, deadline_ms: i64, target: Timed) -> Timer:
        """A timer that wakes ``target`` at ``deadline_ms`` of the monotonic clock."""
        timer = Timer(deadline_ms, target)
        self._serial += 1
        earliest = self.next_deadline()
        heapq.heappush(self._heap, (deadline_ms, self._serial, timer))
        waker = self.waker
        if waker is not None and deadline_ms < earliest:
            waker.on_earlier(deadline_ms)
        return timer

    def call_by(self, deadline_ms: i64, target: Timed, timer: Timer | None) -> Timer:
        """``timer``, if it wakes somebody by that time; otherwise one that wakes ``target`` then, in its place."""
        if timer is not None and timer.target is not None:
            if timer.deadline_ms <= deadline_ms:
                return timer
            timer.cancel()
        return self.call_at(deadline_ms, target)

    def next_deadline(self) -> i64:
        """The earliest live deadline, or an earlier one, or ``NEVER``."""
        heap = self._heap
        left = _CANCELLED_PER_LOOK
        # One that is still there only wakes somebody for nothing.
        while heap and heap[0][2].target is None and left > 0:
            heapq.heappop(heap)
            left -= 1
        return heap[0][0] if heap else NEVER

    def run_due(self) -> None:
        """Wake whose deadline has passed, for ``TIMERS_US`` at the most: the rest is still due. What raises is told,
        and the others are woken all the same."""
        now = self.refresh()
        heap = self._heap
        stopwatch = self.stopwatch
        until_us = self.slice_us() + TIMERS_US
        left = _CANCELLED_PER_LOOK
        while heap and heap[0][0] <= now:
            timer = heapq.heappop(heap)[2]
            target = timer.target
            if target is None:
                left -= 1
                if left == 0:
                    left = _CANCELLED_PER_LOOK
                    if self.slice_us() >= until_us:
                        return
            else:
                timer.target = None
                started_us = self.slice_us()
                stopwatch.start("timer", started_us)
                try:
                    target.on_timer(now)
                except Exception as error:
                    self.faults.caught("timer", target.fault_owner(), error)
                ended_us = self.slice_us()
                stopwatch.slice_of(target, ended_us)
                stopwatch.end("A timer took too long", ended_us - started_us)
                if ended_us >= until_us:
                    return
