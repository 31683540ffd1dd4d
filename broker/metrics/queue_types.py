"""What was delivered and settled, by the type of the queue: those of other types than classic have counted it, and what
is left of the totals of the node is that of the classic ones."""

from __future__ import annotations

from typing import Final, NamedTuple

from broker.counters import Counters, add_counts
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

    def total(self, counts: list[int]) -> int:
        """The metric of one queue type."""
        return sum(counts[DELIVERY_NAMES.index(part)] for part in self.parts)


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


def by_type(counters: Counters, present: dict[str, list[int]]) -> dict[str, list[int]]:
    """What is counted of the queues of each type, in the order of ``DELIVERY_NAMES`` but for what was published;
    ``present`` is what the queues have counted that are there."""
    labels = type_labels()
    found = {label: [0] * len(DELIVERY_NAMES) for name, label in labels.items() if name != CLASSIC}
    for known in (counters.of_deleted, present):
        for label, counts in known.items():
            add_counts(found, label, counts)
    totals = [
        0,
        int(counters.messages_delivered_ack),
        int(counters.messages_delivered_auto_ack),
        int(counters.messages_got_ack),
        int(counters.messages_got_auto_ack),
        counters.messages_got_empty,
        int(counters.messages_redelivered),
        int(counters.messages_acked),
    ]
    others = [sum(counts) for counts in zip(*found.values(), strict=True)]
    return {labels[CLASSIC]: [one - other for one, other in zip(totals, others, strict=True)], **found}
