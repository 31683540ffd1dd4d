"""Something that looks at the node again and again, on the event loop."""

from __future__ import annotations

from collections.abc import Callable


class Periodic:
    """Looks when it is started, and each time after as long as the last look has said."""

    def __init__(self) -> None:
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
            self._later(self.look() / 1000, self._again)

    def look(self) -> int:
        """Look once; when to look again, in milliseconds."""
        raise NotImplementedError
