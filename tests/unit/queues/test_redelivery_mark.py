"""broker/queues/redelivery_mark.py: what may be delivered before the disk knows that it may have been."""

from __future__ import annotations

from broker.queues.redelivery_mark import MARK_AHEAD, RedeliveryMark, is_near, redelivered_through
from broker.store.log import Log
from broker.store.logs import Logs
from broker.store.records import MESSAGE
from tests.support.fake_clock import FakeClock

AHEAD = int(MARK_AHEAD)


def log_with(count: int) -> Log:
    """A log with so many records."""
    log = Logs(FakeClock()).open(1)
    fill(log, count)
    return log


def fill(log: Log, count: int) -> None:
    batch = log._writer.batch
    for _ in range(count):
        assert log.append(log.positions.next, MESSAGE, 4, object())
        batch.write(b"body")
        batch.end()


def sync(log: Log) -> None:
    log.taken()
    log.committed()


def test_nothing_is_delivered_before_a_mark_covers_it() -> None:
    log, mark = log_with(5), RedeliveryMark()
    assert is_near(log, 0)
    assert mark.allowance(log, 0) == 0
    assert log.note.value == AHEAD
    assert mark.allowance(log, 4) == 0, "its record may be on the disk without the mark"
    assert mark.allowance(log, 5) == AHEAD - 4, "its record is behind the mark"
    sync(log)
    assert mark.allowance(log, 4) == AHEAD - 3


def test_it_is_moved_when_half_of_the_way_is_gone() -> None:
    log, mark = log_with(0), RedeliveryMark()
    mark.cover(log, 0)
    sync(log)
    assert not is_near(log, AHEAD // 2)
    assert is_near(log, AHEAD // 2 + 1)


def test_one_move_waits_for_the_disk_at_a_time() -> None:
    """What was written behind the older mark counts on that one."""
    log, mark = log_with(0), RedeliveryMark()
    mark.cover(log, 0)
    fill(log, 50)
    mark.cover(log, AHEAD - 1)
    assert log.note.value == AHEAD
    mark.cover(log, AHEAD + 1)
    assert log.note.value == 2 * AHEAD + 1, "beyond it nothing was covered"


def test_only_what_left_with_a_group_is_durable_with_it() -> None:
    log, mark = log_with(0), RedeliveryMark()
    mark.cover(log, 0)
    log.taken()
    mark.cover(log, AHEAD + 1)
    log.committed()
    assert (log.note.durable, log.note.value) == (AHEAD, 2 * AHEAD + 1)


def test_a_start_knows_what_was_there_and_may_have_been_delivered() -> None:
    log = log_with(5)
    assert redelivered_through(log) == -1
    log.raise_note(3)
    assert redelivered_through(log) == 3
    log.raise_note(AHEAD)
    assert redelivered_through(log) == 4
