"""The headers that say how often a message was delivered before (RabbitMQ 4.3, Quorum Queues, Poison Message
Handling)."""

from __future__ import annotations

from broker.message import Message
from broker.native import i64
from broker.queues.changed_message import changed
from broker.queues.delivery import Delivery
from broker.queues.quorum.ledger import Ledger
from broker.queues.quorum.values import acquired_count, delivery_count
from broker.wire import table
from broker.wire.properties import headers_of


def counted(ledger: Ledger, delivery: Delivery) -> Delivery:
    """The same with x-delivery-count and x-acquired-count; as it is, and not redelivered, if it never came back."""
    value = ledger.value_at(delivery.level, delivery.position)
    acquired = acquired_count(value)
    if acquired == 0:
        return Delivery(delivery.message, delivery.level, delivery.position, False)
    message = _with_counts(delivery.message, delivery_count(value), acquired)
    return Delivery(message, delivery.level, delivery.position, True)


def _with_counts(message: Message, deliveries: i64, acquired: i64) -> Message:
    headers = headers_of(message).raw
    pairs = [
        pair
        for pair in table.split(headers, 0, len(headers))
        if pair[0] not in (b"x-delivery-count", b"x-acquired-count")
    ]
    pairs.append((b"x-delivery-count", table.encode_value(int(deliveries))))
    pairs.append((b"x-acquired-count", table.encode_value(int(acquired))))
    return changed(message, table.join(pairs), None, message.tail)
