"""broker/queues/memory.py: what a backlog of messages may take of the node's memory."""

from __future__ import annotations

import pytest

from broker.queues.memory import ALLOWANCE_MIN, QueueMemory

MIB = 1 << 20


@pytest.mark.parametrize("backlogs", [1, 2, 9, 99])
def test_backlogs_that_grow_alike_share_the_budget_and_leave_as_much_as_one_of_them_has(backlogs: int) -> None:
    """Choudhury and Hahne 1998, dynamic thresholds with a factor of one."""
    memory = QueueMemory(100 * MIB)
    have = [0] * backlogs
    for _ in range(100_000):
        grown = False
        for backlog in range(backlogs):
            if have[backlog] + 10_000 <= memory.allowance(1 << 40):
                have[backlog] += 10_000
                memory.used += 10_000
                grown = True
        if not grown:
            break
    share = 100 * MIB / (backlogs + 1)
    assert all(share - 20_000 < each < share + 20_000 for each in have)


def test_a_backlog_may_always_have_a_little_and_never_more_than_its_own_limit() -> None:
    memory = QueueMemory(10 * MIB)
    assert memory.allowance(2 * MIB) == 2 * MIB
    memory.used = 20 * MIB
    assert memory.allowance(2 * MIB) == ALLOWANCE_MIN
    assert memory.allowance(1000) == 1000
