"""broker/cluster/group_log.py: what a start finds of the log of a Raft group, wherever its records have moved."""

from __future__ import annotations

import pytest

from tests.support.store import Running, options
from tests.support.stored_group import StoredGroup


@pytest.mark.parametrize("others", range(9, 14))
def test_entries_that_were_replaced_are_not_missed_once_their_segments_are_gone(others: int) -> None:
    """Their positions are settled by a record, wherever in a file of the write-ahead log that comes to stand."""
    running = Running(moving=options(garbage_size=2000))
    group = StoredGroup(running, running.declare())
    other = running.declare()
    group.vote(1, 2, 0)
    for number in range(1, 13):
        group.append(1, (b"entry %2d" % number).ljust(900, b"."))
    running.fill(other, others)
    running.rest()
    segments = set(running.logs.segments.by_number)
    assert group.log.log.extents.segments
    group.append(1, b"entry 13")
    group.vote(2, 0, 2)
    group.append(2, b"other  3", index=3)
    running.rest()
    assert not segments <= set(running.logs.segments.by_number), "some of them are gone"
    again = running.killed()
    assert again.store.findings == []
    found = StoredGroup(again, again.logs.open(group.log.log.number)).found()
    assert found["entries"] == [[1, 1, "entry  1"], [2, 1, "entry  2"], [3, 2, "other  3"]]
    assert found["repair_to"] == 0
