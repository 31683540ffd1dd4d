"""broker/store/lingering.py: when a commit group stays open to be larger. That its log obeys: test_wal.py."""

from __future__ import annotations

import pytest

from broker.store.commit_group import CommitGroupWriter, Listener
from broker.store.lingering import LINGER_BUSY_SIZE, LINGER_MS, LINGER_SIZE_MAX, Lingering
from broker.turn import Turn
from tests.support.fake_clock import FakeClock


class Setting:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.batch = CommitGroupWriter(1)
        self.batch.turn = Turn(self.clock)
        self.overdue = 0
        self.lingering = Lingering(self.is_overdue)
        self.batch.append(1, 1, b"x")

    def is_overdue(self) -> None:
        self.overdue += 1


@pytest.mark.parametrize(("last_size", "goes_on"), [(LINGER_BUSY_SIZE - 1, False), (LINGER_BUSY_SIZE, True)])
def test_it_does_under_load_only(last_size: int, goes_on: bool) -> None:
    setting = Setting()
    setting.lingering.begin(last_size)
    assert setting.lingering.goes_on(setting.batch) == goes_on


def test_it_does_for_a_few_milliseconds_and_then_the_log_is_told() -> None:
    setting = Setting()
    setting.lingering.begin(LINGER_BUSY_SIZE)
    assert setting.lingering.goes_on(setting.batch)
    setting.clock.advance(int(LINGER_MS) - 1)
    assert setting.lingering.goes_on(setting.batch)
    assert setting.overdue == 0
    setting.clock.advance(1)
    assert setting.overdue == 1
    assert not setting.lingering.goes_on(setting.batch)
    setting.lingering.begin(LINGER_BUSY_SIZE)
    assert setting.lingering.goes_on(setting.batch), "each group has its own time"


def test_it_does_not_when_somebody_waits_or_it_is_large_or_empty() -> None:
    waited_for, large, empty = Setting(), Setting(), Setting()
    waited_for.batch.listen(Listener())
    large.batch.append(1, 1, b"", bytes(int(LINGER_SIZE_MAX)))
    empty.batch.take()
    for setting in (waited_for, large, empty):
        setting.lingering.begin(LINGER_BUSY_SIZE)
        assert not setting.lingering.goes_on(setting.batch)
