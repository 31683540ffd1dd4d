"""x-single-active-consumer on a quorum queue: one consumer has everything; one of a higher priority takes over when the
old one has nothing any more (RabbitMQ docs, Consumers, Single Active Consumer)."""

from __future__ import annotations

from broker.native import i64


def best_consumer(consumers: dict[int, int]) -> i64:
    """Of the consumers (their priorities by id, in the order in which they came) the first of the highest priority; 0
    if there is none."""
    best: i64 = 0
    highest: i64 = 0
    for consumer, priority in consumers.items():
        if best == 0 or priority > highest:
            best = consumer
            highest = priority
    return best


def next_active(consumers: dict[int, int], active: i64, held: i64) -> i64:
    """Who is to be the active one, when ``active`` (0 for none) is, and has ``held`` messages that are not settled."""
    best = best_consumer(consumers)
    if active == 0 or int(active) not in consumers:
        return best
    if held > 0 or consumers[int(best)] <= consumers[int(active)]:
        return active
    return best


def is_to_step_down(consumers: dict[int, int], active: i64) -> bool:
    """Whether the active one gets nothing more, since one of a higher priority waits until it has settled
    everything."""
    if active == 0 or int(active) not in consumers:
        return False
    return consumers[int(best_consumer(consumers))] > consumers[int(active)]
