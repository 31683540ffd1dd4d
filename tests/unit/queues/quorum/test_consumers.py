"""Rules about consumers beside the ledger (single_active.py)."""

from __future__ import annotations

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
