"""How far a queue is over its limit (broker/queues/limits.py; RabbitMQ docs, Queue Length Limit)."""

from __future__ import annotations

import pytest

from broker.queues.limits import full, over_limit
from broker.queues.options import QueueOptions
from tests.support.fakes import arguments


@pytest.mark.parametrize(
    ("given", "count", "size", "over", "is_full"),
    [
        ({}, 1 << 40, 1 << 50, False, False),
        ({"x_max_length": 2}, 1, 0, False, False),
        ({"x_max_length": 2}, 2, 0, False, True),
        ({"x_max_length": 2}, 3, 0, True, True),
        ({"x_max_length": 0}, 0, 0, False, True),
        ({"x_max_length": 0}, 1, 0, True, True),
        ({"x_max_length_bytes": 10}, 99, 9, False, False),
        ({"x_max_length_bytes": 10}, 1, 10, False, True),
        ({"x_max_length_bytes": 10}, 1, 11, True, True),
        ({"x_max_length_bytes": 0}, 1, 0, False, True),
        ({"x_max_length": 5, "x_max_length_bytes": 10}, 6, 0, True, True),
        ({"x_max_length": 5, "x_max_length_bytes": 10}, 1, 11, True, True),
        ({"x_max_length": 5, "x_max_length_bytes": 10}, 5, 9, False, True),
    ],
)
def test_limits(given: dict[str, object], count: int, size: int, over: bool, is_full: bool) -> None:
    """A queue that drops may reach its limit; one that refuses has no room once it has."""
    options = QueueOptions(arguments(**given))
    assert (over_limit(options, count, size), full(options, count, size)) == (over, is_full)
