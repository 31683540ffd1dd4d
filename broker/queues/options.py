"""x-arguments of a queue -> ``QueueOptions``, validated; and the equivalence rule of queue.declare.

Unknown arguments are accepted, ignored, and not compared (RabbitMQ docs, Queues: optional arguments). Integer arguments take any
AMQP integer type; equal values of different widths are equivalent.
"""

from collections.abc import Callable
from typing import Final, final

from broker.errors import PRECONDITION_FAILED, ChannelException
from broker.wire.table import FieldTable

EXPIRY_MS_MAX: Final = 315_360_000_000
"""Ten years: RabbitMQ 4's bound on TTLs; 3.13 stops at 32 bits, which we take a superset of."""
_INTEGER_TYPES: Final = frozenset(
    ("byte", "short", "signedint", "long", "unsignedbyte", "unsignedshort", "unsignedint", "unsignedlong")
)
_OVERFLOWS: Final = ("drop-head", "reject-publish", "reject-publish-dlx")
DROP_HEAD: Final = 0
REJECT_PUBLISH: Final = 1
REJECT_PUBLISH_DLX: Final = 2


def _integer(value: object, kind: str) -> str:
    if kind not in _INTEGER_TYPES:
        return f'"expected integer, got {kind}"'
    return ""


def _non_negative(value: object, kind: str) -> str:
    fault = _integer(value, kind)
    if fault:
        return fault
    assert isinstance(value, int)
    if value < 0:
        return f"{{value_negative,{value}}}"
    return ""


def _expiry(value: object, kind: str) -> str:
    fault = _non_negative(value, kind)
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
    fault = _non_negative(value, kind)
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
    return "" if value in _OVERFLOWS else "invalid_overflow"


def _mode(value: object, kind: str) -> str:
    if kind != "longstr":
        return f"{{unacceptable_type,{kind}}}"
    return "" if value in ("default", "lazy") else f"\"unsupported queue mode '{value}'\""


def _version(value: object, kind: str) -> str:
    fault = _non_negative(value, kind)
    if fault:
        return fault
    return "" if value in (1, 2) else f"\"unsupported queue version '{value}'\""


def _boolean(value: object, kind: str) -> str:
    return "" if kind == "bool" else f"{{unacceptable_type,{kind}}}"


def _queue_type(value: object, kind: str) -> str:
    if kind != "longstr":
        return f"{{unacceptable_type,{kind}}}"
    return "" if value == "classic" else f"\"unsupported queue type '{value}'\""


_CHECKS: Final[dict[str, Callable[[object, str], str]]] = {
    "x-queue-type": _queue_type,
    "x-expires": _positive_expiry,
    "x-message-ttl": _expiry,
    "x-dead-letter-exchange": _string,
    "x-dead-letter-routing-key": _string,
    "x-max-length": _non_negative,
    "x-max-length-bytes": _non_negative,
    "x-max-priority": _max_priority,
    "x-overflow": _overflow,
    "x-queue-mode": _mode,
    "x-queue-version": _version,
    "x-single-active-consumer": _boolean,
}
"""In the order in which RabbitMQ looks at them."""
_FOREIGN: Final = (
    "x-delivery-limit",
    "x-dead-letter-strategy",
    "x-initial-cluster-size",
    "x-max-age",
    "x-max-in-memory-bytes",
    "x-max-in-memory-length",
    "x-queue-leader-locator",
    "x-quorum-initial-group-size",
    "x-stream-filter-size-bytes",
    "x-stream-max-segment-size-bytes",
)
"""Arguments that RabbitMQ knows but that a classic queue cannot use."""
COMPARED: Final = (
    "x-expires",
    "x-message-ttl",
    "x-dead-letter-exchange",
    "x-dead-letter-routing-key",
    "x-max-length",
    "x-max-length-bytes",
    "x-max-priority",
    "x-overflow",
    "x-queue-mode",
    "x-single-active-consumer",
    "x-queue-type",
)
"""Arguments that a redeclaration must repeat, in the order in which RabbitMQ looks at them."""


@final
class QueueOptions:
    """What a queue's arguments ask for; -1 and None where they say nothing."""

    def __init__(self, arguments: FieldTable) -> None:
        self.expires_ms = _int_of(arguments, "x-expires")
        self.message_ttl_ms = _int_of(arguments, "x-message-ttl")
        self.max_length = _int_of(arguments, "x-max-length")
        self.max_length_bytes = _int_of(arguments, "x-max-length-bytes")
        self.max_priority = _int_of(arguments, "x-max-priority")
        self.dead_letter_exchange = _text_of(arguments, "x-dead-letter-exchange")
        self.dead_letter_routing_key = _text_of(arguments, "x-dead-letter-routing-key")
        self.single_active = arguments.values.get("x-single-active-consumer") is True
        overflow = arguments.values.get("x-overflow")
        self.overflow = _OVERFLOWS.index(overflow) if isinstance(overflow, str) else DROP_HEAD

    def levels(self) -> int:
        """How many priorities are told apart."""
        return self.max_priority + 1 if self.max_priority > 0 else 1

    @property
    def limited(self) -> bool:
        """Whether a length limit is set."""
        return self.max_length >= 0 or self.max_length_bytes >= 0


def _int_of(arguments: FieldTable, key: str) -> int:
    value = arguments.values.get(key)
    return value if isinstance(value, int) else -1


def _text_of(arguments: FieldTable, key: str) -> str | None:
    value = arguments.values.get(key)
    return value if isinstance(value, str) else None


def validate(arguments: FieldTable, label: str) -> None:
    """Check the known arguments of a queue.

    Raises: PRECONDITION_FAILED (406) ``invalid arg 'x-...' for <label>: <reason>``.
    """
    target = "x-dead-letter-exchange"
    if arguments.has(target) and arguments.type_of(target) != "longstr":
        raise ChannelException(PRECONDITION_FAILED, f"invalid type '{arguments.type_of(target)}' for arg '{target}' in {label}")
    for key, check in _CHECKS.items():
        if key in arguments.values:
            fault = check(arguments.values[key], arguments.types[key])
            if fault:
                raise ChannelException(PRECONDITION_FAILED, f"invalid arg '{key}' for {label}: {fault}")
    if "x-dead-letter-routing-key" in arguments.values and "x-dead-letter-exchange" not in arguments.values:
        raise ChannelException(
            PRECONDITION_FAILED, f"invalid arg 'x-dead-letter-routing-key' for {label}: routing_key_but_no_dlx_defined"
        )


def refuse_foreign(arguments: FieldTable, label: str) -> None:
    """Only when a queue is really created: arguments of other queue types are refused.

    Raises: PRECONDITION_FAILED (406).
    """
    for key in _FOREIGN:
        if arguments.has(key):
            raise ChannelException(PRECONDITION_FAILED, f"invalid arg '{key}' for {label} of queue type rabbit_classic_queue")


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
    if key == "x-queue-type" and not (given and known):
        only = wanted if given else current
        if only.values[key] == "classic":
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
    """The equivalence rule for every argument that is compared.

    Raises: PRECONDITION_FAILED (406).
    """
    for key in COMPARED:
        check_argument(key, wanted, current, label)
