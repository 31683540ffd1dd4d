"""Resource alarms (broker/alarms.py)."""

from __future__ import annotations

import pytest

from broker.alarms import DISK, MEMORY, Alarms, Blockable
from broker.turn import Turn
from tests.support.fake_clock import FakeClock


class Blocked(Blockable):
    def __init__(self) -> None:
        self.blocked = 0
        self.unblocked = 0

    def block(self) -> None:
        self.blocked += 1

    def unblock(self) -> None:
        self.unblocked += 1


@pytest.mark.parametrize(
    ("raised", "reason"),
    [([], ""), ([MEMORY], "low on memory"), ([DISK], "low on disk"), ([DISK, MEMORY], "low on memory & low on disk")],
)
def test_the_reason_is_worded_as_rabbitmq_does(raised: list[str], reason: str) -> None:
    """RabbitMQ docs, Blocked Connections."""
    alarms = Alarms(Turn(FakeClock()))
    for resource in raised:
        alarms.set(resource, True)
        alarms.set(resource, True)
    assert alarms.reason == reason


def test_all_are_unblocked_when_the_last_alarm_is_cleared() -> None:
    turn, connections = Turn(FakeClock()), [Blocked(), Blocked()]
    alarms = Alarms(turn)
    alarms.set(MEMORY, True)
    alarms.set(DISK, True)
    for connection in connections:
        alarms.block(connection)
    alarms.set(MEMORY, False)
    turn.run()
    assert [connection.unblocked for connection in connections] == [0, 0]
    alarms.set(DISK, False)
    alarms.set(DISK, False)
    turn.run()
    assert [connection.unblocked for connection in connections] == [1, 1]


def test_a_connection_that_has_gone_is_forgotten() -> None:
    turn, gone, other = Turn(FakeClock()), Blocked(), Blocked()
    alarms = Alarms(turn)
    alarms.set(MEMORY, True)
    alarms.block(gone)
    alarms.forget(gone)
    alarms.forget(other)
    alarms.set(MEMORY, False)
    turn.run()
    assert gone.unblocked == 0


def test_one_alarm_can_be_asked_for() -> None:
    alarms = Alarms(Turn(FakeClock()))
    alarms.set(DISK, True)
    assert (alarms.is_raised(DISK), alarms.is_raised(MEMORY)) == (True, False)
    alarms.set(DISK, False)
    assert not alarms.is_raised(DISK)


def test_nobody_watches_a_node_in_memory() -> None:
    """Its figures are unknown, which metrics and management tell apart from numbers."""
    figures = Alarms(Turn(FakeClock())).figures
    assert (figures.memory_limit, figures.disk_free, figures.disk_free_limit) == (0, -1, 0)


def test_an_alarm_blocks_at_once_who_is_in_the_middle_of_a_content() -> None:
    turn, inside, through = Turn(FakeClock()), Blocked(), Blocked()
    alarms = Alarms(turn)
    alarms.begin_content(inside)
    alarms.begin_content(through)
    alarms.end_content(through)
    alarms.set(DISK, True)
    turn.run()
    assert (inside.blocked, through.blocked) == (1, 0)


def test_a_look_that_fails_is_not_the_senders_affair() -> None:
    """Rule: broker/faults.py."""
    alarms = Alarms(Turn(FakeClock()))

    def broken() -> None:
        raise ZeroDivisionError

    alarms.look_at_memory = broken
    alarms.receiving_max = 10
    alarms.received(11)
    assert alarms.faults.count == 1
