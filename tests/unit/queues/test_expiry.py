"""How long a message may wait (broker/queues/expiry.py; RabbitMQ docs, Time-To-Live and Expiration)."""

from __future__ import annotations

import pytest

from broker.queues.expiry import ttl_ms
from broker.queues.options import QueueOptions
from tests.support.fakes import arguments, make_message


@pytest.mark.parametrize(
    ("queue", "message", "expected"),
    [
        (-1, -1, -1),
        (50, -1, 50),
        (-1, 50, 50),
        (50, 60, 50),
        (60, 50, 50),
        (0, 50, 0),
        (50, 0, 0),
        (0, -1, 0),
        (-1, 0, 0),
        (1 << 38, 1 << 37, 1 << 37),
    ],
)
def test_the_smaller_one_counts(queue: int, message: int, expected: int) -> None:
    """RabbitMQ docs, Time-To-Live; -1 is for ever."""
    options = QueueOptions(arguments() if queue < 0 else arguments(x_message_ttl=queue))
    assert ttl_ms(options, make_message(b"x", expiration_ms=message)) == expected
