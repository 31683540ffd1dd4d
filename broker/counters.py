"""Plain integer counters of one node: what the hot path may touch. Read at scrape time, reset never.

Counted per batch where the hot path works in batches, so a counter costs nothing per message.
"""

from typing import final

from broker.native import i64


@final
class Counters:
    """Totals since the start of the node. Names follow RabbitMQ's metrics (`rabbitmq_global_messages_*_total`)."""

    def __init__(self) -> None:
        self.connections_opened = 0
        self.connections_closed = 0
        self.channels_opened = 0
        self.channels_closed = 0
        self.queues_declared = 0
        self.queues_created = 0
        self.queues_deleted = 0
        self.auth_attempts_succeeded = 0
        self.auth_attempts_failed = 0
        self.messages_received: i64 = 0
        self.messages_received_confirm: i64 = 0
        self.messages_confirmed: i64 = 0
        self.messages_unroutable_returned = 0
        self.messages_unroutable_dropped = 0
        self.messages_delivered_auto_ack: i64 = 0
        self.messages_delivered_ack: i64 = 0
        self.messages_redelivered: i64 = 0
        self.messages_acked: i64 = 0
        self.messages_got_auto_ack: i64 = 0
        self.messages_got_ack: i64 = 0
        self.messages_got_empty = 0
        self.dead_lettered_expired = 0
        self.dead_lettered_maxlen = 0
        self.dead_lettered_rejected = 0
        self.kept_dead_letters_expired = 0
        self.kept_dead_letters_rejected = 0
        self.kept_dead_letters_delivery_limit = 0
        self.kept_dead_letters_confirmed = 0
        self.of_deleted: dict[str, list[int]] = {}
        """What queues of other types than classic had counted that are deleted, by the label of the type: in the order
        of ``DELIVERY_NAMES`` (stats.py)."""

    def messages_moved(self) -> int:
        """Grows with every message that comes or goes: a node where it stands still is quiet."""
        return int(
            self.messages_received
            + self.messages_delivered_auto_ack
            + self.messages_delivered_ack
            + self.messages_acked
        )


def add_counts(sums: dict[str, list[int]], label: str, counts: list[int]) -> None:
    """Add up what queues of a type have counted."""
    found = sums.get(label)
    sums[label] = counts if found is None else [one + other for one, other in zip(found, counts, strict=True)]
