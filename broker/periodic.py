"""Something that looks at the node again and again, on the event loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from broker.faults import Faults

AFTER_FAULT_MS: Final = 1000
"""When it looks again after a look that failed."""


class Periodic:
    """Looks when it is started, and each time after as long as the last look has said; a look that fails is told, and
    not the last one."""

    def __init__(self, faults: Faults | None = None) -> None:
        self._faults = faults or Faults()
        self._later: Callable[[float, Callable[[], None]], object] | None = None

    def start(self, later: Callable[[float, Callable[[], None]], object]) -> None:
        """Look now and from now on; ``later(seconds, call)`` is the event loop's ``call_later``."""
        self._later = later
        self._again()

    def stop(self) -> None:
        """No further looks."""
        self._later = None

    def _again(self) -> None:
        if self._later is not None:
            wait_ms = AFTER_FAULT_MS
            try:
                wait_ms = self.look()
            except Exception as error:
                self._faults.caught(type(self).__name__, None, error)
            self._later(wait_ms / 1000, self._again)

    def look(self) -> int:
        """Look once; when to look again, in milliseconds."""
        raise NotImplementedError
