"""When Python looks for cycles of objects that refer to each other and to which nothing else refers.

It stops the event loop meanwhile, and takes 0.1 us for each object that it looks at, 0.3 us where these lie far apart.
So the young generations are small, and the old one, which holds whatever queues, bindings and connections there are, is
never looked at in passing: a hundred thousand queues would cost every client 200 ms. It need not be: what connections,
channels and queues leave behind refers to nothing that refers back (tests/spec/test_leaks.py). What a library may leave
is collected on a quiet node, or where the old generation is small.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Final

from broker.periodic import Periodic

YOUNG_MAX: Final = 2000
"""Objects made since the last look, less those freed, after which the young are looked at: a fraction of a
millisecond."""
MIDDLE_EVERY: Final = 3
"""Every so many times the middle generation is, too: what outlived the former looks. An object is looked at once in it,
so that a small generation only makes the looks shorter (6,000 objects: 1 ms; 16,000: 2 to 7 ms)."""
_NEVER: Final = 1 << 30
AGED_US: Final = YOUNG_MAX * MIDDLE_EVERY * 3 // 10
"""What a look at the middle generation adds to the time of a look at everything, at the most. (With a third of it,
5,000 bindings that had just been made were looked at while messages were on their way: 5 to 9 ms.)"""
LOOK_MS: Final = 2000
QUICK_US: Final = 5000
"""A look at everything that will probably take no longer may come while messages are on their way ..."""
SHARE: Final = 10_000
"""... and any next one waits at least so many times as long as the last one took."""


class Collector(Periodic):
    """Looks at everything now and then, where nobody waits for it."""

    def __init__(
        self, reads: Callable[[], int], now_us: Callable[[], int], collect: Callable[[], object] = gc.collect
    ) -> None:
        super().__init__()
        self._reads = reads
        """How often something was read from a client so far: where that stands still, the node is quiet."""
        self._now_us = now_us
        self._collect = collect
        self._seen = -1
        self._took_us = 0
        self._not_before_us = 0

    def begin(self) -> None:
        """Everything that lives now stays as long as the process: it need not be looked at again."""
        self._collect()
        gc.freeze()
        gc.set_threshold(YOUNG_MAX, MIDDLE_EVERY, _NEVER)

    def look(self) -> int:
        """Look at everything, if it is time."""
        reads = self._reads()
        is_quiet = reads == self._seen
        self._seen = reads
        aged = times_aged()
        began_us = self._now_us()
        if aged and (is_quiet or self._took_us + aged * AGED_US <= QUICK_US) and began_us >= self._not_before_us:
            self._collect()
            ended_us = self._now_us()
            self._took_us = ended_us - began_us
            self._not_before_us = ended_us + self._took_us * SHARE
        return LOOK_MS


def times_aged() -> int:
    """How often what outlived the middle generation has come into the old one since that was looked at."""
    return gc.get_count()[2]
