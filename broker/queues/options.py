"""What the arguments of a queue ask for, ready to be obeyed (arguments.py says which there are, and what is wrong with
them)."""

from typing import Final, final

from broker.queues.arguments import OVERFLOWS, QUEUE_TYPE, QUORUM
from broker.wire.table import FieldTable

DROP_HEAD: Final = 0
REJECT_PUBLISH: Final = 1
REJECT_PUBLISH_DLX: Final = 2


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
        self.delivery_limit = _int_of(arguments, "x-delivery-limit")
        self.consumer_timeout_ms = _int_of(arguments, "x-consumer-timeout")
        self.single_active = arguments.values.get("x-single-active-consumer") is True
        overflow = arguments.values.get("x-overflow")
        self.overflow = OVERFLOWS.index(overflow) if isinstance(overflow, str) else DROP_HEAD
        self.at_least_once = (
            arguments.values.get("x-dead-letter-strategy") == "at-least-once"
            and arguments.values.get(QUEUE_TYPE) == QUORUM
            and self.dead_letter_exchange is not None
            and self.overflow == REJECT_PUBLISH
        )
        """Dead letters stay until all their targets have them; asked for without the other two, it is at most once, as
        in RabbitMQ."""

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
