"""Gives memory back to the system that a backlog has left behind.

What messages took is freed with them, but the C library keeps most of it for later: a node that has drained a backlog
would go on looking as if it still had it. To ask for it back costs some milliseconds, so it is done where nobody waits:
when nothing was published or delivered since the last look, and now and then on a node that is never quiet. It runs on
a thread of its own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from broker.counters import Counters
from broker.periodic import Periodic
from broker.queues.memory import QueueMemory
from broker.watermarks import UNKNOWN, resident_bytes, return_memory

LOOK_MS: Final = 1000
EXCESS_MIN: Final = 32 << 20
"""Bytes beyond what the node had at its start, and what its queues hold, that are worth asking for ..."""
EXCESS_BUSY: Final = 96 << 20
"""... and that are on a node that is never quiet."""
BUSY_LOOKS: Final = 20
"""So many looks pass between two times on such a node."""
_FUTILE_LOOKS_MIN: Final = 2
"""When it brought nothing, it is not tried again for so many looks, ..."""
_FUTILE_LOOKS_MAX: Final = 32
"""... the next time for twice as many, and so on up to so many; unless connections have ended or queues were drained
meanwhile."""


def _in_thread(call: Callable[[], None]) -> None:
    threading.Thread(target=call, name="leveret-trim", daemon=True).start()


class Trimmer(Periodic):
    """Looks every second whether there is much to give back."""

    def __init__(
        self,
        counters: Counters,
        memory: QueueMemory,
        resident: Callable[[], int] = resident_bytes,
        trim: Callable[[], None] = return_memory,
        run: Callable[[Callable[[], None]], None] = _in_thread,
    ) -> None:
        super().__init__()
        self._counters = counters
        self._memory = memory
        self._resident = resident
        self._trim = trim
        self._run = run
        self._at_start = resident()
        self._moved = counters.messages_moved()
        self._looks = 0
        """Since it was done last."""
        self._wait = 0
        """Looks to come before it is done again."""
        self._futile = _FUTILE_LOOKS_MIN // 2
        """So many looks were waited when it brought nothing the last time."""
        self._before = 0
        """What the process had when it was done last; 0 once the effect was looked at."""
        self._closed = counters.connections_closed
        self._used = int(memory.used)
        """What queues held when it was done last."""

    def look(self) -> int:
        """Ask for memory back, if it is time."""
        self._looks += 1
        moved = self._counters.messages_moved()
        is_quiet = moved == self._moved
        self._moved = moved
        resident = self._resident()
        if resident == UNKNOWN:
            return LOOK_MS
        if self._before:
            if resident > self._before - EXCESS_MIN // 4:
                self._futile = min(self._futile * 2, _FUTILE_LOOKS_MAX)
                self._wait = self._futile
            else:
                self._forgive()
            self._before = 0
        if self._closed != self._counters.connections_closed:
            self._closed = self._counters.connections_closed
            self._forgive()
        if self._memory.used < self._used - EXCESS_MIN:
            self._used = int(self._memory.used)
            self._forgive()
        excess = resident - self._at_start - self._memory.used
        is_due = excess > EXCESS_MIN if is_quiet else excess > EXCESS_BUSY and self._looks >= BUSY_LOOKS
        if is_due and self._looks > self._wait:
            self._looks = self._wait = 0
            self._before = resident
            self._used = int(self._memory.used)
            self._run(self._trim)
        return LOOK_MS

    def _forgive(self) -> None:
        """That it brought nothing before says nothing any more."""
        self._wait = 0
        self._futile = _FUTILE_LOOKS_MIN // 2
