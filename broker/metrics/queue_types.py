"""What was delivered and settled, by the type of the queue: those of other types than classic have counted it, and what
is left of the totals of the node is that of the classic ones."""

from __future__ import annotations

from typing import Final, NamedTuple

from broker.counters import Counters
from broker.queues.arguments import CLASSIC
from broker.queues.registry import type_labels
from broker.stats import DELIVERY_NAMES

_CONSUMED: Final = ("deliver", "deliver_no_ack")
_GOT: Final = ("get", "get_no_ack")


class Deliveries(NamedTuple):
    """One metric."""

    name: str
    help: str
    parts: tuple[str, ...]
    """What it is the sum of, in the words of ``DELIVERY_NAMES``."""


DELIVERIES: Final = (
    Deliveries(
        "rabbitmq_global_messages_delivered", "Messages delivered to consumers or to basic.get", _CONSUMED + _GOT
    ),
    Deliveries(
        "rabbitmq_global_messages_delivered_consume_auto_ack",
        "Messages delivered to consumers with automatic acknowledgement",
        ("deliver_no_ack",),
    ),
    Deliveries(
        "rabbitmq_global_messages_delivered_consume_manual_ack",
        "Messages delivered to consumers with manual acknowledgement",
        ("deliver",),
    ),
    Deliveries(
        "rabbitmq_global_messages_delivered_get_auto_ack",
        "Messages delivered to basic.get with automatic acknowledgement",
        ("get_no_ack",),
    ),
    Deliveries(
        "rabbitmq_global_messages_delivered_get_manual_ack",
        "Messages delivered to basic.get with manual acknowledgement",
        ("get",),
    ),
    Deliveries("rabbitmq_global_messages_get_empty", "basic.get operations that fetched no message", ("get_empty",)),
    Deliveries("rabbitmq_global_messages_redelivered", "Messages redelivered to consumers", ("redeliver",)),
    Deliveries("rabbitmq_global_messages_acknowledged", "Messages acknowledged by consumers", ("ack",)),
)


def _totals(counters: Counters) -> dict[str, int]:
    return {
        "deliver": int(counters.messages_delivered_ack),
        "deliver_no_ack": int(counters.messages_delivered_auto_ack),
        "get": int(counters.messages_got_ack),
        "get_no_ack": int(counters.messages_got_auto_ack),
        "get_empty": counters.messages_got_empty,
        "redeliver": int(counters.messages_redelivered),
        "ack": int(counters.messages_acked),
    }


def deliveries(told: Deliveries, counters: Counters, present: dict[str, list[int]]) -> dict[str, int]:
    """The metric for each queue type that there is; ``present`` is what the queues have counted that are there."""
    totals = _totals(counters)
    left = sum(totals[part] for part in told.parts)
    found: dict[str, int] = {}
    for name, label in type_labels().items():
        if name == CLASSIC:
            continue
        counts = [0] * len(DELIVERY_NAMES)
        for known in (counters.of_deleted, present):
            for at, count in enumerate(known.get(label, [])):
                counts[at] += count
        found[label] = sum(counts[DELIVERY_NAMES.index(part)] for part in told.parts)
        left -= found[label]
    return {type_labels()[CLASSIC]: left, **found}
