"""What a transaction holds back until tx.commit: publishes and settlements, in order (AMQP 0-9-1 §1.6.6)."""

from __future__ import annotations

from typing import final

from broker.destination import MessageTarget
from broker.message import Message
from broker.native import i64
from broker.protocol.delivery_run import Run
from broker.vhost.routes import Route


@final
class Pending:
    """One publish inside a transaction."""

    def __init__(self, targets: list[MessageTarget], message: Message, route: Route) -> None:
        self.targets = targets
        self.message = message
        self.route = route


@final
class Settlement:
    """One settlement inside a transaction: the deliveries, and what happens to them at commit."""

    def __init__(self, runs: list[Run], refusal: i64, ack: bool) -> None:
        self.runs = runs
        self.refusal: i64 = refusal
        """What becomes of them (queues/refusal.py), unless it is an ``ack``."""
        self.ack = ack


@final
class Transaction:
    """What a channel's transaction has held back so far."""

    def __init__(self) -> None:
        self.pending: list[Pending] = []
        self.settlements: list[Settlement] = []
