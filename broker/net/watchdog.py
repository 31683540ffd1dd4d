"""A thread that looks whether the event loop goes round: when it stands still for long, its stack goes to the log, once
per stall.

Code that keeps the interpreter's lock (compiled, without a call into Python) keeps this thread from looking, too; what
such a stall was about is told at its end (stopwatch.py). A process that was stopped and continued has not stalled: the
thread slept through it as well.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import traceback
from typing import TYPE_CHECKING, Final

from broker.logsetup import get_logger

if TYPE_CHECKING:
    from broker.stopwatch import Stopwatch

STALL_S: Final = 5.0
_log = get_logger("watchdog")


class Watchdog:
    """Watches the event loop of the thread that starts it."""

    def __init__(self, stopwatch: Stopwatch, stall_s: float = STALL_S) -> None:
        self._stopwatch = stopwatch
        self._stall_s = stall_s
        self._every_s = stall_s / 5
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._watched = 0
        self._beaten_at = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="leveret-watchdog", daemon=True)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Watch this loop, which is the caller's."""
        self._loop = loop
        self._watched = threading.get_ident()
        self._beat()
        self._thread.start()

    def stop(self) -> None:
        """Watch no more."""
        if self._timer is not None:
            self._timer.cancel()
        self._ended.set()
        self._thread.join()

    def _beat(self) -> None:
        assert self._loop is not None
        self._beaten_at = time.monotonic()
        self._timer = self._loop.call_later(self._every_s, self._beat)

    def _watch(self) -> None:
        told_for = looked_at = 0.0
        while not self._ended.wait(self._every_s):
            now = time.monotonic()
            overslept = now - looked_at > 2 * self._every_s
            looked_at = now
            beaten_at = self._beaten_at
            if not overslept and now - beaten_at >= self._stall_s and beaten_at != told_for:
                told_for = beaten_at
                self._tell(now - beaten_at)

    def _tell(self, seconds: float) -> None:
        frame = sys._current_frames().get(self._watched)
        stack = "".join(traceback.format_stack(frame)) if frame is not None else ""
        _log.critical(
            "The event loop stands still",
            seconds=round(seconds, 1),
            where=self._stopwatch.where,
            exception=stack.rstrip(),
        )
