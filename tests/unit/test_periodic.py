"""What looks again and again (broker/periodic.py)."""

from __future__ import annotations

from collections.abc import Callable

from broker.faults import Faults
from broker.periodic import AFTER_FAULT_MS, Periodic


class Looks(Periodic):
    def __init__(self, faults: Faults) -> None:
        super().__init__(faults)
        self.answers: list[int] = []

    def look(self) -> int:
        return self.answers.pop(0)


def test_a_look_that_fails_is_told_and_not_the_last_one() -> None:
    """Rule: broker/faults.py. A node whose watch of the memory ends would find out when its memory does."""
    faults = Faults()
    looks = Looks(faults)
    later: list[tuple[float, Callable[[], None]]] = []
    looks.start(lambda seconds, call: later.append((seconds, call)))
    assert (faults.count, later[0][0]) == (1, AFTER_FAULT_MS / 1000)
    looks.answers = [250]
    later.pop()[1]()
    assert (faults.count, later[0][0]) == (1, 0.25)
    looks.stop()
    later.pop()[1]()
    assert later == []
