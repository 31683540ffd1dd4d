"""x-dead-letter-strategy: at-least-once on quorum queues (RabbitMQ docs, Quorum Queues, Dead Lettering); what is expected
here was compared with a RabbitMQ 4.3, except where a test says otherwise."""

from __future__ import annotations

import random

import pytest

from tests.spec.test_dead_letter import headers_of
from tests.spec.test_quorum import after, opened, put, waiting
from tests.support.durable import DurableBroker
from tests.support.memory import Client

ENDS = ["killed", "lost power", "stopped"]
KEEPS: dict[str, object] = {"x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish"}
RETRY_MS = 180_000


def queue(
    broker: DurableBroker, exchange: str = "", key: str | None = "dead", target: dict[str, object] | None = None, **more: object
) -> Client:
    """A client with a queue that keeps its dead letters, and where they go."""
    arguments = KEEPS | {"x-dead-letter-exchange": exchange}
    if key is not None:
        arguments["x-dead-letter-routing-key"] = key
    client = opened(broker, arguments | {name.replace("_", "-"): value for name, value in more.items()})
    if target is not None:
        client.ask("queue.declare", queue="dead", durable=True, arguments=target)
    return client


def reject(client: Client, count: int = 1) -> None:
    """What stands first goes."""
    for _ in range(count):
        said = client.get("q")
        assert said is not None
        client.tell("basic.reject", delivery_tag=said.method.number("delivery_tag"), requeue=False)


def ready(client: Client, name: str = "q") -> int:
    return client.ask("queue.declare", queue=name, passive=True).number("message_count")


def dead(broker: DurableBroker) -> int:
    """How many dead letters stay, which the ledger must have, too."""
    found = broker.vhost.queues["q"]
    assert found.dead == found.replica.ledger.totals.dead
    return int(found.dead)


def bodies(broker: DurableBroker, name: str = "dead") -> list[bytes]:
    return [body for body, *_ in waiting(broker, name)]


@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_what_is_rejected_goes_to_its_target(kind: str) -> None:
    broker = DurableBroker()
    client = queue(broker, target={"x-queue-type": kind})
    put(client, b"1", b"2", b"3")
    client.hear()
    reject(client, 2)
    broker.settled()
    assert dead(broker) == 0
    assert ready(client) == 1
    said = client.get("dead", no_ack=True)
    assert said is not None
    assert said.body == b"1"
    assert headers_of(said)["x-first-death-reason"] == "rejected"
    assert bodies(broker) == [b"2"]
