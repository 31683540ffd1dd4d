"""The number of a log's user (broker/store/log_note.py)."""

from __future__ import annotations

from broker.store.log_note import NOTHING_NOTED, LogNote
from broker.store.logs import Logs
from tests.support.fake_clock import FakeClock


def test_recovery_takes_the_greatest_unless_a_clean_end_has_replaced_it() -> None:
    note = LogNote()
    for value in (100, 50):
        note.raise_to(value)
    assert note.value == 100
    note.replace(7)
    note.recovered()
    assert (note.value, note.durable) == (7, 7)


def test_it_is_durable_with_the_group_that_it_left_with() -> None:
    note = LogNote()
    note.raise_to(3)
    note.taken()
    note.raise_to(5)
    note.committed()
    assert (note.value, note.durable) == (5, 3)


def test_logs_without_one_share_it() -> None:
    logs = Logs(FakeClock())
    one, other = logs.open(1), logs.open(2)
    assert one.note is other.note is NOTHING_NOTED
    one.taken()
    one.committed()
    one.tell_note(7)
    assert (one.note.value, other.note.value) == (7, -1)
    one.tell_note(3)
    assert one.note.value == 7, "it grows"
