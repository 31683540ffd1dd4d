"""A log that keeps nothing (broker/store/nowhere.py)."""

from __future__ import annotations

from broker.native import i64
from broker.store.commit_group import Listener
from broker.store.logs import Logs
from broker.store.nowhere import Nowhere
from broker.store.records import MESSAGE
from broker.turn import Turn
from tests.support.fake_clock import FakeClock


class Heard(Listener):
    """Notes up to where everything is as good as on the disk; the first time it appends something more."""

    def __init__(self, logs: Logs, again: bool = False, fails: bool = False) -> None:
        self.logs = logs
        self.again = again
        self.fails = fails
        self.through: list[int] = []

    def durable(self, through: i64) -> None:
        self.through.append(int(through))
        if self.fails:
            raise RuntimeError("a mistake of the listener")
        if self.again:
            self.again = False
            write(self.logs, 7)
            self.logs.batch.listen(self)


def write(logs: Logs, number: int, body: bytes = b"body") -> None:
    log = logs.open(number)
    assert log.append(log.positions.next, MESSAGE, len(body), object())
    logs.batch.write(body)
    logs.batch.end()


def begun() -> tuple[Turn, Logs]:
    turn = Turn(FakeClock())
    return turn, Nowhere(turn).logs


def test_what_is_appended_is_done_at_the_end_of_the_turn() -> None:
    turn, logs = begun()
    heard = Heard(logs)
    write(logs, 1)
    write(logs, 2)
    logs.batch.listen(heard)
    assert heard.through == []
    turn.drain()
    assert heard.through == [2]
    assert logs.open(1).durable_next == 1
    assert logs.batch.is_durable()
    assert logs.batch.unwritten() == 0


def test_whoever_is_told_may_append_again() -> None:
    turn, logs = begun()
    heard = Heard(logs, again=True)
    write(logs, 1)
    logs.batch.listen(heard)
    turn.drain()
    assert heard.through == [1, 2]


def test_what_belongs_together_is_waited_for() -> None:
    turn, logs = begun()
    heard = Heard(logs)
    logs.batch.hold_group(True)
    write(logs, 1)
    logs.batch.listen(heard)
    turn.drain()
    assert heard.through == []
    write(logs, 1)
    logs.batch.hold_group(False)
    turn.drain()
    assert heard.through == [2]


def test_a_listener_that_fails_takes_nobody_with_it() -> None:
    turn, logs = begun()
    bad, good = Heard(logs, fails=True), Heard(logs)
    write(logs, 1)
    logs.batch.listen(bad)
    logs.batch.listen(good)
    turn.drain()
    assert good.through == [1]
    assert turn.clock.faults.count == 1


def test_it_does_not_grow() -> None:
    """Neither with what is written nor with logs that come and go."""
    turn, logs = begun()
    for number in range(1, 200):
        write(logs, number, bytes(10_000))
        turn.drain()
        log = logs.open(number)
        log.settle_told(0, 0)
        logs.drop(log)
        turn.drain()
    assert logs.logs == {}
    assert logs.by_file == {}
    assert logs.batch.group_size() == 0
