"""Lines that say how far a long run has come."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

PROGRESS_S: Final = 30.0


class Progress:
    """Says now and then how far it has come."""

    def __init__(self, say: Callable[[], str]) -> None:
        self._say = say
        self._began = time.monotonic()
        self._next = self._began + PROGRESS_S

    def tick(self) -> None:
        """A line, if it is time for one."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + PROGRESS_S
            self.line()

    def line(self) -> None:
        """A line now."""
        print(f"{time.monotonic() - self._began:8.0f} s  {self._say()}", flush=True)
