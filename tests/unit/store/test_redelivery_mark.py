"""broker/store/redelivery_mark.py: what may be delivered before the disk knows that it may have been."""

from __future__ import annotations

from broker.store.redelivery_mark import MARK_AHEAD, RedeliveryMark

AHEAD = int(MARK_AHEAD)


def test_nothing_is_delivered_before_a_mark_covers_it() -> None:
    mark = RedeliveryMark()
    assert mark.is_near(0)
    assert mark.allowance(0) == 0
    assert mark.move(0, 5)
    assert mark.position == AHEAD
    assert mark.allowance(4) == 0, "its record may be on the disk without the mark"
    assert mark.allowance(5) == AHEAD - 4, "its record is behind the mark"
    mark.taken()
    mark.committed()
    assert mark.allowance(4) == AHEAD - 3


def test_it_is_moved_when_half_of_the_way_is_gone() -> None:
    mark = RedeliveryMark()
    mark.move(0, 0)
    mark.taken()
    mark.committed()
    assert not mark.is_near(AHEAD // 2)
    assert mark.is_near(AHEAD // 2 + 1)


def test_one_move_waits_for_the_disk_at_a_time() -> None:
    """What was written behind the older mark counts on that one."""
    mark = RedeliveryMark()
    assert mark.move(0, 0)
    assert not mark.move(AHEAD - 1, 50)
    assert mark.position == AHEAD
    assert mark.move(AHEAD + 1, 50), "beyond it nothing was covered"
    assert mark.position == 2 * AHEAD + 1


def test_only_what_left_with_a_group_is_durable_with_it() -> None:
    mark = RedeliveryMark()
    mark.move(0, 0)
    mark.taken()
    mark.move(AHEAD + 1, 0)
    mark.committed()
    assert (mark.durable, mark.position) == (AHEAD, 2 * AHEAD + 1)


def test_recovery_takes_the_greatest_mark_unless_a_clean_end_has_set_it_back() -> None:
    mark = RedeliveryMark()
    for position in (100, 50):
        mark.raise_to(position)
    assert mark.position == 100
    mark.reset(7)
    mark.recovered()
    assert (mark.position, mark.durable) == (7, 7)
