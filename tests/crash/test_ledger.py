"""The ledger finds what it is there for: each kind of bad history is flagged, by the name of its invariant, and a good
one is not.

Reliability practice: a checker that has never found anything proves nothing. The histories come from a small model of a
node (one queue, or several for what needs them) that keeps its promises, except for the one mistake that a test plants
at a random moment.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

import pytest

from tests.crash.ledger import Fate, Group, Ledger, Message, QueueRule

RULES: Final = {
    "one": QueueRule(),
    "two": QueueRule(),
    "rejecting": QueueRule(dead_letters_to="dead"),
    "dead": QueueRule(ordered=False, dead_letters=True),
    "transient": QueueRule(durable=False),
}
SEEDS: Final = range(40)
pytestmark = pytest.mark.once


class Kept:
    """A message in a queue of the model."""

    def __init__(self, message: Message) -> None:
        self.message = message
        self.delivered = False


class ModelNode:
    """A node that does what it should; `ledger` sees what its clients see."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.ledger = Ledger(RULES)
        self.queues: dict[str, list[Kept]] = {name: [] for name in RULES}

    def publish(
        self, *queues: str, confirm: bool = True, persistent: bool = True, group: Group | None = None
    ) -> Message:
        """A message that reaches the queues, confirmed or not."""
        message = self.ledger.attempt("publisher", "", queues[0], queues, persistent=persistent, group=group)
        for queue in queues:
            self.queues[queue].append(Kept(message))
        if confirm:
            self.ledger.confirm(message)
        return message

    def deliver(
        self, queue: str, kept: Kept, *, redelivered: bool | None = None, body: bytes | None = None, fetch: bool = False
    ) -> None:
        """Show a message to a consumer, who acknowledges it when it drains."""
        message = kept.message
        flag = kept.delivered if redelivered is None else redelivered
        copy = self.ledger.deliver(
            queue,
            message.exchange,
            message.routing_key,
            flag,
            message.header(),
            message.body() if body is None else body,
        )
        kept.delivered = True
        if copy is not None and fetch:
            self.ledger.fetch(copy)
            self.ledger.ack(copy)

    def consume(self, queue: str, count: int) -> list[Kept]:
        """Deliver the first messages of a queue; they stay unacknowledged."""
        taken = self.queues[queue][:count]
        for kept in taken:
            self.deliver(queue, kept)
        return taken

    def ack(self, queue: str, taken: list[Kept], *, safe: bool) -> None:
        """Acknowledge deliveries, and perhaps learn that the acks are on the disk."""
        copies = [self.ledger.copies[queue][kept.message.number] for kept in taken]
        for kept, copy in zip(taken, copies, strict=True):
            self.ledger.ack(copy)
            self.queues[queue].remove(kept)
        if safe:
            self.ledger.settle(copies)

    def crash(self) -> None:
        """Lose what may be lost: here, only what must not survive."""
        self.ledger.crash()
        for queue, rule in RULES.items():
            self.queues[queue] = [kept for kept in self.queues[queue] if rule.durable and kept.message.persistent]

    def drain(self, *queues: str) -> None:
        """Deliver and acknowledge everything."""
        self.ledger.begin_drain(*queues)
        for queue in queues:
            self.ledger.check_count(queue, len(self.queues[queue]), "the model")
            for kept in self.queues[queue]:
                self.deliver(queue, kept, fetch=True)
            self.queues[queue] = []
        self.ledger.drain(*queues)

    def life(self) -> None:
        """Some publishes, deliveries and acks, a crash, and what is left of it all: nothing wrong."""
        some = self.random.randint
        for _ in range(some(5, 20)):
            self.publish("one", confirm=self.random.random() < 0.8)
        for _ in range(some(1, 5)):
            self.publish("one", "two", "transient", persistent=self.random.random() < 0.7)
        for queue in ("one", "one", "one", "two", "two", "rejecting", "rejecting"):
            self.publish(queue)
        self.ack("one", self.consume("one", some(1, 4)), safe=True)
        self.ack("one", self.consume("one", some(0, 3)), safe=False)
        self.consume("one", some(0, 3))
        rejected = self.consume("rejecting", 1)
        self.ledger.reject(self.ledger.copies["rejecting"][rejected[0].message.number])
        self.queues["dead"].append(Kept(rejected[0].message))
        self.queues["rejecting"].pop(0)

    def pick(self, queue: str) -> Kept:
        """Any message of a queue that is sure to be there."""
        return self.random.choice(
            [kept for kept in self.queues[queue] if kept.message.fate is Fate.CONFIRMED and kept.message.persistent]
        )


@pytest.mark.parametrize("seed", SEEDS)
def test_a_good_history_is_not_flagged(seed: int) -> None:
    """Crashes, lost acks, unknown messages, redeliveries and dead letters are no violations."""
    node = ModelNode(seed)
    for _ in range(3):
        node.life()
        node.crash()
        if node.random.random() < 0.5:
            node.drain(*node.random.sample(["one", "two"], 1))
    # an unconfirmed message that was never seen may be gone
    unknown = [kept for kept in node.queues["one"] if kept.message.fate is Fate.UNKNOWN and not kept.delivered]
    node.queues["one"] = [kept for kept in node.queues["one"] if kept not in unknown[-1:]]
    node.drain("one", "two", "rejecting", "dead")
    assert node.ledger.violations == []
    assert all(node.ledger.bounds(queue) == (0, 0) for queue in RULES)


def lose(node: ModelNode) -> None:
    node.queues["one"].remove(node.pick("one"))
    node.drain("one")


def lose_what_was_shown(node: ModelNode) -> None:
    message = node.publish("one", confirm=False)
    node.crash()
    kept = node.queues["one"][-1]
    assert kept.message is message
    node.deliver("one", kept)
    node.crash()
    node.queues["one"].remove(kept)
    node.drain("one")


def half_a_transaction(node: ModelNode) -> None:
    group = Group("transaction")
    node.publish("one", confirm=False, group=group)
    node.publish("two", confirm=False, group=group)
    node.crash()
    node.queues[node.random.choice(["one", "two"])].pop()
    node.drain("one")
    node.drain("two")


def transfer(node: ModelNode) -> tuple[Kept, Kept]:
    """A transaction that acknowledges one message and publishes another; the node dies before it answers."""
    group = Group("transfer")
    node.crash()
    node.drain("one")
    node.publish("one")
    taken = node.consume("one", 1)[0]
    node.ledger.ack_in(group, node.ledger.copies["one"][taken.message.number])
    node.publish("two", confirm=False, group=group)
    node.crash()
    return taken, node.queues["two"][-1]


def transferred_and_still_there(node: ModelNode) -> None:
    transfer(node)
    node.drain("two")
    node.drain("one")


def gone_and_not_transferred(node: ModelNode) -> None:
    source, target = transfer(node)
    node.queues["one"].remove(source)
    node.queues["two"].remove(target)
    node.drain("one")
    node.drain("two")


def half_a_fanout(node: ModelNode) -> None:
    node.publish("one", "two", confirm=False)
    node.crash()
    node.queues["two"].pop()
    node.drain("one")
    node.drain("two")


def lose_on_the_way_to_the_dead_letter_queue(node: ModelNode) -> None:
    node.queues["dead"].pop()
    node.drain("rejecting", "dead")


def in_both_queues_after_a_reject(node: ModelNode) -> None:
    node.queues["rejecting"].insert(0, node.queues["dead"][-1])
    node.drain("rejecting", "dead")


def invent(node: ModelNode) -> None:
    node.ledger.deliver("one", "", "one", False, b"", b"nobody has published this")


def change_a_body(node: ModelNode) -> None:
    kept = node.pick("two")
    body = bytearray(kept.message.body())
    body[-1] ^= 1
    node.deliver("two", kept, body=bytes(body))


def change_properties(node: ModelNode) -> None:
    message = node.pick("two").message
    header = message.header()[:-1] + b"?"
    node.ledger.deliver("two", message.exchange, message.routing_key, False, header, message.body())


def into_another_queue(node: ModelNode) -> None:
    kept = Kept(node.publish("one"))
    node.deliver("two", kept)


def transient_after_a_restart(node: ModelNode) -> None:
    kept = Kept(node.publish("one", persistent=False))
    node.crash()
    node.deliver("one", kept)


def missing_and_back(node: ModelNode) -> None:
    kept = Kept(node.publish("one", confirm=False))
    node.crash()
    node.queues["one"].pop()
    node.drain("one")
    node.deliver("one", kept)


def rolled_back_and_there(node: ModelNode) -> None:
    message = node.ledger.attempt("publisher", "", "one", ["one"])
    node.ledger.refuse(message, Fate.NACKED)
    node.deliver("one", Kept(message))


def redelivered_says_no(node: ModelNode) -> None:
    kept = node.queues["two"][0]
    node.deliver("two", kept)
    node.crash()
    kept.delivered = False
    node.queues["two"] = [kept]
    node.deliver("two", kept, redelivered=False)


def redelivered_says_yes(node: ModelNode) -> None:
    node.crash()
    node.publish("two")
    node.deliver("two", node.queues["two"][-1], redelivered=True)


def safe_ack_came_again(node: ModelNode) -> None:
    taken = node.consume("two", 1)
    node.ack("two", taken, safe=True)
    node.crash()
    node.deliver("two", taken[0])


def ack_came_again_without_a_crash(node: ModelNode) -> None:
    taken = node.consume("two", 1)
    node.ack("two", taken, safe=False)
    node.deliver("two", taken[0])


def delivered_to_two(node: ModelNode) -> None:
    taken = node.consume("two", 1)
    node.deliver("two", taken[0])


def another_order(node: ModelNode) -> None:
    node.publish("two")
    node.publish("two")
    node.deliver("two", node.queues["two"][-1])
    node.deliver("two", node.queues["two"][-2])


def count_too_low(node: ModelNode) -> None:
    least, _ = node.ledger.bounds("one")
    node.ledger.check_count("one", least - 1, "the node")


def count_too_high(node: ModelNode) -> None:
    _, most = node.ledger.bounds("one")
    node.ledger.check_count("one", most + 1, "the node")


BAD: Final[dict[Callable[[ModelNode], None], str]] = {
    lose: "I1",
    lose_what_was_shown: "I1",
    half_a_transaction: "I1",
    transferred_and_still_there: "I1",
    gone_and_not_transferred: "I1",
    half_a_fanout: "I1",
    lose_on_the_way_to_the_dead_letter_queue: "I1",
    in_both_queues_after_a_reject: "I3",
    invent: "I2",
    change_a_body: "I2",
    change_properties: "I2",
    into_another_queue: "I2",
    transient_after_a_restart: "I3",
    missing_and_back: "I3",
    rolled_back_and_there: "I3",
    redelivered_says_no: "I3",
    redelivered_says_yes: "I3",
    safe_ack_came_again: "I3",
    ack_came_again_without_a_crash: "I3",
    delivered_to_two: "I3",
    another_order: "I4",
    count_too_low: "I5",
    count_too_high: "I5",
}


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.__name__)
def test_a_bad_history_is_flagged(bad: Callable[[ModelNode], None]) -> None:
    """In every seeded history that has this mistake, its invariant is named; up to the mistake there is nothing to
    find."""
    for seed in SEEDS:
        node = ModelNode(seed)
        node.life()
        if node.random.random() < 0.5 and bad not in (
            lose_on_the_way_to_the_dead_letter_queue,
            in_both_queues_after_a_reject,
        ):
            node.crash()
            node.drain("one", "rejecting", "dead")
            node.drain("two")
            node.life()
        if bad in (lose_on_the_way_to_the_dead_letter_queue, in_both_queues_after_a_reject):
            node.crash()
        assert node.ledger.violations == [], f"seed {seed}"
        bad(node)
        assert BAD[bad] in {violation.invariant for violation in node.ledger.violations}, (
            f"seed {seed}: {node.ledger.violations}"
        )
