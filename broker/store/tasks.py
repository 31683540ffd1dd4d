"""A task of the compactor: a generator on the owner's thread that yields what it needs next; and what runs that on the
other thread."""

from collections.abc import Callable, Generator

from broker.store.commit_group import Listener
from broker.store.runner import Job

Step = Callable[[], object] | int | None
"""Work for the other thread, a pause in milliseconds (0: only let others run), or None: wait until all is durable."""
Task = Generator[Step, object, None]


def nothing() -> None:
    """Work that lets others run."""


class Work(Job):
    """One step of a task on the thread of the compactor."""

    def __init__(self, advance: Callable[[object, Exception | None], None], call: Callable[[], object]) -> None:
        self._advance = advance
        self._call = call
        self._answer: object = None
        self._error: Exception | None = None

    def run(self) -> None:
        try:
            self._answer = self._call()
        except Exception as error:  # the disk's, or a mistake of ours: the owner must hear of it
            self._error = error

    def finished(self) -> None:
        self._advance(self._answer, self._error)


class Durable(Listener):
    """Goes on when everything appended so far is on the disk."""

    def __init__(self, advance: Callable[[object, Exception | None], None]) -> None:
        self._advance = advance

    def durable(self, through: int) -> None:
        self._advance(None, None)
