"""Rules about consumers beside the ledger: single_active.py, consumer_timeout.py."""

from __future__ import annotations

import pytest

from broker.queues.quorum.consumer_timeout import CHECK_EVERY_MS, UNSET, is_too_slow, next_check_ms, timeout_ms
from broker.queues.quorum.single_active import best_consumer, is_to_step_down, next_active


def test_the_first_consumer_of_the_highest_priority_is_the_active_one() -> None:
    assert best_consumer({}) == 0
    assert best_consumer({7: -5, 8: -5}) == 7
    assert best_consumer({7: 0, 8: 3, 9: 3}) == 8
    assert next_active({7: 0, 8: 0}, 0, 0) == 7
    assert next_active({8: 0, 9: 0}, 7, 5) == 8, "the active one is gone"
    assert next_active({}, 7, 0) == 0


def test_a_higher_priority_takes_over_when_the_old_one_has_settled_everything() -> None:
    """A05."""
    consumers = {7: 0, 8: 1, 9: 1}
    assert is_to_step_down(consumers, 7)
    assert next_active(consumers, 7, 1) == 7
    assert next_active(consumers, 7, 0) == 8
    assert not is_to_step_down(consumers, 8)
    assert next_active(consumers, 9, 0) == 9, "equal ones do not take over"
    assert not is_to_step_down(consumers, 9)
    assert not is_to_step_down(consumers, 0)
    assert not is_to_step_down(consumers, 5)


@pytest.mark.parametrize(
    ("consumer", "queue", "policy", "timeout"),
    [
        (UNSET, UNSET, UNSET, 1_800_000),
        (5, 1, 2, 5),
        (0, 1, 2, 0),
        (UNSET, 60_000, 90_000, 60_000),
        (UNSET, 90_000, 60_000, 60_000),
        (UNSET, 90_000, UNSET, 90_000),
        (UNSET, UNSET, 60_000, 60_000),
    ],
)
def test_the_consumers_argument_comes_first(consumer: int, queue: int, policy: int, timeout: int) -> None:
    """Q20: the consumer's argument, then the smaller of the queue's and the policy's, then the node's."""
    assert timeout_ms(consumer, queue, policy, 1_800_000) == timeout


def test_a_consumer_goes_when_its_oldest_delivery_is_too_old() -> None:
    assert not is_too_slow(1000, 60_999, 60_000)
    assert is_too_slow(1000, 61_000, 60_000)
    assert not is_too_slow(UNSET, 1 << 50, 60_000)
    assert not is_too_slow(1000, 1 << 50, UNSET)
    assert not is_too_slow(1000, 1 << 50, 0)


def test_nobody_looks_more_often_than_once_a_minute() -> None:
    assert next_check_ms(1000, 2000, 1_800_000) == 1_801_000
    assert next_check_ms(UNSET, 2000, 1_800_000) == 1_802_000
    assert next_check_ms(1000, 2000, 5000) == 2000 + CHECK_EVERY_MS
    assert next_check_ms(1000, 2000, 0) == UNSET
