"""What the arguments of a queue ask for (broker/queues/options.py; RabbitMQ docs, Queues, Optional Arguments)."""

from __future__ import annotations

import pytest

from broker.queues import registry
from broker.queues.options import DROP_HEAD, REJECT_PUBLISH, REJECT_PUBLISH_DLX, QueueOptions
from broker.wire import table
from broker.wire.table import EMPTY, FieldTable
from tests.support.wire import Typed
from tests.support.wire import table as wire_table

LABEL = "queue 'q' in vhost '/'"


def typed(**fields: object) -> FieldTable:
    """Arguments with the type tags that a client chose: `typed(x_expires=Typed("s", 5))`."""
    return FieldTable(wire_table({name.replace("_", "-"): value for name, value in fields.items()})[4:])


def test_no_arguments_ask_for_nothing() -> None:
    options = QueueOptions(EMPTY)
    assert (
        options.expires_ms,
        options.message_ttl_ms,
        options.max_length,
        options.max_length_bytes,
        options.max_priority,
    ) == (-1,) * 5
    assert (options.dead_letter_exchange, options.dead_letter_routing_key) == (None, None)
    assert (options.single_active, options.overflow, options.limited) == (False, DROP_HEAD, False)
    registry.check(EMPTY, LABEL)


def test_every_argument_has_its_place() -> None:
    arguments = table.make(
        {
            "x-expires": 1, "x-message-ttl": 2, "x-max-length": 3, "x-max-length-bytes": 4, "x-max-priority": 5,
            "x-single-active-consumer": True,
            "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "k", "x-overflow": "reject-publish",
            "x-queue-type": "classic", "x-queue-mode": "lazy", "x-queue-version": 2, "mine": ["anything"],
        }
    )  # fmt: skip
    registry.check(arguments, LABEL)
    options = QueueOptions(arguments)
    assert (
        options.expires_ms,
        options.message_ttl_ms,
        options.max_length,
        options.max_length_bytes,
        options.max_priority,
    ) == (
        1,
        2,
        3,
        4,
        5,
    )
    assert (options.dead_letter_exchange, options.dead_letter_routing_key, options.single_active) == ("", "k", True)
    assert (options.overflow, options.limited) == (REJECT_PUBLISH, True)


@pytest.mark.parametrize(
    ("name", "value"),
    [("drop-head", DROP_HEAD), ("reject-publish", REJECT_PUBLISH), ("reject-publish-dlx", REJECT_PUBLISH_DLX)],
)
def test_overflow_strategies(name: str, value: int) -> None:
    assert QueueOptions(table.make({"x-overflow": name})).overflow == value


@pytest.mark.parametrize(
    ("without", "expected"),
    [
        ("", True),
        ("x-overflow", False),
        ("x-dead-letter-exchange", False),
        ("x-dead-letter-strategy", False),
        ("x-queue-type", False),
    ],
)
def test_dead_letters_stay_if_all_three_ask_for_it(without: str, expected: bool) -> None:
    """RabbitMQ docs, Quorum Queues: at-least-once dead lettering."""
    given: dict[str, object] = {
        "x-queue-type": "quorum",
        "x-overflow": "reject-publish",
        "x-dead-letter-exchange": "",
        "x-dead-letter-strategy": "at-least-once",
    }
    given.pop(without, None)
    assert QueueOptions(table.make(given)).at_least_once is expected


@pytest.mark.parametrize("tag", list("bBsuIilL"))
@pytest.mark.parametrize("name", ["x_expires", "x_message_ttl", "x_max_length", "x_max_length_bytes", "x_max_priority"])
def test_integers_of_every_width_are_taken(name: str, tag: str) -> None:
    """RabbitMQ docs, Queues, Optional Arguments."""
    arguments = typed(**{name: Typed(tag, 100)})
    registry.check(arguments, LABEL)
    options = QueueOptions(arguments)
    assert 100 in (
        options.expires_ms,
        options.message_ttl_ms,
        options.max_length,
        options.max_length_bytes,
        options.max_priority,
    )
