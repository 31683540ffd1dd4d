"""The x-arguments of queue.declare: one row for each that is known, with its check; and the rule of equivalence.

Arguments that nobody knows are accepted, ignored, and not compared (RabbitMQ docs, Queues: optional arguments). Integer
arguments take any AMQP integer type; equal values of different widths are equivalent.

A further argument is a row more (``register``), and the code that obeys it: what a ``Guard`` can decide needs nothing
else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, final

from broker.errors import PRECONDITION_FAILED, ChannelException
from broker.wire.table import FieldTable

if TYPE_CHECKING:
    from broker.queues.guard import Guard

EXPIRY_MS_MAX: Final = 315_360_000_000
"""Ten years: RabbitMQ 4's bound on TTLs; 3.13 stops at 32 bits, which we take a superset of."""
DEAD_LETTER_EXCHANGE: Final = "x-dead-letter-exchange"
QUEUE_TYPE: Final = "x-queue-type"
CLASSIC: Final = "classic"
QUORUM: Final = "quorum"
_INTEGER_TYPES: Final = frozenset(
    ("byte", "short", "signedint", "long", "unsignedbyte", "unsignedshort", "unsignedint", "unsignedlong")
)
OVERFLOWS: Final = ("drop-head", "reject-publish", "reject-publish-dlx")


def _integer(value: object, kind: str) -> str:
    if kind not in _INTEGER_TYPES:
        return f'"expected integer, got {kind}"'
    return ""


def non_negative(value: object, kind: str) -> str:
    """The check of an argument that is a whole number, as ``QueueArgument.check``."""
    fault = _integer(value, kind)
    if fault:
        return fault
    assert isinstance(value, int)
    if value < 0:
        return f"{{value_negative,{value}}}"
    return ""


def _expiry(value: object, kind: str) -> str:
    fault = non_negative(value, kind)
    if fault:
        return fault
    assert isinstance(value, int)
    if value > EXPIRY_MS_MAX:
        return f"{{value_too_large,{value}}}"
    return ""


def _positive_expiry(value: object, kind: str) -> str:
    fault = _expiry(value, kind)
    if not fault and value == 0:
        return "{value_zero,0}"
    return fault


def _max_priority(value: object, kind: str) -> str:
    fault = non_negative(value, kind)
    if fault:
        return fault
    assert isinstance(value, int)
    if value > 255:
        return f"{{max_value_exceeded,{value}}}"
    return ""


def _string(value: object, kind: str) -> str:
    return "" if kind == "longstr" else f"{{unacceptable_type,{kind}}}"


def _overflow(value: object, kind: str) -> str:
    if kind != "longstr":
        return f"{{unacceptable_type,{kind}}}"
    return "" if value in OVERFLOWS else "invalid_overflow"


def _mode(value: object, kind: str) -> str:
    if kind != "longstr":
        return f"{{unacceptable_type,{kind}}}"
    return "" if value in ("default", "lazy") else f"\"unsupported queue mode '{value}'\""


def _version(value: object, kind: str) -> str:
    fault = non_negative(value, kind)
    if fault:
        return fault
    return "" if value in (1, 2) else f"\"unsupported queue version '{value}'\""


def _strategy(value: object, kind: str) -> str:
    if kind != "longstr":
        return f"{{unacceptable_type,{kind}}}"
    return "" if value in ("at-most-once", "at-least-once") else "invalid_dlx_strategy"


def _locator(value: object, kind: str) -> str:
    if kind != "longstr":
        return f"{{unacceptable_type,{kind}}}"
    known = ("client-local", "balanced", "random", "least-leaders")
    return "" if value in known else "invalid_queue_locator_arg"


def _positive(value: object, kind: str) -> str:
    fault = non_negative(value, kind)
    if not fault and value == 0:
        return "{value_zero,0}"
    return fault


def _boolean(value: object, kind: str) -> str:
    return "" if kind == "bool" else f"{{unacceptable_type,{kind}}}"


@final
class QueueArgument:
    """One argument."""

    def __init__(
        self,
        name: str,
        check: Callable[[object, str], str] | None,
        *,
        types: Iterable[str] = (CLASSIC,),
        compared: bool = True,
        guard: Callable[[object], Guard] | None = None,
    ) -> None:
        self.name = name
        self.check = check
        """What is wrong with a value of this AMQP type (``FieldTable.types``), as RabbitMQ words it; "" for nothing.
        None: no check."""
        self.types = frozenset(types)
        """The queue types that take it, besides those that say so themselves (``QueueType.arguments``); the others
        refuse it."""
        self.compared = compared
        """Whether a redeclaration must repeat it."""
        self.guard = guard
        """Makes what decides about each message of a queue that has it; None for an argument that the queue itself
        obeys."""


_ARGUMENTS: Final[dict[str, QueueArgument]] = {}
"""In the order in which RabbitMQ looks at them."""


def register(argument: QueueArgument) -> None:
    """Make an argument known, behind those that are. Raises: ValueError if there is one of that name."""
    if argument.name in _ARGUMENTS:
        raise ValueError(f"there is an argument {argument.name} already")
    _ARGUMENTS[argument.name] = argument


_BOTH: Final = (CLASSIC, QUORUM)

for _argument in (
    QueueArgument("x-expires", _positive_expiry, types=_BOTH),
    QueueArgument("x-message-ttl", _expiry, types=_BOTH),
    QueueArgument(DEAD_LETTER_EXCHANGE, _string, types=_BOTH),
    QueueArgument("x-dead-letter-routing-key", _string, types=_BOTH),
    QueueArgument("x-dead-letter-strategy", _strategy, types=(QUORUM,), compared=False),
    QueueArgument("x-max-length", non_negative, types=_BOTH),
    QueueArgument("x-max-length-bytes", non_negative, types=_BOTH),
    QueueArgument("x-max-in-memory-length", None, types=(QUORUM,), compared=False),
    QueueArgument("x-max-in-memory-bytes", None, types=(QUORUM,), compared=False),
    QueueArgument("x-max-priority", _max_priority, types=_BOTH),
    QueueArgument("x-overflow", _overflow, types=_BOTH),
    QueueArgument("x-queue-mode", _mode),
    QueueArgument("x-queue-version", _version, compared=False),
    QueueArgument("x-single-active-consumer", _boolean, types=_BOTH),
    QueueArgument("x-delivery-limit", None, types=(QUORUM,), compared=False),
    QueueArgument("x-delayed-retry-type", None, types=(QUORUM,)),
    QueueArgument("x-delayed-retry-min", None, types=(QUORUM,)),
    QueueArgument("x-delayed-retry-max", None, types=(QUORUM,)),
    QueueArgument("x-consumer-timeout", non_negative, types=_BOTH),
    QueueArgument("x-consumer-disconnected-timeout", non_negative, types=(QUORUM,)),
    QueueArgument("x-queue-leader-locator", _locator, types=(QUORUM,), compared=False),
    QueueArgument("x-quorum-initial-group-size", _positive, types=(QUORUM,), compared=False),
    # of streams, which there are none of yet
    QueueArgument("x-initial-cluster-size", None, types=(), compared=False),
    QueueArgument("x-max-age", None, types=(), compared=False),
    QueueArgument("x-stream-filter-size-bytes", None, types=(), compared=False),
    QueueArgument("x-stream-max-segment-size-bytes", None, types=(), compared=False),
):
    register(_argument)


def names() -> list[str]:
    """The arguments that are known, besides x-queue-type, which is about all of them (registry.py)."""
    return list(_ARGUMENTS)


def forget(name: str) -> None:
    """Take back what ``register`` has done: for tests."""
    del _ARGUMENTS[name]


def guards(arguments: FieldTable) -> list[Guard]:
    """What decides about each message of a queue with these arguments, in the order of the rows."""
    return [
        argument.guard(arguments.values[argument.name])
        for argument in _ARGUMENTS.values()
        if argument.guard is not None and argument.name in arguments.values
    ]


def is_guarded(arguments: FieldTable) -> bool:
    """Whether any guard decides."""
    return any(argument.guard is not None and argument.name in arguments.values for argument in _ARGUMENTS.values())


def invalid(name: str, label: str, fault: str) -> ChannelException:
    """The answer to an argument that cannot be used."""
    return ChannelException(PRECONDITION_FAILED, f"invalid arg '{name}' for {label}: {fault}")


def check_exchange_name(name: str, arguments: FieldTable, label: str) -> None:
    """Of an argument that names an exchange, of a queue or of an exchange; looked at before all others.

    Raises: PRECONDITION_FAILED (406) ``invalid type '...' for arg '...' in <label>`` if it is no string.
    """
    if arguments.has(name) and arguments.type_of(name) != "longstr":
        raise ChannelException(
            PRECONDITION_FAILED, f"invalid type '{arguments.type_of(name)}' for arg '{name}' in {label}"
        )


def validate(arguments: FieldTable, label: str, type_name: str) -> None:
    """Check the known arguments of a queue of this type; those that only other types than classic have, and not this
    one, are refused by ``refuse_foreign``.

    Raises: PRECONDITION_FAILED (406) ``invalid arg 'x-...' for <label>: <reason>``.
    """
    for argument in _ARGUMENTS.values():
        if argument.check is None or not argument.types & {type_name, CLASSIC}:
            continue
        if argument.name in arguments.values:
            fault = argument.check(arguments.values[argument.name], arguments.types[argument.name])
            if fault:
                raise invalid(argument.name, label, fault)
    if "x-dead-letter-routing-key" in arguments.values and DEAD_LETTER_EXCHANGE not in arguments.values:
        raise invalid("x-dead-letter-routing-key", label, "routing_key_but_no_dlx_defined")


def refuse_foreign(arguments: FieldTable, label: str, type_name: str, own: frozenset[str], type_label: str) -> None:
    """Only when a queue is really created: arguments that its type does not take are refused.

    Raises: PRECONDITION_FAILED (406).
    """
    for name, argument in _ARGUMENTS.items():
        if arguments.has(name) and type_name not in argument.types and name not in own:
            raise ChannelException(PRECONDITION_FAILED, f"invalid arg '{name}' for {label} of queue type {type_label}")


def _printed(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def check_argument(key: str, wanted: FieldTable, current: FieldTable, label: str) -> None:
    """The equivalence rule for one argument (queue.declare rule "equivalent"; texts as RabbitMQ words them).

    Raises: PRECONDITION_FAILED (406) ``inequivalent arg ...``.
    """
    given = key in wanted.values
    known = key in current.values
    if not given and not known:
        return
    if key == QUEUE_TYPE and not (given and known):
        only = wanted if given else current
        if only.values[key] == CLASSIC:
            return
    if given and known:
        if wanted.values[key] == current.values[key] and _comparable(wanted.types[key], current.types[key]):
            return
    if given and known and _comparable(wanted.types[key], current.types[key]):
        received = f"'{_printed(wanted.values[key])}'"
        present = f"'{_printed(current.values[key])}'"
    else:
        received = _described(wanted, key)
        present = _described(current, key)
    raise ChannelException(
        PRECONDITION_FAILED, f"inequivalent arg '{key}' for {label}: received {received} but current is {present}"
    )


def _described(arguments: FieldTable, key: str) -> str:
    if key not in arguments.values:
        return "none"
    return f"the value '{_printed(arguments.values[key])}' of type '{arguments.types[key]}'"


def _comparable(one: str, other: str) -> bool:
    return one == other or (one in _INTEGER_TYPES and other in _INTEGER_TYPES)


def check_arguments(wanted: FieldTable, current: FieldTable, label: str) -> None:
    """The equivalence rule for every argument that is compared, the queue's type last.

    Raises: PRECONDITION_FAILED (406).
    """
    for name, argument in _ARGUMENTS.items():
        if argument.compared:
            check_argument(name, wanted, current, label)
    check_argument(QUEUE_TYPE, wanted, current, label)
