"""What the parts of a virtual host are made of: what it shares with the others of its node, and its own tables."""

from __future__ import annotations

from typing import final

from broker.clock import Clock
from broker.counters import Counters
from broker.metadata.journal import Journal
from broker.queues.memory import QueueMemory
from broker.queues.queue import Queue
from broker.routing.exchange import Exchange
from broker.routing.router import Router
from broker.stats import Sampler
from broker.store.logs import Logs
from broker.turn import Turn


@final
class VHostEnvironment:
    """What the virtual hosts of a node share."""

    def __init__(self, turn: Turn, clock: Clock, counters: Counters, sampler: Sampler | None = None) -> None:
        self.turn = turn
        self.clock = clock
        self.counters = counters
        self.sampler = Sampler(clock) if sampler is None else sampler
        """Takes the rates of what is counted."""
        self.logs: Logs | None = None
        """Where durable messages go; None on a node that keeps nothing."""
        self.journal: Journal | None = None
        """Where what is declared goes; None likewise."""
        self.memory = QueueMemory()
        """What messages that wait in queues may take in memory."""


@final
class Tables:
    """What one virtual host has declared, by name. Its parts share them."""

    def __init__(self, vhost: str) -> None:
        self.vhost = vhost
        """The virtual host's name."""
        self.queues: dict[str, Queue] = {}
        self.exchanges: dict[str, Exchange] = {}
        self.router = Router(self.exchanges)
