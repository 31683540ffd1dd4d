"""Queue arguments: what is refused, and what a redeclaration must repeat (broker/queues/arguments.py, registry.py;
RabbitMQ docs, Queues, Optional Arguments)."""

from __future__ import annotations

import pytest

from broker.errors import PRECONDITION_FAILED, ChannelException
from broker.queues import arguments as rows
from broker.queues import registry
from broker.queues.arguments import EXPIRY_MS_MAX, check_arguments
from broker.wire import table
from broker.wire.table import EMPTY, FieldTable
from tests.support.fakes import arguments as made
from tests.support.wire import Typed
from tests.support.wire import table as wire_table

LABEL = "queue 'q' in vhost '/'"


def typed(**fields: object) -> FieldTable:
    """Arguments with the type tags that a client chose: `typed(x_expires=Typed("s", 5))`."""
    return FieldTable(wire_table({name.replace("_", "-"): value for name, value in fields.items()})[4:])


def refusal(arguments: FieldTable) -> str:
    with pytest.raises(ChannelException) as raised:
        registry.check(arguments, LABEL)
    assert raised.value.code == PRECONDITION_FAILED
    return raised.value.explanation


@pytest.mark.parametrize("name", ["x_expires", "x_message_ttl", "x_max_length", "x_max_length_bytes", "x_max_priority"])
@pytest.mark.parametrize(
    ("value", "kind"),
    [("5", "longstr"), (5.0, "double"), (True, "bool"), (None, "void"), ([5], "array"), ({"a": 5}, "table"),
     (Typed("T", 5), "timestamp"),
     (Typed("f", 5.0), "float"), (Typed("x", b"5"), "binary")],
)  # fmt: skip
def test_other_types_are_refused_by_their_names(name: str, value: object, kind: str) -> None:
    """RabbitMQ docs, Queues, Optional Arguments."""
    assert (
        refusal(typed(**{name: value}))
        == f"invalid arg '{name.replace('_', '-')}' for {LABEL}: \"expected integer, got {kind}\""
    )


@pytest.mark.parametrize("name", ["x_expires", "x_message_ttl", "x_max_length", "x_max_length_bytes", "x_max_priority"])
@pytest.mark.parametrize("value", [-1, -(1 << 63)])
def test_negative_numbers_are_refused(name: str, value: int) -> None:
    assert refusal(typed(**{name: value})).endswith(f"{{value_negative,{value}}}")


def test_bounds() -> None:
    """RabbitMQ docs, Queues, Optional Arguments; RabbitMQ docs, Priority Queues; zero is a TTL, but no lease."""
    registry.check(typed(x_message_ttl=0, x_max_length=0, x_max_length_bytes=0, x_max_priority=0), LABEL)
    registry.check(
        typed(x_message_ttl=EXPIRY_MS_MAX, x_expires=EXPIRY_MS_MAX, x_max_priority=255, x_max_length=(1 << 63) - 1),
        LABEL,
    )
    assert refusal(typed(x_expires=0)).endswith("{value_zero,0}")
    for name in ("x_message_ttl", "x_expires"):
        assert refusal(typed(**{name: EXPIRY_MS_MAX + 1})).startswith(f"invalid arg '{name.replace('_', '-')}'")
    assert refusal(typed(x_max_priority=256)).startswith("invalid arg 'x-max-priority'")


@pytest.mark.parametrize(
    "arguments",
    [
        {"x_overflow": "drop-tail"}, {"x_overflow": ""}, {"x_overflow": 1}, {"x_queue_mode": "eager"},
        {"x_queue_mode": 1}, {"x_queue_version": 3},
        {"x_queue_version": "2"}, {"x_queue_type": "quantum"}, {"x_queue_type": ""}, {"x_queue_type": 1},
        {"x_single_active_consumer": 1}, {"x_single_active_consumer": "true"}, {"x_dead_letter_exchange": 1},
        {"x_dead_letter_exchange": None}, {"x_dead_letter_routing_key": "k"},
        {"x_dead_letter_routing_key": 1, "x_dead_letter_exchange": ""},
    ],
)  # fmt: skip
def test_nonsense_is_refused(arguments: dict[str, object]) -> None:
    assert "x-" in refusal(typed(**arguments))


SAMPLES: dict[str, tuple[object, object]] = {
    "x-expires": (1, 2), "x-message-ttl": (1, 2), "x-dead-letter-exchange": ("a", "b"),
    "x-dead-letter-routing-key": ("a", "b"), "x-max-length": (1, 2), "x-max-length-bytes": (1, 2),
    "x-max-priority": (1, 2), "x-overflow": ("drop-head", "reject-publish"), "x-queue-mode": ("default", "lazy"),
    "x-single-active-consumer": (True, False), "x-consumer-timeout": (1, 2), "x-queue-type": ("classic", "other"),
}  # fmt: skip


def differs(wanted: FieldTable, current: FieldTable) -> str:
    with pytest.raises(ChannelException) as raised:
        check_arguments(wanted, current, LABEL)
    assert raised.value.code == PRECONDITION_FAILED
    return raised.value.explanation


@pytest.mark.parametrize("name", SAMPLES)
def test_every_known_argument_must_be_repeated(name: str) -> None:
    """RabbitMQ docs, Queues, Property Equivalence: both sides are named with their values."""
    one, other = table.make({name: SAMPLES[name][0]}), table.make({name: SAMPLES[name][1]})
    check_arguments(one, one, LABEL)
    start = f"inequivalent arg '{name}' for {LABEL}: received "
    assert differs(one, other).startswith(start)
    assert differs(other, one) != differs(one, other)
    if name != "x-queue-type":
        assert differs(one, EMPTY).startswith(start + "the value '")
        assert differs(one, EMPTY).endswith("but current is none")
        assert differs(EMPTY, one).startswith(start + "none but current is the value '")


def test_queue_type_classic_is_the_default() -> None:
    """RabbitMQ docs, Queues, Property Equivalence."""
    classic = table.make({"x-queue-type": "classic"})
    check_arguments(classic, EMPTY, LABEL)
    check_arguments(EMPTY, classic, LABEL)
    assert "x-queue-type" in differs(table.make({"x-queue-type": "quorum"}), EMPTY)


def test_widths_do_not_matter_but_types_do() -> None:
    """RabbitMQ docs, Queues, Property Equivalence."""
    for one in "bBsuIilL":
        for other in "bBsuIilL":
            check_arguments(typed(x_max_length=Typed(one, 7)), typed(x_max_length=Typed(other, 7)), LABEL)
    assert "type 'longstr'" in differs(typed(x_max_length="7"), typed(x_max_length=7))


def test_what_is_not_known_is_not_compared() -> None:
    check_arguments(table.make({"mine": 1}), table.make({"mine": 2, "yours": 3}), LABEL)


def test_the_first_difference_is_named() -> None:
    """In RabbitMQ's order, whatever the order in the table."""
    wanted = table.make({"x-max-length": 1, "x-expires": 1})
    assert "'x-expires'" in differs(wanted, EMPTY)


@pytest.mark.parametrize("name", [each for each in rows.names() if each not in SAMPLES and each != "x-queue-version"])
def test_what_only_other_types_take_is_refused(name: str) -> None:
    text = f"invalid arg '{name}' for {LABEL} of queue type rabbit_classic_queue"
    assert refusal(table.make({name: 1})) == text
    if not name.startswith(("x-delayed-retry-", "x-consumer-")):
        check_arguments(table.make({name: 1}), EMPTY, LABEL)


def test_what_delays_retries_is_repeated_by_a_redeclaration() -> None:
    """RabbitMQ 4.3 compares these, unlike the others that only quorum queues take."""
    wanted = table.make({"x-delayed-retry-type": "all", "x-delayed-retry-min": 200})
    current = table.make({"x-delayed-retry-type": "all", "x-delayed-retry-min": 100})
    assert differs(wanted, current).endswith("received '200' but current is '100'")
    assert "'x-delayed-retry-type'" in differs(table.make({}), current)


def test_a_row_is_registered_once() -> None:
    with pytest.raises(ValueError, match="x-expires"):
        rows.register(rows.QueueArgument("x-expires", None))
    assert not rows.guards(made(x_max_length=5))
