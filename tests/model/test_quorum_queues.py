"""Quorum queues against the same model as classic ones (test_queues_and_channels.py), on a node with a disk that is
killed from time to time.

What is different: every queue has strict priorities; a delivery says how often the message came back, and how often
because a delivery had failed; `second` has a delivery limit; no queue is deleted by itself; everything survives.
Sources: RabbitMQ docs, Quorum Queues.
"""

from __future__ import annotations

import itertools
from typing import Final

import hypothesis

from tests.model.test_queues_and_channels import DEAD, EXAMPLES, QUEUES, SETTINGS, Item, Line, QueuesAndChannels
from tests.spec.test_delayed_retry import gone_on
from tests.support.durable import DurableBroker
from tests.support.memory import Broker
from tests.support.wire import Said, plain

DELIVERY_LIMIT: Final = 1


class QuorumQueuesAndChannels(QueuesAndChannels):
    """The same, of quorum queues."""

    def new_broker(self) -> Broker:
        return DurableBroker()

    def declaration(self, name: str) -> dict[str, object]:
        arguments = {"x-queue-type": "quorum"} | QUEUES[name]
        if name == "second":
            arguments |= {"x-delivery-limit": DELIVERY_LIMIT, **DEAD}
        return {"durable": True, "arguments": arguments}

    def level_of(self, name: str, priority: int) -> int:
        return priority

    def is_automatic(self, line: Line) -> bool:
        return False

    def give_up(self, line: Line, items: list[Item]) -> list[Item]:
        return [item for item in items if item.failed > DELIVERY_LIMIT] if line.name == "second" else []

    def check_counts(self, item: Item, said: Said) -> None:
        headers = plain(said.properties.get("headers", {}))
        assert isinstance(headers, dict)
        counts = headers.get("x-acquired-count"), headers.get("x-delivery-count")
        assert counts == ((item.acquired, item.failed) if item.acquired else (None, None)), said

    def restart(self, how: str) -> None:
        """Whatever consumers had comes back, and has failed. Not where that makes a dead letter of it, which is seen
        only when its turn comes; nor where something is going to expire, which may be a little later then."""
        unsettled = [delivery for channel in self.channels for delivery in channel.all_unsettled()]
        lines = {line.name for line in self.lines.values() if line.ready} | {each.line.name for each in unsettled}
        at_limit = [each for each in unsettled if each.line.name == "second" and each.item.failed == DELIVERY_LIMIT]
        if "expiring" in lines or at_limit:
            return
        broker = self.broker
        assert isinstance(broker, DurableBroker)
        for channel in list(self.channels):
            self.end_channel(channel)
        self.broker = gone_on(broker.settled(), how)
        self.clients = [self.broker.open(1, 2), self.broker.open(1, 2)]
        self.watcher = self.broker.open()
        for channel, (client, _) in zip(self.channels, itertools.product(self.clients, (1, 2)), strict=True):
            channel.client = client
        self.answer(None)


class QuorumQueuesWithoutDisk(QuorumQueuesAndChannels):
    """The same on a node that keeps nothing."""

    def new_broker(self) -> Broker:
        return Broker()

    def restart(self, how: str) -> None:
        """Nothing would be left."""


QuorumQueuesWithoutDisk.TestCase.settings = hypothesis.settings(SETTINGS, max_examples=max(1, EXAMPLES // 3))
TestQuorumQueuesWithoutDisk = QuorumQueuesWithoutDisk.TestCase
QuorumQueuesAndChannels.TestCase.settings = hypothesis.settings(SETTINGS, max_examples=max(1, EXAMPLES // 2))
TestQuorumQueuesAndChannels = QuorumQueuesAndChannels.TestCase
